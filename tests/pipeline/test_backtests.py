"""A backtest from its request to its report, by a real beat and a real worker on the real broker."""

import signal
from datetime import timedelta

import pytest
from django.db.models.functions import Now

from apps.backtests import services as runs
from apps.backtests.models import BacktestRun
from apps.pipeline import flow
from apps.pipeline.queues import BACKTESTS
from tests.builders import START, above, append_quotes, at, make_feed, make_owner, make_rule
from tests.rig import purge_queues, queue_lengths, rig, wait_until

pytestmark = [pytest.mark.servers, pytest.mark.django_db(transaction=True)]


def ask():
    feed = make_feed("BTC-USD")
    append_quotes(feed, [("BTC-USD", at(second), price) for second, price in enumerate(["9", "11", "9", "12"])])
    # So that only the backtest travels.
    feed.is_enabled = False
    feed.save()
    rule = make_rule(make_owner(), assets=["BTC-USD"], condition=above(10))
    return runs.request_backtest(owner=rule.owner, rule=rule, since=START, until=at(4), now=at(4))


def status(run):
    return BacktestRun.objects.values_list("status", flat=True).get(pk=run.pk)


def test_tick_starts_what_was_asked_for_and_a_worker_of_its_own_queue_runs_it(tmp_path):
    with rig(tmp_path) as processes:
        processes.worker("ticks", "assets-tasks", name="watcher")
        processes.worker(BACKTESTS, name="backtests")
        processes.beat()
        wait_until(lambda: "ready" in processes.log("watcher") and "ready" in processes.log("backtests"))
        run = ask()
        wait_until(lambda: status(run) == "done")
        left = queue_lengths()

    run.refresh_from_db()
    assert (run.fence, run.result["openings_count"], run.failure) == (1, 2, "")
    assert left[BACKTESTS] == left["dead-letters"] == 0


def test_a_message_that_was_lost_is_sent_again_by_sweep(tmp_path):
    run = ask()
    with rig(tmp_path):
        flow.start_due()
        flow.start_due()
        purge_queues()
        assert flow.sweep()["backtests"] == 0

        BacktestRun.objects.update(redispatch_at=Now() - timedelta(seconds=1))
        assert flow.sweep()["backtests"] == 1
        assert flow.sweep()["backtests"] == 0
        wait_until(lambda: queue_lengths()[BACKTESTS] == 1)
    assert status(run) == "queued"


def test_one_whose_worker_was_killed_is_run_again_when_its_lease_has_ended(tmp_path):
    run = ask()
    with rig(tmp_path) as processes:
        killed = processes.worker(BACKTESTS, name="killed", include="tests.pipeline.slow_backtests")
        flow.start_due()
        wait_until(lambda: status(run) == "running")
        processes.kill(killed, signal.SIGKILL)
        # It was acknowledged at its start: only the row knows of it.
        assert queue_lengths()[BACKTESTS] == 0
        assert flow.sweep()["backtests"] == 0

        past = Now() - timedelta(seconds=1)
        BacktestRun.objects.update(lease_until=past, redispatch_at=past)
        processes.worker(BACKTESTS, name="backtests")
        assert flow.sweep()["backtests"] == 1
        wait_until(lambda: status(run) == "done")

    run.refresh_from_db()
    assert (run.fence, run.result["openings_count"]) == (2, 2)


def test_one_that_runs_stops_soon_after_it_was_cancelled(tmp_path):
    run = ask()
    with rig(tmp_path) as processes:
        processes.worker(BACKTESTS, name="backtests", include="tests.pipeline.slow_backtests")
        flow.start_due()
        wait_until(lambda: BacktestRun.objects.get(pk=run.pk).progress_percent == 50)
        assert runs.cancel_backtest(run_id=run.pk)
        wait_until(lambda: status(run) == "cancelled")
