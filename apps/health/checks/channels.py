"""Checks of channels."""

from collections.abc import Sequence
from datetime import datetime, timedelta

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
    """Return the problems of channels: one statement, and one more, with some steps into indexes for each channel, for
    those whose last attempts must say how they are."""
    well = Q(kind=Inbox.kind, is_enabled=True, failing_since=None)
    channels = Channel.objects.filter(~well, is_not_canary("pk")).order_by("pk")
    columns = ("pk", "kind", "is_enabled", "switched_off_because", "failing_since")
    found, unsure = [], []
    for pk, kind, is_enabled, because, since in channels.values_list(*columns):
        if not is_enabled:
            found.append(_off(pk, because))
        elif kind == Email.kind and not settings.EMAIL_CONFIGURED:
            found.append(Finding(Subject.CHANNEL, pk, Code.NO_MAIL_SERVER, Level.STOPPED))
        elif since is not None:
            found.append(_not_delivered(pk, since=since, now=now))
        else:
            unsure.append(pk)
    return found + _by_last_try(unsure, now=now)


def _off(pk: int, because: str) -> Finding:
    """Return that a channel is off: because its owner wanted it so, or why it was disabled."""
    if not because:
        return Finding(Subject.CHANNEL, pk, Code.OFF, Level.STOPPED)
    facts = {"because": because.rstrip(".")}
    return Finding(Subject.CHANNEL, pk, Code.SWITCHED_OFF, Level.STOPPED, facts=facts)


def _not_delivered(pk: int, *, since: datetime, now: datetime) -> Finding:
    level = Level.DEGRADED if now - since < FAILING_BRIEFLY else Level.STOPPED
    return Finding(Subject.CHANNEL, pk, Code.NOT_DELIVERED, level, since=since)


def _by_last_try(ids: Sequence[int], *, now: datetime) -> list[Finding]:
    """Return the problems of channels that no column tells: a failed test, a failure before the channel was enabled
    again, and that nothing was ever delivered."""
    if not ids:
        return []
    channels = queries.with_last_try(Channel.objects.filter(pk__in=ids).order_by("pk"))
    columns = ("pk", "created_at", "tried_at", "tried_outcome", "last_delivery")
    found = []
    for pk, created_at, tried_at, outcome, delivered_at in channels.values_list(*columns):
        has_failed = tried_at is not None and outcome in FAILURES
        if has_failed and (delivered_at is None or delivered_at < tried_at):
            found.append(_not_delivered(pk, since=tried_at, now=now))
        elif delivered_at is None:
            found.append(Finding(Subject.CHANNEL, pk, Code.UNTRIED, Level.DEGRADED, since=created_at))
    return found
