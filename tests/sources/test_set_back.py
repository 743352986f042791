"""The clock of this machine is set back: feeds go on, and nothing is fetched more often than before."""

from datetime import timedelta

import pytest

from apps.backtests import services as backtests
from apps.backtests.models import BacktestRun
from apps.health import canary
from apps.market import services
from apps.market.models import EvaluationCursor, FeedEntry, FeedHead
from apps.sources import services as sources
from apps.sources.models import Circuit
from apps.sources.queries import is_open
from tests.builders import TRACE, above, append_quotes, at, make_feed, make_owner, make_rule

pytestmark = pytest.mark.django_db

HOUR, DAY = 3_600, 86_400


def run(seconds):
    """Claim what is due in each of these seconds, fetch it, and return when something was."""
    fetched = []
    for second in seconds:
        for feed_id, slot in sources.claim_due_feeds(now=at(second)):
            assert sources.fetch(feed_id=feed_id, slot=slot, now=at(second), trace_id=TRACE) is not None
            fetched.append(second)
    return fetched


# Of a step back nobody knows how far it was: the wait of an interval begins anew.
@pytest.mark.parametrize(("step", "expected"), [(-HOUR, 5), (-DAY, 5), (HOUR, 6), (DAY, 6)])
def test_a_feed_is_fetched_at_its_interval_before_and_after_a_step(step, expected):
    make_feed("A", interval_seconds=10)
    before = run(range(0, 60))
    after = run(range(60 + step, 120 + step))

    assert before == [0, 10, 20, 30, 40, 50]
    assert [second - step for second in after] == [60, 70, 80, 90, 100, 110][-expected:]
    assert FeedEntry.objects.count() == 6 + expected


def test_a_time_that_is_lived_twice_has_slots_of_its_own_and_then_all_is_as_before():
    make_feed("A", interval_seconds=10)
    run(range(0, 30))
    run(range(-10, 60))

    slots = list(FeedEntry.objects.order_by("seq").values_list("slot", flat=True))
    assert slots[:3] == [at(0), at(10), at(20)]
    assert [slot.replace(microsecond=0) for slot in slots[3:6]] == [at(0), at(10), at(20)]
    assert slots[6:] == [at(30), at(40), at(50)]
    assert len(set(slots)) == 9


def test_a_feed_that_waits_after_a_failure_keeps_the_rest_of_its_wait():
    feed = make_feed("A", interval_seconds=10)
    run([0])
    FeedHead.objects.filter(feed=feed).update(failures=3, next_slot=at(80))
    assert run(range(-HOUR, -HOUR + 81, 10)) == [-HOUR + 80]


def test_clocks_that_differ_by_seconds_are_no_step():
    make_feed("A", interval_seconds=1)
    run([10])
    assert run([8, 9, 10]) == []


def test_an_evaluation_that_was_dispatched_before_is_dispatched_again():
    feed = make_feed("A")
    append_quotes(feed, [("A", at(0), "1")])
    EvaluationCursor.objects.update(redispatch_at=at(30))
    assert services.claim_feeds_behind(before=at(-HOUR - 10), now=at(-HOUR)) == [feed.pk]


def test_a_backtest_that_was_dispatched_before_is_dispatched_again():
    owner = make_owner()
    make_feed("A")
    rule = make_rule(owner, assets=["A"], condition=above(1))
    run_ = BacktestRun.objects.create(
        owner=owner, rule=rule, document={}, since=at(0), until=at(60), requested_at=at(0), redispatch_at=at(60)
    )
    assert backtests.start_behind(now=at(30)) == []
    assert backtests.start_behind(now=at(-HOUR)) == [run_.pk]


def test_a_provider_is_not_left_alone_for_a_failure_of_the_future():
    circuit = Circuit(provider="coincap", failures=5, open_until=at(60), failed_at=at(0))
    opens = [is_open(circuit, now=at(second)) for second in (0, 59, 61, -HOUR)]
    assert opens == [True, True, False, False]


def test_the_canary_is_made_anew(settings):
    settings.CANARY = True
    assert canary.append_if_due(now=at(0))
    appended = [canary.append_if_due(now=at(-HOUR + second)) for second in (0, 10, 150)]
    assert appended == [True, False, True]
    assert FeedEntry.objects.filter(feed=-1).latest("seq").received_at == at(-HOUR) + timedelta(seconds=150)
