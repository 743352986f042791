"""When messages are planned and sent, and on which queue: what flow does with notify, on a real broker."""

from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.db import OperationalError
from django.utils import timezone

from apps.alerts.models import Alert
from apps.notify import services as notify
from apps.notify.models import Channel, Message, Notification
from apps.notify.transports.protocol import TransportUnavailable
from apps.notify.transports.registry import TRANSPORTS
from apps.pipeline import flow
from apps.rules.models import Rule
from tests import builders
from tests.notify.notifying import LONG_AGO, FakeTransport, evaluate, plan, raising
from tests.rig import purge_queues, queue_lengths

pytestmark = [pytest.mark.servers, pytest.mark.django_db]


@pytest.fixture
def world(monkeypatch):
    """One feed, a rule on its asset, one channel with a scripted transport, and empty queues."""
    outside = FakeTransport()
    monkeypatch.setitem(TRANSPORTS, "fake", outside)
    feed, owner = builders.make_feed("BTC-USD"), builders.make_owner()
    channel = notify.create_channel(owner=owner, name="Fake", kind="fake", config={})
    rule = builders.make_rule(owner, assets=["BTC-USD"], condition=builders.above(100))
    notify.set_channels(rule=rule, channels=[channel])
    purge_queues()
    yield SimpleNamespace(outside=outside, feed=feed, owner=owner, channel=channel)
    purge_queues()


def waiting():
    """Return how many tasks wait on the queues of the notifier, and of those channels that fail."""
    lengths = queue_lengths()
    return lengths["notifications"], lengths["retries"]


def test_who_has_evaluated_says_which_channels_are_due_something_now(world):
    assert evaluate(world.feed, (0, "101")) == [world.channel.pk]


def test_who_has_evaluated_says_nothing_of_what_waits_for_more_to_come(world):
    Channel.objects.update(group_wait_seconds=10)

    assert evaluate(world.feed, (0, "101")) == []
    assert Notification.objects.count() == 1


def test_what_is_due_now_is_planned_and_a_sender_sent_for(world):
    flow.notify_channels(channel_ids=evaluate(world.feed, (0, "101")))

    assert (Message.objects.count(), waiting()) == (1, (1, 0))


def test_a_channel_that_failed_last_is_sent_for_on_a_queue_of_its_own(world):
    Channel.objects.update(failing_since=LONG_AGO)

    flow.notify_channels(channel_ids=evaluate(world.feed, (0, "101")))

    assert waiting() == (0, 1)


def test_planning_twice_makes_one_message_and_dispatches_one_sender(world):
    channel_ids = evaluate(world.feed, (0, "101"))
    for _ in range(2):
        flow.notify_channels(channel_ids=channel_ids)

    assert (Message.objects.count(), waiting()) == (1, (1, 0))


def test_a_tick_plans_what_has_become_due_and_not_what_has_not(world):
    Channel.objects.update(group_wait_seconds=10)
    evaluate(world.feed, (0, "101"))
    early = flow.notify_due()
    Notification.objects.update(due_at=LONG_AGO)

    late = flow.notify_due()

    assert (early["planned"], late["planned"], Message.objects.count()) == (0, 1, 1)
    # Who sends it is sent for at once, and not by the next tick.
    assert waiting() == (1, 0)


def test_a_channel_that_cannot_be_planned_keeps_no_other_from_being_notified(world, monkeypatch):
    bad = world.channel
    good = notify.create_channel(owner=world.owner, name="Good", kind="fake", config={})
    notify.set_channels(rule=Rule.objects.get(), channels=[bad, good])
    evaluate(world.feed, (0, "101"))
    plan_any = notify.plan

    def plan_good(*, channel_id, now):
        return plan_any(channel_id=channel_id, now=now) if channel_id == good.pk else 1 // 0

    monkeypatch.setattr(notify, "plan", plan_good)
    found = flow.notify_due()

    assert (found["planned"], Message.objects.get().channel) == (1, good)
    assert Notification.objects.get(message=None).channel == bad


def test_a_database_that_is_gone_is_asked_once_and_not_for_each_channel(world, monkeypatch):
    asked = []

    def plan_without_database(*, channel_id, now):
        asked.append(channel_id)
        raise OperationalError("the server closed the connection")

    monkeypatch.setattr(notify, "plan", plan_without_database)
    monkeypatch.setattr(flow.connection, "is_usable", lambda: False)

    with pytest.raises(OperationalError):
        flow.notify_channels(channel_ids=[1, 2])

    assert asked == [1]


def test_a_tick_sends_for_who_sends_what_is_due_each_on_its_queue(world):
    failing = notify.create_channel(owner=world.owner, name="Failing", kind="fake", config={})
    for channel in (world.channel, failing):
        notify.send_test(channel=channel, asked_by="ada", now=LONG_AGO)
    Channel.objects.filter(pk=failing.pk).update(failing_since=LONG_AGO)

    found = [flow.notify_due()["channels"] for _ in range(2)]

    # Whoever has been asked for is not asked for again at once.
    assert (found, waiting()) == ([2, 0], (1, 1))


def test_what_was_planned_and_whose_message_was_lost_is_sent_for_after_10_s(world):
    evaluate(world.feed, (0, "101"))
    plan(world.channel)
    at_once = flow.notify_due()["channels"]
    Channel.objects.update(dispatched_at=timezone.now() - timedelta(seconds=11))

    assert (at_once, flow.notify_due()["channels"], waiting()) == (0, 1, (1, 0))


def test_sweep_enqueues_a_reminder_and_the_next_tick_plans_it(world):
    Channel.objects.update(repeat_minutes=1)
    evaluate(world.feed, (0, "101"))
    plan(world.channel)
    flow.deliver(channel_id=world.channel.pk)
    Notification.objects.update(remind_at=LONG_AGO)

    flow.sweep()
    flow.notify_due()
    flow.deliver(channel_id=world.channel.pk)

    assert ["Still open: " in rendered.subject for rendered in world.outside.rendered_messages] == [False, True]


def test_all_that_is_due_on_a_channel_is_sent_in_one_go(world):
    for second in range(0, 6, 2):
        evaluate(world.feed, (second, "101"), (second + 1, "99"))
        plan(world.channel)

    tries = flow.deliver(channel_id=world.channel.pk)

    assert (tries, len(world.outside.rendered_messages), waiting()) == (3, 3, (0, 0))


def test_a_try_that_fails_ends_it(world):
    for second in range(0, 6, 2):
        evaluate(world.feed, (second, "101"), (second + 1, "99"))
        plan(world.channel)
    world.outside.script = [None, raising(TransportUnavailable("timeout"))]

    tries = flow.deliver(channel_id=world.channel.pk)

    assert (tries, len(world.outside.rendered_messages)) == (2, 2)
    assert sorted(Message.objects.values_list("status", flat=True)) == ["delivered", "pending", "pending"]


def test_who_was_sent_for_before_a_channel_failed_does_not_try_it_and_sends_for_who_does(world):
    for second in range(0, 4, 2):
        evaluate(world.feed, (second, "101"), (second + 1, "99"))
        plan(world.channel)
    world.outside.script = [raising(TransportUnavailable("timeout"))]
    flow.deliver(channel_id=world.channel.pk)

    late = flow.deliver(channel_id=world.channel.pk)

    assert (late, len(world.outside.rendered_messages), waiting()) == (0, 1, (0, 1))
    assert flow.deliver(channel_id=world.channel.pk, is_failing=True) == 1
    assert len(world.outside.rendered_messages) == 2


def test_a_long_queue_is_sent_in_turns_so_that_others_have_theirs(world, monkeypatch):
    for second in range(0, 6, 2):
        evaluate(world.feed, (second, "101"), (second + 1, "99"))
        plan(world.channel)
    monkeypatch.setattr(flow, "DELIVER_AT_MOST_SECONDS", -1)

    tries = flow.deliver(channel_id=world.channel.pk)

    assert (tries, len(world.outside.rendered_messages), waiting()) == (1, 1, (1, 0))


def test_without_alerts_a_tick_plans_nothing(world):
    assert flow.notify_due() == {"planned": 0, "channels": 0}
    assert not Alert.objects.exists()
