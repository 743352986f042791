"""The clock is set back: messages go on."""

from datetime import timedelta

import pytest
from django.utils import timezone

from apps.notify import queries, services
from apps.notify.models import Channel, Message, Notification
from tests.notify.notifying import due, evaluate, items

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


def test_what_waits_for_its_group_is_planned_at_once(feed, rule, channel):
    evaluate(feed, (0, "101"))
    now = timezone.now()
    Notification.objects.update(due_at=now + HOUR)

    assert queries.channels_to_plan(now=now) == [channel.pk]
    assert services.plan(channel_id=channel.pk, now=now) == "send"
    assert Message.objects.count() == 1


def test_what_a_silence_defers_waits_on(feed, rule, channel):
    evaluate(feed, (0, "101"))
    now = timezone.now()
    Notification.objects.update(due_at=now + HOUR, deferred_by=Notification.Deferral.SILENCE)

    assert queries.channels_to_plan(now=now) == []
    assert services.plan(channel_id=channel.pk, now=now) == "nothing_due"


def test_a_message_that_was_dispatched_before_is_dispatched_again(feed, rule, channel):
    items(feed, channel, (0, "101"))
    now = timezone.now()
    Channel.objects.update(dispatched_at=now + HOUR)
    assert due(behind=timedelta(seconds=10), now=now) == [channel.pk]


def test_a_message_planned_by_a_clock_ahead_of_the_databases_is_due_at_once(feed, rule, channel):
    evaluate(feed, (0, "101"))
    services.plan(channel_id=channel.pk, now=timezone.now() + HOUR)
    assert queries.next_message(channel.pk) == Message.objects.get()


def test_messages_of_the_future_use_up_no_limit(feed, rule, channel):
    items(feed, channel, (0, "101"))
    Channel.objects.update(messages_per_minute=1)
    Message.objects.update(created_at=timezone.now() + HOUR)
    channel.refresh_from_db()
    assert not queries.is_at_its_limit(channel, now=timezone.now())
