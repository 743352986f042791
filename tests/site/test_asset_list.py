"""The list of assets: search, tags, orders, pages, and the watchlist."""

import re
from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apps.market.models import Asset, AssetAlias, WatchedAsset
from apps.market.services import roll_up
from apps.pipeline.flow import evaluate_pending
from apps.site.market import write_listed
from tests.builders import append_owned, append_quotes, at, make_feed, make_owned, make_owner

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _public(settings):
    settings.MARKET_IS_PUBLIC = True
    settings.REDIS_URL = ""


@pytest.fixture
def market():
    """Return a feed in which BTC-USD has risen, ETH-USD has fallen, and NEW-USD has no price."""
    feed = make_feed("BTC-USD", "ETH-USD", "NEW-USD", jump_percent=0)
    Asset.objects.filter(symbol="BTC-USD").update(name="Bitcoin", tags=["crypto", "old"])
    Asset.objects.filter(symbol="ETH-USD").update(name="Ether", tags=["crypto"])
    AssetAlias.objects.create(asset=Asset.objects.get(symbol="ETH-USD"), name="GAS")
    append_quotes(feed, [("BTC-USD", at(0), "10"), ("ETH-USD", at(0), "10")])
    append_quotes(feed, [("BTC-USD", at(86_400), "12"), ("ETH-USD", at(86_400), "8")])
    return feed


def listed(client, **query):
    return [row.asset.symbol for row in client.get(reverse("asset_list"), query).context["rows"]]


@pytest.mark.parametrize("view", ["asset_list", "asset_list_live"])
def test_a_stranger_signs_in_first_where_the_market_is_not_public(client, settings, view):
    settings.MARKET_IS_PUBLIC = False
    assert client.get(reverse(view))["Location"].startswith(reverse("login"))


@pytest.mark.parametrize(
    ("query", "symbols"),
    [
        ({}, ["BTC-USD", "ETH-USD", "NEW-USD"]),
        ({"q": "eth"}, ["ETH-USD"]),
        ({"q": "usd"}, ["BTC-USD", "ETH-USD", "NEW-USD"]),
        ({"q": "gas"}, ["ETH-USD"]),
        ({"q": "bitc"}, ["BTC-USD"]),
        ({"q": "no\0thing"}, []),
        ({"tag": "crypto"}, ["BTC-USD", "ETH-USD"]),
        ({"tag": "old", "q": "eth"}, []),
        ({"order": "rise"}, ["BTC-USD", "ETH-USD", "NEW-USD"]),
        ({"order": "fall"}, ["ETH-USD", "BTC-USD", "NEW-USD"]),
        ({"order": "nonsense", "page": "99"}, ["BTC-USD", "ETH-USD", "NEW-USD"]),
    ],
)
def test_assets_are_found_and_ordered(market, client, query, symbols):
    assert listed(client, **{name: value.replace("\0", "") for name, value in query.items()}) == symbols


def test_a_row_has_its_price_and_its_change(market, client):
    row, *_ = client.get(reverse("asset_list")).context["rows"]
    assert (row.price, row.change) == ("12", ("+20 %", "rose"))


def test_prices_are_short_and_never_cut_to_nothing():
    given = {
        ("0.891993098640579", 15): "0.891993099",
        ("20989.19", 2): "20\u202f989.19",
        ("20989.5", 2): "20\u202f989.50",
        ("20989", 8): "20\u202f989.0000",
        ("1E-15", 0): "0.000000000000001",
        ("61230.123456789", 9): "61\u202f230.1235",
    }
    assert {one: write_listed(Decimal(one[0]), decimals=one[1]) for one in given} == given


def test_a_price_keeps_its_decimals_when_it_ends_in_a_zero(client):
    feed = make_feed("BTC-USD", name="increments")
    shown = set()
    for minute, price in enumerate(("20989.19", "20990", "20990.5")):
        append_quotes(feed, [("BTC-USD", at(60 * minute), price)])
        evaluate_pending(feed_id=feed.pk)
        while roll_up(feed_id=feed.pk):
            pass
        pages = (client.get(reverse(name, args=args)) for name, args in (("asset_list", []), ("asset", ["BTC-USD"])))
        shown.add(tuple(re.search(r"20\u202f9\d\d[.\d]*", page.text)[0] for page in pages))
    assert shown == {(price, price) for price in ("20\u202f989.19", "20\u202f990.00", "20\u202f990.50")}


def test_the_watchlist_is_the_readers_own(market, client, ada):
    address = reverse("watch_asset")
    back = f"{reverse('asset_list')}?watched=1"
    for _ in range(2):
        assert client.post(address, {"watch": "ETH-USD", "back": back})["Location"] == back
    assert listed(client, watched="1") == ["ETH-USD"]
    assert WatchedAsset.objects.count() == 1
    client.force_login(make_owner("eve"))
    assert listed(client, watched="1") == []
    client.post(address, {"unwatch": "ETH-USD"})
    client.force_login(ada)
    assert listed(client, watched="1") == ["ETH-USD"]
    client.post(address, {"unwatch": "ETH-USD", "back": "https://elsewhere.example/"})
    assert listed(client, watched="1") == []


@pytest.mark.parametrize("posted", [{}, {"watch": "NONE"}, {"watch": ""}, {"delete": "BTC-USD"}])
def test_what_is_no_asset_is_not_watched(market, client, ada, posted):
    assert client.post(reverse("watch_asset"), posted).status_code == 404
    assert not WatchedAsset.objects.exists()


def test_a_stranger_has_no_watchlist(market, client):
    answer = client.post(reverse("watch_asset"), {"watch": "BTC-USD"})
    assert answer["Location"].startswith(reverse("login"))
    assert "Your watchlist" not in client.get(reverse("asset_list")).text
    assert listed(client, watched="1") == []


def test_an_address_to_go_back_to_stays_on_this_site(market, client, ada):
    for back in ("https://elsewhere.example/", "//elsewhere.example", ""):
        posted = client.post(reverse("watch_asset"), {"watch": "BTC-USD", "back": back})
        assert posted["Location"] == reverse("asset_list")


def test_owned_assets_are_listed_for_their_owner_alone(client, ada):
    append_owned(make_owned(ada, "ADAS-RATIO"), [("ADAS-RATIO", at(0), "2")])
    assert listed(client) == listed(client, q="ratio") == ["ADAS-RATIO"]
    client.force_login(make_owner("eve"))
    assert listed(client) == []
    client.logout()
    assert listed(client) == []


def test_empty_lists_say_what_to_do(admin_client, market):
    assert "Press the star beside an asset" in admin_client.get(reverse("asset_list"), {"watched": "1"}).text
    assert "No asset fits." in admin_client.get(reverse("asset_list"), {"q": "none"}).text


def test_an_empty_market_says_to_each_what_would_fill_it(client, admin_client):
    assert "load a file of them" in admin_client.get(reverse("asset_list")).text
    assert "Whoever runs this site adds feeds" in client.get(reverse("asset_list")).text


@pytest.mark.parametrize("order", ["symbol", "rise"])
def test_a_page_is_light_and_costs_the_same_statements_for_3_assets_and_for_300(client, ada, market, order):
    with CaptureQueriesContext(connection) as few:
        client.get(reverse("asset_list"), {"order": order})
    feed = make_feed(*(f"A-{number}" for number in range(300)), name="more")
    append_quotes(feed, [(f"A-{number}", at(0), "1.5") for number in range(300)])
    with CaptureQueriesContext(connection) as many:
        answer = client.get(reverse("asset_list"), {"order": order})
    assert len(answer.context["rows"]) == 50
    assert len(many) <= len(few) + 2
    assert len(answer.content) < 100_000
    assert "Page 1 of 7, 303 assets" in answer.text
