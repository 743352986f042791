"""The check of everything, its rows and alerts, and the marks that ticks leave."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from django.db import transaction

from apps.health.alerting import record_alerts
from apps.health.checks.channels import channel_findings
from apps.health.checks.feeds import feed_findings
from apps.health.checks.rules import rule_findings
from apps.health.checks.system import system_findings
from apps.health.domain import CHECK_LATE_AFTER, Finding
from apps.health.models import Check, Problem
from apps.notify import services as notify

logger = logging.getLogger(__name__)


def note_tick(*, now: datetime) -> None:
    """Note that a worker has finished a tick."""
    _note(ticked_at=now)


def note_ping(*, now: datetime) -> None:
    """Note that HEARTBEAT_URL was called."""
    _note(pinged_at=now)


def ping_is_due(*, every: timedelta, now: datetime) -> bool:
    """Tell whether HEARTBEAT_URL was not called for so long."""
    pinged_at = Check.objects.values_list("pinged_at", flat=True).first()
    return pinged_at is None or not timedelta(0) <= now - pinged_at < every


def _note(**columns: datetime) -> None:
    if not Check.objects.filter(pk=1).update(**columns):
        Check.objects.bulk_create([Check(pk=1, **columns)], ignore_conflicts=True)


def check(*, readers: Mapping[str, int] | None, now: datetime) -> list[Finding]:
    """Check everything, make the rows of problems agree with the findings, and return these.

    readers: queue -> how many workers read it, None where the broker does not say.
    """
    found = [
        *system_findings(readers=readers, now=now),
        *feed_findings(now=now),
        *channel_findings(now=now),
        *rule_findings(now=now),
    ]
    with transaction.atomic():
        running_since = _begin(now=now)
        if running_since is not None:
            sinces = _record(found, now=now)
            events = record_alerts(found, sinces=sinces, running_since=running_since, now=now)
            notify.enqueue(events, now=now)
    return found


def _begin(*, now: datetime) -> datetime | None:
    """Note that a check was made, and return since when checks have come without a gap; None where a later one has
    been recorded already. Locks the row, so that checks are recorded one after the other."""
    row = Check.objects.select_for_update(no_key=True).first()
    if row is None or row.checked_at is None:
        running_since = now
    elif timedelta(0) < row.checked_at - now < CHECK_LATE_AFTER:
        return None
    elif row.running_since is None or not timedelta(0) <= now - row.checked_at <= CHECK_LATE_AFTER:
        running_since = now
    else:
        running_since = row.running_since
    _note(checked_at=now, running_since=running_since)
    return running_since


def _record(found: Iterable[Finding], *, now: datetime) -> dict[tuple[str, int, str], datetime]:
    """Make the rows agree with what was found, and return key of a finding -> since when it lasts."""
    known = {(row.subject, row.subject_id, row.code): row for row in Problem.objects.order_by()}
    new, changed = [], []
    sinces = {}
    for one in found:
        row = known.pop(one.key, None)
        since = sinces[one.key] = one.since or (row.since if row is not None else now)
        if row is None:
            new.append(_row_of(one, since=since))
        elif (row.level, row.since, row.facts) != (one.level.value, since, dict(one.facts)):
            row.level, row.since, row.facts = one.level.value, since, dict(one.facts)
            changed.append(row)
    over = list(known.values())
    Problem.objects.filter(pk__in=[row.pk for row in over]).delete()
    # Two checks at once find the same.
    Problem.objects.bulk_create(new, ignore_conflicts=True, batch_size=1_000)
    Problem.objects.bulk_update(changed, ["level", "since", "facts"], batch_size=1_000)
    for text, rows in (("problem", new), ("problem over", over)):
        # One line of each kind: one cause may concern thousands.
        for (subject, code), count in sorted(Counter((row.subject, row.code) for row in rows).items()):
            logger.warning(text, extra={"subject": subject, "code": code, "count": count})
    return sinces


def _row_of(found: Finding, *, since: datetime) -> Problem:
    return Problem(
        subject=found.subject.value,
        subject_id=found.subject_id,
        code=found.code.value,
        level=found.level.value,
        since=since,
        facts=dict(found.facts),
    )
