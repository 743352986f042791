"""Assets and feeds in GraphQL."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from apps.api.graphql.scalars import Decimal as Written
from apps.market import cache, partitions
from apps.market.models import Asset, AssetAlias, FeedHead
from apps.market.queries import variations_over, variations_since_close
from apps.market.services import roll_up
from apps.pipeline.flow import evaluate_pending
from apps.sources.models import RefusedListing
from tests.api.asking import codes
from tests.builders import (
    TRACE,
    above,
    append_quotes,
    asset_ids,
    at,
    make_feed,
    make_operator,
    make_owner,
    make_rule,
)

pytestmark = pytest.mark.django_db

DAY = 86_400
MISSION = 'query { asset(id: "BTC") { name price variation24h } }'
VARIATION = '{ asset(id: "BTC") { price variation24h } }'


@pytest.fixture
def feed(client):
    """Return a feed with BTC; the client is Ada's."""
    client.force_login(make_owner())
    return make_feed("BTC", "ETH", jump_percent=0)


def variation(ask):
    return ask(VARIATION).json()["data"]["asset"]["variation24h"]


def test_the_first_question_is_answered(ask, feed):
    Asset.objects.filter(symbol="BTC").update(name="Bitcoin")
    append_quotes(feed, [("BTC", at(0), "61230.25")])
    append_quotes(feed, [("BTC", at(DAY), "67598.50")])
    assert ask(MISSION).json() == {
        "data": {"asset": {"name": "Bitcoin", "price": "67598.5", "variation24h": "10.4005"}}
    }


def test_an_asset_without_a_quote_has_no_price(ask, feed):
    query = '{ asset(id: "BTC") { price priceAt variation24h } }'
    assert ask(query).json() == {"data": {"asset": {"price": None, "priceAt": None, "variation24h": None}}}


def test_variations_are_over_an_hour_a_day_and_a_week_before_the_feeds_clock(ask, feed):
    hour, day = 3_600, 86_400
    prices = ((0, "50"), (6 * day, "80"), (7 * day - hour, "100"), (7 * day, "120"))
    for second, price in prices:
        append_quotes(feed, [("BTC", at(second), price)])
    query = '{ asset(id: "BTC") { variation1h variation24h variation7d } }'
    variations = {"variation1h": "20", "variation24h": "50", "variation7d": "140"}
    assert ask(query).json() == {"data": {"asset": variations}}


def test_an_asset_of_no_feed_has_no_variation(ask, feed):
    Asset.objects.create(symbol="LONE")
    query = '{ asset(id: "LONE") { price variation24h } }'
    assert ask(query).json() == {"data": {"asset": {"price": None, "variation24h": None}}}


def test_an_asset_lists_the_providers_of_its_feed_that_refuse_its_name(ask, feed):
    for provider in ("simulated", "kraken"):
        facts = {"external_id": "XBTUSD", "reason": "unknown_symbol", "since": at(0), "next_ask_at": at(600)}
        RefusedListing.objects.create(asset_id=asset_ids(feed)["BTC"], provider=provider, **facts)
    query = '{ asset(id: "%s") { refusedListings { provider externalId reason since nextAskAt } } }'
    assert ask(query % "BTC").json()["data"]["asset"]["refusedListings"] == [
        {
            **{"provider": "simulated", "externalId": "XBTUSD", "reason": "unknown_symbol"},
            **{"since": "2026-03-02T12:00:00Z", "nextAskAt": "2026-03-02T12:10:00Z"},
        }
    ]
    assert ask(query % "ETH").json()["data"]["asset"]["refusedListings"] == []


# Prices


def test_the_price_comes_from_the_cache_first(ask, feed):
    append_quotes(feed, [("BTC", at(0), "100")])
    cache._local.clear()
    cache.put_latest([(asset_ids(feed)["BTC"], at(5), Decimal("101"))], seconds_to_live=60, now=timezone.now())
    query = '{ asset(id: "BTC") { price priceAt } }'
    assert ask(query).json()["data"]["asset"] == {"price": "101", "priceAt": "2026-03-02T12:00:05Z"}


def test_without_the_cache_the_price_comes_from_the_rows(ask, feed):
    append_quotes(feed, [("BTC", at(0.25), "100")])
    cache._local.clear()
    query = '{ asset(id: "BTC") { price priceAt } }'
    assert ask(query).json()["data"]["asset"] == {"price": "100", "priceAt": "2026-03-02T12:00:00.250000Z"}


@pytest.mark.parametrize(
    ("number", "written"),
    [
        ("61230.2500000000", "61230.25"),
        ("0E-10", "0"),
        ("-0.00", "0"),
        ("1E+12", "1000000000000"),
        ("1E-10", "0.0000000001"),
        ("100", "100"),
        ("-2.50", "-2.5"),
        ("12345678901234567890123.0000000001", "12345678901234567890123.0000000001"),
    ],
)
def test_numbers_are_written_plainly_and_in_full(number, written):
    assert Written.serialize(Decimal(number)) == written


# The change in 24 hours


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (DAY - 1, None),
        (DAY, "50"),
        (DAY + 1, "50"),
    ],
)
def test_the_price_of_24_hours_ago_is_the_one_in_force_then(ask, feed, seconds, expected):
    append_quotes(feed, [("BTC", at(0), "100")])
    append_quotes(feed, [("BTC", at(seconds), "150")])
    assert variation(ask) == expected


def test_24_hours_ago_is_by_the_feeds_clock_and_not_by_the_assets_last_quote(ask, feed):
    append_quotes(feed, [("BTC", at(0), "100")])
    append_quotes(feed, [("BTC", at(3_600), "200")])
    append_quotes(feed, [], as_of=at(DAY + 1_800))
    assert variation(ask) == "100"
    append_quotes(feed, [], as_of=at(DAY + 3_600))
    assert variation(ask) == "0"


def test_the_newest_of_the_prices_before_counts(ask, feed):
    for seconds, price in [(0, "1"), (10, "2"), (20, "4"), (DAY + 15, "3")]:
        append_quotes(feed, [("BTC", at(seconds), price)])
    assert variation(ask) == "50"


def test_a_late_quote_does_not_count(ask, feed):
    append_quotes(feed, [("BTC", at(0), "100")])
    append_quotes(feed, [("BTC", at(60), "150")])
    append_quotes(feed, [("BTC", at(30), "10")], as_of=at(60))
    append_quotes(feed, [("BTC", at(DAY + 40), "200")])
    assert variation(ask) == "100"


def test_a_fall_is_negative_and_rounded_half_even_to_4_decimals(ask, feed):
    append_quotes(feed, [("BTC", at(0), "3")])
    append_quotes(feed, [("BTC", at(DAY), "1")])
    assert variation(ask) == "-66.6667"


def test_the_widest_change_there_is_is_returned(feed):
    append_quotes(feed, [("BTC", at(0), "0.000000000000001")])
    append_quotes(feed, [("BTC", at(DAY), "1000000000000")])
    asset_id = asset_ids(feed)["BTC"]
    found = variations_over({asset_id: Decimal(10**12)}, back=timedelta(hours=24))
    assert found == {asset_id: Decimal("99999999999999999999999999900")}


def test_each_feed_has_its_own_clock(ask, feed):
    recording = make_feed("RECORDING_FILE", name="recording")
    append_quotes(feed, [("BTC", at(0), "100")])
    append_quotes(feed, [("BTC", at(DAY), "110")])
    append_quotes(recording, [("RECORDING_FILE", at(-10 * DAY), "100")])
    append_quotes(recording, [("RECORDING_FILE", at(-9 * DAY), "120")])
    answer = ask("{ assets { edges { node { symbol variation24h } } } }").json()
    assert [tuple(one["node"].values()) for one in answer["data"]["assets"]["edges"]] == [
        ("BTC", "10"),
        ("ETH", None),
        ("RECORDING_FILE", "20"),
    ]


@pytest.mark.parametrize("kept", [True, False])
def test_the_price_at_the_last_close_is_that_of_midnight_and_outlives_the_quotes(ask, feed, kept):
    for seconds, price in [(0, "80"), (DAY / 2 - 60, "100"), (DAY / 2 + 60, "120"), (DAY * 1.25, "125")]:
        append_quotes(feed, [("BTC", at(seconds), price)])
    rolled_up(feed)
    if not kept:
        partitions.drop([at(0).date(), at(DAY).date()])
    query = '{ asset(id: "BTC") { variationSinceClose variation24h } }'
    assert ask(query).json()["data"]["asset"] == {"variationSinceClose": "25", "variation24h": "56.25"}


def test_an_asset_with_trading_hours_has_its_last_close_and_no_midnight(feed):
    Asset.objects.filter(symbol="BTC").update(calendar="XNYS")
    # New York closes 9 hours after the first quote, and is closed still at the last.
    for seconds, price in [(0, "80"), (DAY / 2, "100"), (DAY, "120")]:
        append_quotes(feed, [("BTC", at(seconds), price), ("ETH", at(seconds), price)])
    ids = asset_ids(feed)
    latest = dict.fromkeys(ids.values(), Decimal(120))
    assert variations_since_close(latest) == {ids["BTC"]: 50, ids["ETH"]: 20}


def rolled_up(feed):
    evaluate_pending(feed_id=feed.pk)
    while roll_up(feed_id=feed.pk):
        pass


# Candles


def test_candles_are_returned_newest_first_page_by_page(ask, feed):
    for seconds, price in [(0, "10"), (30, "12"), (59, "11"), (3_600, "9"), (7_300, "8"), (7_400, "8")]:
        append_quotes(feed, [("BTC", at(seconds), price)])
    rolled_up(feed)
    query = (
        'query ($after: String) { asset(id: "BTC") { candles(first: 2, after: $after) '
        "{ edges { node { at open high low close count volume } } pageInfo { hasNextPage endCursor } } } }"
    )

    first = ask(query).json()["data"]["asset"]["candles"]
    second = ask(query, variables={"after": first["pageInfo"]["endCursor"]}).json()["data"]["asset"]["candles"]

    assert [edge["node"]["at"] for edge in first["edges"]] == ["2026-03-02T14:00:00Z", "2026-03-02T13:00:00Z"]
    assert (first["pageInfo"]["hasNextPage"], second["pageInfo"]["hasNextPage"]) == (True, False)
    assert [list(edge["node"].values()) for edge in second["edges"]] == [
        ["2026-03-02T12:00:00Z", "10", "12", "10", "11", 3, None]
    ]
    minutes = ask('{ asset(id: "BTC") { candles(resolution: MINUTE) { edges { node { close } } } } }').json()
    assert [edge["node"]["close"] for edge in minutes["data"]["asset"]["candles"]["edges"]] == ["8", "9", "11"]


def test_candles_of_nobody_are_an_empty_page_and_what_is_no_resolution_is_refused(ask, feed):
    query = '{ asset(id: "ETH") { candles(resolution: %s) { edges { node { at } } } } }'
    assert ask(query % "DAY").json() == {"data": {"asset": {"candles": {"edges": []}}}}
    assert "errors" in ask(query % "WEEK").json()
    assert "errors" in ask(query % "null").json()


# Names


def test_an_asset_is_found_by_an_alias(ask, feed):
    AssetAlias.objects.create(asset=Asset.objects.get(symbol="ETH"), name="ETHER")
    query = '{ asset(id: "ETHER") { id symbol aliases } }'
    assert ask(query).json()["data"]["asset"] == {"id": "ETH", "symbol": "ETH", "aliases": ["ETHER"]}


def test_where_a_name_is_both_the_symbol_goes_first(ask, feed):
    AssetAlias.objects.create(asset=Asset.objects.get(symbol="ETH"), name="NEW")
    Asset.objects.create(symbol="NEW")
    assert ask('{ asset(id: "NEW") { symbol } }').json()["data"]["asset"] == {"symbol": "NEW"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("BTC", "BTC is an asset's symbol already."),
        ("ETHER", "Asset alias with this Name already exists."),
        ("ether", "Use 1 to 64 capital letters, digits and . _ : / - (like BTC-USD)."),
        ("", "This field cannot be blank."),
    ],
)
def test_an_alias_is_a_name_that_is_free(feed, name, text):
    eth = Asset.objects.get(symbol="ETH")
    AssetAlias.objects.create(asset=eth, name="ETHER")
    with pytest.raises(ValidationError) as refused:
        AssetAlias(asset=eth, name=name).full_clean()
    assert refused.value.message_dict["name"][0] == text


# Feeds


def test_a_feed_says_how_far_it_has_come(ask, feed):
    append_quotes(feed, [("BTC", at(0), "1")])
    FeedHead.objects.update(failures=3)
    query = (
        '{ feed(id: "feed") { id intervalSeconds isEnabled seq evaluatedSeq asOf nextSlot failures'
        " assets { edges { node { symbol } } } } }"
    )
    assert ask(query, user=make_operator("grace", "market.view_feed")).json()["data"]["feed"] == {
        "id": "feed",
        "intervalSeconds": 1,
        "isEnabled": True,
        "seq": 1,
        "evaluatedSeq": 0,
        "asOf": "2026-03-02T12:00:00Z",
        "nextSlot": "2026-03-02T12:00:01Z",
        "failures": 3,
        "assets": {"edges": [{"node": {"symbol": "BTC"}}, {"node": {"symbol": "ETH"}}]},
    }


def test_a_feed_has_the_entries_of_its_log(ask, feed):
    append_quotes(feed, [("BTC", at(0), "1"), ("ETH", at(0), "0")])
    evaluate_pending(feed_id=feed.pk)
    append_quotes(feed, [("BTC", at(0), "1"), ("BTC", at(-9), "2")], as_of=at(5))
    fields = "feed seq kind asOf slot provider failure accepted late repeated unconfirmed rejected missedSlots traceId"
    entries = f"entries(order: OLDEST_FIRST) {{ edges {{ node {{ {fields} evaluatedAt }} }} }}"
    query = f'{{ feed(id: "feed") {{ {entries} }} }}'
    edges = ask(query, user=make_operator("grace", "market.view_feed")).json()["data"]["feed"]["entries"]["edges"]
    first, second = (edge["node"] for edge in edges)
    assert [first.pop("evaluatedAt") is None, second.pop("evaluatedAt")] == [False, None]
    same = {"feed": "feed", "kind": "QUOTES", "provider": "simulated", "failure": "", "traceId": TRACE}
    same |= {"unconfirmed": 0, "missedSlots": 0}
    assert first == same | {
        "seq": 1,
        "asOf": "2026-03-02T12:00:00Z",
        "slot": "2026-03-02T12:00:00Z",
        "accepted": 1,
        "late": 0,
        "repeated": 0,
        "rejected": {"out_of_range": 1},
    }
    assert second == same | {
        "seq": 2,
        "asOf": "2026-03-02T12:00:05Z",
        "slot": "2026-03-02T12:00:01Z",
        "accepted": 0,
        "late": 1,
        "repeated": 1,
        "rejected": {},
    }


# Quotes


@pytest.fixture
def quoted(feed):
    """Return the feed with five quotes of BTC, of which the one of 15 s came late, and one of ETH."""
    for seconds, price in [(0, "10"), (10, "11"), (20, "12"), (15, "99"), (30, "13")]:
        append_quotes(feed, [("BTC", at(seconds), price)], as_of=at(max(seconds, 20)))
    append_quotes(feed, [("ETH", at(31), "7")])
    return feed


def prices(ask, arguments, **variables):
    query = (
        'query ($after: String) { asset(id: "BTC") { quotes(after: $after, %s) { edges { cursor node { price } } } } }'
    )
    answer = ask(query % arguments, variables=variables).json()
    assert "errors" not in answer
    return [(edge["node"]["price"], edge["cursor"]) for edge in answer["data"]["asset"]["quotes"]["edges"]]


def test_quotes_are_returned_as_they_came_newest_first(ask, quoted):
    query = "{ assets { edges { node { symbol quotes { edges { node { at price volume late provider } } } } } } }"
    btc, eth = (edge["node"] for edge in ask(query).json()["data"]["assets"]["edges"])
    assert [edge["node"] for edge in eth["quotes"]["edges"]] == [
        {"at": "2026-03-02T12:00:31Z", "price": "7", "volume": None, "late": False, "provider": "simulated"}
    ]
    assert [(edge["node"]["price"], edge["node"]["late"]) for edge in btc["quotes"]["edges"]] == [
        ("13", False),
        ("12", False),
        ("99", True),
        ("11", False),
        ("10", False),
    ]


@pytest.mark.parametrize(
    ("order", "expected"),
    [("NEWEST_FIRST", ["13", "12", "99", "11", "10"]), ("OLDEST_FIRST", ["10", "11", "99", "12", "13"])],
)
def test_quotes_are_walked_page_by_page_both_ways(ask, quoted, order, expected):
    found, after = [], None
    for count in (2, 2, 1):
        page = prices(ask, f"first: 2, order: {order}", after=after)
        assert len(page) == count
        found += [price for price, _ in page]
        after = page[-1][1]
    assert found == expected


def test_quotes_of_a_period_begin_with_its_first_moment_and_end_before_its_last(ask, quoted):
    period = 'since: "2026-03-02T12:00:10Z", until: "2026-03-02T12:00:20Z"'
    assert [price for price, _ in prices(ask, period)] == ["99", "11"]
    [(_, cursor)] = prices(ask, f"{period}, first: 1")
    assert [price for price, _ in prices(ask, period, after=cursor)] == ["11"]
    assert prices(ask, 'since: "2026-03-02T12:00:20Z", until: "2026-03-02T12:00:20Z"') == []


# Alerts on an asset


def test_an_asset_shows_a_reader_their_own_alerts_on_it(ask, feed, admin_user):
    readers = {"grace": make_owner("grace"), "eve": make_owner("eve"), "none": make_owner("none"), "root": admin_user}
    for name in ("grace", "eve"):
        make_rule(readers[name], name=f"rule of {name}", assets=["BTC"], condition=above(10))
    append_quotes(feed, [("BTC", at(0), "9"), ("ETH", at(0), "9")])
    append_quotes(feed, [("BTC", at(1), "11"), ("ETH", at(1), "11")])
    evaluate_pending(feed_id=feed.pk)
    fields = "edges { node { rule { name } } }"
    chosen = (
        f"alerts {{ {fields} }} ended: alerts(isOpen: false) {{ {fields} }} now: alerts(state: OPEN) {{ {fields} }}"
    )
    query = f"{{ assets(first: 2) {{ edges {{ node {{ symbol {chosen} }} }} }} }}"
    expected = {"grace": ["grace"], "eve": ["eve"], "none": [], "root": ["eve", "grace"]}
    for name, owners in expected.items():
        btc, eth = (edge["node"] for edge in ask(query, user=readers[name]).json()["data"]["assets"]["edges"])
        rules = {
            one: sorted(edge["node"]["rule"]["name"] for edge in btc[one]["edges"])
            for one in ("alerts", "now", "ended")
        }
        named = [f"rule of {owner}" for owner in owners]
        assert rules == {"alerts": named, "now": named, "ended": []}, name
        assert [eth[one]["edges"] for one in ("alerts", "now", "ended")] == [[], [], []]


def test_a_stranger_of_an_open_market_is_asked_to_sign_in_for_alerts(ask, settings):
    settings.MARKET_IS_PUBLIC = True
    append_quotes(make_feed("BTC"), [("BTC", at(0), "9")])
    query = '{ asset(id: "BTC") { quotes { edges { node { price } } } alerts { edges { cursor } } } }'
    answer = ask(query)
    assert answer.json()["data"]["asset"] == {"quotes": {"edges": [{"node": {"price": "9"}}]}, "alerts": None}
    assert codes(answer) == ["UNAUTHENTICATED"]
