"""Creates notifications for alert events: the rows that the outbox sends."""

from collections.abc import Sequence
from datetime import datetime

from django.contrib.auth import get_user_model
from django.db.models import F, Q

from apps.alerts.models import Alert, AlertEvent
from apps.notify.decision import wait_for_group
from apps.notify.models import Channel, Notification, RuleChannel
from apps.notify.queries import operator_channels, refusal_of
from apps.notify.services.channels import channel_that_works, inbox_of

# A channel is no longer notified of an alert that was handed to another owner with its rule.
OF_THE_ALERTS_OWNER = Q(event__alert__owner=None) | Q(event__alert__owner=F("channel__owner"))
# The subject of an alert -> the way from a rule's channel to it: what the rule watches, or the other
# channels that the rule names.
_FROM_RULE_CHANNEL = {
    "feed": "rule__states__asset__feed",
    "asset": "rule__states__asset",
    "rule": "rule",
    "channel": "rule__rule_channels__channel",
}


def enqueue(events: Sequence[AlertEvent], *, now: datetime) -> int:
    """Create the notifications for these events in the caller's transaction, and return how many there are.

    An opening notifies the rule's channels; of the operators' alerts, the channels that want such alerts; of an owner's
    alert about health or a portfolio, the channels of those rules that depend on its subject. A resolution or a
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
    channels: dict[int, list[Channel]] = {}
    rule_ids = {one.alert.rule_id for one in opened} - {None}
    links = RuleChannel.objects.filter(rule__in=rule_ids).select_related("channel__owner")
    for link in links.order_by("channel_id"):
        if refusal_of(link.channel) is None:
            channels.setdefault(link.rule_id, []).append(link.channel)
    of_operators = operator_channels() if any(one.alert.owner_id is None for one in opened) else []
    about_subjects = _channels_about_subjects([one.alert for one in opened if one.alert.subject])
    notifications = []
    for event in opened:
        alert = event.alert
        if alert.owner_id is None:
            targets = of_operators
        elif alert.subject:
            targets = about_subjects[alert.pk]
        else:
            targets = channels.get(alert.rule_id or 0, [])
        if not targets and alert.kind in (Alert.Kind.ERROR, Alert.Kind.PAUSED) and alert.rule is not None:
            targets = [inbox_of(alert.rule.owner)]
        notifications += [
            Notification(event=event, channel=channel, due_at=_due_at(event, channel=channel, now=now))
            for channel in targets
        ]
    return len(Notification.objects.bulk_create(notifications, ignore_conflicts=True, batch_size=1_000))


def _channels_about_subjects(alerts: Sequence[Alert]) -> dict[int, list[Channel]]:
    """Return alert id -> the channels that are notified of an owner's alert about a subject: those, which work, of the
    owner's rules that depend on its subject; without any, the one on which something was delivered last, or an inbox.
    One statement for each kind of subject, and some for each owner without such a channel."""
    owned = [alert for alert in alerts if alert.owner_id is not None]
    found: dict[tuple[str, int, int], dict[int, Channel]] = {}
    for subject, way in _FROM_RULE_CHANNEL.items():
        ids = {alert.subject_id for alert in owned if alert.subject == subject}
        if not ids:
            continue
        links = RuleChannel.objects.filter(
            **{f"{way}__in": ids}, rule__deleted_at=None, channel__is_enabled=True, channel__failing_since=None
        )
        rows = links.order_by("channel_id").values_list(way, "channel__owner", "channel").distinct()
        named = list(rows)
        by_id = Channel.objects.in_bulk({channel_id for _, _, channel_id in named})
        for subject_id, owner_id, channel_id in named:
            if (subject, subject_id) != ("channel", channel_id):
                found.setdefault((subject, subject_id, owner_id), {})[channel_id] = by_id[channel_id]
    subjects = Channel.objects.in_bulk({alert.subject_id for alert in owned if alert.subject == "channel"})
    owners = get_user_model().objects.in_bulk({alert.owner_id for alert in owned})
    others: dict[tuple[int | None, int | None], Channel] = {}
    chosen = {}
    for alert in owned:
        targets = list(found.get((alert.subject, alert.subject_id, alert.owner_id or 0), {}).values())
        if not targets:
            failed = subjects.get(alert.subject_id) if alert.subject == "channel" else None
            key = (alert.owner_id, failed.pk if failed is not None else None)
            if key not in others:
                others[key] = channel_that_works(owners[alert.owner_id], other_than=failed)
            targets = [others[key]]
        chosen[alert.pk] = targets
    return chosen


def _enqueue_following(following: Sequence[AlertEvent], *, now: datetime) -> int:
    """Enqueue what follows an opening, one event of each alert."""
    if not following:
        return 0
    event_of = {one.alert_id: one for one in following}
    notified_openings = Notification.objects.filter(
        OF_THE_ALERTS_OWNER,
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
    return now + wait_for_group(severity=event.alert.severity, group_wait_seconds=channel.group_wait_seconds)
