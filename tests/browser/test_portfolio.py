"""The parts of a portfolio's page that come later: its last year, and the comparison with another asset."""

import pytest
from playwright.sync_api import expect

from apps.market.models import Asset
from tests.portfolios.rows import bought, make_portfolio, quote, record

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_a_comparison_that_cannot_be_loaded_opens_the_page_of_its_own(owner, signed_in, live_server, page):
    asset = Asset.objects.create(symbol="ACME", currency="EUR")
    quote(asset, "120")
    portfolio = make_portfolio(owner)
    record(portfolio, bought(asset))
    signed_in(owner)
    said = []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(f"{live_server.url}/portfolios/{portfolio.pk}/")
    part = page.locator("#performance")
    expect(part).to_contain_text("Time-weighted return")
    page.fill("[name=benchmark]", "NOWHERE")
    page.click("text=Compare >> nth=-1")
    expect(part).to_contain_text("NOWHERE")
    page.route("**/performance/part/**", lambda route: route.abort())
    page.fill("[name=benchmark]", "ACME")
    page.click("text=Compare >> nth=-1")
    page.wait_for_url("**/performance/?benchmark=ACME")
    assert said == []
