"""GraphiQL, opened and used."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.conf import settings
from playwright.sync_api import expect

from apps.api.graphql import graphiql
from apps.market.models import Asset, AssetAlias, Feed
from tests.api.live.following import append, running
from tests.builders import append_quotes, at, make_feed, make_notified_alerts, make_owner
from tests.project.test_docs import blocks
from tests.rig import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

BITCOIN = 'query { asset(id: "BTC") { name price variation24h } }'
ANSWER = {"data": {"asset": {"name": "Bitcoin", "price": "67598.5", "variation24h": "10.4005"}}}


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


def wait_for_stream(page, live):
    """Wait until the page has a stream. Its requests come on while Playwright waits, and no other way."""
    wait_until(lambda: page.wait_for_timeout(50) or live.opened() == 1)


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


def test_prices_are_followed_by_a_browsers_eventsource(installed, bitcoin, live_server, page, signed_in, settings):
    signed_in(make_owner())
    settings.SITE_URL = live_server.url
    with running() as live:
        settings.STREAM_URL = f"http://localhost:{live.port}/graphql/stream"
        page.goto(f"{live_server.url}/graphql")
        page.wait_for_selector(".graphiql-query-editor .CodeMirror-code")
        page.click("text=Follow prices")
        page.click(".graphiql-execute-button")
        wait_for_stream(page, live)
        append(Feed.objects.get(), [("BTC-USD", at(86_401), "67600")])
        expect(page.locator(".result-window")).to_contain_text("67600")
        # Cut, the browser connects again by itself, and misses nothing.
        live.hub._loop.call_soon_threadsafe(live.hub.cut_all)
        append(Feed.objects.get(), [("BTC-USD", at(86_402), "67601")])
        expect(page.locator(".result-window")).to_contain_text("67601", timeout=15_000)


def test_the_example_of_a_page_follows_alerts(live_server, page, signed_in, settings):
    ada = make_owner()
    signed_in(ada)
    settings.SITE_URL = live_server.url
    [script] = blocks("docs/api.md", "js")
    with running() as live:
        settings.STREAM_URL = f"http://localhost:{live.port}/graphql/stream"
        page.goto(f"{live_server.url}/graphql")
        page.evaluate(script.replace("http://127.0.0.1:8100", f"http://localhost:{live.port}"))
        wait_for_stream(page, live)
        [alert] = make_notified_alerts(ada, 1)
        expect(page).to_have_title(alert.summary)


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
