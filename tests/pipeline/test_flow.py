"""The chain's stages beside, before, after and instead of each other, on real PostgreSQL."""

import random
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from celery import Signature, signature
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from apps.alerts.models import Alert, AlertEvent
from apps.market.models import EvaluationCursor, FeedEntry, FeedHead, Quote
from apps.notify import queries as notify_queries
from apps.notify import services as notify
from apps.notify.models import Attempt, Channel
from apps.pipeline import flow
from apps.rules import services as rules
from apps.rules.engine.engine import Engine
from apps.rules.models import RuleState, Transition
from apps.sources import services as sources
from tests import builders

pytestmark = [pytest.mark.servers, pytest.mark.django_db(transaction=True)]

PRICES = ["100", "101", "104", "99", "111", "112", "100", "95", "96", "120", "130", "90"]


def in_threads(*work: Callable[[], Any]) -> list[Any]:
    """Run all of these at once, each on a connection of its own, and return what they returned."""
    barrier, answers = threading.Barrier(len(work)), [None] * len(work)

    def run(place: int) -> None:
        try:
            barrier.wait(timeout=10)
            answers[place] = work[place]()
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(work))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return answers


def pending_feed():
    """Return a feed with a rule on two assets and twelve batches that nobody has evaluated."""
    owner = builders.make_owner()
    feed = builders.make_feed("A", "B")
    rule = builders.make_rule(
        owner, assets=["A", "B"], condition={"kind": "rises", "percent": "10", "window": "5m"}, keep_firing="1s"
    )
    notify.set_channels(rule=rule, channels=[notify.create_channel(owner=owner, name="in", kind="inbox", config={})])
    for second, price in enumerate(PRICES):
        moment = builders.at(second)
        builders.append_quotes(feed, [("A", moment, price), ("B", moment, PRICES[-second])])
    return owner, feed, rule


def steps_on_record() -> list[tuple]:
    rows = Transition.objects.order_by("entry__seq", "position")
    return list(rows.values_list("entry__seq", "asset__symbol", "from_state", "to_state", "at", "reason"))


def steps_in_peace() -> list[tuple]:
    """Return the steps that one evaluator makes of the same feed from the beginning, with nothing to disturb it."""
    call_command("flush", interactive=False, verbosity=0)
    rules._warm.clear()
    _, feed, _ = pending_feed()
    flow.evaluate_pending(feed_id=feed.pk)
    return steps_on_record()


def test_two_evaluators_of_one_feed_evaluate_each_batch_once():
    _, feed, _ = pending_feed()

    in_threads(*[lambda: flow.evaluate_pending(feed_id=feed.pk)] * 4)
    flow.evaluate_pending(feed_id=feed.pk)

    together = steps_on_record()
    assert len(together) > 6
    assert together == steps_in_peace()


def test_who_does_not_get_the_evaluates_lock_goes_home_and_its_holder_looks_again(monkeypatch):
    _, feed, _ = pending_feed()
    went_home = []
    evaluate = rules.evaluate

    def evaluate_and_be_disturbed(**arguments):
        if not went_home:
            # While the lock is held, another batch is stored and another evaluator comes for it.
            moment = builders.at(60)
            builders.append_quotes(feed, [("A", moment, "100")])
            went_home.extend(in_threads(lambda: flow.evaluate_next(feed_id=feed.pk)))
        return evaluate(**arguments)

    monkeypatch.setattr(rules, "evaluate", evaluate_and_be_disturbed)
    in_threads(lambda: flow.evaluate_pending(feed_id=feed.pk))

    assert went_home == [None]
    assert EvaluationCursor.objects.get(feed=feed).seq == FeedHead.objects.get(feed=feed).seq
    assert not FeedEntry.objects.filter(evaluated_at=None).exists()


def test_a_rule_edited_while_a_batch_is_pending_takes_effect_at_its_place_in_the_log():
    owner, feed, rule = pending_feed()
    # Twelve batches are pending; the edit stands behind them, and so is not theirs.
    builders.make_rule(owner, rule=rule, assets=["A"], condition=builders.above(1))
    builders.append_quotes(feed, [("A", builders.at(20), "90"), ("B", builders.at(20), "90")])

    flow.evaluate_pending(feed_id=feed.pk)

    edit = FeedEntry.objects.filter(kind="rules").latest("seq").seq
    assert set(Transition.objects.filter(entry__seq__lt=edit).values_list("version__number", flat=True)) == {1}
    after = Transition.objects.filter(entry__seq__gt=edit)
    assert set(after.values_list("version__number", "asset__symbol")) == {(2, "A")}
    closed = Alert.objects.filter(version__number=1, resolution="rule_changed")
    assert set(closed.values_list("events__entry__seq", flat=True)) >= {edit}
    assert list(RuleState.objects.values_list("asset__symbol", "version__number", "state")) == [("A", 2, "firing")]


def test_a_rule_edited_after_the_evaluator_has_read_a_batch_waits_for_nobody_and_changes_nothing_there(monkeypatch):
    owner, feed, rule = pending_feed()
    evaluate, edits = rules.evaluate, []

    def evaluate_while_the_rule_is_edited(**arguments):
        evaluation = evaluate(**arguments)
        if arguments["entry"].kind == FeedEntry.Kind.QUOTES and not edits:
            edits.append(arguments["entry"].seq)
            in_threads(lambda: builders.make_rule(owner, rule=rule, assets=["A", "B"], condition=builders.above(1_000)))
        return evaluation

    monkeypatch.setattr(rules, "evaluate", evaluate_while_the_rule_is_edited)
    flow.evaluate_pending(feed_id=feed.pk)

    edit = FeedEntry.objects.filter(kind="rules").latest("seq")
    assert edit.seq > edits[0]
    assert set(Transition.objects.filter(entry__seq__lt=edit.seq).values_list("version__number", flat=True)) == {1}
    assert set(Transition.objects.filter(entry=edit).values_list("to_state", "reason")) <= {("ended", "rule_changed")}
    assert set(RuleState.objects.values_list("version__number", "state")) == {(2, "inactive")}


def test_a_failed_commit_costs_a_rebuild_and_never_a_wrong_alert(monkeypatch):
    _, feed, _ = pending_feed()
    enqueue, calls = notify.enqueue, []

    def fail_now_and_then(events, *, now):
        calls.append(len(events))
        if len(calls) % 3 == 0:
            raise ConnectionError("the commit did not come through")
        return enqueue(events, now=now)

    monkeypatch.setattr(notify, "enqueue", fail_now_and_then)
    failures = 0
    while flow.market_queries.has_pending(feed.pk):
        try:
            flow.evaluate_pending(feed_id=feed.pk)
        except ConnectionError:
            failures += 1
    disturbed = steps_on_record()

    assert failures >= 4
    monkeypatch.setattr(notify, "enqueue", enqueue)
    assert disturbed == steps_in_peace()


def test_an_engine_that_broke_off_half_way_is_never_used_again(monkeypatch):
    _, feed, _ = pending_feed()
    evaluate_clock, calls = Engine._evaluate_clock, []

    def break_off_now_and_then(self, as_of, evaluation):
        # The windows have taken the quotes, the entry is not finished, and the engine's seq does not tell.
        calls.append(as_of)
        if len(calls) in (3, 9, 20):
            raise ConnectionError("broken off")
        evaluate_clock(self, as_of, evaluation)

    monkeypatch.setattr(Engine, "_evaluate_clock", break_off_now_and_then)
    while flow.market_queries.has_pending(feed.pk):
        with suppress(ConnectionError):
            flow.evaluate_pending(feed_id=feed.pk)
    disturbed = steps_on_record()
    assert len(calls) > 20

    monkeypatch.setattr(Engine, "_evaluate_clock", evaluate_clock)
    assert disturbed == steps_in_peace()


def test_a_warm_engine_that_another_process_has_overtaken_is_rebuilt():
    _, feed, _ = pending_feed()
    for _ in range(4):
        flow.evaluate_next(feed_id=feed.pk)
    overtaken = rules._warm.pop(feed.pk)
    for _ in range(4):
        flow.evaluate_next(feed_id=feed.pk)
    rules._warm[feed.pk] = overtaken

    flow.evaluate_pending(feed_id=feed.pk)

    assert steps_on_record() == steps_in_peace()


def test_a_backlog_is_worked_off_in_turns(monkeypatch):
    _, feed, _ = pending_feed()
    turns = []
    monkeypatch.setattr(flow, "EVALUATE_AT_MOST_SECONDS", -1)
    monkeypatch.setattr(flow, "chain", lambda *parts: turns.append(parts[0].task) or signature("never.sent"))
    monkeypatch.setattr(Signature, "apply_async", lambda self: None)

    flow.evaluate_pending(feed_id=feed.pk)

    assert EvaluationCursor.objects.get(feed=feed).seq == 1
    assert turns == ["pipeline.evaluate_rules"]


SLOTS = 14


def simulated_world():
    """Return a simulated feed whose pump fires a rule, with an inbox."""
    owner = builders.make_owner()
    script = [
        {"kind": "pump", "symbol": "A", "after": "3s", "duration": "3s", "percent": 15},
        {"kind": "flash_crash", "symbol": "B", "after": "5s", "duration": "6s", "percent": 20},
    ]
    feed = sources.create_feed(
        name="simulated", interval_seconds=1, sources=[("simulated", {"script": script})], now=builders.START
    )
    for symbol in ("A", "B"):
        feed.assets.create(symbol=symbol)
    inbox = notify.create_channel(owner=owner, name="in", kind="inbox", config={})
    for kind in ("rises", "falls"):
        rule = builders.make_rule(
            owner, name=kind, assets={"feed": "simulated"}, condition={"kind": kind, "percent": "10", "window": "5m"}
        )
        notify.set_channels(rule=rule, channels=[inbox])
    return feed


def run_stages(feed, stages: list[tuple[str, int]]) -> None:
    """Run these stages in this order; a number is the slot of a fetch."""
    for stage, number in stages:
        if stage == "fetch":
            slot = builders.at(number)
            sources.fetch(feed_id=feed.pk, slot=slot, now=slot, trace_id=builders.TRACE)
        elif stage == "evaluate":
            flow.evaluate_pending(feed_id=feed.pk)
        elif stage == "plan":
            for channel_id in notify_queries.channels_to_plan(now=timezone.now()):
                notify.plan(channel_id=channel_id, now=timezone.now())
        else:
            for channel in Channel.objects.all():
                flow.deliver(channel_id=channel.pk)


def rows() -> dict[str, set]:
    """Return what is on record, by its natural names."""
    return {
        "quotes": set(Quote.objects.values_list("asset__symbol", "at", "price", "late")),
        "steps": set(Transition.objects.values_list("rule__name", "asset__symbol", "from_state", "to_state", "at")),
        "alerts": set(Alert.objects.values_list("rule__name", "asset__symbol", "opened_at", "resolved_at", "summary")),
        "notifications": set(
            AlertEvent.objects.values_list(
                "alert__rule__name", "alert__asset__symbol", "kind", "notifications__message__status"
            )
        ),
        "states": set(RuleState.objects.values_list("rule__name", "asset__symbol", "state", "since")),
    }


@pytest.mark.parametrize("seed", range(3))
def test_stages_run_twice_late_and_out_of_order_leave_the_same_rows(seed):
    in_order = [(stage, slot) for slot in range(SLOTS) for stage in ("fetch", "evaluate", "plan", "deliver")]
    run_stages(simulated_world(), in_order)
    expected = rows()
    call_command("flush", interactive=False, verbosity=0)
    rules._warm.clear()
    chance = random.Random(seed)
    shuffled = in_order + chance.choices(in_order, k=SLOTS * 3)
    chance.shuffle(shuffled)
    # What a lost message left behind, the last tick and sweep finish.
    begin = [("fetch", 0)]  # The script counts from the first answer.
    finish = [("fetch", SLOTS - 1), ("evaluate", 0), ("plan", 0), ("deliver", 0)]

    run_stages(simulated_world(), begin + shuffled + finish)

    assert rows() == expected
    assert len(expected["alerts"]) >= 2
    assert not Attempt.objects.exclude(number=1).exists()
    numbers = list(FeedEntry.objects.order_by("seq").values_list("seq", flat=True))
    assert numbers == list(range(1, len(numbers) + 1))
