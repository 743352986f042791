"""The pages on which an operator finds an asset at a provider and lists it, and those on which its past is fetched."""

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from apps.market.models import Asset, Feed
from apps.sources.models import Backfill, Circuit, Listing
from apps.sources.queries import address_of
from tests.builders import make_feed, make_member, make_operator

pytestmark = pytest.mark.django_db

# The shape of CoinCap's documented answer of /v3/assets?search=
FOUND = {
    "data": [
        {"id": "bitcoin", "symbol": "BTC", "name": "Bitcoin", "priceUsd": "6929.8217756835584756"},
        {"id": "bitcoin-cash", "symbol": "BCH", "name": "Bitcoin <b>Cash</b>", "priceUsd": "404.97"},
    ],
    "timestamp": 1533581088278,
}
SEARCH = {"provider": "coincap", "search": "bit", "asset": ""}


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("COINCAP_API_KEY", "canary-5f1c9e")


@pytest.fixture
def feed(httpserver):
    """Return a feed of coincap, with its address on this machine, and one listed asset."""
    feed = make_feed("BTC-USD", name="spot", provider="coincap")
    feed.sources.update(options={"base_url": httpserver.url_for("/v3")})
    Listing.objects.create(asset=feed.assets.get(), provider="coincap", external_id="bitcoin")
    return feed


@pytest.fixture
def operator(client):
    operator = make_member("grace", "Operator", is_staff=True)
    client.force_login(operator)
    return operator


def search(client, **changes):
    return client.post(reverse("admin:market_asset_search"), SEARCH | changes)


def list_address(**query):
    return reverse("admin:market_asset_list", query={"provider": "coincap", "external_id": "bitcoin-cash", **query})


def listings():
    return set(Listing.objects.values_list("asset__symbol", "provider", "external_id"))


def test_a_search_shows_what_the_provider_has_and_what_is_listed(client, operator, feed, httpserver):
    httpserver.expect_request("/v3/assets", query_string={"search": "bit", "limit": "20"}).respond_with_json(FOUND)
    page = search(client)
    rows = [[str(cell) for cell in row] for row in page.context["table"].rows]
    assert [row[:4] for row in rows] == [
        ["bitcoin", "BTC", "Bitcoin", "USD"],
        ["bitcoin-cash", "BCH", "Bitcoin <b>Cash</b>", "USD"],
    ]
    assert ">BTC-USD</a>" in rows[0][4]
    assert "List it</a>" in rows[1][4]
    assert "<b>Cash" not in page.text
    assert listings() == {("BTC-USD", "coincap", "bitcoin")}


def test_a_new_asset_is_listed_in_a_feed(client, operator, feed):
    address = list_address(name="Bitcoin Cash")
    assert "Which asset is bitcoin-cash at coincap?" in client.get(address).text
    answer = client.post(address, {"sure": "yes", "symbol": "BCH-USD", "feed": feed.pk}, follow=True)
    asset = Asset.objects.get(symbol="BCH-USD")
    assert (asset.name, asset.currency, asset.feed) == ("Bitcoin Cash", "USD", feed)
    assert answer.redirect_chain[-1][0] == reverse("admin:market_asset_change", args=[asset.pk])
    assert "BCH-USD is bitcoin-cash at coincap. It is new in the feed spot." in answer.text
    assert listings() == {("BTC-USD", "coincap", "bitcoin"), ("BCH-USD", "coincap", "bitcoin-cash")}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ({"symbol": "BCH-USD"}, "say its feed too"),
        ({"symbol": "BTC-USD"}, "BTC-USD is bitcoin at coincap already"),
        ({"symbol": "not a symbol", "feed": True}, "Not listed: "),
    ],
)
def test_what_cannot_be_listed_is_refused_and_nothing_is_stored(client, operator, feed, data, why):
    chosen = {name: feed.pk if value is True else value for name, value in data.items()}
    assert why in client.post(list_address(), {"sure": "yes", **chosen}).text
    assert (listings(), Asset.objects.count()) == ({("BTC-USD", "coincap", "bitcoin")}, 1)


@pytest.mark.parametrize("query", [{"provider": "recording"}, {"provider": "nobody"}, {"external_id": " "}])
def test_an_address_without_a_provider_or_a_name_is_no_page(client, operator, feed, query):
    assert client.get(list_address(**query)).status_code == 404


def test_a_failure_of_the_provider_is_shown(client, operator, feed, httpserver, monkeypatch):
    httpserver.expect_request("/v3/assets").respond_with_data("no", status=401)
    assert "coincap gave nothing: unauthorized: is COINCAP_API_KEY right?" in search(client).text
    monkeypatch.delenv("COINCAP_API_KEY")
    assert "coincap gave nothing: no_key: set COINCAP_API_KEY" in search(client).text


def test_a_provider_that_is_left_alone_is_not_asked(client, operator, feed, httpserver):
    source = feed.sources.get()
    Circuit.objects.create(
        provider="coincap",
        address=address_of(source),
        failures=5,
        open_until=timezone.now() + timedelta(hours=1),
        reason="timeout",
        failed_at=timezone.now(),
    )
    assert "coincap gave nothing: " in search(client).text
    assert httpserver.log == []


@pytest.mark.parametrize("group", ["Owner", None])
def test_others_than_operators_neither_search_nor_list_nor_fetch(client, feed, group):
    user = make_operator("bob", "market.view_asset") if group is None else make_member("ada", group, is_staff=True)
    client.force_login(user)
    asset = feed.assets.get()
    past = reverse("admin:market_asset_past", args=[asset.pk])
    for answer in (search(client), client.get(list_address()), client.post(past, {"since": "2026-01-01T00:00"})):
        assert answer.status_code == 403
    page = client.get(reverse("admin:market_asset_change", args=[asset.pk]))
    assert ("Fetch its past" in page.text, "Find it at a provider" in page.text) == (False, False)


def test_an_assets_page_leads_to_the_search_and_to_its_past(client, operator, feed):
    asset = feed.assets.get()
    page = client.get(reverse("admin:market_asset_change", args=[asset.pk]))
    assert [name for name, _ in page.context["buttons"]][:2] == ["fetch_past", "find_listing"]
    act = {"_selected_action": asset.pk, "index": "0", "select_across": "0", "back": "page"}
    changelist = reverse("admin:market_asset_changelist")
    for action, leads_to in (
        ("fetch_past", reverse("admin:market_asset_past", args=[asset.pk])),
        ("find_listing", reverse("admin:market_asset_search", query={"asset": "BTC-USD", "provider": "coincap"})),
    ):
        assert client.post(changelist, act | {"action": action})["Location"] == leads_to
    assert reverse("admin:market_asset_search") in client.get(changelist).text


def test_the_past_is_asked_for_and_its_progress_is_followed(client, operator, feed):
    asset = feed.assets.get()
    address = reverse("admin:market_asset_past", args=[asset.pk])
    assert "From when on is the past of BTC-USD fetched? coincap is asked page by page" in client.get(address).text
    since = timezone.now() - timedelta(days=30)
    answer = client.post(address, {"sure": "yes", "since": f"{since:%Y-%m-%dT%H:%M}"}, follow=True)
    backfill = Backfill.objects.get()
    assert (backfill.asset, backfill.provider, backfill.is_asked) == (asset, "coincap", True)
    assert f"{backfill.since:%Y-%m-%d %H:%M}" == f"{since:%Y-%m-%d %H:%M}"
    assert "coincap is asked for the past of BTC-USD from" in answer.text
    Backfill.objects.update(reached=backfill.since + 0.505 * (backfill.until - backfill.since), accepted=3_400, calls=5)
    live = client.get(reverse("admin:market_asset_live", args=[asset.pk]))
    assert "50 %, 3\u202f400 quotes, 5 calls" in live.text


def test_a_past_that_cannot_be_fetched_is_refused(client, operator, feed):
    asset = feed.assets.get()
    feed.sources.update(provider="simulated", options={})
    answer = client.get(reverse("admin:market_asset_past", args=[asset.pk]), follow=True)
    assert "Not asked for: no source of the feed spot gives the past" in answer.text
    Asset.objects.update(feed=None)
    assert client.get(reverse("admin:market_asset_past", args=[asset.pk])).status_code == 302
    assert client.get(reverse("admin:market_asset_past", args=[10**6])).status_code == 404
    assert not Backfill.objects.exists()
    assert Feed.objects.filter(pk=feed.pk).exists()
