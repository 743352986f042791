"""Creates notifications for alert events: the rows that the outbox sends."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from apps.alerts.models import Alert, AlertEvent
from apps.notify.models import Channel, Notification, RuleChannel
from apps.notify.services.channels import inbox_of


def enqueue(events: Sequence[AlertEvent], *, now: datetime) -> int:
    """Create the notifications for these events in the caller's transaction, and return how many there are.

    An opening notifies the rule's channels, or for a system alert the channels that want such alerts. A resolution or a
    correction notifies the channels that were notified of the opening and want resolutions. An evaluation error or a
    pause of a rule without channels goes to its owner's inbox. Critical ones are due at once, others after the
    channel's group wait.
    """
    opened = [one for one in events if one.kind == AlertEvent.Kind.OPENED]
    # In this order: a resolution looks for the notifications of its opening, which may be made in this transaction.
    count = _enqueue_opened(opened, now=now)
    for kind in (AlertEvent.Kind.RESOLVED, AlertEvent.Kind.CORRECTED):
        count += _enqueue_following([one for one in events if one.kind == kind], now=now)
    return count


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
        # Checked now, so that an owner who has lost the permission is not notified.
        channels[None] = [one for one in wanted if one.owner.has_perm("alerts.view_system_alerts")]
    notifications = []
    for event in opened:
        targets = channels.get(event.alert.rule_id, [])
        is_about_rule = event.alert.kind in (Alert.Kind.ERROR, Alert.Kind.PAUSED)
        if not targets and is_about_rule and event.alert.rule is not None:
            targets = [inbox_of(event.alert.rule.owner)]
        notifications += [
            Notification(event=event, channel=channel, due_at=_due_at(event, channel=channel, now=now))
            for channel in targets
        ]
    return len(Notification.objects.bulk_create(notifications, ignore_conflicts=True, batch_size=1_000))


def _enqueue_following(following: Sequence[AlertEvent], *, now: datetime) -> int:
    """Enqueue what follows an opening, one event of each alert."""
    if not following:
        return 0
    event_of = {one.alert_id: one for one in following}
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
