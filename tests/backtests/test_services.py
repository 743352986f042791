"""Backtests that are rows: one at a time per owner, run under a lease, kept for a while."""

import re
from datetime import timedelta

import pytest
from django.db import IntegrityError, OperationalError, transaction
from django.db.models.functions import Now

from apps.backtests import services as runs
from apps.backtests.models import BacktestRun
from apps.backtests.queries import backtests_seen_by
from apps.backtests.wording import Failure, describe_failure
from apps.rules.engine.written import RuleInvalid
from tests.builders import START, above, append_quotes, at, make_feed, make_owner, make_rule
from tests.threads import at_once


def make_priced_rule(owner=None, *, symbol="BTC-USD", prices=("9", "11", "9", "12")):
    """Return a rule `above 10` on an asset with one quote a second from START on."""
    feed = make_feed(symbol, name=symbol.lower())
    append_quotes(feed, [(symbol, at(second), price) for second, price in enumerate(prices)])
    return make_rule(owner or make_owner(), name=f"{symbol} is high", assets=[symbol], condition=above(10))


def ask(rule, *, owner=None, since=START, until=None, document=None, now=START):
    return runs.request_backtest(
        owner=owner or rule.owner, rule=rule, since=since, until=until or at(3), document=document, now=now
    )


@pytest.mark.django_db
def test_a_backtest_finds_what_the_rule_would_have_done():
    run = ask(make_priced_rule())
    runs.run_backtest(run_id=run.pk)
    run.refresh_from_db()
    assert (run.status, run.progress_percent, run.failure, run.lease_until) == ("done", 100, "", None)
    assert run.started_at <= run.finished_at
    found = [(one["opened_at"], one["resolved_at"]) for one in run.result["openings"]]
    assert found == [("2026-03-02T12:00:01Z", "2026-03-02T12:00:02Z"), ("2026-03-02T12:00:03Z", None)]
    assert run.result["openings_count"] == 2
    assert run.result["openings_by_asset"] == {"BTC-USD": 2}


@pytest.mark.django_db
def test_the_newest_version_is_tried_unless_another_form_is_given():
    rule = make_priced_rule()
    make_rule(rule.owner, rule=rule, name=rule.name, assets=["BTC-USD"], condition=above(11))
    newest = ask(rule)
    runs.run_backtest(run_id=newest.pk)
    other = ask(rule, document={"assets": ["BTC-USD"], "condition": {"kind": "below", "level": 10}})
    runs.run_backtest(run_id=other.pk)
    counts = {run.pk: run.result["openings_count"] for run in BacktestRun.objects.all()}
    assert counts == {newest.pk: 1, other.pk: 2}
    assert rule.versions.count() == 2


@pytest.mark.django_db
def test_a_form_that_cannot_be_read_is_refused_and_nothing_is_asked_for():
    with pytest.raises(RuleInvalid, match="condition"):
        ask(make_priced_rule(), document={"assets": ["BTC-USD"]})
    assert not BacktestRun.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("since", "until", "text"),
    [
        (at(2), at(2), "The beginning is not before the end."),
        (at(-1), at(3), "are stored from 2026-03-02 12:00:00 UTC on; begin later"),
        (at(4), at(9), "is of 2026-03-02 12:00:04 UTC; begin earlier"),
    ],
)
def test_a_range_without_quotes_is_refused_with_the_reason(since, until, text):
    with pytest.raises(runs.RunRefused, match=text):
        ask(make_priced_rule(), since=since, until=until)
    assert not BacktestRun.objects.exists()


@pytest.mark.django_db
def test_a_rule_without_quotes_or_without_assets_is_refused_with_the_reason():
    make_feed("ETH-USD")
    rule = make_rule(make_owner(), assets=["ETH-USD"], condition=above(10))
    with pytest.raises(runs.RunRefused, match="No quotes of the rule's assets are stored yet"):
        ask(rule)
    with pytest.raises(runs.RunRefused, match="applies to no asset of a feed"):
        ask(rule, document={"assets": {"tag": "nobody"}, "condition": above(1)})
    assert not BacktestRun.objects.exists()


@pytest.mark.django_db
def test_a_second_one_is_refused_until_the_first_is_over():
    rule = make_priced_rule()
    first = ask(rule)
    with pytest.raises(runs.RunRefused, match="A backtest of yours is waiting or running"):
        ask(rule)
    runs.run_backtest(run_id=first.pk)
    assert ask(rule).status == "queued"
    assert BacktestRun.objects.count() == 2


@pytest.mark.django_db
def test_two_owners_do_not_wait_for_each_other():
    ask(make_priced_rule(make_owner("ada")))
    ask(make_priced_rule(make_owner("eve"), symbol="ETH-USD"))
    assert BacktestRun.objects.filter(status="queued").count() == 2


@pytest.mark.servers  # SQLite has one writer at a time
@pytest.mark.django_db(transaction=True)
def test_of_two_asked_for_at_once_the_database_lets_one_through():
    rule = make_priced_rule()

    def attempt():
        try:
            return ask(rule).status
        except runs.RunRefused:
            return "refused"

    assert sorted(at_once(attempt, attempt)) == ["queued", "refused"]
    assert BacktestRun.objects.count() == 1


@pytest.mark.servers  # SQLite has one writer at a time
@pytest.mark.django_db(transaction=True)
def test_of_two_workers_at_once_one_runs_it(monkeypatch):
    run = ask(make_priced_rule())
    began = []
    real = runs.try_on_stored
    monkeypatch.setattr(runs, "try_on_stored", lambda *given, **more: began.append(1) or real(*given, **more))
    at_once(lambda: runs.run_backtest(run_id=run.pk), lambda: runs.run_backtest(run_id=run.pk))
    run.refresh_from_db()
    assert (len(began), run.status, run.fence) == (1, "done", 1)


@pytest.mark.django_db
@pytest.mark.parametrize("wrong", [{"until": START}, {"progress_percent": 101}])
def test_the_database_refuses_what_must_not_be(wrong):
    run = ask(make_priced_rule())
    with pytest.raises(IntegrityError), transaction.atomic():
        BacktestRun.objects.filter(pk=run.pk).update(**wrong)


@pytest.mark.django_db
def test_a_worker_is_asked_for_once_and_again_only_when_it_has_not_come():
    run = ask(make_priced_rule())
    later = START + runs.REDISPATCH_AFTER + timedelta(seconds=1)
    assert runs.start_due(now=START) == [run.pk]
    assert runs.start_due(now=later) == []
    assert runs.start_behind(now=at(1)) == []
    assert runs.start_behind(now=later) == [run.pk]
    assert runs.start_behind(now=later) == []


@pytest.mark.django_db
def test_no_more_than_so_many_are_on_their_way_or_running():
    first = ask(make_priced_rule(make_owner("ada")))
    second = ask(make_priced_rule(make_owner("eve"), symbol="ETH-USD"), now=at(1))
    assert runs.start_due(now=at(2), at_most=1) == [first.pk]
    assert runs.start_due(now=at(3), at_most=1) == []
    runs.run_backtest(run_id=first.pk)
    assert runs.start_due(now=at(4), at_most=1) == [second.pk]


@pytest.mark.django_db
def test_one_that_waits_is_cancelled_at_once_and_never_begins():
    run = ask(make_priced_rule())
    assert runs.cancel_backtest(run_id=run.pk)
    runs.run_backtest(run_id=run.pk)
    run.refresh_from_db()
    assert (run.status, run.started_at, run.result) == ("cancelled", None, None)
    assert not runs.cancel_backtest(run_id=run.pk)


@pytest.mark.django_db
def test_one_that_runs_stops_at_its_next_look(monkeypatch):
    run = ask(make_priced_rule())

    def cancelled_half_way(*_, progress, **__):
        runs.cancel_backtest(run_id=run.pk)
        progress(0.5)
        raise AssertionError("it went on")

    monkeypatch.setattr(runs, "try_on_stored", cancelled_half_way)
    runs.run_backtest(run_id=run.pk)
    run.refresh_from_db()
    assert (run.status, run.failure, run.result, run.lease_until) == ("cancelled", "", None, None)


@pytest.mark.django_db
def test_progress_is_written_and_the_lease_renewed_at_most_once_a_second(monkeypatch):
    run = ask(make_priced_rule())
    clock = [100.0]
    seen = []

    def slowly(*_, progress, **__):
        BacktestRun.objects.update(lease_until=Now() + timedelta(seconds=1))
        for part, seconds in ((0.1, 0), (0.2, 0.5), (0.3, 0.6), (1.2, 1)):
            clock[0] += seconds
            progress(part)
            seen.append(BacktestRun.objects.get().progress_percent)
        assert BacktestRun.objects.filter(lease_until__gt=Now() + timedelta(seconds=60)).exists()
        raise RuntimeError("enough")

    monkeypatch.setattr(runs.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(runs, "try_on_stored", slowly)
    runs.run_backtest(run_id=run.pk)
    assert seen == [10, 10, 30, 99]
    run = BacktestRun.objects.get()
    assert (run.failure, run.failure_data) == ("evaluation_failed", {"detail": "RuntimeError: enough"})


@pytest.mark.django_db
def test_what_raises_fails_with_one_line(monkeypatch):
    run = ask(make_priced_rule())

    def broken(*_, **__):
        raise ValueError("no\nsuch\0 thing " + 300 * "x")

    monkeypatch.setattr(runs, "try_on_stored", broken)
    runs.run_backtest(run_id=run.pk)
    run.refresh_from_db()
    detail = run.failure_data["detail"]
    assert (run.status, run.failure) == ("failed", "evaluation_failed")
    assert (detail[:26], len(detail)) == ("ValueError: no such thing ", 200)
    assert describe_failure(run.failure, run.failure_data) == detail
    assert ask(run.rule).status == "queued"


@pytest.mark.django_db
def test_a_form_that_can_be_read_no_more_fails_with_the_place():
    run = ask(make_priced_rule())
    BacktestRun.objects.update(document={"assets": ["BTC-USD"]})
    runs.run_backtest(run_id=run.pk)
    run.refresh_from_db()
    assert (run.status, run.failure) == ("failed", "rule_unreadable")
    assert describe_failure(run.failure, run.failure_data).startswith("The rule cannot be read: condition: ")


@pytest.mark.django_db
def test_one_that_takes_too_long_fails_with_the_reason(monkeypatch):
    run = ask(make_priced_rule())
    clock = [100.0]

    def slowly(*_, progress, **__):
        clock[0] += runs.RUN_AT_MOST_SECONDS + 1
        progress(0.5)

    monkeypatch.setattr(runs.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(runs, "try_on_stored", slowly)
    runs.run_backtest(run_id=run.pk)
    run.refresh_from_db()
    assert (run.status, run.failure, run.failure_data) == ("failed", "took_too_long", {"minutes": 25})
    said = describe_failure(run.failure, run.failure_data)
    assert said == "It took more than 25 minutes. Try a shorter range, or fewer assets."


@pytest.mark.django_db
def test_one_that_opens_without_end_fails_with_the_reason_before_memory_is_full(monkeypatch):
    monkeypatch.setattr("apps.backtests.evaluation.OPENINGS_AT_MOST", 3)
    run = ask(make_priced_rule(prices=["9", "11"] * 6), until=at(11))
    runs.run_backtest(run_id=run.pk)
    run.refresh_from_db()
    assert (run.status, run.result) == ("failed", None)
    assert (run.failure, run.failure_data) == ("opens_too_often", {"at_most": 3})
    said = describe_failure(run.failure, run.failure_data)
    assert said.startswith("The rule and its other thresholds open more than 3 times in all. Try a shorter")


def crash(run, monkeypatch):
    """Begin the run in a process that ends half-way, and let its lease end."""

    def away(*_, **__):
        raise OperationalError("the database went away")

    with monkeypatch.context() as patched, pytest.raises(OperationalError):
        patched.setattr(runs, "try_on_stored", away)
        runs.run_backtest(run_id=run.pk)
    BacktestRun.objects.filter(pk=run.pk).update(lease_until=Now() - timedelta(seconds=1))


@pytest.mark.django_db
def test_one_whose_worker_is_gone_is_left_alone_until_its_lease_ends_and_then_started_again(monkeypatch):
    run = ask(make_priced_rule())
    runs.start_due(now=START)
    later = START + runs.REDISPATCH_AFTER + timedelta(seconds=1)
    crash(run, monkeypatch)
    BacktestRun.objects.update(lease_until=Now() + timedelta(seconds=30))
    runs.run_backtest(run_id=run.pk)
    assert (BacktestRun.objects.get().fence, runs.start_behind(now=later)) == (1, [])

    BacktestRun.objects.update(lease_until=Now() - timedelta(seconds=1))
    assert runs.start_behind(now=later) == [run.pk]
    runs.run_backtest(run_id=run.pk)
    run.refresh_from_db()
    assert (run.status, run.fence) == ("done", 2)


@pytest.mark.django_db
def test_one_that_crashed_three_times_is_given_up(monkeypatch):
    run = ask(make_priced_rule())
    for _ in range(runs.STARTS_AT_MOST):
        crash(run, monkeypatch)
    runs.run_backtest(run_id=run.pk)
    assert BacktestRun.objects.get().status == "running"
    assert runs.start_behind(now=START) == []
    run.refresh_from_db()
    assert (run.status, run.failure, run.failure_data) == ("failed", "worker_lost", {"starts": 3})
    said = describe_failure(run.failure, run.failure_data)
    assert said == "Its worker ended 3 times before it was done. Try a shorter range."
    assert run.finished_at is not None


@pytest.mark.django_db
def test_one_whose_worker_is_gone_can_be_cancelled(monkeypatch):
    run = ask(make_priced_rule())
    crash(run, monkeypatch)
    BacktestRun.objects.update(cancel_requested=True)
    assert runs.start_behind(now=START) == []
    assert BacktestRun.objects.get().status == "cancelled"


@pytest.mark.django_db
def test_who_has_lost_the_lease_stops_and_writes_nothing(monkeypatch):
    run = ask(make_priced_rule())

    def overtaken(*_, progress, **__):
        BacktestRun.objects.update(fence=7, progress_percent=42)
        progress(0.9)
        raise AssertionError("it went on")

    monkeypatch.setattr(runs, "try_on_stored", overtaken)
    runs.run_backtest(run_id=run.pk)
    run.refresh_from_db()
    assert (run.status, run.fence, run.progress_percent, run.finished_at) == ("running", 7, 42, None)


@pytest.mark.django_db
def test_who_has_lost_the_lease_at_the_very_end_writes_nothing(monkeypatch):
    run = ask(make_priced_rule())
    real = runs.try_on_stored

    def overtaken(*given, **more):
        report = real(*given, **more)
        BacktestRun.objects.update(fence=7)
        return report

    monkeypatch.setattr(runs, "try_on_stored", overtaken)
    runs.run_backtest(run_id=run.pk)
    run.refresh_from_db()
    assert (run.status, run.result) == ("running", None)


@pytest.mark.django_db
def test_a_report_is_kept_in_bounds_with_a_count_of_all(monkeypatch):
    rule = make_priced_rule(prices=["9", "11"] * 6)
    monkeypatch.setattr(runs, "OPENINGS_KEPT", 4)
    run = ask(rule, until=at(11))
    runs.run_backtest(run_id=run.pk)
    run.refresh_from_db()
    assert [one["opened_at"][-3:] for one in run.result["openings"]] == ["01Z", "03Z", "05Z", "07Z"]
    assert (run.result["openings_count"], run.result["messages"]) == (6, 11)
    assert set(run.result["openings"][0]) == set(runs.OPENING_KEYS)


@pytest.mark.django_db
def test_the_newest_of_each_owner_are_kept_and_what_is_not_over_too(monkeypatch):
    ada = make_priced_rule(make_owner("ada"))
    eve = make_priced_rule(make_owner("eve"), symbol="ETH-USD")
    monkeypatch.setattr(runs, "RUNS_KEPT", 2)
    waiting = ask(ada, now=at(0))
    BacktestRun.objects.update(status="running")
    over = [
        BacktestRun.objects.create(
            owner=ada.owner, rule=ada, document={}, since=START, until=at(1), status="done", requested_at=at(number)
        ).pk
        for number in range(1, 5)
    ]
    hers = ask(eve)

    assert runs.prune_backtests() == 2
    assert set(BacktestRun.objects.values_list("pk", flat=True)) == {waiting.pk, hers.pk, *over[2:]}


@pytest.mark.django_db
def test_owners_see_their_own_superusers_all_and_strangers_none(admin_user):
    ada, eve = make_owner("ada"), make_owner("eve")
    run = ask(make_priced_rule(ada))
    assert list(backtests_seen_by(ada)) == list(backtests_seen_by(admin_user)) == [run]
    assert list(backtests_seen_by(eve)) == []


@pytest.mark.django_db
def test_one_that_is_gone_meanwhile_is_no_fault():
    run = ask(make_priced_rule())
    BacktestRun.objects.all().delete()
    runs.run_backtest(run_id=run.pk)
    assert not runs.cancel_backtest(run_id=run.pk)


@pytest.mark.parametrize("failure", list(Failure))
def test_every_failure_is_a_code_that_has_a_sentence(failure):
    data = {"starts": 3, "detail": "ValueError: no such thing", "at_most": 3, "minutes": 25}
    assert re.fullmatch(r"[a-z_]+", failure)
    assert " " in describe_failure(failure, data)
