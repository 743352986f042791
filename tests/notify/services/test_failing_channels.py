"""What failed attempts mean for their channel: pauses, disabling it, sending again."""

from datetime import timedelta

import pytest
from django.utils import timezone

from apps.notify import queries, services
from apps.notify.models import Channel, Message
from apps.notify.transports.protocol import ChannelRefused, TransportRejected, TransportUnavailable
from tests.notify.notifying import (
    LONG_AGO,
    due,
    items,
    make_due,
    outcomes,
    raising,
    send,
)

pytestmark = pytest.mark.django_db


def test_a_wait_that_was_asked_for_holds_for_all_of_the_channel(feed, rule, channel, outside):
    (message_id,) = items(feed, channel, (0, "101"))
    outside.script = [raising(TransportUnavailable("http_429", retry_after_seconds=120))]
    before = timezone.now()

    send(channel)
    items(feed, channel, (1, "99"), (2, "101"))
    make_due(message_id)

    channel.refresh_from_db()
    assert timedelta(seconds=119) < channel.resume_at - before < timedelta(seconds=125)
    assert (send(channel), due(behind=timedelta(0))) == (None, [])
    assert due(behind=timedelta(0), now=timezone.now() + timedelta(seconds=121)) == [channel.pk]
    assert send(channel, after=121) == "delivered"
    channel.refresh_from_db()
    assert (channel.resume_at, channel.failing_since) == (None, None)


def test_a_wait_that_was_asked_for_is_counted_from_the_answer_and_not_from_the_beginning_of_the_try(
    feed, rule, channel, outside
):
    items(feed, channel, (0, "101"))
    outside.script = [raising(TransportUnavailable("http_429", retry_after_seconds=2))]
    before = timezone.now()

    # As if the answer had taken nine seconds to come.
    send(channel, after=-9)

    channel.refresh_from_db()
    assert channel.resume_at - before >= timedelta(seconds=2)


def test_short_waits_that_are_asked_for_do_not_use_the_tries_up_within_seconds(feed, rule, channel, outside):
    (message_id,) = items(feed, channel, (0, "101"))
    outside.script = [raising(TransportUnavailable("http_429", retry_after_seconds=1)) for _ in range(7)]
    waits = []
    for _ in range(7):
        before = timezone.now()
        send(channel, after=10)
        waits.append(Message.objects.get().next_attempt_at - before)
        make_due(message_id)

    assert sum(waits, timedelta()) > timedelta(hours=6)


def test_a_longer_wait_that_was_asked_for_stands_for_the_schedules(feed, rule, channel, outside):
    items(feed, channel, (0, "101"))
    outside.script = [raising(TransportUnavailable("http_429", retry_after_seconds=20))]
    before = timezone.now()

    send(channel)

    wait = Message.objects.get().next_attempt_at - before
    assert timedelta(seconds=20) <= wait < timedelta(seconds=24)


def test_a_channel_that_fails_is_known_as_failing_until_something_gets_through(feed, rule, channel, outside):
    (message_id,) = items(feed, channel, (0, "101"))
    outside.script = [raising(TransportUnavailable("timeout"))]
    seen = [queries.failing_of([channel.pk])]
    for _ in range(2):
        make_due(message_id)
        send(channel)
        seen.append(queries.failing_of([channel.pk]))

    assert seen == [set(), {channel.pk}, set()]


def test_what_it_says_is_since_when_nothing_gets_through_however_often_it_fails(feed, rule, channel, outside):
    (message_id,) = items(feed, channel, (0, "101"))
    outside.script = [raising(TransportUnavailable("timeout")) for _ in range(2)]
    send(channel, after=-100)
    channel.refresh_from_db()
    first = channel.failing_since
    make_due(message_id)
    send(channel)

    channel.refresh_from_db()
    assert channel.failing_since == first


def test_a_channel_that_is_refused_is_switched_off(feed, rule, channel, outside):
    items(feed, channel, (0, "101"))
    outside.script = [raising(ChannelRefused("http_410", "The address is gone."))]

    assert send(channel) == "permanent_failure"

    channel.refresh_from_db()
    assert (channel.is_enabled, channel.switched_off_because) == (False, "The address is gone.")
    assert not services.switch_off(channel=channel, because="again", now=timezone.now())


def test_72_h_of_failures_switch_a_channel_off_and_a_shorter_time_does_not(feed, rule, channel, outside):
    (message_id,) = items(feed, channel, (0, "101"))
    outside.script = [raising(TransportUnavailable("timeout")) for _ in range(3)]
    send(channel)
    seen = []
    for hours in (71, 73):
        Channel.objects.filter(pk=channel.pk).update(failing_since=timezone.now() - timedelta(hours=hours))
        make_due(message_id)
        send(channel)
        channel.refresh_from_db()
        seen.append(channel.is_enabled)

    assert seen == [True, False]
    assert "nothing has got through since" in channel.switched_off_because


def test_72_h_of_refused_messages_switch_a_channel_off_and_what_gets_through_ends_that(feed, rule, channel, outside):
    outside.script = [raising(TransportRejected("http_422")), None, *[raising(TransportRejected("http_422"))] * 3]
    seen = []
    for second, hours in ((0, 0), (2, 0), (4, 100), (6, 101), (8, 173)):
        items(feed, channel, (second, "101"), (second + 1, "99"))
        send(channel, after=hours * 3_600)
        channel.refresh_from_db()
        seen.append((channel.failing_since is not None, channel.is_enabled))

    assert seen == [(True, True), (False, True), (True, True), (True, True), (True, False)]


def test_a_test_that_is_refused_switches_nothing_off(channel, outside):
    message = services.send_test(channel=channel, asked_by="ada", now=LONG_AGO)
    outside.script = [raising(ChannelRefused("http_404"))]

    send(channel)

    assert outcomes(message.pk) == [(1, "permanent_failure", "http_404")]
    channel.refresh_from_db()
    assert channel.is_enabled


def test_what_waits_on_a_channel_that_is_off_is_given_up_and_can_be_sent_again(feed, rule, channel, outside):
    (message_id,) = items(feed, channel, (0, "101"))
    Channel.objects.update(is_enabled=False)
    assert send(channel) is None
    assert (Message.objects.get().status, outside.rendered_messages) == ("failed", [])
    assert services.redeliver(messages=Message.objects.all(), now=LONG_AGO) == 0
    Channel.objects.update(is_enabled=True)

    assert services.redeliver(messages=Message.objects.all(), now=LONG_AGO) == 1

    assert send(channel) == "delivered"
    assert [rendered.id for rendered in outside.rendered_messages] == [str(message_id)]


def test_what_is_being_sent_while_its_channel_is_switched_off_is_delivered(feed, rule, channel, outside):
    items(feed, channel, (0, "101"))

    def switch_off_meanwhile():
        Channel.objects.update(is_enabled=False)
        send(channel)

    outside.script = [switch_off_meanwhile]

    assert send(channel) == "delivered"
    assert Message.objects.get().status == "delivered"


def test_what_is_sent_again_has_the_whole_schedule_before_it(feed, rule, channel, outside):
    (message_id,) = items(feed, channel, (0, "101"))
    outside.script = [raising(TransportUnavailable("http_503")) for _ in range(16)]
    for _ in range(8):
        make_due(message_id)
        send(channel)

    services.redeliver(messages=Message.objects.all(), now=LONG_AGO)
    statuses = []
    for _ in range(8):
        make_due(message_id)
        send(channel)
        statuses.append(Message.objects.get().status)

    assert statuses == ["pending"] * 7 + ["failed"]
    assert [number for number, _, _ in outcomes(message_id)] == list(range(1, 17))


def test_only_what_was_given_up_is_sent_again(feed, rule, channel, outside):
    items(feed, channel, (0, "101"))
    send(channel)

    assert services.redeliver(messages=Message.objects.all(), now=LONG_AGO) == 0
    assert send(channel) is None
