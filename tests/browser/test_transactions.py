"""The form of a transaction by keyboard alone, on a narrow screen."""

import pytest
from playwright.sync_api import expect

from apps.market.models import Asset
from apps.portfolios.models import Transaction
from tests.portfolios.rows import make_portfolio

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_a_transaction_is_recorded_and_corrected_by_keyboard_at_390_pixels(owner, signed_in, live_server, page):
    Asset.objects.create(symbol="ACME", currency="EUR")
    portfolio = make_portfolio(owner)
    signed_in(owner)
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{live_server.url}/portfolios/{portfolio.pk}/transactions/")
    page.get_by_role("link", name="Record your first purchase").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/transactions/add/")

    def type_into(label, text):
        """Go on with Tab until the field has the focus, and type."""
        field = page.get_by_label(label, exact=True)
        for _ in range(60):
            if field.evaluate("field => field === document.activeElement"):
                break
            page.keyboard.press("Tab")
        else:
            raise AssertionError(f"Tab never comes to {label}")
        page.keyboard.press("Control+A")
        page.keyboard.type(text)

    for label, text in (("Asset", "acme"), ("Quantity", "1.005"), ("Paid", "1 000,5")):
        type_into(label, text)
    page.keyboard.press("Enter")
    expect(page.get_by_text("1.005 can be read in two ways: write 1.0050 or 1005.")).to_be_visible()
    expect(page.get_by_label("Quantity", exact=True)).to_have_attribute("aria-invalid", "true")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    type_into("Quantity", "1005")
    page.keyboard.press("Enter")
    page.wait_for_url("**/transactions/")
    expect(page.get_by_role("status")).to_contain_text("Recorded: buy of")
    page.locator("td a").first.focus()
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Correct", exact=True).focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/correct/")
    type_into("Quantity", "7")
    page.keyboard.press("Enter")
    expect(page.get_by_text("quantity: 1005")).to_be_visible()
    assert Transaction.objects.get().quantity == 7
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
