"""Sentences about what a notification waits for: a silence, quiet hours, or a channel's limit."""

from collections.abc import Collection, Iterable
from datetime import datetime

from django.utils import timezone

from apps.alerts.models import Alert
from apps.notify import domain, queries
from apps.notify.decision import Decision
from apps.notify.models import Channel, Notification, Silence
from apps.notify.services import WouldSend
from apps.reader import active_reader


def describe_deferrals(shown: WouldSend) -> str:
    """Return what would delay a message that is previewed, or keep it from being sent, "" where nothing would."""
    match shown.decision:
        case Decision.CHANNEL_DISABLED:
            return "Nothing is sent: the channel is disabled."
        case Decision.OWNER_INACTIVE:
            return f"Nothing is sent: the account of its owner, {shown.channel.owner}, is not active."
        case Decision.AT_LIMIT:
            return f"It waits: {describe_limit(shown.channel)} is used up. What is more comes together in the next."
    return describe_deferral(shown.deferral) if shown.deferral is not None else ""


def describe_deferral(deferred_by: domain.Deferral) -> str:
    """Return by what a notification would be deferred, and until when."""
    until = domain.describe_end(deferred_by.until, reader=active_reader())
    if deferred_by.silence_id is None:
        return f"Quiet hours hold it back {until}."
    comment = Silence.objects.values_list("comment", flat=True).get(pk=deferred_by.silence_id)
    return f"The silence “{comment}” holds it back {until}."


def silences_on(alert: Alert, *, now: datetime) -> list[domain.Silenced]:
    """Return the silences that match an alert, the one that lasts longest first; after its end, its own among them."""
    return domain.silences_matching(
        queries.silences_in_force(now=now, alert_ids=[alert.pk]),
        alert_id=alert.pk,
        rule_id=alert.rule_id,
        asset_id=alert.asset_id,
        owner_id=alert.owner_id,
        severity=alert.severity,
    )


def describe_deferred_by(notification: Notification) -> str:
    """Return by what a notification is deferred, or was; "" where it never was. Reads its `silence`."""
    if notification.deferred_by == Notification.Deferral.SILENCE:
        return f"the silence “{notification.silence.comment}”" if notification.silence is not None else "a silence"
    return "quiet hours" if notification.deferred_by == Notification.Deferral.QUIET else ""


def at_their_limit(channels: Iterable[Channel], *, now: datetime) -> set[int]:
    """Return the ids of the channels that have reached their limit of messages for this minute."""
    return {pk for pk, one in {one.pk: one for one in channels}.items() if queries.is_at_its_limit(one, now=now)}


def why_it_waits(notification: Notification, *, at_limit: Collection[int]) -> str:
    """Return what a notification without a message waits for. Reads its `silence` and `channel`.

    at_limit: ids of channels, as `at_their_limit` returns them.
    """
    if notification.due_at is None:
        return f"{describe_deferred_by(notification)}, which lasts until the alert is over: then it is not sent"
    if notification.deferred_by and notification.due_at > timezone.now():
        return (
            f"the end of {describe_deferred_by(notification)}, at {domain.moment(notification.due_at, active_reader())}"
        )
    if notification.due_at > timezone.now():
        return f"more alerts, which come with it at {domain.moment(notification.due_at, active_reader())}"
    if notification.channel_id in at_limit:
        return f"room within {describe_limit(notification.channel)}, with all else that waits"
    return "the next planning, within seconds"


def describe_limit(channel: Channel) -> str:
    """Return a channel's limit of messages as a phrase. The channel must have one."""
    count = channel.messages_per_minute
    return f"the channel's limit of {count} message{'' if count == 1 else 's'} a minute"
