"""Candles against the same thing worked out quote by quote."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.market import partitions
from apps.market.domain import RawQuote
from apps.market.models import Candle, EvaluationCursor, FeedHead, Quote, RollupCursor
from apps.market.services import candles, prune_quotes, roll_up
from apps.pipeline.flow import evaluate_pending
from apps.sources.services import history, import_history
from tests.builders import START, TRACE, append_quotes, at, make_feed
from tests.threads import elsewhere

pytestmark = pytest.mark.django_db

MINUTE, HOUR, DAY = Candle.Resolution.MINUTE, Candle.Resolution.HOUR, Candle.Resolution.DAY
VALUES = [
    *("asset_id", "resolution", "at", "open", "high", "low", "close", "count", "first_at", "last_at"),
    *("low_at", "high_at", "volume", "price_time", "square_time"),
]


def oracle(feed, *, before):
    """Return the candles of a feed's stored quotes in minutes that are over then, by their key."""
    groups = {}
    for quote in Quote.objects.filter(asset__feed=feed, late=False).order_by("asset_id", "at"):
        if quote.at.replace(second=0, microsecond=0) + timedelta(minutes=1) > before:
            continue
        begins = quote.at.replace(second=0, microsecond=0)
        for resolution, start in (
            (60, begins),
            (3_600, begins.replace(minute=0)),
            (86_400, begins.replace(hour=0, minute=0)),
        ):
            groups.setdefault((quote.asset_id, resolution, start), []).append(quote)
    return {key: key + _values(quotes) for key, quotes in groups.items()}


def _values(quotes):
    prices = [quote.price for quote in quotes]
    price_time = square_time = 0
    for quote, later in pairwise(quotes):
        microseconds = (later.at - quote.at) // timedelta(microseconds=1)
        units = int(quote.price * 10**18)
        price_time += units * microseconds
        square_time += units * units * microseconds
    return (
        *(prices[0], max(prices), min(prices), prices[-1], len(quotes), quotes[0].at, quotes[-1].at),
        max(quote.at for quote in quotes if quote.price == min(prices)),
        max(quote.at for quote in quotes if quote.price == max(prices)),
        None,
        price_time,
        square_time,
    )


def stored(feed):
    rows = Candle.objects.filter(asset__feed=feed).values_list(*VALUES)
    return {row[:3]: row for row in rows}


def rolled_up(feed):
    """Evaluate and roll up what there is."""
    evaluate_pending(feed_id=feed.pk)
    while roll_up(feed_id=feed.pk):
        pass


def clock(feed):
    return FeedHead.objects.get(feed=feed).as_of


def position(feed):
    return RollupCursor.objects.get(feed=feed).seq


# Seconds to the next answer; its prices, each some seconds before its clock; past quotes that come with it.
steps = st.sampled_from([0.25, 1, 7, 20, 59.999999, 60, 61, 1_800, 3_600, 40_000])
prices = st.sampled_from(
    ["0.000000000000001", "0.000000001440000001", "9", "10", "10.5", "11", "99999.12345678", "1000000000000"]
)
quotes = st.lists(
    st.tuples(st.sampled_from(["A", "B"]), st.sampled_from([0, 0, 0.5, 3, 61, 4_000]), prices), max_size=3
)
answers = st.lists(st.tuples(steps, quotes, quotes, st.booleans()), min_size=1, max_size=12)


@settings(max_examples=25)
@given(answers, st.sampled_from([1, 3, 50_000]))
def test_candles_are_what_the_stored_quotes_give_whenever_they_are_rolled_up(log, at_once):
    with pytest.MonkeyPatch.context() as patch, transaction.atomic():
        patch.setattr(candles, "QUOTES_AT_ONCE", at_once)
        partitions.forget()
        feed = make_feed("A", "B")
        second = 0
        for step, given_quotes, past, rolls in log:
            second += step
            append_quotes(
                feed,
                [(symbol, at(second - ago), price) for symbol, ago, price in given_quotes],
                as_of=at(second),
                history=[(symbol, at(second - 100 - 10 * ago), price) for symbol, ago, price in past],
            )
            if rolls:
                rolled_up(feed)
                open_minute = at(second).replace(second=0, microsecond=0)
                assert not Candle.objects.filter(resolution=MINUTE, at__gte=open_minute).exists()
        append_quotes(feed, [], as_of=at(second + 120))
        rolled_up(feed)

        assert stored(feed) == oracle(feed, before=clock(feed))
        assert position(feed) == FeedHead.objects.get(feed=feed).seq
        again = stored(feed)
        Candle.objects.all().delete()
        RollupCursor.objects.update(seq=0)
        rolled_up(feed)
        assert stored(feed) == again
        transaction.set_rollback(True)
    partitions.forget()


def test_one_minute_by_hand():
    feed = make_feed("A")
    for second, price in ((1, "10"), (2, "12"), (5, "8"), (7, "12"), (9, "8"), (11, "9")):
        append_quotes(feed, [("A", at(second), price)])
    append_quotes(feed, [("A", at(3), "1")], as_of=at(60))
    rolled_up(feed)

    candle = Candle.objects.get(resolution=MINUTE)
    assert (candle.open, candle.high, candle.low, candle.close, candle.count) == (10, 12, 8, 9, 6)
    assert (candle.at, candle.first_at, candle.last_at) == (START, at(1), at(11))
    assert (candle.low_at, candle.high_at) == (at(9), at(7))
    # 10 for 1 s, 12 for 3 s, 8 for 2 s, 12 for 2 s, 8 for 2 s.
    assert candle.price_time == 102 * 10**18 * 10**6
    assert candle.square_time == (100 + 432 + 128 + 288 + 128) * 10**36 * 10**6
    assert Quote.objects.filter(late=True).count() == 1


def test_a_minute_is_over_when_the_log_says_so_and_not_before():
    feed = make_feed("A")
    append_quotes(feed, [("A", at(59), "10")])
    append_quotes(feed, [], as_of=at(59.999999))
    rolled_up(feed)
    assert (Candle.objects.count(), position(feed)) == (0, 0)

    append_quotes(feed, [], as_of=at(60))
    assert roll_up(feed_id=feed.pk) is False  # Not evaluated yet.
    rolled_up(feed)
    assert (Candle.objects.filter(resolution=MINUTE).count(), position(feed)) == (1, 3)


def test_a_quote_that_comes_after_its_minute_was_rolled_up_is_in_it_after_all():
    feed = make_feed("A", "B")
    append_quotes(feed, [("A", at(1), "10")])
    append_quotes(feed, [("B", at(100), "5")], as_of=at(130))
    rolled_up(feed)
    append_quotes(feed, [("A", at(2), "11")], as_of=at(200))
    rolled_up(feed)

    assert stored(feed) == oracle(feed, before=at(200))
    assert Candle.objects.get(asset__symbol="A", resolution=DAY).count == 2


def test_volumes_are_summed_and_no_sum_is_too_large():
    feed = make_feed("A", "B", "C")
    rows = [RawQuote("A", "1", at(second), "2.5") for second in range(3)] + [RawQuote("C", "1", at(0))]
    rows += [RawQuote("B", "1", at(second), str(10**20)) for second in range(20)]
    import_history(feed_id=feed.pk, quotes=rows, now=at(120), trace_id=TRACE)
    append_quotes(feed, [], as_of=at(120))
    rolled_up(feed)

    volumes = Candle.objects.filter(resolution=DAY).order_by("asset__symbol").values_list("volume", flat=True)
    assert list(volumes) == [Decimal("7.5"), 10**20, None]


@pytest.mark.parametrize("second", [2, 7])
def test_quotes_that_are_kept_no_more_make_no_candle_smaller(second):
    feed = make_feed("A")
    for step in range(5):
        append_quotes(feed, [("A", at(step), str(10 + step))])
    append_quotes(feed, [], as_of=at(86_400))
    rolled_up(feed)
    before = stored(feed)
    partitions.drop([START.date()])

    import_history(feed_id=feed.pk, quotes=[RawQuote("A", "99", at(second))], now=at(86_400), trace_id=TRACE)
    rolled_up(feed)

    assert Quote.objects.count() == 1
    assert stored(feed) == before


def test_minutes_are_added_to_their_hour_and_day_without_those_before_them():
    feed = make_feed("A")
    append_quotes(feed, [("A", at(1), "10")])
    append_quotes(feed, [("A", at(70), "12")])
    append_quotes(feed, [], as_of=at(180))
    rolled_up(feed)
    Candle.objects.filter(resolution=MINUTE, at=START).delete()
    append_quotes(feed, [("A", at(190), "8")])
    append_quotes(feed, [], as_of=at(240))
    rolled_up(feed)

    given = oracle(feed, before=at(240))
    kept = {key: row for key, row in given.items() if key[1:] != (MINUTE, START)}
    assert stored(feed) == kept


def test_what_nobody_has_evaluated_is_not_rolled_up():
    feed = make_feed("A")
    append_quotes(feed, [("A", at(1), "10")])
    append_quotes(feed, [], as_of=at(120))
    EvaluationCursor.objects.update(seq=1)
    assert roll_up(feed_id=feed.pk) is False
    assert not Candle.objects.exists()


def test_rules_made_before_the_first_answer_do_not_close_a_recordings_minutes():
    feed = make_feed("A")
    recording = datetime(2023, 3, 10, 12, tzinfo=UTC)
    append_quotes(feed, [("A", recording, "10")])
    log = FeedHead.objects.get(feed=feed)
    assert log.as_of == recording < timezone.now()
    rolled_up(feed)
    assert not Candle.objects.exists()


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_who_finds_another_at_it_goes_home():
    feed = make_feed("A")
    append_quotes(feed, [("A", at(1), "10")])
    append_quotes(feed, [], as_of=at(120))
    evaluate_pending(feed_id=feed.pk)
    RollupCursor.objects.create(feed=feed)
    with transaction.atomic():
        RollupCursor.objects.select_for_update(no_key=True).get(feed=feed)
        assert elsewhere(lambda: roll_up(feed_id=feed.pk)) is False
    assert roll_up(feed_id=feed.pk) is True
    assert roll_up(feed_id=feed.pk) is False


def test_a_piece_costs_the_same_statements_for_few_quotes_and_for_many():
    # Tests that commit leave their days behind.
    partitions.drop(partitions.days())
    statements = {}
    for count in (1, 40):
        symbols = [f"{count}-{number}" for number in range(count)]
        feed = make_feed(*symbols, name=f"feed-{count}")
        for minute in range(5):
            append_quotes(feed, [(symbol, at(60 * minute), "10") for symbol in symbols])
        evaluate_pending(feed_id=feed.pk)
        RollupCursor.objects.create(feed=feed)
        with CaptureQueriesContext(connection) as captured:
            assert roll_up(feed_id=feed.pk) is True
        statements[count] = len(captured)
        assert Candle.objects.filter(resolution=MINUTE, asset__feed=feed).count() == 4 * count
    # SQLite's rows are written in batches of a limited size.
    assert statements[40] == statements[1] if connection.vendor == "postgresql" else statements[40] <= 150
    assert prune_quotes(now=timezone.now()) == {}


def import_every(feed, count, *, seconds_apart=1):
    """Import quotes of the asset A at equal distances, then one more that closes their last minute."""
    quotes = (RawQuote("A", str(100 + second % 7), at(second * seconds_apart)) for second in range(count))
    import_history(feed_id=feed.pk, quotes=quotes, now=at(count * seconds_apart), trace_id=TRACE)
    append_quotes(feed, [("A", at(count * seconds_apart + 120), "100")])
    evaluate_pending(feed_id=feed.pk)


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_ten_thousand_quotes_of_one_asset_are_rolled_up_within_a_statements_time():
    feed = make_feed("A")
    import_every(feed, 10_000, seconds_apart=60)
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = '5s'")
    assert roll_up(feed_id=feed.pk) is True
    assert Candle.objects.filter(resolution=MINUTE, count=1).count() == 10_000
    assert Candle.objects.filter(resolution=HOUR).count() == 167


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_a_piece_that_takes_too_long_is_halved_down_to_ranges_of_one_entry(monkeypatch):
    feed = make_feed("A", provider="push")
    monkeypatch.setattr(history, "IMPORT_ROWS", 1_000)
    import_every(feed, 4_000)
    sizes, real = [], candles._roll_up_between

    def slow(entries, *, first, last):
        sizes.append((len(entries), last - first))
        if len(entries) > 1 or last - first > timedelta(minutes=5):
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL statement_timeout = '50ms'; SELECT pg_sleep(5)")
        real(entries, first=first, last=last)

    monkeypatch.setattr(candles, "_roll_up_between", slow)
    while roll_up(feed_id=feed.pk):
        pass
    assert {entries for entries, _ in sizes} >= {4, 2, 1}
    seq = RollupCursor.objects.get(feed=feed).seq
    assert seq == EvaluationCursor.objects.get(feed=feed).seq - 1
    rolled_up = {row[:3]: row for row in Candle.objects.filter(asset__feed=feed).values_list(*VALUES)}
    assert rolled_up == oracle(feed, before=at(4_060))
