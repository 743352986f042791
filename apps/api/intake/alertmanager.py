"""Alerts about the installation, from Alertmanager: `POST /alertmanager`. docs/operations.md says how to set it up."""

from collections import Counter
from datetime import datetime
from typing import Any

from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt

from apps.alerts.alertmanager import BODY_LARGEST_BYTES, PayloadMalformed, read_alerts
from apps.alerts.models import AlertEvent
from apps.alerts.services import record_system_alerts
from apps.api.errors import Refused
from apps.api.intake import inbound
from apps.notify.services import enqueue


# Exempt, for the reason that the view of GraphQL has.
@csrf_exempt
@never_cache
def alertmanager(request: HttpRequest) -> JsonResponse:
    """Record the alerts of one notification of Alertmanager's webhook, and say how many opened, ended, or were known.

    A malformed payload is refused as a whole, with the place of the error. The next tick sends the notifications, since
    the web process publishes nothing.
    """
    return inbound.answer(
        request,
        permission="alerts.send_system_alerts",
        refusal="The owner of the token may not send alerts about the installation.",
        largest_bytes=BODY_LARGEST_BYTES,
        take=_record,
    )


def _record(content: bytes, now: datetime, _: str) -> dict[str, Any]:
    try:
        found = read_alerts(content, now=now)
    except PayloadMalformed as error:
        raise Refused("BAD_USER_INPUT", str(error)) from None
    with transaction.atomic():
        events = record_system_alerts(found)
        enqueue(events, now=now)
    news = Counter(event.kind for event in events)
    changed = {(event.alert.fingerprint, event.alert.opened_at) for event in events}
    repeated = sum((one.fingerprint, one.opened_at) not in changed for one in found)
    return {
        "opened": news[AlertEvent.Kind.OPENED],
        "resolved": news[AlertEvent.Kind.RESOLVED],
        "repeated": repeated,
    }
