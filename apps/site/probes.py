"""Probes for process managers, proxies and monitors."""

import logging
from collections import Counter
from functools import cache

from django.db import Error, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from apps.health.queries import not_checked, problems_that_stop
from apps.rules.engine.core import IS_COMPILED

logger = logging.getLogger(__name__)


@never_cache
@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """Say that the process answers. It asks nobody else, so a database that is away restarts no web server."""
    return HttpResponse("ok", content_type="text/plain")


@never_cache
@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """Say whether a page could be served now: 200, or 503 where the database does not answer or is not migrated.

    Nothing else is asked: a proxy must not take the site away just when people look why something has stopped. It
    names the engine that evaluates quotes: compiled, or pure (in Python alone).
    """
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchone()
        reason = "" if is_migrated() else "the database is not migrated: run manage.py migrate"
    except Error as error:
        logger.warning("not ready", extra={"reason": type(error).__name__})
        reason = "the database does not answer"
    well = f"ok, engine {'compiled' if IS_COMPILED else 'pure'}"
    return HttpResponse(reason or well, content_type="text/plain", status=503 if reason else 200)


def is_migrated() -> bool:
    """Tell whether every migration of this release is applied. Once that is so it stays so, and is not asked again."""
    if _known_migrated():
        return True
    executor = MigrationExecutor(connection)
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        return False
    _known_migrated().append(True)
    return True


@cache
def _known_migrated() -> list[bool]:
    return []


@never_cache
@require_safe
def status(request: HttpRequest) -> JsonResponse:
    """Say whether the system works: 200, or 503 with what has stopped, for monitors outside.

    Anybody may ask it, so it names codes and counts, and no feed or asset.
    """
    now = timezone.now()
    try:
        stopped = not_checked(now=now)
        found = Counter() if stopped is not None else Counter(problems_that_stop())
    except Error as error:
        logger.warning("no status", extra={"reason": type(error).__name__})
        return JsonResponse({"status": "stopped", "reasons": [{"code": "no_database", "count": 1}]}, status=503)
    reasons = [{"subject": subject, "code": code, "count": count} for (subject, code), count in sorted(found.items())]
    if stopped is not None:
        reasons = [{"subject": "system", "code": stopped.code, "count": 1}]
    return JsonResponse(
        {"status": "stopped" if reasons else "well", "reasons": reasons}, status=503 if reasons else 200
    )
