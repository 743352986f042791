"""Reminders: when the next one of an opening is due, and those that are."""

from datetime import datetime, timedelta

from django.db import transaction

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
    openings = Notification.objects.filter(
        channel=channel,
        event__kind=AlertEvent.Kind.OPENED,
        event__alert__resolved_at=None,
        event__alert__acknowledged_at=None,
    )
    if message is not None:
        events = Notification.objects.filter(message=message).values_list("event", flat=True)
        openings = openings.filter(event__in=list(events))
    # The last of each opening is found here: a statement that compared each with all others would take as long as there
    # are pairs, where the planner does not know the table.
    columns = ("message", "message__status", "message__delivered_at", "message__created_at")
    last = {}
    for pk, event_id, *settled in openings.order_by("repeat").values_list("pk", "event", *columns):
        last[event_id] = (pk, *settled)
    wait = timedelta(minutes=channel.repeat_minutes)
    scheduled = []
    for pk, message_id, status, delivered_at, created_at in last.values():
        if message_id is None or (message is not None and message_id != message.pk):
            continue
        settled_at = {Message.Status.DELIVERED: delivered_at, Message.Status.FAILED: created_at}.get(status)
        scheduled.append(Notification(pk=pk, remind_at=settled_at + wait if settled_at is not None else None))
    Notification.objects.bulk_update(scheduled, ["remind_at"], batch_size=1_000)


def enqueue_reminders(*, now: datetime) -> list[int]:
    """Create due reminders of open, unacknowledged alerts for the channels that want them, and return the channels."""
    with transaction.atomic():
        due = queries.lock_due_reminders(now=now)
        reminders = [
            Notification(event=one.event, channel=one.channel, repeat=one.repeat + 1, due_at=now)
            for one in due
            if one.event.alert.resolved_at is None
            and one.event.alert.acknowledged_at is None
            and one.event.alert.owner_id in (None, one.channel.owner_id)
            and one.channel.is_enabled
            and one.channel.repeat_minutes
        ]
        Notification.objects.bulk_create(reminders, ignore_conflicts=True, batch_size=1_000)
        # Also where there is none to be: whatever makes it due again says when.
        Notification.objects.filter(pk__in=[one.pk for one in due]).update(remind_at=None)
    return sorted({reminder.channel_id for reminder in reminders})
