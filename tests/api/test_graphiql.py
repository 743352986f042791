"""The page on which queries are written."""

import hashlib
import json
from base64 import b64encode
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.conf import settings
from django.contrib.staticfiles import finders
from django.urls import reverse

from apps.api.graphql import graphiql, operations
from apps.api.graphql.context import Context
from apps.api.graphql.graphiql import CDN, EXAMPLES, SCRIPTS, STYLES
from apps.api.live.kinds import KINDS
from tests.api.asking import URL
from tests.builders import append_quotes, at, make_feed, make_member

ROOT = Path(settings.BASE_DIR)
FILES = [*SCRIPTS, *STYLES]

pytestmark = pytest.mark.django_db


@pytest.fixture
def installed(monkeypatch):
    """Act as if npm had put its files here, or not."""

    def set_installed(there):
        monkeypatch.setattr(graphiql, "finders", SimpleNamespace(find=lambda name: name if there else None))

    return set_installed


def page(client):
    return client.get(URL, headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})


@pytest.fixture(autouse=True)
def _open_market(settings):
    settings.MARKET_IS_PUBLIC = True


def test_a_stranger_is_sent_to_sign_in_where_the_market_is_not_public(client, settings):
    settings.MARKET_IS_PUBLIC = False
    answer = page(client)
    assert (answer.status_code, answer["Location"]) == (302, "/accounts/login/?next=/graphql")
    client.force_login(make_member("ada"))
    assert page(client).status_code == 200


@pytest.mark.parametrize("accept", ["*/*", "application/json", "application/graphql-response+json", ""])
def test_only_a_browser_gets_the_page(client, accept):
    assert client.get(URL, headers={"Accept": accept}).status_code == 405


def test_the_page_takes_its_files_from_this_site(client, installed):
    installed(True)
    response = page(client)
    assert response.status_code == 200
    assert "https://" not in response.text
    assert [file.local in response.text and file.integrity in response.text for file in FILES] == [True] * 4
    policy = response.headers["Content-Security-Policy"]
    assert "https://" not in policy
    assert "script-src 'self';" in f"{policy};"
    assert "style-src 'self' 'unsafe-inline'" in policy


def test_without_them_it_takes_the_cdns_copies_by_their_hashes(client, installed):
    installed(False)
    response = page(client)
    assert [f'"{file.remote}" integrity="{file.integrity}"' in response.text for file in FILES] == [True] * 4
    assert response.text.count("https://") == 4
    assert "GraphiQL’s files are not installed here" in response.text
    assert f"script-src 'self' {CDN};" in f"{response.headers['Content-Security-Policy']};"


def test_no_other_page_may_what_this_one_may(client):
    assert CDN not in client.get("/").headers["Content-Security-Policy"]
    assert "unsafe-inline" not in client.get("/").headers["Content-Security-Policy"]


@pytest.mark.parametrize("there", [True, False])
def test_the_page_has_a_plain_form_and_nothing_inline(client, installed, there):
    installed(there)
    text = page(client).text
    assert '<textarea id="query"' in text
    assert "style=" not in text
    assert text.count("<script") == text.count("<script src=")
    assert " onclick=" not in text


def test_the_page_says_who_is_signed_in(client):
    assert "Sign in</a> to see rules" in page(client).text
    client.force_login(make_member("ada"))
    text = page(client).text
    assert ("Signed in as ada." in text, "API tokens" in text) == (True, False)


def test_the_page_leads_to_tokens_for_whoever_may_make_them(client):
    ada = make_member("ada", is_staff=True)
    client.force_login(ada)
    assert f'<a href="{reverse("admin:api_apitoken_changelist")}">API tokens</a>' in page(client).text


def test_the_first_example_is_the_first_question():
    assert EXAMPLES[0][1] == 'query { asset(id: "BTC") { name price variation24h } }'
    assert len(EXAMPLES) == 16


ANSWERED = [one for one in EXAMPLES if not one[1].startswith("subscription")]


@pytest.mark.parametrize(("name", "query"), ANSWERED, ids=[name for name, _ in ANSWERED])
def test_every_example_is_answered(ask, name, query):
    feed = make_feed("BTC")
    append_quotes(feed, [("BTC", at(0), "1")])
    response = ask(query, user=make_member("ada"))
    assert response.status_code == 200
    assert list(response.json()) == ["data"]
    [answer] = [one for name, one in response.json()["data"].items() if name != "me"]
    assert answer is not None
    # Of those that are for what is there, nothing is.
    assert [one["code"] for one in answer.get("errors", [])] in ([], ["NOT_FOUND"])


@pytest.mark.parametrize("query", [query for name, query in EXAMPLES if (name, query) not in ANSWERED])
def test_every_example_that_is_followed_fits_the_schema(query):
    followed = operations.read(operations.Body(query, {}, None), is_followed=True)
    context = Context(user=make_member("ada"))
    assert operations.checked(followed, context=context).root_field()[0] in KINDS


def test_the_page_may_follow_where_the_streams_are(client, settings):
    settings.STREAM_URL = "http://127.0.0.1:8100/graphql/stream"
    response = page(client)
    assert 'data-stream="http://127.0.0.1:8100/graphql/stream"' in response.text
    assert "connect-src 'self' http://127.0.0.1:8100;" in f"{response.headers['Content-Security-Policy']};"


@pytest.mark.parametrize("file", FILES, ids=[file.path for file in FILES])
def test_the_versions_are_those_of_the_lock(file):
    lock = json.loads((ROOT / "package-lock.json").read_text(encoding="utf-8"))
    assert lock["packages"][f"node_modules/{file.package}"]["version"] == file.version
    assert json.loads((ROOT / "package.json").read_text())["dependencies"][file.package] == file.version


def test_the_lock_names_no_host_to_install_from():
    lock = json.loads((ROOT / "package-lock.json").read_text(encoding="utf-8"))
    assert [name for name, one in lock["packages"].items() if "resolved" in one] == []
    assert all("integrity" in one for name, one in lock["packages"].items() if name)


@pytest.mark.skipif(not (ROOT / "node_modules/.installed").exists(), reason="npm has installed nothing here")
@pytest.mark.parametrize("file", FILES, ids=[file.path for file in FILES])
def test_the_hashes_are_those_of_the_files(file):
    found = finders.find(file.local)
    digest = hashlib.sha384(Path(found).read_bytes()).digest()
    assert file.integrity == f"sha384-{b64encode(digest).decode()}"
