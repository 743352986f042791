"""A form of the site that creates an asset of its owner creates it once, however often it is sent."""

import pytest
from django.urls import reverse
from django.utils import timezone

from apps.alerts.owned import delete_series
from apps.market.queries import every_asset
from apps.pipeline import flow
from tests.builders import append_quotes, at, make_feed, make_member
from tests.portfolios.rows import bought, make_portfolio, record
from tests.portfolios.series_rows import make_legs

pytestmark = pytest.mark.django_db
LEGS = {"weight": ["", ""], "max_skew": ["", ""]}


@pytest.fixture
def ada(client):
    ada = make_member("ada")
    client.force_login(ada)
    return ada


def manual_asset(ada):
    return reverse("manual_add"), {"symbol": "MINE", "currency": "EUR"}, {"currency": "USD"}


def ratio(ada):
    feed = make_feed("BTC-USD", "BTC-USDC", "ETH-USD")
    append_quotes(feed, [("BTC-USD", at(0), "20000"), ("BTC-USDC", at(0), "25000"), ("ETH-USD", at(0), "1500")])
    fields = {"symbol": "MINE", "kind": "ratio", "asset": ["BTC-USD", "BTC-USDC"], **LEGS}
    return reverse("series_add"), fields, {"asset": ["ETH-USD", "BTC-USDC"]}


def series_of_a_portfolio(ada):
    feed, portfolio = make_legs(), make_portfolio(ada)
    record(portfolio, bought(feed.assets.get(symbol="ACME"), "2024-03-03", amount="100"))
    fields = {"kind": "portfolio_value", "symbol": "MINE", "every_seconds": "60", "target": ""}
    return reverse("portfolio_series", args=[portfolio.pk]), fields, {"every_seconds": "61"}


FORMS = pytest.mark.parametrize("form_of", [manual_asset, ratio, series_of_a_portfolio])


def filled_in(client, address, fields):
    """Return what a browser sends of the form that it has got."""
    return fields | {"key": client.get(address).context["form"]["key"].value()}


def mine():
    return every_asset().filter(symbol="MINE")


@FORMS
def test_the_second_time_leads_to_the_same_page_and_creates_nothing(client, ada, form_of):
    address, fields, _ = form_of(ada)
    form = filled_in(client, address, fields)

    first, second = (client.post(address, form) for _ in range(2))

    assert (first.status_code, first.url) == (second.status_code, second.url) == (302, first.url)
    assert mine().count() == 1
    assert "This form was sent before, so nothing more was created." in client.get(second.url).text


@FORMS
def test_something_else_in_the_same_form_is_refused(client, ada, form_of):
    address, fields, other = form_of(ada)
    form = filled_in(client, address, fields)
    client.post(address, form)

    answer = client.post(address, form | {"symbol": "OTHER"} | other)
    again = client.post(address, form | other)

    for one in (answer, again):
        [why] = one.context["form"].non_field_errors()
        assert why.startswith("This form was sent before with something else")
        assert why in one.text
    assert not every_asset().filter(symbol="OTHER").exists()
    new = form | {"symbol": "OTHER", "key": answer.context["form"]["key"].value()}
    assert client.post(address, new).status_code == 302
    assert every_asset().filter(symbol="OTHER").exists()


@FORMS
def test_what_was_deleted_is_not_created_again_by_its_form(client, ada, form_of):
    address, fields, _ = form_of(ada)
    form = filled_in(client, address, fields)
    client.post(address, form)
    flow.evaluate_pending(feed_id=mine().get().feed_id)
    delete_series(asset_ids=[mine().get().pk], now=timezone.now())

    answer = client.post(address, form, follow=True)

    assert answer.redirect_chain
    assert "This form was sent before" in answer.text
    assert not mine().exists()


@FORMS
def test_a_form_without_a_key_of_ours_creates_nothing(client, ada, form_of):
    address, fields, _ = form_of(ada)
    [why] = client.post(address, fields).context["form"].non_field_errors()
    assert why.startswith("This form is too old")
    assert not mine().exists()
