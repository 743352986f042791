"""What alert events owe to which channels."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from apps.alerts.models import Alert, AlertEvent
from apps.notify import queries
from apps.notify.models import Channel, Notification, RuleChannel
from apps.notify.services.channels import inbox_of


def enqueue(events: Sequence[AlertEvent], *, now: datetime) -> int:
    """Note what these events owe to which channels, in the caller's transaction, and return how many notifications that
    made.

    An opening is owed to the rule's channels, of the system's to those that want it; a resolution to those of them that
    were owed the opening and want it; a evaluating error to the owner's inbox where the rule has no channel. What is
    critical is due at once, all else after the channel's group wait.
    """
    opened = [one for one in events if one.kind == AlertEvent.Kind.OPENED]
    resolved = [one for one in events if one.kind == AlertEvent.Kind.RESOLVED]
    # One after the other: an end is owed where the opening is, which may be of the same transaction.
    return _enqueue_opened(opened, now=now) + _enqueue_resolved(resolved, now=now)


def _enqueue_opened(opened: Sequence[AlertEvent], *, now: datetime) -> int:
    if not opened:
        return 0
    channels: dict[int | None, list[Channel]] = {}
    rule_ids = {one.alert.rule_id for one in opened} - {None}
    links = RuleChannel.objects.filter(rule__in=rule_ids, channel__is_enabled=True)
    for link in links.select_related("channel").order_by("channel_id"):
        channels.setdefault(link.rule_id, []).append(link.channel)
    if any(one.alert.kind == Alert.Kind.SYSTEM for one in opened):
        wanted = Channel.objects.filter(wants_system=True, is_enabled=True).select_related("owner").order_by("pk")
        # Asked now: whoever may see them no more is not told of them either.
        channels[None] = [one for one in wanted if one.owner.has_perm("alerts.view_system_alerts")]
    notifications = []
    for event in opened:
        targets = channels.get(event.alert.rule_id, [])
        if not targets and event.alert.kind == Alert.Kind.ERROR and event.alert.rule is not None:
            targets = [inbox_of(event.alert.rule.owner)]
        notifications += [
            Notification(event=event, channel=channel, due_at=_due_at(event, channel=channel, now=now))
            for channel in targets
        ]
    return len(Notification.objects.bulk_create(notifications, ignore_conflicts=True, batch_size=1_000))


def _enqueue_resolved(resolved: Sequence[AlertEvent], *, now: datetime) -> int:
    if not resolved:
        return 0
    event_of = {one.alert_id: one for one in resolved}
    notified_openings = Notification.objects.filter(
        event__alert__in=event_of,
        event__kind=AlertEvent.Kind.OPENED,
        repeat=0,
        channel__is_enabled=True,
        channel__wants_resolved=True,
    ).select_related("event", "channel")
    notifications = []
    for opening in notified_openings:
        event = event_of[opening.event.alert_id]
        due_at = _due_at(event, channel=opening.channel, now=now)
        notifications.append(Notification(event=event, channel=opening.channel, due_at=due_at))
    return len(Notification.objects.bulk_create(notifications, ignore_conflicts=True, batch_size=1_000))


def _due_at(event: AlertEvent, *, channel: Channel, now: datetime) -> datetime:
    wait = 0 if event.alert.severity == "critical" else channel.group_wait_seconds
    return now + timedelta(seconds=wait)


def enqueue_reminders(*, now: datetime) -> list[int]:
    """Owe a reminder of each alert that is open and unacknowledged to the channels that want one after so long, and
    return the channels."""
    notifications = [
        Notification(event_id=one.event_id, channel_id=one.channel_id, repeat=one.repeat + 1, due_at=now)
        for one in queries.openings_to_repeat(now=now)
    ]
    Notification.objects.bulk_create(notifications, ignore_conflicts=True, batch_size=1_000)
    return sorted({notification.channel_id for notification in notifications})
