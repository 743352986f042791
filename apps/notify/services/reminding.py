"""Reminders: when the next one of an opening is due, and those that are."""

from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Case, Exists, OuterRef, Subquery, When

from apps.alerts.models import AlertEvent
from apps.notify import queries
from apps.notify.models import Channel, Message, Notification


def schedule_reminders(*, channel: Channel, message: Message | None = None) -> None:
    """Work out when the next reminder of each open, unacknowledged alert is due on a channel: after its wait has passed
    since the last message about it got through, or was made where it was given up.

    In the caller's transaction, which has the channel's lock, so that a message that is settled and a wait that is
    changed at the same time both count. message: only the alerts whose last notification it has.
    """
    if not channel.is_enabled or not channel.repeat_minutes:
        return
    later = Notification.objects.filter(
        event=OuterRef("event"), channel=OuterRef("channel"), repeat__gt=OuterRef("repeat")
    )
    last = Notification.objects.filter(
        ~Exists(later),
        channel=channel,
        event__kind=AlertEvent.Kind.OPENED,
        event__alert__resolved_at=None,
        event__alert__acknowledged_at=None,
    )
    last = last.filter(message__isnull=False) if message is None else last.filter(message=message)
    settled_at = Case(
        When(status=Message.Status.DELIVERED, then="delivered_at"),
        When(status=Message.Status.FAILED, then="created_at"),
    )
    settled = Message.objects.filter(pk=OuterRef("message")).values(settled_at=settled_at)
    last.update(remind_at=Subquery(settled) + timedelta(minutes=channel.repeat_minutes))


def enqueue_reminders(*, now: datetime) -> list[int]:
    """Create due reminders of open, unacknowledged alerts for the channels that want them, and return the channels."""
    with transaction.atomic():
        due = queries.lock_due_reminders(now=now)
        reminders = [
            Notification(event=one.event, channel=one.channel, repeat=one.repeat + 1, due_at=now)
            for one in due
            if one.event.alert.resolved_at is None
            and one.event.alert.acknowledged_at is None
            and one.channel.is_enabled
            and one.channel.repeat_minutes
        ]
        Notification.objects.bulk_create(reminders, ignore_conflicts=True, batch_size=1_000)
        # Also where there is none to be: whatever makes it due again says when.
        Notification.objects.filter(pk__in=[one.pk for one in due]).update(remind_at=None)
    return sorted({reminder.channel_id for reminder in reminders})
