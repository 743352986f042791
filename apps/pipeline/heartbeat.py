"""Calls to HEARTBEAT_URL, so that something outside notices when nothing inside can say so."""

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta

import requests
from django.conf import settings

from apps import outbound
from apps.health.domain import Code, Finding
from apps.health.services import note_ping, ping_is_due

logger = logging.getLogger(__name__)

PING_EVERY = timedelta(minutes=1)
PING_SECONDS = 5.0
# While one of these lasts, prices are not fetched or not evaluated.
_NO_WORK = {Code.NO_WORKER, Code.NOT_FETCHED, Code.NOT_EVALUATED, Code.CANARY_MISSED}


def ping_if_due(found: Iterable[Finding], *, now: datetime) -> None:
    """Call HEARTBEAT_URL if it is set, was not called for a minute, and nothing in what was found has stopped work."""
    if not settings.HEARTBEAT_URL or any(one.code in _NO_WORK for one in found):
        return
    if not ping_is_due(every=PING_EVERY, now=now):
        return
    try:
        outbound.within(PING_SECONDS, _ping, name="heartbeat")
    except (requests.RequestException, TimeoutError, OSError) as error:
        logger.warning("heartbeat failed", extra={"reason": type(error).__name__})
    else:
        note_ping(now=now)


def _ping(wire: outbound.Wire) -> None:
    with outbound.Session(wire=wire) as session:
        session.get(settings.HEARTBEAT_URL, timeout=PING_SECONDS, stream=True).raise_for_status()
