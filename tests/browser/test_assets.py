"""The page of an asset: its chart, at every width, and the way from there to a rule."""

import pytest
from django.contrib.staticfiles import finders
from playwright.sync_api import expect

from apps.site.assets import CHART_FILE
from tests.builders import append_quotes, at, make_feed

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.mark.parametrize(
    ("width", "scheme", "has_file"), [(1440, "light", True), (390, "dark", True), (390, "light", False)]
)
def test_a_chart_is_drawn_follows_the_price_and_leads_to_a_rule(
    owner, live_server, page, signed_in, monkeypatch, width, scheme, has_file
):
    if has_file:
        assert finders.find(CHART_FILE), "npm has installed nothing here: make venv-dev"
    else:
        monkeypatch.setattr("apps.site.assets.CHART_FILE", "npm/none.js")
    feed = make_feed("BTC-USD", "ETH-USD")
    append_quotes(feed, [("BTC-USD", at(0), "10"), ("ETH-USD", at(0), "5")])
    append_quotes(feed, [("BTC-USD", at(10), "11"), ("ETH-USD", at(10), "6")])
    said = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    signed_in(owner)
    page.goto(f"{live_server.url}/assets/BTC-USD/")
    expect(page.locator("#asset-chart canvas").first).to_be_visible()
    append_quotes(feed, [("BTC-USD", at(20), "12.5")])
    expect(page.locator(".price")).to_contain_text("12.5", timeout=20_000)

    page.fill("input[name=with]", "eth-usd")
    page.click("text=Compare >> nth=-1")
    expect(page.locator("main")).to_contain_text("In percent since the first candle.")
    expect(page.locator("#asset-chart canvas").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert said == []

    page.click("text=New alert on this")
    expect(page.locator("#id_name")).to_have_value("Alert on BTC-USD")
    expect(page.locator("#id_symbols ~ .select2")).to_contain_text("BTC-USD")
