"""Queries for planning: notifications that are due, what defers them, and channels that have reached their limit."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from django.db.models import Count, Q

from apps.alerts.models import AlertEvent
from apps.canary import CANARY
from apps.notify import domain
from apps.notify.models import Channel, Message, Notification

# A message lists at most so many events; the rest comes in the next one.
NOTIFICATIONS_AT_ONCE = 1_000
# Of a channel, and a little for clocks that differ.
GROUP_WAIT_LONGEST = timedelta(seconds=600 + 60)
CHANNELS_AT_ONCE = 500


def channels_to_plan(*, now: datetime, feed_ids: Sequence[int] | None = None) -> list[int]:
    """Return the channels with a due notification without a message, but for those at their limit.

    feed_ids: looks only at events of these feeds' logs.
    """
    due = Notification.objects.filter(_is_to_plan(now), message=None).order_by()
    if feed_ids is not None:
        due = due.filter(event__entry__feed__in=feed_ids)
    # From what is due to its channels, so that those without anything due are not read.
    chosen = Channel.objects.filter(pk__in=due.values("channel"))
    channels = list(chosen.only("messages_per_minute").order_by("pk"))
    # Channels at their limit would be found again and again, and take the room of others.
    at_limit = at_their_limit_at(now, channels)
    return [one.pk for one in channels if one.pk not in at_limit][:CHANNELS_AT_ONCE]


def _is_to_plan(now: datetime) -> Q:
    """Match the notifications that `is_to_plan`."""
    was_set_back = Q(deferred_by=Notification.Deferral.NONE, due_at__gt=now + GROUP_WAIT_LONGEST)
    return Q(due_at__lte=now) | was_set_back


def is_to_plan(notification: Notification, *, now: datetime) -> bool:
    """Tell whether a notification is due. One that waits for longer than a group wait was made before the clock was set
    back."""
    if notification.due_at is None:
        return False
    is_deferred = notification.deferred_by != Notification.Deferral.NONE
    return notification.due_at <= now or (not is_deferred and notification.due_at > now + GROUP_WAIT_LONGEST)


def notifications_to_plan(*, channel_id: int, now: datetime) -> list[Notification]:
    """Return the channel's notifications without a message that are due or in their group wait, in the order of their
    events, with the related rows that a message needs; at most NOTIFICATIONS_AT_ONCE."""
    waiting = Notification.objects.filter(
        Q(deferred_by=Notification.Deferral.NONE) | Q(due_at__lte=now), channel=channel_id, message=None
    )
    along = ("channel", "silence", "given_up_on", "event__alert__rule", "event__alert__asset")
    rows = waiting.select_related(*along).order_by("due_at", "pk")[:NOTIFICATIONS_AT_ONCE]
    return sorted(rows, key=lambda notification: (notification.event_id, notification.repeat))


def is_at_its_limit(channel: Channel, *, now: datetime) -> bool:
    """Return whether a channel has reached its limit of messages for this minute."""
    if not channel.messages_per_minute:
        return False
    return channel.pk in at_their_limit_at(now, [channel])


def at_their_limit_at(moment: datetime, channels: Iterable[Channel]) -> set[int]:
    """Return the ids of those channels that had reached their limit of messages for the minute before `moment`."""
    limits = {one.pk: one.messages_per_minute for one in channels if one.messages_per_minute}
    lately = Message.objects.filter(
        channel__in=limits,
        kind=Message.Kind.ALERT,
        created_at__gt=moment - timedelta(minutes=1),
        created_at__lte=moment,
    ).exclude(status=Message.Status.SILENCED)
    counts = lately.order_by().values_list("channel_id").annotate(count=Count("pk"))
    return {channel_id for channel_id, count in counts if count >= limits[channel_id]}


def deferral_now(
    notification: Notification, *, silences: Sequence[domain.Silenced], now: datetime
) -> domain.Deferral | None:
    """Return what defers a notification now. Reads its channel, and its event's alert."""
    if notification.channel_id == CANARY:
        # A silence of everybody's alerts is meant for people.
        return None
    alert = notification.event.alert
    return domain.deferral_of(
        now=now,
        alert_id=alert.pk,
        rule_id=alert.rule_id,
        asset_id=alert.asset_id,
        owner_id=alert.owner_id,
        severity=alert.severity,
        silences=silences,
        quiet=notification.channel.quiet_hours,
    )


def untried_messages(*, channel_id: int, alert_ids: Iterable[int]) -> dict[int, Message]:
    """Return alert id -> the message with its opening on the channel, locked, where no attempt to send it was begun."""
    rows = Notification.objects.filter(
        channel=channel_id,
        event__alert__in=alert_ids,
        event__kind=AlertEvent.Kind.OPENED,
        message__status=Message.Status.PENDING,
    )
    message_of = dict(rows.order_by("repeat").values_list("event__alert_id", "message_id"))
    # A sender that has claimed one meanwhile holds its lock, or has changed what is asked for here.
    untried = Message.objects.select_for_update(skip_locked=True, no_key=True).filter(
        pk__in=set(message_of.values()), status=Message.Status.PENDING, attempts=0
    )
    found = {message.pk: message for message in untried}
    return {alert_id: found[pk] for alert_id, pk in message_of.items() if pk in found}


def lock_due_reminders(*, now: datetime) -> list[Notification]:
    """Return the notifications whose next reminder is due, with alert and channel, locked; at most
    NOTIFICATIONS_AT_ONCE. Rows that another sweep has locked are passed over."""
    due = Notification.objects.select_for_update(skip_locked=True, no_key=True, of=("self",))
    due = due.filter(remind_at__lte=now).select_related("event__alert", "channel")
    return list(due.order_by("remind_at", "pk")[:NOTIFICATIONS_AT_ONCE])
