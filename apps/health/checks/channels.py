"""Checks of channels."""

from datetime import datetime, timedelta

from django.conf import settings

from apps.canary import is_not_canary
from apps.health.domain import Code, Finding, Level, Subject
from apps.notify import queries
from apps.notify.models import Channel
from apps.notify.queries import FAILURES
from apps.notify.transports.email import Email
from apps.notify.transports.inbox import Inbox

# The first retries come within minutes.
FAILING_BRIEFLY = timedelta(minutes=5)


def channel_findings(*, now: datetime) -> list[Finding]:
    """Return the problems of channels: one statement, with some steps into indexes for each channel."""
    channels = queries.with_last_try(Channel.objects.filter(is_not_canary("pk")).order_by("pk"))
    found = [_finding(channel, now=now) for channel in channels]
    return [one for one in found if one is not None]


def _finding(channel: Channel, *, now: datetime) -> Finding | None:
    pk, level = channel.pk, Level.STOPPED
    if not channel.is_enabled:
        because = channel.switched_off_because.rstrip(".")
        if not because:
            return Finding(Subject.CHANNEL, pk, Code.OFF, level)
        return Finding(Subject.CHANNEL, pk, Code.SWITCHED_OFF, level, facts={"because": because})
    if channel.kind == Email.kind and not settings.EMAIL_CONFIGURED:
        return Finding(Subject.CHANNEL, pk, Code.NO_MAIL_SERVER, level)
    tried_at, outcome = channel.tried_at, channel.tried_outcome  # type: ignore[attr-defined]
    delivered_at = channel.last_delivery  # type: ignore[attr-defined]
    since = channel.failing_since
    if since is None and outcome in FAILURES and (delivered_at is None or delivered_at < tried_at):
        # No column records a failed test, or a failure before the channel was switched on again.
        since = tried_at
    if since is not None:
        level = Level.DEGRADED if now - since < FAILING_BRIEFLY else Level.STOPPED
        return Finding(Subject.CHANNEL, pk, Code.NOT_DELIVERED, level, since=since)
    if delivered_at is None and channel.kind != Inbox.kind:
        return Finding(Subject.CHANNEL, pk, Code.UNTRIED, Level.DEGRADED, since=channel.created_at)
    return None
