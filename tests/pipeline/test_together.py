"""Small feeds fetched and evaluated together: the same rows as one by one, and none keeps the others waiting."""

from contextlib import suppress
from functools import cache
from itertools import chain

import pytest
from celery import Signature
from celery.exceptions import SoftTimeLimitExceeded
from django.core.management import call_command
from django.db import transaction
from django.utils import timezone

from apps.alerts.models import Alert, AlertEvent
from apps.market.models import EvaluationCursor, Feed, FeedEntry, FeedHead, LatestQuote, Quote
from apps.market.services import lock_logs
from apps.notify import services as notify
from apps.notify.models import Channel
from apps.pipeline import flow, together
from apps.rules import services as rules
from apps.rules.models import Checkpoint, RuleState, Transition
from apps.sources import services as sources
from apps.sources.services import Due
from tests import builders
from tests.threads import elsewhere, overlapping

pytestmark = [pytest.mark.servers, pytest.mark.django_db(transaction=True)]

SLOTS = 12


@pytest.fixture(autouse=True)
def sent(monkeypatch):
    """What is dispatched: (task, feed ids)."""
    found = []

    def note(self, *args, **options):
        one = self.tasks[0] if self.task == "celery.chain" else self
        beside = [one if isinstance(one, int) else one[0] for one in one.kwargs.get("beside", [])]
        found.append((one.task.removeprefix("pipeline."), [one.args[0], *beside]))

    monkeypatch.setattr(Signature, "apply_async", note)
    return found


def make_feed(number, **options):
    feed = sources.create_feed(
        name=f"small-{number}", interval_seconds=1, sources=[("simulated", options)], now=builders.START
    )
    for symbol in "AB":
        feed.assets.create(symbol=f"{symbol}{number}")
    return feed


def make_world():
    """Return feeds of which some open and resolve alerts, some have outages, one jumps; each with an inbox."""
    owner = builders.make_owner()
    inbox = notify.create_channel(owner=owner, name="in", kind="inbox", config={})
    Channel.objects.update(group_wait_seconds=0)
    pump = {"kind": "pump", "after": "3s", "duration": "3s", "percent": 15}
    crash = {"kind": "flash_crash", "after": "5s", "duration": "6s", "percent": 20}
    outage = {"kind": "outage", "after": "4s", "duration": "3s"}
    scripts = [[], [pump], [crash], [], [pump, outage], [outage], []]
    feeds = [make_feed(number, script=script, seed=number) for number, script in enumerate(scripts)]
    feeds.append(make_feed(len(feeds), jump_probability=0.3, jump_size=0.9))
    Feed.objects.filter(pk=feeds[-1].pk).update(jump_percent=20)
    for number, feed in enumerate(feeds):
        for kind in ("rises", "falls"):
            condition = {"kind": kind, "percent": "10", "window": "5m"}
            rule = builders.make_rule(owner, name=f"{kind} {number}", assets={"feed": feed.name}, condition=condition)
            notify.set_channels(rule=rule, channels=[inbox])
    return feeds


def due_at(feeds, slot):
    return [Due(feed.pk, builders.at(slot), f"{slot:032x}") for feed in feeds]


def fetch(feeds, slot):
    together.fetch_together(due_at(feeds, slot), now=builders.at(slot))


def evaluate(feeds):
    return together.evaluate_together([feed.pk for feed in feeds])


def finish(sent):
    """Do what was dispatched for one feed or several, until nothing is."""
    while sent:
        task, feed_ids = sent.pop(0)
        assert task == "evaluate_rules"
        if len(feed_ids) > 1:
            together.evaluate_together(feed_ids)
        else:
            flow.evaluate_pending(feed_id=feed_ids[0])


def rows():
    """Return what is on record, by its natural names."""
    of_entry = ("feed__name", "seq", "kind", "slot", "as_of", "accepted", "late", "unconfirmed", "rejected", "failure")
    return {
        "entries": [
            *FeedEntry.objects.order_by("feed__name", "seq").values_list(*of_entry, "trace_id", "missed_slots")
        ],
        "heads": [
            *FeedHead.objects.order_by("feed__name").values_list(
                *("feed__name", "seq", "as_of", "began_at", "last_slot", "next_slot", "turn", "failures", "totals"),
                *("lease_until", "redispatch_at"),
            )
        ],
        "evaluated": [*EvaluationCursor.objects.order_by("feed__name").values_list("feed__name", "seq")],
        "quotes": [*Quote.objects.order_by("asset__symbol", "at").values_list("asset__symbol", "at", "price", "late")],
        "newest": [*LatestQuote.objects.order_by("asset__symbol").values_list("asset__symbol", "at", "price")],
        "steps": [
            *Transition.objects.order_by("entry__feed__name", "entry__seq", "position").values_list(
                *("entry__feed__name", "entry__seq", "rule__name", "asset__symbol", "to_state", "at", "evidence")
            )
        ],
        "states": [
            *RuleState.objects.order_by("rule__name", "asset__symbol").values_list("rule__name", "state", "since")
        ],
        "events": [
            *AlertEvent.objects.order_by("alert__rule__name", "entry__seq", "alert__asset__symbol").values_list(
                *("alert__rule__name", "alert__asset__symbol", "kind", "at", "notifications__channel__name")
            )
        ],
        "checkpoints": [*Checkpoint.objects.order_by("feed__name", "seq").values_list("feed__name", "seq", "as_of")],
    }


@cache
def rows_one_by_one():
    """Return what is on record where each feed is fetched and evaluated by itself; nothing stays."""
    feeds = make_world()
    for slot in range(SLOTS):
        for one in due_at(feeds, slot):
            sources.fetch(**one._asdict(), now=one.slot)
            flow.evaluate_pending(feed_id=one.feed_id)
    found = rows()
    call_command("flush", interactive=False, verbosity=0)
    rules._warm.clear()
    return found


def test_the_rows_are_those_of_feeds_one_by_one(sent):
    expected = rows_one_by_one()
    feeds = make_world()
    for slot in range(SLOTS):
        fetch(feeds, slot)
        evaluate(feeds)
        finish(sent)

    assert rows() == expected
    # It was no calm market.
    assert {name for name, *_ in expected["steps"]} >= {"small-1", "small-2", "small-4"}
    assert Alert.objects.filter(resolved_at__isnull=False).exists()
    assert FeedEntry.objects.filter(failure="outage").exists()
    assert FeedEntry.objects.filter(unconfirmed__gt=0).exists()


def test_messages_that_come_twice_or_late_leave_the_same_rows(sent):
    expected = rows_one_by_one()
    feeds = make_world()
    for slot in range(SLOTS):
        fetch(feeds, slot)
        fetch(feeds[::-1], slot)
        if slot % 3 == 0 or slot == SLOTS - 1:
            evaluate(feeds)
            evaluate(feeds)
            finish(sent)
    found = rows()

    # By groups, several entries wait: they are the same, later.
    assert found == expected


def test_small_feeds_of_a_shard_travel_in_one_message_and_others_by_themselves(sent, settings):
    settings.ANALYSIS_SHARDS = 2
    small = [make_feed(number) for number in range(24)]
    large = make_feed("large")
    for number in range(29):
        large.assets.create(symbol=f"L{number}")
    shown = [("recording", {"path": "usdc-depeg-2023-03.csv.gz"})]
    recording = sources.create_feed(name="recording", interval_seconds=1, sources=shown, now=builders.START)
    live = builders.make_feed("H", name="live", provider="coinbase")
    mixed = sources.create_feed(
        name="mixed", interval_seconds=1, sources=[("simulated", {}), ("coinbase", {})], now=builders.START
    )
    due = flow.start_due_feeds()

    assert {task for task, _ in sent} == {"fetch_quotes"}
    assert sorted(chain.from_iterable(feed_ids for _, feed_ids in sent)) == sorted(due)
    alone = {feed_ids[0] for _, feed_ids in sent if len(feed_ids) == 1}
    assert alone >= {large.pk, recording.pk, live.pk, mixed.pk}
    groups = [feed_ids for _, feed_ids in sent if set(feed_ids) <= {feed.pk for feed in small}]
    assert {len({feed_id % 2 for feed_id in feed_ids}) for feed_ids in groups} == {1}
    assert sorted(map(len, groups)) == [2, 2, 10, 10]


def test_a_feed_whose_head_is_locked_keeps_no_other_waiting(sent):
    feeds = [make_feed(number) for number in range(4)]
    for slot in range(2):
        fetch(feeds, slot)
    sent.clear()
    overlapping(lambda: lock_logs([feeds[1].pk]), lambda: fetch(feeds, 2))

    # Before the one that waited for the lock.
    assert sent == [("evaluate_rules", [feeds[0].pk, feeds[2].pk, feeds[3].pk])]
    stored = set(FeedEntry.objects.filter(slot=builders.at(2)).values_list("feed", flat=True))
    assert stored == {feed.pk for feed in feeds}


def after_asking(monkeypatch, happen, **named):
    """Let something happen between the answers of the providers and their storing."""
    ask = sources.ask_together

    def ask_and_be_overtaken(due, **options):
        rounds = ask(due, **options)
        happen(**named)
        return rounds

    monkeypatch.setattr(sources, "ask_together", ask_and_be_overtaken)


def test_what_is_appended_after_the_lease_was_taken_is_seen(monkeypatch):
    owner = builders.make_owner()
    feeds = [make_feed(number) for number in range(3)]
    for slot in range(2):
        fetch(feeds, slot)

    def change():
        builders.make_rule(owner, assets=["A1"], condition=builders.above(1))
        sources.change_interval(feed_id=feeds[2].pk, interval_seconds=60, now=builders.at(2))

    after_asking(monkeypatch, change)
    fetch(feeds, 2)

    logs = {
        one.pk: list(FeedEntry.objects.filter(feed=one).order_by("seq").values_list("seq", "kind")) for one in feeds
    }
    plain = [(1, "quotes"), (2, "quotes"), (3, "quotes")]
    assert logs == {
        feeds[0].pk: plain,
        feeds[1].pk: [*plain[:2], (3, "rules"), (4, "quotes")],
        feeds[2].pk: plain,
    }
    assert FeedHead.objects.get(feed=feeds[0]).next_slot == builders.at(3)
    assert FeedHead.objects.get(feed=feeds[2]).next_slot == builders.at(60)


def test_who_has_lost_the_lease_stores_nothing(monkeypatch):
    feeds = [make_feed(number) for number in range(3)]
    for slot in range(2):
        fetch(feeds, slot)
    after_asking(monkeypatch, FeedHead.objects.filter(feed=feeds[1]).update, fence=99)
    fetch(feeds, 2)

    stored = set(FeedEntry.objects.filter(slot=builders.at(2)).values_list("feed", flat=True))
    assert stored == {feeds[0].pk, feeds[2].pk}


def test_a_feed_that_fails_otherwise_than_by_its_provider_is_left_out(monkeypatch):
    feeds = [make_feed(number) for number in range(3)]
    ask_all = sources.Round.ask_all

    def ask_all_but_one(self):
        if self._lease.feed == feeds[1]:
            raise ZeroDivisionError
        ask_all(self)

    monkeypatch.setattr(sources.Round, "ask_all", ask_all_but_one)
    fetch(feeds, 0)

    assert set(FeedEntry.objects.values_list("feed", flat=True)) == {feeds[0].pk, feeds[2].pk}


def test_the_end_of_the_tasks_time_stops_all_of_its_feeds(monkeypatch):
    feeds = [make_feed(number) for number in range(3)]
    asked = []

    def ask_until_the_time_is_over(self):
        asked.append(self._lease.feed)
        raise SoftTimeLimitExceeded

    monkeypatch.setattr(sources.Round, "ask_all", ask_until_the_time_is_over)
    with pytest.raises(SoftTimeLimitExceeded):
        fetch(feeds, 0)

    assert len(asked) == 1


def test_an_evaluation_of_several_that_fails_is_done_for_each_by_itself(monkeypatch, sent):
    expected = rows_one_by_one()
    feeds = make_world()
    mark, calls = flow.market.mark_all_evaluated, []

    def fail_now_and_then(evaluated, *, at):
        mark(evaluated, at=at)
        calls.append(len(evaluated))
        if len(calls) % 3 == 0:
            raise ArithmeticError("before the commit")

    monkeypatch.setattr(flow.market, "mark_all_evaluated", fail_now_and_then)
    for slot in range(SLOTS):
        fetch(feeds, slot)
        evaluate(feeds)
        finish(sent)

    assert rows() == expected
    assert len(calls) >= SLOTS


def test_the_recording_of_alerts_that_fails_costs_a_rebuild_of_that_feed_alone(monkeypatch, sent):
    expected = rows_one_by_one()
    feeds = make_world()
    enqueue, calls = notify.enqueue, []

    def fail_now_and_then(events, *, now):
        calls.append(len(events))
        if events and len(calls) % 2 == 0:
            raise ArithmeticError("before the commit")
        return enqueue(events, now=now)

    monkeypatch.setattr(notify, "enqueue", fail_now_and_then)
    for slot in range(SLOTS):
        fetch(feeds, slot)
        evaluate(feeds)
        while sent:
            with suppress(ArithmeticError):
                finish(sent)
        while pending := flow.market_queries.feeds_with_pending([feed.pk for feed in feeds]):
            with suppress(ArithmeticError):
                flow.evaluate_pending(feed_id=pending[0])

    assert rows() == expected


@pytest.mark.parametrize(("seconds", "is_in_time"), [(20, True), (-1, False)])
def test_several_entries_that_wait_are_evaluated_in_rounds_until_the_time_is_up(seconds, is_in_time, sent, monkeypatch):
    monkeypatch.setattr(flow, "EVALUATE_AT_MOST_SECONDS", seconds)
    feeds = [make_feed(number) for number in range(3)]
    for slot in range(2):
        fetch(feeds, slot)
        for feed in feeds:
            flow.evaluate_pending(feed_id=feed.pk)
    for slot in range(2, 5):
        fetch(feeds, slot)
    sent.clear()
    evaluate(feeds)

    assert sent == ([] if is_in_time else [("evaluate_rules", [feed.pk]) for feed in feeds])
    assert set(EvaluationCursor.objects.values_list("seq", flat=True)) == {5 if is_in_time else 3}


def test_who_does_not_get_one_lock_evaluates_the_others():
    feeds = [make_feed(number) for number in range(3)]
    for slot in range(2):
        fetch(feeds, slot)
        for feed in feeds:
            flow.evaluate_pending(feed_id=feed.pk)
    fetch(feeds, 2)
    with transaction.atomic():
        flow.market.take_pending(feed_id=feeds[1].pk)
        elsewhere(lambda: evaluate(feeds))
        cursors = dict(EvaluationCursor.objects.values_list("feed", "seq"))
    assert cursors == {feeds[0].pk: 3, feeds[1].pk: 2, feeds[2].pk: 3}


def test_channels_are_found_by_the_evaluation_that_made_their_notifications_and_by_one_that_comes_again(sent):
    feeds = make_world()
    found = []
    for slot in range(SLOTS):
        fetch(feeds, slot)
        channels = evaluate(feeds)
        if channels:
            found.append(channels)
            # The message of an evaluation whose worker died after the commit comes again.
            assert evaluate(feeds) == channels
        finish(sent)
        for channel_id in channels:
            notify.plan(channel_id=channel_id, now=timezone.now())

    assert found
    assert {len(channels) for channels in found} == {1}


def test_an_evaluation_that_somebody_else_was_quicker_with_is_dropped():
    feed = make_feed(0)
    fetch([feed, make_feed(1)], 0)
    flow.evaluate_pending(feed_id=feed.pk)
    fetch([feed], 1)
    entry = FeedEntry.objects.get(feed=feed, seq=2)
    ((_, engine, evaluation),) = rules.evaluate_few([entry])

    assert rules.evaluate_few([entry]) == []
    # Somebody else has evaluated it meanwhile.
    assert flow.evaluate_next(feed_id=feed.pk) is True
    fetch([feed], 2)
    assert flow.evaluate_next(feed_id=feed.pk, evaluated=(engine, evaluation)) is True
    assert rules._warm[feed.pk] is not engine
