"""What is not taken: refusals that may pass, messages that are too large, another channel for what is given up."""

from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from apps.alerts.models import AlertEvent
from apps.notify import queries, services
from apps.notify.models import Attempt, Channel, Message, Notification
from apps.notify.services import sending
from apps.notify.transports.protocol import (
    ChannelMoved,
    ChannelRefused,
    RefusedForNow,
    TooLarge,
    TransportRejected,
    TransportUnavailable,
)
from apps.pipeline import flow
from tests.builders import above, append_quotes, at, make_feed, make_owner, make_rule
from tests.notify.notifying import evaluate, expire_lease, items, make_due, notifications, outcomes, plan, raising, send

pytestmark = pytest.mark.django_db

HALF_AN_HOUR = timedelta(minutes=30)


def refused(*, is_shared=False):
    return raising(RefusedForNow("http_404", "not found", off_after=HALF_AN_HOUR, is_shared=is_shared))


def try_at(channel, *minutes):
    """Try the channel's message at these minutes from now, and return whether the channel is on after each."""
    states = []
    for minute in minutes:
        make_due(Message.objects.filter(channel=channel).earliest("created_at").pk)
        send(channel, after=60 * minute)
        states.append(Channel.objects.get(pk=channel.pk).is_enabled)
    return states


# Refusals


def test_a_refusal_is_believed_when_it_has_lasted(feed, rule, channel, outside):
    items(feed, channel, (0, "101"))
    outside.script = [refused()] * 4
    assert try_at(channel, 0, 10, 29, 31) == [True, True, True, False]
    assert Channel.objects.get(pk=channel.pk).switched_off_because == "not found"


def test_another_failure_between_two_refusals_begins_anew(feed, rule, channel, outside):
    items(feed, channel, (0, "101"))
    outside.script = [refused(), raising(TransportUnavailable("timeout")), refused(), refused(), refused()]
    assert try_at(channel, 0, 20, 40, 60, 71) == [True, True, True, True, False]


def test_one_refusal_by_a_proxy_that_is_restarted_costs_a_try(feed, rule, channel, outside):
    (message_id,) = items(feed, channel, (0, "101"))
    outside.script = [refused()]
    try_at(channel, 0, 1)
    channel.refresh_from_db()
    assert outcomes(message_id) == [(1, "transient_failure", "http_404"), (2, "delivered", "")]
    assert (channel.failing_since, channel.refused_since) == (None, None)


def test_a_test_that_is_refused_for_now_is_not_tried_again(channel, outside):
    message = services.send_test(channel=channel, asked_by="ada", now=timezone.now() - timedelta(hours=1))
    outside.script = [refused()]
    send(channel)
    message.refresh_from_db()
    channel.refresh_from_db()
    assert (message.status, channel.failing_since) == ("failed", None)


def test_where_several_channels_are_refused_at_once_their_server_is_to_blame(feed, rule, channel, outside, owner):
    other = services.create_channel(owner=owner, name="Other", kind="fake", config={})
    Channel.objects.filter(pk=other.pk).update(refused_since=timezone.now())
    items(feed, channel, (0, "101"))
    outside.script = [refused(is_shared=True)] * 3

    alike = try_at(channel, 0, 31)
    Message.objects.create(
        channel=other, subject="taken", status="delivered", delivered_at=timezone.now() + HALF_AN_HOUR,
        next_attempt_at=timezone.now(),
    )  # fmt: skip
    assert alike == [True, True]
    assert try_at(channel, 32) == [False]


# Another channel


@pytest.mark.parametrize("failure", [TransportRejected("http_422"), ChannelRefused("http_410"), TooLarge("http_413")])
def test_what_is_given_up_is_notified_on_another_channel_which_says_so(feed, rule, channel, outside, failure):
    items(feed, channel, (0, "101"))
    outside.script = [raising(failure)]
    send(channel)

    assert notifications() == [("opened", "Fake"), ("opened", "Inbox for errors")]
    inbox = Channel.objects.get(kind="inbox")
    plan(inbox)
    message = Message.objects.get(channel=inbox)
    assert message.text.startswith("Held back by the channel Fake (fake), on which it was given up.")
    assert "BTC-USD is above 100" in message.text


def test_after_the_last_try_it_is_handed_over_and_its_end_follows(feed, rule, channel, outside):
    (message_id,) = items(feed, channel, (0, "101"))
    outside.script = [raising(TransportUnavailable("timeout"))] * 8
    for _ in range(8):
        make_due(message_id)
        send(channel)
    evaluate(feed, (1, "99"))

    in_inbox = Notification.objects.filter(channel__kind="inbox").values_list("event__kind", flat=True)
    assert list(in_inbox) == [AlertEvent.Kind.OPENED, AlertEvent.Kind.RESOLVED]


def test_what_another_channel_notifies_of_is_not_said_twice(feed, rule, channel, outside, owner):
    other = services.create_channel(owner=owner, name="Other", kind="fake", config={})
    services.set_channels(rule=rule, channels=[channel, other])
    items(feed, channel, (0, "101"))
    outside.script = [raising(TransportRejected("http_422"))]
    send(channel)
    assert notifications() == [("opened", "Fake"), ("opened", "Other")]


def test_two_channels_that_give_up_end_in_the_inbox(feed, rule, channel, outside, owner):
    other = services.create_channel(owner=owner, name="Other", kind="fake", config={})
    services.set_channels(rule=rule, channels=[channel, other])
    evaluate(feed, (0, "101"))
    outside.script = [raising(TransportRejected("http_422"))] * 2
    for one in (channel, other):
        plan(one)
        send(one)
    assert notifications()[2:] == [("opened", "Inbox for errors")]


# Size


def make_storm(owner, channel, count):
    symbols = [f"A{number}" for number in range(count)]
    storm = make_feed(*symbols, name="storm")
    storm_rule = make_rule(owner, name="Storm", assets=symbols, condition=above(100))
    services.set_channels(rule=storm_rule, channels=[channel])
    append_quotes(storm, [(symbol, at(0), "101") for symbol in symbols])
    flow.evaluate_pending(feed_id=storm.pk)
    return symbols


def test_a_message_that_is_too_large_is_halved_until_it_is_taken(channel, outside, owner):
    symbols = make_storm(owner, channel, 10)
    plan(channel)
    takes = 3

    class Narrow(type(outside)):
        def send(self, rendered, settings):
            if len(rendered.items) > takes:
                raise TooLarge("http_413")
            return super().send(rendered, settings)

    outside.__class__ = Narrow
    while send(channel) is not None:
        pass

    taken = [[one.symbol for one in rendered.items] for rendered in outside.rendered_messages]
    assert sorted(symbol for half in taken for symbol in half) == sorted(symbols)
    assert max(map(len, taken)) <= takes
    assert set(Message.objects.values_list("status", flat=True)) == {"delivered"}
    for message in Message.objects.all():
        members = message.members.values_list("event__alert__asset__symbol", flat=True)
        assert sorted(members) == sorted(one["symbol"] for one in message.items)


def test_a_single_alert_that_is_too_large_loses_text_and_then_is_given_up(feed, rule, channel, outside):
    Channel.objects.update(text_template="{summary} " + "x" * 3_000)
    (message_id,) = items(feed, channel, (0, "101"))
    outside.script = [raising(TooLarge("http_413"))] * 2
    send(channel)
    message = Message.objects.get()
    assert message.text.endswith(f"xx…\nAll of it: http://127.0.0.1:8000/admin/notify/message/{message_id}/change/")
    assert (message.status, len(message.text) < 700) == ("pending", True)
    send(channel)
    assert Message.objects.get().status == "failed"


# Addresses


def test_a_chat_that_has_moved_is_stored_and_gets_the_same_message(feed, rule, channel, outside):
    channel.put_settings({"to": "old", "password": "canary"})
    channel.save()
    (message_id,) = items(feed, channel, (0, "101"))
    outside.script = [raising(ChannelMoved("moved", settings={"to": "new"}))]
    sent = [send(channel), send(channel)]
    channel.refresh_from_db()

    assert sent == ["transient_failure", "delivered"]
    assert channel.transport_settings == {"to": "new", "password": "canary"}
    assert [rendered.id for rendered in outside.rendered_messages] == [str(message_id)] * 2
    assert channel.failing_since is None


# Outcomes


def test_the_outcome_is_written_on_a_new_connection_where_the_old_one_is_lost(
    feed, rule, channel, outside, monkeypatch
):
    (message_id,) = items(feed, channel, (0, "101"))
    finish, closed, calls = sending._finish, [], []

    class Lost:
        in_atomic_block = False

        def is_usable(self):
            return False

        def close(self):
            closed.append(True)

    def breaks_once(*args, **kwargs):
        calls.append(True)
        if len(calls) == 1:
            raise OperationalError("server closed the connection unexpectedly")
        return finish(*args, **kwargs)

    monkeypatch.setattr(sending, "connection", Lost())
    monkeypatch.setattr(sending, "_finish", breaks_once)

    assert send(channel) == "delivered"
    assert (outcomes(message_id), closed) == ([(1, "delivered", "")], [True])


def test_an_outcome_that_was_written_is_not_counted_twice(feed, rule, channel, outside, monkeypatch):
    (message_id,) = items(feed, channel, (0, "101"))
    counted = []
    monkeypatch.setattr(sending, "count_deliveries", counted.append)
    finish = sending._finish
    monkeypatch.setattr(sending, "_finish", lambda *args, **kwargs: [finish(*args, **kwargs) for _ in range(2)][1])

    assert send(channel) == "delivered"
    assert (len(counted), outcomes(message_id)) == (1, [(1, "delivered", "")])


def test_a_connection_that_works_gets_no_second_outcome(feed, rule, channel, outside, monkeypatch):
    items(feed, channel, (0, "101"))

    def breaks(*args, **kwargs):
        raise OperationalError("lock timeout")

    monkeypatch.setattr(sending, "_finish", breaks)
    with pytest.raises(OperationalError):
        send(channel)
    assert connection.is_usable()


def test_a_late_answer_of_an_attempt_that_was_given_up_is_noted(feed, rule, channel, outside):
    (message_id,) = items(feed, channel, (0, "101"))

    def while_another_takes_over():
        expire_lease(message_id)
        send(channel)

    outside.script = [while_another_takes_over]
    send(channel)
    assert outcomes(message_id) == [(1, "delivered", ""), (2, "delivered", "")]
    assert not Attempt.objects.filter(outcome="").exists()


# Owners


def test_an_owner_who_is_inactive_is_not_notified(feed, rule, channel, outside, owner):
    items(feed, channel, (0, "101"))
    owner.is_active = False
    owner.save()
    sent = send(channel)
    evaluate(feed, (1, "99"), (2, "101"))

    assert (sent, outside.rendered_messages) == (None, [])
    assert notifications() == [("opened", "Fake"), ("resolved", "Fake")]
    plan(channel)
    assert send(channel) is None
    assert set(Message.objects.values_list("status", flat=True)) == {"failed"}


def test_other_owners_are_notified_as_before(feed, rule, channel, outside):
    grace = make_owner("grace")
    grace.is_active = False
    grace.save()
    items(feed, channel, (0, "101"))
    assert send(channel) == "delivered"
    assert queries.may_be_notified(channel)
