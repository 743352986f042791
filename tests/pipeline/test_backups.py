"""A backup without the raw quotes of older days: which tables it leaves out, and that all goes on without them."""

import json
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from apps.alerts.models import Alert
from apps.alerts.replay import ReplayRefused, replay
from apps.market import partitions
from apps.market.models import Candle, Quote
from apps.market.services import tables_of_old_quotes
from apps.pipeline import flow, tasks
from apps.rules import services as rules
from tests.builders import START, append_quotes, at, make_feed, make_owner, make_rule

pytestmark = [pytest.mark.django_db, pytest.mark.servers]
DAY = 86_400
TWO_DAYS = timedelta(days=2)


@pytest.fixture(autouse=True)
def _no_days():
    """Begin without days: tests that commit leave theirs behind."""
    partitions.drop(partitions.days())


@pytest.fixture
def feed():
    """Return a feed with six days of two quotes each, and one more, all evaluated by a rule and rolled up."""
    feed = make_feed("A")
    make_rule(make_owner(), name="short", assets=["A"], condition={"kind": "rises", "percent": "20", "window": "2h"})
    for day in range(6):
        for hour in (1, 2):
            append_quotes(feed, [("A", at(day * DAY + hour * 3_600), str(100 + 10 * day + hour))])
    # After the newest checkpoint, so that a rebuild has to read it from the log.
    append_quotes(feed, [("A", at(5 * DAY + 2 * 3_600 + 10), "152.5")])
    evaluate_and_roll_up(feed)
    return feed


def evaluate_and_roll_up(feed):
    flow.evaluate_pending(feed_id=feed.pk)
    tasks.rollup()


def restore_without(tables):
    """Have the rows that a restored backup would have, in a process that has just started."""
    with connection.cursor() as cursor:
        for table in tables:
            cursor.execute(f"TRUNCATE {table}")
    rules._warm.clear()


def engine_of(feed):
    feed.head.refresh_from_db()
    return json.dumps(rules.rebuild_engine(feed_id=feed.pk, seq=feed.head.seq).dump(), sort_keys=True)


def candles():
    return set(Candle.objects.values_list("asset", "resolution", "at", "open", "low", "high", "close", "count"))


def table_of(day):
    return f"market_quote_{START + timedelta(days=day):%Y%m%d}"


def test_it_leaves_out_the_days_that_every_feed_has_left_behind(feed):
    assert set(tables_of_old_quotes(older_than=TWO_DAYS, now=timezone.now())) == {table_of(day) for day in range(3)}


def test_it_keeps_days_of_which_candles_are_still_to_be_made(feed):
    append_quotes(feed, [], as_of=at(5 * DAY + 3 * 3_600), history=[("A", at(DAY + 60), "90")])
    tables = set(tables_of_old_quotes(older_than=TWO_DAYS, now=timezone.now()))
    assert tables == {table_of(0), table_of(2)}


def test_evaluation_goes_on_where_it_was(feed):
    engine, before = engine_of(feed), candles()
    restore_without(tables_of_old_quotes(older_than=TWO_DAYS, now=timezone.now()))
    assert {one.date() for one in Quote.objects.values_list("at", flat=True)} == {
        (START + timedelta(days=day)).date() for day in range(3, 6)
    }
    assert engine_of(feed) == engine

    append_quotes(feed, [("A", at(5 * DAY + 3 * 3_600), "183")])
    evaluate_and_roll_up(feed)
    assert list(Alert.objects.values_list("rule__name", "evidence__price")) == [("short", "183")]
    # The quote at 15:00 changes the candle of that day alone; those of the days that are gone stay as they were.
    today = START.replace(hour=0) + timedelta(days=5)
    assert before - candles() == {one for one in before if one[1:3] == (DAY, today)}


def test_windows_of_new_rules_are_filled_from_candles(feed):
    restore_without(tables_of_old_quotes(older_than=TWO_DAYS, now=timezone.now()))
    # 152 is more than 50 % above the 101 of the first day, of which only candles are there.
    condition = {"kind": "rises", "percent": "50", "window": "6d"}
    make_rule(make_owner("other"), name="long", assets=["A"], condition=condition)
    append_quotes(feed, [("A", at(5 * DAY + 3 * 3_600), "152")])
    flow.evaluate_pending(feed_id=feed.pk)
    assert [one.rule.name for one in Alert.objects.select_related("rule")] == ["long"]


def test_replay_begins_after_what_is_gone(feed):
    restore_without(tables_of_old_quotes(older_than=TWO_DAYS, now=timezone.now()))
    with pytest.raises(ReplayRefused, match="no longer stored; begin after"):
        replay(feed, since=START, until=at(6 * DAY), progress=lambda part: None)
    compared = replay(feed, since=at(4 * DAY), until=at(6 * DAY), progress=lambda part: None)
    assert (compared.entries, compared.missing, compared.extra) == (5, [], [])


def test_the_command_lists_the_tables_and_wants_two_days(feed, capsys):
    out = StringIO()
    call_command("old_quotes", "--days", "2", stdout=out)
    assert set(out.getvalue().split()) == {table_of(day) for day in range(3)}
    with pytest.raises(SystemExit, match="2"):
        call_command("old_quotes", "--days", "1")
    assert capsys.readouterr().err.startswith("old_quotes: --days: keep 2 days or more")
