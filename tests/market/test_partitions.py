from datetime import UTC, date, datetime, timedelta

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from psycopg.errors import CheckViolation

from apps.market import partitions, services
from apps.market.domain import RawQuote
from apps.market.models import Candle, Feed, FeedEntry, FeedHead, LatestQuote, Quote, RollupCursor
from apps.market.services import retention
from apps.pipeline.flow import evaluate_pending
from apps.sources import services as sources
from tests.builders import START, TRACE, append_quotes, at, make_feed
from tests.market.rows import make_long_logs, pages_read
from tests.threads import at_once, elsewhere

DAY = timedelta(days=1)
TODAY = START.date()
RECORDING_START = datetime(2023, 3, 10, 12, 0, tzinfo=UTC)
RECORDING_DAY = RECORDING_START.date()
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_days():
    """Begin without days: tests that commit leave theirs behind."""
    partitions.drop(partitions.days())


@pytest.fixture(autouse=True)
def _two_days_are_kept(settings):
    settings.QUOTE_RETENTION_DAYS = 2


def _append_daily(feed, symbol, first, *, days):
    for number in range(days):
        append_quotes(feed, [(symbol, first + number * DAY, "10")])


def pruned(**options):
    """Evaluate and roll up all there is, prune, and return the days that went."""
    for feed in Feed.objects.all():
        evaluate_pending(feed_id=feed.pk)
        while services.roll_up(feed_id=feed.pk):
            pass
    return list(services.prune_quotes(now=timezone.now(), **options))


def _quotes(symbol):
    return list(Quote.objects.filter(asset__symbol=symbol).order_by("at").values_list("at", flat=True))


def _partition_of_each_quote():
    with connection.cursor() as cursor:
        cursor.execute("SELECT tableoid::regclass::text FROM market_quote ORDER BY at")
        return [row[0] for row in cursor.fetchall()]


@pytest.mark.servers
def test_each_day_of_a_batch_has_a_partition_of_its_own():
    feed = make_feed("BTC")
    midnight = datetime(2026, 3, 2, tzinfo=UTC)
    append_quotes(
        feed,
        [("BTC", midnight - timedelta(microseconds=1), "2.5"), ("BTC", midnight, "2")],
        history=[("BTC", at(-DAY.total_seconds()), "3")],
    )
    assert partitions.days() == [date(2026, 3, 1), date(2026, 3, 2)]
    assert _partition_of_each_quote() == ["market_quote_20260301", "market_quote_20260301", "market_quote_20260302"]


@pytest.mark.servers
def test_a_day_that_is_there_is_not_made_again():
    partitions.ensure([TODAY])
    partitions.forget()
    partitions.ensure([TODAY, TODAY + DAY])
    assert partitions.days() == [TODAY, TODAY + DAY]


@pytest.mark.servers
def test_a_day_that_is_known_costs_no_statement(django_assert_num_queries):
    partitions.ensure([TODAY])
    with django_assert_num_queries(0):
        partitions.ensure([TODAY])


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_processes_that_make_one_day_at_once_make_it_once():
    at_once(*[lambda: partitions.ensure([TODAY, TODAY + DAY])] * 4)
    assert partitions.days() == [TODAY, TODAY + DAY]


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_a_day_is_made_while_others_read_and_write():
    feed = make_feed("BTC")
    append_quotes(feed, [("BTC", START, "10")])
    with transaction.atomic():
        Quote.objects.update(late=True)
        elsewhere(lambda: partitions.ensure([TODAY + DAY]))
    assert partitions.days() == [TODAY, TODAY + DAY]


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_a_day_that_another_process_has_dropped_is_made_again_at_the_next_attempt():
    feed = make_feed("BTC")
    partitions.ensure([TODAY])
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE market_quote_20260302")
    with pytest.raises(CheckViolation):
        append_quotes(feed, [("BTC", START, "10")])
    assert (FeedEntry.objects.count(), LatestQuote.objects.count()) == (0, 0)
    FeedHead.objects.update(lease_until=LONG_AGO)
    assert append_quotes(feed, [("BTC", START, "10")]).seq == 1
    assert _quotes("BTC") == [START]


def test_a_day_is_dropped_once_the_feeds_clock_has_left_it_behind_for_longer_than_it_is_kept():
    feed = make_feed("BTC")
    _append_daily(feed, "BTC", START, days=3)
    assert pruned() == []
    append_quotes(feed, [("BTC", START + 3 * DAY, "10")])
    assert pruned() == [TODAY]
    assert _quotes("BTC") == [START + DAY, START + 2 * DAY, START + 3 * DAY]
    assert partitions.days() == [TODAY + DAY, TODAY + 2 * DAY, TODAY + 3 * DAY]
    assert pruned() == []


def test_a_recording_of_2023_and_a_live_market_of_2026_are_each_kept_by_their_own_clock():
    recording, live = make_feed("OLD", name="recording"), make_feed("NEW", name="live")
    _append_daily(recording, "OLD", RECORDING_START, days=3)
    _append_daily(live, "NEW", START, days=3)
    assert pruned() == []
    append_quotes(recording, [("OLD", RECORDING_START + 3 * DAY, "10")])
    assert pruned() == [RECORDING_DAY]
    append_quotes(live, [("NEW", START + 3 * DAY, "10")])
    assert pruned() == [TODAY]
    assert _quotes("OLD") == [RECORDING_START + DAY, RECORDING_START + 2 * DAY, RECORDING_START + 3 * DAY]
    assert _quotes("NEW") == [START + DAY, START + 2 * DAY, START + 3 * DAY]


def test_a_day_stays_while_one_feed_still_keeps_it():
    ahead, behind = make_feed("BTC", name="ahead"), make_feed("ETH", name="behind")
    append_quotes(behind, [("ETH", START, "2")])
    _append_daily(ahead, "BTC", START, days=6)
    assert pruned() == [TODAY + DAY, TODAY + 2 * DAY]
    assert partitions.days() == [TODAY, TODAY + 3 * DAY, TODAY + 4 * DAY, TODAY + 5 * DAY]
    assert _quotes("ETH") == [START]


def test_a_feed_that_has_not_begun_keeps_nothing_back():
    make_feed(name="new")
    feed = make_feed("BTC")
    _append_daily(feed, "BTC", START, days=4)
    assert pruned() == [TODAY]


def test_the_newest_quote_of_an_asset_outlives_its_day():
    feed = make_feed("BTC", "ETH")
    append_quotes(feed, [("ETH", START, "2")])
    _append_daily(feed, "BTC", START, days=4)
    pruned()
    assert _quotes("ETH") == []
    assert list(LatestQuote.objects.order_by("asset__symbol").values_list("asset__symbol", "at", "price")) == [
        ("BTC", START + 3 * DAY, 10),
        ("ETH", START, 2),
    ]


def test_late_quotes_go_with_their_day():
    feed = make_feed("BTC")
    append_quotes(feed, [("BTC", START, "10")])
    append_quotes(feed, [("BTC", at(-1), "9")], as_of=START)
    _append_daily(feed, "BTC", START + DAY, days=3)
    assert pruned() == [TODAY]
    assert _quotes("BTC") == [START + DAY, START + 2 * DAY, START + 3 * DAY]


def test_a_quote_of_a_day_that_is_not_kept_is_rejected_and_makes_no_day():
    feed = make_feed("BTC", "ETH")
    _append_daily(feed, "BTC", START, days=4)
    pruned()
    entry = append_quotes(feed, [("ETH", START, "2")], as_of=START + 3 * DAY)
    assert (entry.accepted, entry.late, entry.rejected) == (0, 0, {"too_old": 1})
    assert partitions.days() == [TODAY + DAY, TODAY + 2 * DAY, TODAY + 3 * DAY]
    assert _quotes("ETH") == []


def test_without_quotes_there_is_nothing_to_prune():
    make_feed("BTC")
    assert pruned() == []
    assert partitions.days() == []


@pytest.mark.servers
def test_a_day_made_ahead_of_every_clock_is_not_dropped():
    feed = make_feed("BTC")
    append_quotes(feed, [("BTC", START, "10")])
    partitions.ensure([TODAY + DAY])
    assert pruned() == []
    assert partitions.days() == [TODAY, TODAY + DAY]


@pytest.mark.servers
def test_a_day_made_before_the_first_answer_is_not_dropped():
    make_feed("BTC")
    partitions.ensure([TODAY])
    assert pruned() == []
    assert partitions.days() == [TODAY]


# Quotes wait for their candles


def test_a_day_waits_until_it_is_rolled_up():
    feed = make_feed("BTC")
    _append_daily(feed, "BTC", START, days=4)
    assert services.prune_quotes(now=timezone.now()) == {}
    assert pruned() == [TODAY]
    assert Candle.objects.filter(resolution=Candle.Resolution.DAY).count() == 3


def test_a_dry_run_names_the_days_and_drops_none():
    feed = make_feed("BTC", "ETH")
    append_quotes(feed, [("ETH", START, "2")])
    _append_daily(feed, "BTC", START, days=4)
    assert pruned(dry_run=True) == [TODAY]
    assert services.prune_quotes(now=timezone.now(), dry_run=True) == {TODAY: 2}
    assert services.prune_quotes(now=timezone.now()) == {TODAY: 2}
    assert services.prune_quotes(now=timezone.now()) == {}


def test_the_past_of_long_ago_is_taken_rolled_up_and_dropped_once_no_piece_follows():
    feed = make_feed("BTC")
    append_quotes(feed, [("BTC", START, "10")])
    past = [RawQuote("BTC", str(1 + number), RECORDING_START + number * DAY) for number in range(40)]
    imported = sources.import_history(feed_id=feed.pk, quotes=past, now=timezone.now(), trace_id=TRACE)

    append_quotes(feed, [], as_of=at(60))  # The minute before the import is over.
    assert (imported.accepted, imported.rejected) == (40, {})
    assert pruned() == []  # Another piece may follow.
    days = list(services.prune_quotes(now=timezone.now() + 2 * DAY))
    assert {one.at.date() for one in past} <= set(days)
    assert _quotes("BTC") == [START]
    assert Candle.objects.filter(resolution=Candle.Resolution.DAY).count() == 41


@pytest.mark.servers
def test_months_of_long_ago_have_one_partition_each_and_the_days_since_one_of_their_own():
    feed = make_feed("BTC")
    append_quotes(feed, [("BTC", START, "10")])
    partitions.ensure([date(2023, 5, 9)])
    moments = [datetime(2023, month, 7, tzinfo=UTC) for month in (3, 4, 5)] + [datetime(2026, 2, 27, tzinfo=UTC)]
    sources.import_history(
        feed_id=feed.pk,
        quotes=[RawQuote("BTC", "1", moment) for moment in moments],
        now=timezone.now(),
        trace_id=TRACE,
    )
    assert _partition_of_each_quote() == [
        "market_quote_202303",
        "market_quote_202304",
        "market_quote_20230507",
        "market_quote_20260227",
        "market_quote_20260302",
    ]
    assert partitions.drop([date(2023, 3, day) for day in range(1, 31)]) == []
    assert len(partitions.drop([date(2023, 3, day) for day in range(1, 32)])) == 31
    assert RECORDING_DAY not in partitions.days()


@pytest.mark.servers
def test_many_years_of_days_have_few_partitions():
    feed = make_feed("BTC")
    append_quotes(feed, [("BTC", START, "10")])
    first = datetime(1991, 1, 1, tzinfo=UTC)
    past = [RawQuote("BTC", "1", first + 3 * number * DAY) for number in range(4_000)]
    sources.import_history(feed_id=feed.pk, quotes=past, now=timezone.now(), trace_id=TRACE)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_inherits WHERE inhparent = 'market_quote'::regclass")
        assert cursor.fetchone()[0] < 400
    assert Quote.objects.count() == 4_001


@pytest.mark.servers
def test_what_was_added_lately_to_the_past_costs_the_same_however_long_the_logs_are():
    make_long_logs("one", "two", "three", "four")
    FeedEntry.objects.update(accepted=1, first_at=START, last_at=START)
    for feed in Feed.objects.all():
        RollupCursor.objects.create(feed=feed, seq=5_000)
    with CaptureQueriesContext(connection) as context:
        assert retention._days_wanted(now=START + 100 * DAY) == []
    assert pages_read(context) < 30


# Minutes


def test_minute_candles_go_when_they_are_old_and_hours_stay(settings):
    settings.MINUTE_CANDLE_RETENTION_DAYS = 5
    feed = make_feed("BTC")
    _append_daily(feed, "BTC", START, days=8)
    pruned()
    minutes = Candle.objects.filter(resolution=Candle.Resolution.MINUTE)
    before = minutes.count()
    assert services.prune_minute_candles(dry_run=True) == 2
    assert minutes.count() == before == 7
    assert services.prune_minute_candles() == 2
    assert minutes.earliest("at").at == START + 2 * DAY
    assert Candle.objects.filter(resolution=Candle.Resolution.HOUR).count() == 7


def test_minute_candles_stay_while_the_quotes_of_their_day_are_kept(settings):
    settings.MINUTE_CANDLE_RETENTION_DAYS = 5
    feed = make_feed("BTC")
    _append_daily(feed, "BTC", START, days=4)
    past = [RawQuote("BTC", "1", RECORDING_START), RawQuote("BTC", "1", RECORDING_START + 5 * DAY)]
    sources.import_history(feed_id=feed.pk, quotes=past, now=timezone.now(), trace_id=TRACE)
    append_quotes(feed, [], as_of=START + 3 * DAY + timedelta(minutes=1))
    pruned()
    assert services.prune_minute_candles() == 0
    services.prune_quotes(now=timezone.now() + 2 * DAY)
    assert services.prune_minute_candles() == 2


# Ahead


@pytest.mark.servers
def test_the_next_days_of_a_live_feed_are_made_ahead():
    recording, live = make_feed("OLD", name="recording"), make_feed("NEW", name="live", provider="coincap")
    append_quotes(recording, [("OLD", RECORDING_START, "10")])
    append_quotes(live, [("NEW", START, "10")])
    assert services.make_days_ahead(now=START) == [TODAY, TODAY + DAY, TODAY + 2 * DAY]
    assert partitions.days() == [RECORDING_DAY, TODAY, TODAY + DAY, TODAY + 2 * DAY]
    assert pruned() == []


@pytest.mark.servers
def test_the_next_days_are_made_before_the_first_quote():
    assert services.make_days_ahead(now=START) == partitions.days() == [TODAY, TODAY + DAY, TODAY + 2 * DAY]
