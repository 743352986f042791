"""Listings noted by the API."""

import pytest

from apps.market.models import Asset
from apps.sources.models import Listing
from tests.api.asking import codes
from tests.builders import make_feed, make_member, make_operator

pytestmark = pytest.mark.django_db

ADD = """mutation ($externalId: String = "bitcoin", $symbol: String = "A", $feed: String, $currency: String = "") {
  addListing(
    idempotencyKey: "k", provider: "coincap", externalId: $externalId, symbol: $symbol, feed: $feed, currency: $currency
  ) { listing { provider externalId asset { symbol } } errors { field code message } }
}"""


@pytest.fixture(autouse=True)
def feed():
    return make_feed("A", "B", provider="coincap")


def answered(response):
    return response.json()["data"]["addListing"]


def test_operators_note_a_listing_once_and_make_its_asset(ask):
    olga = make_member("olga", "Operator")
    assert codes(ask(ADD, user=olga)) == ["FORBIDDEN"]
    olga.is_staff = True
    olga.save()
    first, repeated = (answered(ask(ADD, {"symbol": "NEW", "feed": "feed"}, user=olga)) for _ in range(2))

    assert first == repeated
    assert first["listing"] == {"provider": "coincap", "externalId": "bitcoin", "asset": {"symbol": "NEW"}}
    assert (Listing.objects.count(), Asset.objects.get(symbol="NEW").feed.name) == (1, "feed")


def test_what_is_wrong_with_a_listing_is_said(ask, admin_user):
    [fault] = answered(ask(ADD, {"symbol": "NONE"}, user=admin_user))["errors"]
    assert (fault["code"], fault["message"]) == ("INVALID", "there is no asset NONE; say its feed too, and it is made.")
    assert not Listing.objects.exists()


def test_who_may_make_no_assets_notes_listings_of_known_ones(ask):
    grace = make_operator("grace", "sources.add_listing")
    assert codes(ask(ADD, {"feed": "feed"}, user=grace)) == ["FORBIDDEN"]
    assert answered(ask(ADD))["errors"] == []
