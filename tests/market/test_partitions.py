from datetime import UTC, date, datetime, timedelta

import pytest
from django.db import connection, transaction
from psycopg.errors import CheckViolation

from apps.market import partitions, services
from apps.market.models import Batch, FeedHead, LatestQuote, Quote
from tests.builders import START, append_quotes, at, make_feed
from tests.threads import at_once, elsewhere

DAY = timedelta(days=1)
TODAY = START.date()
FILM_START = datetime(2023, 3, 10, 12, 0, tzinfo=UTC)
FILM_DAY = FILM_START.date()
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
        [("BTC", midnight - timedelta(microseconds=1), "1"), ("BTC", midnight, "2")],
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
    assert (Batch.objects.count(), LatestQuote.objects.count()) == (0, 0)
    FeedHead.objects.update(lease_until=LONG_AGO)
    assert append_quotes(feed, [("BTC", START, "10")]).seq == 1
    assert _quotes("BTC") == [START]


def test_a_day_is_dropped_once_the_feeds_clock_has_left_it_behind_for_longer_than_it_is_kept():
    feed = make_feed("BTC")
    _append_daily(feed, "BTC", START, days=3)
    assert services.prune_quotes() == []
    append_quotes(feed, [("BTC", START + 3 * DAY, "10")])
    assert services.prune_quotes() == [TODAY]
    assert _quotes("BTC") == [START + DAY, START + 2 * DAY, START + 3 * DAY]
    assert partitions.days() == [TODAY + DAY, TODAY + 2 * DAY, TODAY + 3 * DAY]
    assert services.prune_quotes() == []


def test_a_film_of_2023_and_a_live_market_of_2026_are_each_kept_by_their_own_clock():
    film, live = make_feed("OLD", name="film"), make_feed("NEW", name="live")
    _append_daily(film, "OLD", FILM_START, days=3)
    _append_daily(live, "NEW", START, days=3)
    assert services.prune_quotes() == []
    append_quotes(film, [("OLD", FILM_START + 3 * DAY, "10")])
    assert services.prune_quotes() == [FILM_DAY]
    append_quotes(live, [("NEW", START + 3 * DAY, "10")])
    assert services.prune_quotes() == [TODAY]
    assert _quotes("OLD") == [FILM_START + DAY, FILM_START + 2 * DAY, FILM_START + 3 * DAY]
    assert _quotes("NEW") == [START + DAY, START + 2 * DAY, START + 3 * DAY]


def test_a_day_stays_while_one_feed_still_keeps_it():
    ahead, behind = make_feed("BTC", name="ahead"), make_feed("ETH", name="behind")
    append_quotes(behind, [("ETH", START, "2")])
    _append_daily(ahead, "BTC", START, days=6)
    assert services.prune_quotes() == [TODAY + DAY, TODAY + 2 * DAY]
    assert partitions.days() == [TODAY, TODAY + 3 * DAY, TODAY + 4 * DAY, TODAY + 5 * DAY]
    assert _quotes("ETH") == [START]


def test_a_feed_that_has_not_begun_keeps_nothing_back():
    make_feed(name="new")
    feed = make_feed("BTC")
    _append_daily(feed, "BTC", START, days=4)
    assert services.prune_quotes() == [TODAY]


def test_the_newest_quote_of_an_asset_outlives_its_day():
    feed = make_feed("BTC", "ETH")
    append_quotes(feed, [("ETH", START, "2")])
    _append_daily(feed, "BTC", START, days=4)
    services.prune_quotes()
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
    assert services.prune_quotes() == [TODAY]
    assert _quotes("BTC") == [START + DAY, START + 2 * DAY, START + 3 * DAY]


def test_a_quote_of_a_day_that_is_not_kept_is_rejected_and_makes_no_day():
    feed = make_feed("BTC", "ETH")
    _append_daily(feed, "BTC", START, days=4)
    services.prune_quotes()
    batch = append_quotes(feed, [("ETH", START, "2")], as_of=START + 3 * DAY)
    assert (batch.accepted, batch.late, batch.rejected) == (0, 0, {"too_old": 1})
    assert partitions.days() == [TODAY + DAY, TODAY + 2 * DAY, TODAY + 3 * DAY]
    assert _quotes("ETH") == []


def test_without_quotes_there_is_nothing_to_prune():
    make_feed("BTC")
    assert services.prune_quotes() == []
    assert partitions.days() == []


@pytest.mark.servers
def test_a_day_made_ahead_of_every_clock_is_not_dropped():
    feed = make_feed("BTC")
    append_quotes(feed, [("BTC", START, "10")])
    partitions.ensure([TODAY + DAY])
    assert services.prune_quotes() == []
    assert partitions.days() == [TODAY, TODAY + DAY]


@pytest.mark.servers
def test_a_day_made_before_the_first_answer_is_not_dropped():
    make_feed("BTC")
    partitions.ensure([TODAY])
    assert services.prune_quotes() == []
    assert partitions.days() == [TODAY]
