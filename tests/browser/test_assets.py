"""The page of an asset: its chart, at every width, and the way from there to a rule."""

import pytest
from django.contrib.auth.models import Permission
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


PLAIN = """
() => {
    const chart = Chart.getChart(document.querySelector("#asset-chart canvas"));
    const values = one => one.data.map(point => Math.round(point.y * 100) / 100);
    return {
        lines: chart.data.datasets.map(one => [one.label, one.showLine !== false, values(one)]),
        ticks: chart.scales.y.ticks.map(tick => tick.label),
    };
}
"""


def test_a_plain_chart_draws_a_compared_asset_as_a_line_in_percent_since_the_common_start(
    owner, live_server, page, signed_in, monkeypatch
):
    """BTC 10, 20, 30 and ETH 5, 6: from the second minute, in which ETH begins, 20 is 0 % and so is 5."""
    monkeypatch.setattr("apps.site.assets.CHART_FILE", "npm/none.js")
    feed = make_feed("BTC-USD", "ETH-USD")
    append_quotes(feed, [("BTC-USD", at(0), "10")])
    append_quotes(feed, [("BTC-USD", at(60), "20"), ("ETH-USD", at(60), "5")])
    append_quotes(feed, [("BTC-USD", at(120), "30"), ("ETH-USD", at(120), "6")])
    signed_in(owner)
    page.goto(f"{live_server.url}/assets/BTC-USD/?with=ETH-USD")
    expect(page.locator("#asset-chart canvas")).to_be_visible()
    drawn = page.evaluate(PLAIN)
    assert drawn["lines"] == [["BTC-USD", True, [-50, 0, 50]], ["ETH-USD", True, [0, 20]]]
    assert [one for one in drawn["ticks"] if not one.endswith(" %")] == []
    assert len(drawn["ticks"]) > 1
    # Alone, prices are no percent.
    page.goto(f"{live_server.url}/assets/BTC-USD/")
    drawn = page.evaluate(PLAIN)
    assert drawn["lines"] == [["price", True, [10, 20, 30]]]
    assert [one for one in drawn["ticks"] if one.endswith("%")] == []


@pytest.mark.parametrize("address", ["/assets/BTC-USD/", "/series/new/"])
def test_assets_are_offered_as_one_types(owner, live_server, page, signed_in, address):
    append_quotes(make_feed("BTC-USD", "ETH-USD"), [("BTC-USD", at(0), "10"), ("ETH-USD", at(0), "5")])
    signed_in(owner)
    owner.user_permissions.add(*Permission.objects.filter(codename__contains="series"))
    page.goto(live_server.url + address)
    page.locator("[data-pick]").first.press_sequentially("et")
    expect(page.locator("datalist option")).to_have_count(1)
    assert page.locator("datalist option").get_attribute("value") == "ETH-USD"
