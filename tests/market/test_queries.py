from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.market import cache, partitions, queries, services
from apps.market.domain import AdmittedQuote, Newest, epoch_microseconds
from apps.market.models import Asset, Candle, EvaluationCursor, Feed, FeedEntry
from apps.market.services import roll_up
from apps.pipeline.flow import evaluate_pending
from apps.sources import queries as sources_queries
from apps.sources.models import FeedSource, Listing
from tests.builders import START, TRACE, append_quotes, asset_ids, at, make_feed
from tests.market.rows import make_long_logs, rows_read

UNIT = 10**18
SECOND = 1_000_000
DAY = 86_400
BEGAN = epoch_microseconds(START)

pytestmark = pytest.mark.django_db


def _path(feed, symbol="BTC", *, reach_seconds, up_to_seq=99):
    """Return the stored path of one asset as (seconds after START, price)."""
    asset_id = asset_ids(feed)[symbol]
    paths = queries.quoted_path({asset_id: int(reach_seconds * SECOND)}, feed_id=feed.pk, up_to_seq=up_to_seq)
    return [((microseconds - BEGAN) / SECOND, units / UNIT) for microseconds, units in paths[asset_id]]


@pytest.fixture
def four_quotes():
    """Return a feed with BTC at 1, 2, 3, 4 after 0, 10, 20, 30 seconds, each in an entry of its own."""
    feed = make_feed("BTC", "ETH", jump_percent=0)
    for place in range(4):
        append_quotes(feed, [("BTC", at(10 * place), str(place + 1))])
    return feed


# Names


def _source(provider, **options):
    return FeedSource(provider=provider, options=options)


def test_without_a_listing_an_asset_goes_by_its_symbol():
    feed = make_feed("BTC", "ETH")
    make_feed("DOGE", name="other")
    assert sources_queries.asset_ids_by_external_id(feed).of(_source("coincap")) == asset_ids(feed)


@pytest.mark.parametrize("symbols", [("BTCUSDT", "BTC-USD"), ("BTC-USD", "BTCUSDT")])
def test_a_name_that_is_a_listing_and_a_symbol_is_that_of_the_listing(symbols):
    feed = make_feed(*symbols)
    ids = asset_ids(feed)
    Listing.objects.create(asset_id=ids["BTC-USD"], provider="binance", external_id="BTCUSDT")
    assert sources_queries.asset_ids_by_external_id(feed).of(_source("binance")) == {"BTCUSDT": ids["BTC-USD"]}


def test_a_listing_holds_for_its_provider_alone():
    feed = make_feed("BTC", "ETH")
    ids = asset_ids(feed)
    Listing.objects.create(asset_id=ids["BTC"], provider="coincap", external_id="bitcoin")
    assets = sources_queries.asset_ids_by_external_id(feed)
    assert assets.of(_source("coincap")) == {"bitcoin": ids["BTC"], "ETH": ids["ETH"]}
    assert assets.of(_source("simulated")) == {"BTC": ids["BTC"], "ETH": ids["ETH"]}


def test_the_names_of_a_feed_cost_one_statement(django_assert_num_queries):
    feed = make_feed("BTC", "ETH")
    Listing.objects.create(asset_id=asset_ids(feed)["BTC"], provider="coincap", external_id="bitcoin")
    with django_assert_num_queries(1):
        assets = sources_queries.asset_ids_by_external_id(feed)
        assert (len(assets.of(_source("coincap"))), len(assets.of(_source("simulated")))) == (2, 2)


def test_a_name_in_another_currency_than_the_asset_is_left_out():
    feed = make_feed("BTC-USD", "ETH-USD")
    ids = asset_ids(feed)
    Asset.objects.filter(symbol="BTC-USD").update(currency="USD")
    Listing.objects.create(asset_id=ids["BTC-USD"], provider="binance", external_id="BTCUSDT")
    Listing.objects.create(asset_id=ids["ETH-USD"], provider="binance", external_id="ETHUSDT")
    assets = sources_queries.asset_ids_by_external_id(feed)
    assert assets.of(_source("binance")) == {"ETHUSDT": ids["ETH-USD"]}
    assert assets.left_out == [("binance", "BTCUSDT", ids["BTC-USD"], "USDT")]


def test_an_asset_that_says_no_currency_is_in_that_of_the_first_source_that_says_one():
    feed = make_feed("BTC-USD")
    ids = asset_ids(feed)
    Listing.objects.create(asset_id=ids["BTC-USD"], provider="binance", external_id="BTCUSDT")
    assets = sources_queries.asset_ids_by_external_id(feed)
    assert assets.of(_source("coinbase")) == {"BTC-USD": ids["BTC-USD"]}
    assert assets.of(_source("binance")) == {}
    assert assets.of(_source("simulated")) == {"BTC-USD": ids["BTC-USD"]}


# Newest prices


def test_the_newest_stored_is_by_asset_and_leaves_out_what_has_none():
    feed = make_feed("BTC", "ETH", "XRP")
    append_quotes(feed, [("BTC", START, "10"), ("BTC", at(1), "11"), ("ETH", START, "2")])
    ids = asset_ids(feed)
    assert queries.newest_stored([ids["BTC"], ids["XRP"]]) == {ids["BTC"]: (at(1), Decimal(11))}
    assert queries.newest_stored([]) == {}


def test_the_newest_quotes_are_those_of_the_feeds_assets_to_the_microsecond():
    feed, other = make_feed("BTC", "ETH"), make_feed("DOGE", name="other")
    append_quotes(feed, [("BTC", at(1.000001), "10")])
    append_quotes(other, [("DOGE", START, "1")])
    newest = Newest(BEGAN + 1_000_001, Decimal(10), "simulated")
    assert queries.newest_quotes(feed.pk) == {asset_ids(feed)["BTC"]: newest}


def test_latest_prices_come_from_the_cache_first_and_then_from_the_rows(monkeypatch):
    feed = make_feed("BTC", "ETH", "XRP")
    ids = asset_ids(feed)
    append_quotes(feed, [("BTC", START, "10"), ("ETH", START, "2")])
    monkeypatch.setattr(cache, "_PREFIX", f"{cache._PREFIX}emptied:")
    cache._local.clear()
    cache.put_latest([(ids["BTC"], at(1), Decimal(11))], seconds_to_live=60, now=START)
    prices = queries.latest_prices(list(ids.values()), now=START)
    assert prices == {ids["BTC"]: (at(1), Decimal(11)), ids["ETH"]: (START, Decimal(2))}


def test_latest_prices_that_the_cache_knows_cost_no_statement(django_assert_num_queries):
    feed = make_feed("BTC")
    ids = asset_ids(feed)
    append_quotes(feed, [("BTC", START, "10")])
    with django_assert_num_queries(0):
        prices = queries.latest_prices([ids["BTC"]], now=START)
    assert prices == {ids["BTC"]: (START, Decimal(10))}


def test_the_stored_prices_of_quotes_are_found_by_asset_and_time():
    feed = make_feed("BTC", "ETH")
    append_quotes(feed, [("BTC", START, "10"), ("ETH", at(1), "2")])
    btc, eth = asset_ids(feed)["BTC"], asset_ids(feed)["ETH"]
    asked = [AdmittedQuote(btc, START, Decimal(99)), AdmittedQuote(eth, START, Decimal(99))]
    assert queries.stored_prices(asked) == {(btc, START): Decimal(10)}
    assert queries.stored_prices([]) == {}


def test_the_stored_prices_of_the_millisecond_from_a_time_on_are_found():
    feed = make_feed("BTC")
    moments = [START + timedelta(microseconds=number) for number in (-1, 0, 0, 5, 999, 1_000)]
    append_quotes(feed, [("BTC", moment, str(10 + number)) for number, moment in enumerate(moments)])
    btc = asset_ids(feed)["BTC"]
    found = queries.stored_prices([AdmittedQuote(btc, START, Decimal(price)) for price in (98, 99)])
    assert {(moment - START).microseconds: int(price) for (_, moment), price in found.items()} == {
        0: 11,
        1: 12,
        5: 13,
        999: 14,
    }


def test_what_lies_between_two_quotes_that_are_asked_for_is_not_read():
    feed = make_feed("BTC", "ETH")
    append_quotes(feed, [(name, at(second), "10") for name in ("BTC", "ETH") for second in range(5)])
    btc, eth = asset_ids(feed)["BTC"], asset_ids(feed)["ETH"]
    asked = [AdmittedQuote(btc, START, Decimal(10)), AdmittedQuote(eth, at(4), Decimal(10))]
    assert queries.stored_prices(asked) == {(btc, START): Decimal(10), (eth, at(4)): Decimal(10)}


# The log


def test_a_log_is_pending_until_its_last_entry_is_evaluated():
    feed = make_feed("BTC")
    before = queries.has_pending(feed.pk)
    append_quotes(feed, [])
    appended = queries.has_pending(feed.pk)
    EvaluationCursor.objects.update(seq=1)
    assert (before, appended, queries.has_pending(feed.pk)) == (False, True, False)


def test_a_feed_is_behind_when_an_entry_has_waited_since_before_the_moment():
    waiting, quick, evaluated = (make_feed(name=name) for name in ("waiting", "quick", "evaluated"))
    append_quotes(waiting, [], as_of=START)
    append_quotes(waiting, [], as_of=START)
    append_quotes(quick, [], as_of=at(5))
    append_quotes(evaluated, [], as_of=START)
    FeedEntry.objects.filter(feed=evaluated).update(evaluated_at=at(1))
    assert queries.feeds_behind(before=at(5), now=at(15)) == [waiting.pk]
    assert queries.feeds_behind(before=START, now=at(15)) == []


def test_quotes_are_evaluated_in_the_order_of_time_then_asset():
    feed = make_feed("BTC", "ETH", jump_percent=0)
    btc, eth = asset_ids(feed)["BTC"], asset_ids(feed)["ETH"]
    entry = append_quotes(
        feed, [("ETH", at(2), "4"), ("ETH", at(1), "2"), ("BTC", at(2), "3.5"), ("BTC", at(1.000001), "1")]
    )
    append_quotes(feed, [("BTC", at(3), "9")])
    assert queries.evaluated_quotes(entry) == [
        (eth, BEGAN + SECOND, 2 * UNIT),
        (btc, BEGAN + SECOND + 1, UNIT),
        (btc, BEGAN + 2 * SECOND, 35 * UNIT // 10),
        (eth, BEGAN + 2 * SECOND, 4 * UNIT),
    ]


def test_an_entry_without_quotes_has_nothing_to_evaluate():
    feed = make_feed("BTC")
    entry = services.append_rules_entry(feed_id=feed.pk, now=START, trace_id=TRACE)
    assert queries.evaluated_quotes(entry) == []
    assert queries.asset_ids_in(entry) == []


def test_the_assets_in_an_entry_are_those_with_quotes_in_it():
    feed = make_feed("BTC", "ETH", "XRP")
    ids = asset_ids(feed)
    append_quotes(feed, [("XRP", START, "1")])
    append_quotes(feed, [("BTC", at(2), "1")], history=[("ETH", START, "1"), ("BTC", at(1), "1"), ("BTC", at(-1), "1")])
    assert queries.asset_ids_in(FeedEntry.objects.get(kind="history")) == sorted([ids["BTC"], ids["ETH"]])


# The path


@pytest.mark.parametrize(
    ("reach_seconds", "path"),
    [
        (0, [(20, 3), (30, 4)]),
        (1, [(20, 3), (30, 4)]),
        (10, [(20, 3), (30, 4)]),
        (10.000001, [(10, 2), (20, 3), (30, 4)]),
        (15, [(10, 2), (20, 3), (30, 4)]),
        (30, [(0, 1), (10, 2), (20, 3), (30, 4)]),
        (10**6, [(0, 1), (10, 2), (20, 3), (30, 4)]),
        (10**10, [(0, 1), (10, 2), (20, 3), (30, 4)]),
    ],
)
def test_a_path_begins_with_the_price_in_force_and_holds_the_two_newest(four_quotes, reach_seconds, path):
    assert _path(four_quotes, reach_seconds=reach_seconds) == path


@pytest.mark.parametrize(("up_to_seq", "path"), [(1, [(0, 1)]), (2, [(0, 1), (10, 2)]), (3, [(10, 2), (20, 3)])])
def test_a_path_ends_at_its_place_in_the_log(four_quotes, up_to_seq, path):
    assert _path(four_quotes, reach_seconds=5, up_to_seq=up_to_seq) == path


def test_a_path_before_the_first_quote_is_not_there(four_quotes):
    ids = asset_ids(four_quotes)
    assert queries.quoted_path({ids["BTC"]: SECOND}, feed_id=four_quotes.pk, up_to_seq=0) == {}
    assert list(queries.quoted_path(dict.fromkeys(ids.values(), 0), feed_id=four_quotes.pk, up_to_seq=9)) == [
        ids["BTC"]
    ]


def test_late_quotes_are_not_in_a_path(four_quotes):
    append_quotes(four_quotes, [("BTC", at(25), "99"), ("BTC", at(-5), "99")], as_of=at(31))
    assert _path(four_quotes, reach_seconds=1000) == [(0, 1), (10, 2), (20, 3), (30, 4)]


def test_history_is_in_a_path_from_its_place_in_the_log_on(four_quotes):
    append_quotes(four_quotes, [], as_of=at(31), history=[("BTC", at(25), "9")])
    assert _path(four_quotes, reach_seconds=5, up_to_seq=4) == [(20, 3), (30, 4)]
    assert _path(four_quotes, reach_seconds=5, up_to_seq=5) == [(25, 9), (30, 4)]


def test_each_asset_has_a_path_of_its_own_reach(four_quotes):
    ids = asset_ids(four_quotes)
    append_quotes(four_quotes, [("ETH", at(40), "7"), ("ETH", at(50), "8"), ("ETH", at(60), "9")])
    paths = queries.quoted_path({ids["BTC"]: 30 * SECOND, ids["ETH"]: 10 * SECOND}, feed_id=four_quotes.pk, up_to_seq=5)
    assert paths == {
        ids["BTC"]: [(BEGAN + 10 * place * SECOND, (place + 1) * UNIT) for place in range(4)],
        ids["ETH"]: [(BEGAN + 50 * SECOND, 8 * UNIT), (BEGAN + 60 * SECOND, 9 * UNIT)],
    }


# Choosing


def test_assets_are_chosen_by_symbol_by_tag_and_by_feed():
    make_feed("BTC", "ETH")
    make_feed("DOGE", name="other")
    Asset.objects.filter(symbol__in=["ETH", "DOGE"]).update(tags=["meme"])

    def chosen(**selector):
        return [asset.symbol for asset in queries.assets_chosen(**selector)]

    assert chosen(symbols=["ETH", "BTC", "NONE"]) == ["BTC", "ETH"]
    assert chosen(tag="meme") == ["ETH", "DOGE"]
    assert chosen(tag="mem") == []
    assert chosen(feed="other") == ["DOGE"]
    assert chosen() == []


def _seen(feed):
    return queries.with_recent_entries(Feed.objects.filter(pk=feed.pk)).get()


@pytest.fixture
def quoted():
    """Return a feed of 10 s with an answer at START that is evaluated."""
    feed = make_feed("BTC-USD", interval_seconds=10)
    append_quotes(feed, [("BTC-USD", START, "10")])
    FeedEntry.objects.update(evaluated_at=START)
    EvaluationCursor.objects.update(seq=1)
    return feed


def test_the_effective_interval_is_the_median_gap_between_answers(quoted):
    assert queries.effective_interval_seconds(_seen(quoted)) is None
    for second in (10, 22, 32, 300):
        append_quotes(quoted, [("BTC-USD", at(second), "10")])
    assert queries.effective_interval_seconds(_seen(quoted)) == 11.0


def test_answers_from_before_the_interval_was_changed_say_nothing_of_the_effective_one(quoted):
    for second in (2, 4, 6):
        append_quotes(quoted, [("BTC-USD", at(second), "10")])
    assert queries.effective_interval_seconds(_seen(quoted)) == 2.0
    Feed.objects.update(interval_changed_at=at(7))
    assert queries.effective_interval_seconds(_seen(quoted)) is None
    for second in (20, 40):
        append_quotes(quoted, [("BTC-USD", at(second), "10")])
    assert queries.effective_interval_seconds(_seen(quoted)) == 20.0


def test_feeds_with_their_recent_entries_cost_two_statements_and_hold_no_more_than_the_end_of_a_log(
    django_assert_num_queries,
):
    for name in ("one", "two"):
        feed = make_feed(name=name)
        for _ in range(30):
            append_quotes(feed, [])
    with django_assert_num_queries(2):
        found = list(queries.with_recent_entries(Feed.objects.order_by("pk")))
        assert [[entry.seq for entry in feed.recent] for feed in found] == [list(range(30, 10, -1))] * 2


@pytest.mark.servers
def test_the_end_of_a_log_costs_the_same_however_long_it_is():
    make_long_logs("one", "two", "three", "four")
    with CaptureQueriesContext(connection) as context:
        found = list(queries.with_recent_entries(Feed.objects.all()))
    assert [[entry.seq for entry in feed.recent] for feed in found] == [list(range(5_000, 4_980, -1))] * 4
    assert rows_read(context) < 1_000


# What is drawn


def test_a_short_path_has_each_quote_and_no_late_one(quoted):
    append_quotes(quoted, [("BTC-USD", at(10), "12"), ("BTC-USD", at(-5), "99")])
    asset = quoted.assets.get()
    path = queries.price_path(asset.pk, since=START, until=at(10))
    assert path == [(START, Decimal(10), Decimal(10)), (at(10), Decimal(12), Decimal(12))]
    assert queries.price_path(asset.pk, since=at(-9), until=at(-1)) == []


def test_a_long_path_has_the_lowest_and_highest_of_equal_spans(monkeypatch):
    monkeypatch.setattr(queries.prices, "PATH_POINTS", 3)
    feed = make_feed("BTC-USD")
    prices = ["10", "13", "9", "11", "12", "14", "8"]
    append_quotes(feed, [("BTC-USD", at(10 * index), price) for index, price in enumerate(prices)])
    path = queries.price_path(feed.assets.get().pk, since=START, until=at(60))
    assert path == [(START, 9, 13), (at(30), 11, 14), (at(60), 8, 8)]


def rolled_up(feed):
    evaluate_pending(feed_id=feed.pk)
    while roll_up(feed_id=feed.pk):
        pass


def test_what_is_kept_as_candles_alone_is_drawn_from_them_and_the_rest_from_quotes():
    feed = make_feed("BTC-USD")
    for second, price in ((0, "10"), (70, "11"), (80, "9"), (DAY, "12"), (DAY + 60, "13")):
        append_quotes(feed, [("BTC-USD", at(second), price)])
    rolled_up(feed)
    partitions.drop([START.date()])
    asset = feed.assets.get()

    path = queries.price_path(asset.pk, since=START, until=at(DAY + 60))

    assert [(point.at, point.low, point.high) for point in path] == [
        (START, 9, 11),
        (at(DAY), 12, 12),
        (at(DAY + 60), 13, 13),
    ]
    assert queries.price_known_since(asset.pk) == START.replace(hour=0)


def test_a_long_path_is_drawn_from_candles_and_from_quotes_where_they_end(monkeypatch, django_assert_max_num_queries):
    monkeypatch.setattr(queries.prices, "PATH_POINTS", 5)
    feed = make_feed("BTC-USD")
    for index, price in enumerate([10, 13, 9, 11, 12, 12, 10, 11]):
        append_quotes(feed, [("BTC-USD", at(60 * index), str(price))])
    rolled_up(feed)

    asset = feed.assets.get()
    with django_assert_max_num_queries(3):
        path = queries.price_path(asset.pk, since=START, until=at(60 * 7))

    assert (min(point.low for point in path), max(point.high for point in path)) == (9, 13)
    # The last minute is not over.
    assert path[-1] == (at(60 * 7), 11, 11)
    assert [point.at for point in path] == sorted(point.at for point in path)


def test_hours_are_drawn_where_minutes_are_kept_no_more():
    feed = make_feed("BTC-USD")
    append_quotes(feed, [("BTC-USD", START, "10")])
    append_quotes(feed, [("BTC-USD", at(DAY), "11")])
    rolled_up(feed)
    partitions.drop([START.date()])
    Candle.objects.filter(resolution=Candle.Resolution.MINUTE).delete()

    assert queries.price_path(feed.assets.get().pk, since=START, until=at(3_600)) == [(START, 10, 10)]


@pytest.mark.parametrize("kept", [60, 3_600, 86_400])
def test_the_price_at_a_moment_is_known_from_candles_where_quotes_are_gone(kept, django_assert_max_num_queries):
    feed = make_feed("BTC-USD", "ETH-USD")
    for second, price in ((0, "10"), (30, "11"), (90, "12"), (DAY, "13")):
        append_quotes(feed, [("BTC-USD", at(second), price)])
    append_quotes(feed, [], as_of=at(DAY + 60))
    rolled_up(feed)
    ids = asset_ids(feed)
    with django_assert_max_num_queries(10):
        before = [queries.in_force_at(dict.fromkeys(ids.values(), at(one))) for one in (-1, 30, 90, DAY - 1, DAY)]
    known = [(at(30), 11), (at(90), 12), (at(90), 12), (at(DAY), 13)]
    assert before == [{}, *({ids["BTC-USD"]: one} for one in known)]

    partitions.drop([START.date()])
    Candle.objects.filter(resolution__lt=kept).delete()
    after = [queries.in_force_at({ids["BTC-USD"]: at(second)}) for second in (DAY - 1, DAY)]
    assert after == [{ids["BTC-USD"]: one} for one in known[-2:]]
