"""GraphiQL, opened and used."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.conf import settings
from playwright.sync_api import expect

from apps.api.graphql import graphiql
from apps.market.models import Asset, AssetAlias
from tests.builders import append_quotes, at, make_feed, make_owner

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

BITCOIN = 'query { asset(id: "BTC") { name price variation24h } }'
ANSWER = {"data": {"asset": {"name": "Bitcoin", "price": "67598.5", "variation24h": "10.4005"}}}


@pytest.fixture(autouse=True)
def _no_redis(settings):
    """Prices come from the rows: a Redis may still hold those of another test's assets."""
    settings.REDIS_URL = ""


@pytest.fixture
def bitcoin():
    """Make a market in which the first example has an answer."""
    feed = make_feed("BTC-USD")
    Asset.objects.update(name="Bitcoin")
    AssetAlias.objects.create(asset=Asset.objects.get(), name="BTC")
    append_quotes(feed, [("BTC-USD", at(0), "61230.25")])
    append_quotes(feed, [("BTC-USD", at(86_400), "67598.50")])


def complaints(page):
    """Return a list that fills with what the page's console says against it."""
    said = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    return said


def answer_in(page, selector):
    """Return the answer that is shown, once there is one."""
    expect(page.locator(selector)).to_contain_text("asset")
    # CodeMirror writes spaces that do not break.
    return json.loads(page.inner_text(selector).replace("\N{NO-BREAK SPACE}", " "))


@pytest.fixture
def installed():
    """Fail where GraphiQL's files are not."""
    if not (Path(settings.BASE_DIR) / "node_modules/.installed").exists():
        pytest.fail("GraphiQL's files are not installed: make venv does it where npm is.")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_first_question_is_asked_and_answered(installed, bitcoin, live_server, page, signed_in, scheme):
    said = complaints(page)
    page.emulate_media(color_scheme=scheme)
    signed_in(make_owner())
    page.goto(f"{live_server.url}/graphql")
    page.click(".graphiql-execute-button")
    assert answer_in(page, ".result-window .CodeMirror-code") == ANSWER
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 29)"}[scheme]
    assert page.is_hidden("#plain")
    assert said == []


def test_an_example_replaces_what_is_written_also_twice(installed, bitcoin, live_server, page, signed_in):
    signed_in(make_owner())
    page.goto(f"{live_server.url}/graphql")
    editor = ".graphiql-query-editor .CodeMirror-code"
    page.wait_for_selector(editor)
    for _ in range(2):
        page.click("text=All prices")
        expect(page.locator(editor)).to_contain_text("assets(first: 10)")
        page.click("text=Bitcoin")
        expect(page.locator(editor)).to_contain_text(BITCOIN)
        expect(page.locator(editor)).not_to_contain_text("assets(first: 10)")
    page.click(".graphiql-execute-button")
    assert answer_in(page, ".result-window .CodeMirror-code") == ANSWER


def test_without_its_files_and_without_a_network_a_plain_form_asks(bitcoin, live_server, page, signed_in, monkeypatch):
    monkeypatch.setattr(graphiql, "finders", SimpleNamespace(find=lambda name: None))
    signed_in(make_owner())
    page.goto(f"{live_server.url}/graphql")
    page.wait_for_selector("#missing")
    page.click("text=Inbox")
    page.click("text=Bitcoin")
    page.click("text=Run")
    assert answer_in(page, "#answer") == ANSWER
    assert "are not installed here" in page.inner_text("#missing")


def test_a_stranger_is_shown_the_way_in(installed, live_server, page):
    page.goto(f"{live_server.url}/graphql")
    assert page.url.endswith("/accounts/login/?next=/graphql")
