"""Checks of the system as a whole."""

import shutil
from collections.abc import Mapping
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection

from apps import replica
from apps.health.checks.canary import canary_findings
from apps.health.domain import TICK_LATE_AFTER, Code, Finding, Level, Subject, is_late
from apps.health.models import Check
from apps.market import partitions
from apps.market.queries import calendar_warnings

FREE_SHARE_LEAST = 0.05


def system_findings(*, readers: Mapping[str, int] | None, now: datetime) -> list[Finding]:
    """Return the problems of the system.

    readers: queue -> how many workers read it, None where the broker does not say.
    """
    found = []
    ticked_at = Check.objects.values_list("ticked_at", flat=True).first()
    if ticked_at is not None and is_late(ticked_at, now=now, at_most=TICK_LATE_AFTER):
        found.append(Finding(Subject.SYSTEM, 0, Code.NOT_CHECKED, Level.STOPPED, since=ticked_at))
    unread = sorted(queue for queue, count in (readers or {}).items() if not count)
    if unread:
        found.append(Finding(Subject.SYSTEM, 0, Code.NO_WORKER, Level.STOPPED, facts={"queues": unread}))
    warnings = calendar_warnings(now=now)
    if warnings:
        facts = {"warning": " ".join(warnings).rstrip(".")}
        found.append(Finding(Subject.SYSTEM, 0, Code.CALENDAR_ENDS, Level.DEGRADED, facts=facts))
    tomorrow = now.date() + timedelta(days=1)
    if connection.vendor == "postgresql" and tomorrow not in partitions.days():
        facts = {"day": tomorrow.isoformat()}
        found.append(Finding(Subject.SYSTEM, 0, Code.NO_PARTITION, Level.DEGRADED, facts=facts))
    disk = shutil.disk_usage(settings.VAR_DIR if settings.VAR_DIR.exists() else settings.BASE_DIR)
    if disk.free < FREE_SHARE_LEAST * disk.total:
        facts = {"free": _gigabytes(disk.free), "total": _gigabytes(disk.total)}
        found.append(Finding(Subject.SYSTEM, 0, Code.DISK_FULL, Level.DEGRADED, facts=facts))
    if replica.is_configured() and (why := replica.look().why_not):
        found.append(Finding(Subject.SYSTEM, 0, Code.REPLICA_NOT_READ, Level.DEGRADED, facts={"why": why}))
    return found + canary_findings(now=now)


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.0f} GB"
