"""Alerts about the installation, from Alertmanager: `POST /alertmanager`. docs/operations.md says how to set it up."""

import logging
from collections import Counter
from datetime import datetime
from typing import Any

from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt

from apps.alerts.alertmanager import BODY_LARGEST_BYTES, PayloadMalformed, read_notification
from apps.alerts.models import AlertEvent
from apps.alerts.services import record_notification
from apps.api.errors import Refused
from apps.api.intake import inbound
from apps.api.tokens.auth import Asker
from apps.notify.services import enqueue

logger = logging.getLogger(__name__)

# The answer describes at most so many refused alerts.
REFUSED_SAID = 20


# Exempt, for the reason that the view of GraphQL has.
@csrf_exempt
@never_cache
def alertmanager(request: HttpRequest) -> JsonResponse:
    """Record the alerts of one notification of Alertmanager's webhook, and say how many opened, ended, or were known.

    Each alert is taken by itself, since Alertmanager sends nothing again that was refused: what is wrong with one is
    answered and logged, with its place. The next tick sends the notifications, since the web process publishes nothing.
    """
    return inbound.answer(
        request,
        permission="alerts.send_system_alerts",
        refusal="The owner of the token may not send alerts about the installation.",
        largest_bytes=BODY_LARGEST_BYTES,
        take=_record,
    )


def _record(content: bytes, now: datetime, _: Asker) -> dict[str, Any]:
    try:
        notification = read_notification(content, now=now)
    except PayloadMalformed as error:
        raise Refused("BAD_USER_INPUT", str(error)) from None
    with transaction.atomic():
        events = record_notification(notification, now=now)
        enqueue(events, now=now)
    events = [event for event in events if event.alert.fingerprint != notification.group]
    news = Counter(event.kind for event in events)
    changed = {(event.alert.fingerprint, event.alert.reported_start) for event in events}
    refused, left_out = notification.refused, notification.left_out
    if refused or left_out:
        facts = {"refused": len(refused), "left_out": left_out, "reason": refused[0] if refused else "too_many"}
        logger.warning("alerts of a notification were not taken", extra=facts)
    return {
        "opened": news[AlertEvent.Kind.OPENED],
        "resolved": news[AlertEvent.Kind.RESOLVED],
        "repeated": sum((one.fingerprint, one.start) not in changed for one in notification.alerts),
        "left_out": left_out,
        "refused": len(refused),
        "reasons": refused[:REFUSED_SAID],
    }
