"""Checks of channels."""

from datetime import datetime, timedelta
from typing import NamedTuple

from django.conf import settings
from django.db.models import Q

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
    """Return the problems of channels: one statement, with some steps into indexes for each that is no inbox."""
    well = Q(kind=Inbox.kind, is_enabled=True, failing_since=None)
    channels = queries.with_last_try(Channel.objects.filter(~well, is_not_canary("pk")).order_by("pk"))
    found = [_finding(row, now=now) for row in channels.values_list(*_Row._fields, named=True)]
    return [one for one in found if one is not None]


class _Row(NamedTuple):
    """One channel as it is checked: some of its columns, and its last attempt."""

    pk: int
    kind: str
    is_enabled: bool
    switched_off_because: str
    failing_since: datetime | None
    created_at: datetime
    tried_at: datetime | None
    tried_outcome: str | None
    last_delivery: datetime | None


def _finding(channel: _Row, *, now: datetime) -> Finding | None:
    pk, level = channel.pk, Level.STOPPED
    if not channel.is_enabled:
        because = channel.switched_off_because.rstrip(".")
        if not because:
            return Finding(Subject.CHANNEL, pk, Code.OFF, level)
        return Finding(Subject.CHANNEL, pk, Code.SWITCHED_OFF, level, facts={"because": because})
    if channel.kind == Email.kind and not settings.EMAIL_CONFIGURED:
        return Finding(Subject.CHANNEL, pk, Code.NO_MAIL_SERVER, level)
    since, tried_at, delivered_at = channel.failing_since, channel.tried_at, channel.last_delivery
    if since is None and tried_at is not None and channel.tried_outcome in FAILURES:
        # No column records a failed test, or a failure before the channel was switched on again.
        since = tried_at if delivered_at is None or delivered_at < tried_at else None
    if since is not None:
        level = Level.DEGRADED if now - since < FAILING_BRIEFLY else Level.STOPPED
        return Finding(Subject.CHANNEL, pk, Code.NOT_DELIVERED, level, since=since)
    if delivered_at is None and channel.kind != Inbox.kind:
        return Finding(Subject.CHANNEL, pk, Code.UNTRIED, Level.DEGRADED, since=channel.created_at)
    return None
