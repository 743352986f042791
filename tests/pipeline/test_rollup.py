"""Candles made by beat's task, and what is pruned after them."""

from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.market import partitions, queries
from apps.market.models import Candle, Quote, RollupCursor
from apps.market.services import candles
from apps.pipeline import flow, tasks
from apps.rules.models import Checkpoint
from tests.builders import START, above, append_quotes, at, make_feed, make_owner, make_rule

pytestmark = pytest.mark.django_db
DAY = 86_400


@pytest.fixture(autouse=True)
def _no_days():
    """Begin without days: tests that commit leave theirs behind."""
    partitions.drop(partitions.days())


def evaluated_days(*symbols, name="feed", days=4):
    feed = make_feed(*symbols, name=name)
    for day in range(days):
        append_quotes(feed, [(symbol, at(day * DAY), str(10 + day)) for symbol in symbols])
    flow.evaluate_pending(feed_id=feed.pk)
    return feed


def test_every_feed_that_has_something_is_rolled_up():
    evaluated_days("A", name="one"), evaluated_days("B", name="two")
    make_feed("C", name="never")
    tasks.rollup()
    assert set(Candle.objects.values_list("asset__symbol", flat=True)) == {"A", "B"}
    assert sorted(RollupCursor.objects.values_list("feed__name", "seq")) == [("one", 3), ("two", 3)]


def test_one_statement_finds_which_feeds_wait(django_assert_num_queries):
    one, two = evaluated_days("A", name="one"), evaluated_days("B", name="two")
    RollupCursor.objects.create(feed=one, seq=4)
    RollupCursor.objects.create(feed=two, seq=3)
    with django_assert_num_queries(1):
        assert queries.feeds_to_roll_up() == [two.pk]


def test_a_feed_that_fails_does_not_keep_others_from_being_rolled_up_and_is_reported(monkeypatch, caplog):
    one, _ = evaluated_days("A", name="one"), evaluated_days("B", name="two")
    real = candles._roll_up_between

    def failing(entries, **bounds):
        if entries[0].feed_id == one.pk:
            raise ValueError("broken")
        real(entries, **bounds)

    monkeypatch.setattr(candles, "_roll_up_between", failing)
    flow.roll_up()
    assert set(Candle.objects.values_list("asset__symbol", flat=True)) == {"B"}
    assert [record.feed for record in caplog.records if record.message == "roll-up failed"] == [one.pk]

    monkeypatch.undo()
    flow.roll_up()
    assert set(Candle.objects.values_list("asset__symbol", flat=True)) == {"A", "B"}


def test_what_takes_too_long_is_left_to_the_next_run(monkeypatch):
    evaluated_days("A")
    monkeypatch.setattr(flow, "ROLL_UP_AT_MOST_SECONDS", -1)
    flow.roll_up()
    assert not Candle.objects.exists()


@pytest.fixture
def old(settings):
    """Return a feed with a rule whose first day is old enough to be dropped, rolled up."""
    settings.QUOTE_RETENTION_DAYS = 2
    settings.MINUTE_CANDLE_RETENTION_DAYS = 1
    feed = make_feed("A")
    make_rule(make_owner(), assets=["A"], condition=above(11))
    for day in range(4):
        append_quotes(feed, [("A", at(day * DAY), str(10 + day))])
    flow.evaluate_pending(feed_id=feed.pk)
    flow.roll_up()
    return feed


def rows():
    """Return how many rows each table has."""
    with connection.cursor() as cursor:
        counts = {}
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT count(*) FROM "{table}"')
            counts[table] = cursor.fetchone()[0]
    return counts


def test_a_dry_run_says_what_would_go_and_writes_nothing(old, capsys):
    before = rows()
    with CaptureQueriesContext(connection) as statements:
        call_command("prune", "--dry-run")
    assert rows() == before
    assert [one["sql"] for one in statements if not one["sql"].lstrip().startswith("SELECT")] == []
    assert capsys.readouterr().out.splitlines() == [
        "quotes of 2026-03-02: 1 would be dropped",
        # Its day is still kept: it goes with the run after the one that drops the day.
        "minute candles: 0 would be dropped",
        "changes of provider: 0 would be dropped",
        f"checkpoints: {Checkpoint.objects.count() - 3} would be dropped",
        "steps of rules: 1 would be dropped",
        "backtests: 0 would be dropped",
        "idempotency keys: 0 would be dropped",
        "unconfirmed uploads: 0 would be dropped",
        "silences: 0 would be dropped",
        "messages: 0 would be dropped",
    ]


def test_the_command_drops_what_the_dry_run_said(old, capsys):
    call_command("prune")
    out = capsys.readouterr().out.splitlines()
    assert out[:2] == ["quotes of 2026-03-02: 1 dropped", "minute candles: 1 dropped"]
    assert list(Quote.objects.order_by("at").values_list("at", flat=True)) == [at(DAY), at(2 * DAY), at(3 * DAY)]
    assert Candle.objects.filter(resolution=60, at=START).count() == 0
    assert Candle.objects.filter(at__lte=START).count() == 2
    call_command("prune", "--dry-run")
    assert capsys.readouterr().out.splitlines()[0] == "minute candles: 0 would be dropped"


def test_beats_task_prunes_the_same(old):
    tasks.prune()
    assert partitions.days()[0] == START.date() + timedelta(days=1)
    assert timezone.now() > at(0)
