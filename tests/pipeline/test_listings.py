"""`manage.py listings`: what a provider calls assets, seen, searched and added."""

import pytest
from django.core.management import call_command

from apps.market.models import Asset
from apps.sources.models import Listing
from tests.builders import make_feed

pytestmark = pytest.mark.django_db

KEY = "canary-5f1c9e"
# The shape of CoinCap's documented answer of /v3/assets?search=
FOUND = {
    "data": [
        {"id": "bitcoin", "symbol": "BTC", "name": "Bitcoin", "priceUsd": "6929.8217756835584756"},
        {"id": "bitcoin-cash", "symbol": "BCH", "name": "Bitcoin Cash\x1b[31m", "priceUsd": "404.97"},
    ],
    "timestamp": 1533581088278,
}


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("COINCAP_API_KEY", KEY)


@pytest.fixture
def feed(httpserver):
    """Return a feed of coincap, with its address on this machine, and one listed asset."""
    feed = make_feed("BTC-USD", name="spot", provider="coincap")
    feed.sources.update(options={"base_url": httpserver.url_for("/v3")})
    Listing.objects.create(asset=feed.assets.get(), provider="coincap", external_id="bitcoin")
    return feed


def run(capsys, *text):
    call_command("listings", *text)
    return capsys.readouterr().out


def refusal_of(capsys, *text):
    before = set(Listing.objects.values_list("asset", "provider", "external_id")), Asset.objects.count()
    with pytest.raises(SystemExit) as stopped:
        call_command("listings", *text)
    printed = capsys.readouterr()
    assert (stopped.value.code, printed.out, printed.err.count("\n")) == (2, "", 1)
    assert (set(Listing.objects.values_list("asset", "provider", "external_id")), Asset.objects.count()) == before
    assert printed.err.startswith("listings: ")
    return printed.err.removeprefix("listings: ").rstrip("\n")


@pytest.mark.parametrize("name", ["coincap", "COINCAP", "CoinCap"])
def test_the_listings_of_a_provider_are_shown_in_any_case(feed, capsys, name):
    Asset.objects.update(currency="USD")
    assert run(capsys, name) == "asset    external id  currency\nBTC-USD  bitcoin      USD\n"


def test_a_provider_without_listings_says_so(capsys):
    assert run(capsys, "kraken") == "No listings of kraken; its assets go by their symbols.\n"


def test_a_search_asks_at_the_feeds_address_and_says_what_is_listed_and_what_to_type(feed, capsys, httpserver):
    httpserver.expect_oneshot_request(
        "/v3/assets", query_string={"search": "bit", "limit": "20"}, headers={"Authorization": f"Bearer {KEY}"}
    ).respond_with_json(FOUND)
    assert run(capsys, "coincap", "--search", "bit") == (
        "external id   symbol  name               currency  listed as\n"
        "bitcoin       BTC     Bitcoin            USD       BTC-USD\n"
        "bitcoin-cash  BCH     Bitcoin Cash?[31m  USD       -\n"
        "To add one: manage.py listings coincap --add bitcoin-cash --asset SYMBOL (and --feed NAME where the asset is "
        "new)\n"
    )


def test_a_search_may_ask_at_another_address(capsys, httpserver):
    httpserver.expect_oneshot_request("/own/assets").respond_with_json({"data": []})
    out = run(capsys, "coincap", "--search", "bit", "--base-url", httpserver.url_for("/own"))
    assert out == "coincap finds nothing.\n"


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (401, "coincap: unauthorized; is COINCAP_API_KEY right?"),
        (429, "coincap: rate_limited; asked too often, try again later"),
        (500, "coincap: http_500"),
    ],
)
def test_a_failure_of_the_provider_is_one_line_without_the_key(feed, capsys, httpserver, status, why):
    httpserver.expect_request("/v3/assets").respond_with_data(f"no, {KEY}", status=status)
    assert refusal_of(capsys, "coincap", "--search", "bit") == why


def test_a_key_that_is_not_set_is_named(feed, capsys, monkeypatch):
    monkeypatch.delenv("COINCAP_API_KEY")
    assert refusal_of(capsys, "coincap", "--search", "bit") == "coincap: no_key; set COINCAP_API_KEY"


def test_what_cannot_be_searched_says_so(capsys):
    assert refusal_of(capsys, "simulated", "--search", "bit") == "simulated: no_search; it cannot be searched"


def test_a_listing_is_added_once_and_is_there_the_second_time(capsys):
    make_feed("ETH-USD", provider="coincap")
    text = ("CoinCap", "--add", "ethereum", "--asset", "ETH-USD")
    assert run(capsys, *text) == "ETH-USD is ethereum at coincap.\n"
    assert run(capsys, *text) == "ETH-USD is ethereum at coincap already.\n"
    assert Listing.objects.values_list("asset__symbol", "provider", "external_id").get() == (
        *("ETH-USD", "coincap", "ethereum"),
    )


def test_an_asset_that_is_new_is_made_in_the_feed_with_the_providers_currency(capsys):
    make_feed(name="spot", provider="binance")
    text = ("binance", "--add", "BTCUSDT", "--asset", "BTC-USDT", "--feed", "spot", "--name", "Bitcoin in Tether")
    assert run(capsys, *text) == "BTC-USDT is BTCUSDT at binance. BTC-USDT is new in the feed spot.\n"
    asset = Asset.objects.get()
    assert (asset.feed.name, asset.name, asset.currency) == ("spot", "Bitcoin in Tether", "USDT")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (["coincap", "--add", "ether"], "say by --asset which asset it is"),
        (["coincap", "--add", "ether", "--asset", "ETH"], "there is no asset ETH; say its feed too, and it is made"),
        (["coincap", "--add", "ether", "--asset", "ETH", "--feed", "none"], "there is no feed none"),
        (["coincap", "--add", "ether", "--asset", "eth", "--feed", "spot"],
         "Use 1 to 64 capital letters, digits and . _ : / - (like BTC-USD)."),
        (["coincap", "--add", "x" * 129, "--asset", "ETH", "--feed", "spot"],
         "Ensure this value has at most 128 characters (it has 129)."),
        (["coincap", "--add", "ether", "--asset", "BTC-USD"],
         "BTC-USD is bitcoin at coincap already; its page in the admin changes that"),
        (["coincap", "--add", "bitcoin", "--asset", "ETH", "--feed", "spot"], "bitcoin at coincap is BTC-USD already"),
        (["coincap", "--add", "euro", "--asset", "GOLD-EUR"], "euro at coincap is in USD, and GOLD-EUR is in EUR."),
        (["coincap", "--add", "euro", "--asset", "GOLD-EUR", "--feed", "spot"],
         "GOLD-EUR is in the feed other; its page in the admin moves it"),
    ],
)  # fmt: skip
def test_what_cannot_be_added_is_refused_in_a_line_and_leaves_nothing(feed, capsys, text, why):
    other = make_feed(name="other")
    Asset.objects.create(symbol="GOLD-EUR", feed=other, currency="EUR")
    assert refusal_of(capsys, *text) == why


def test_an_unknown_provider_is_refused_with_the_known_ones(capsys):
    assert refusal_of(capsys, "coinkap").startswith("unknown provider 'coinkap'; known are alphavantage, bcb_sgs, ")
