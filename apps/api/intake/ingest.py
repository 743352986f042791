"""Quotes pushed by HTTP: `POST /ingest/<feed>`. docs/feeds.md says who may, how, and what is answered."""

import secrets
from datetime import datetime
from typing import Any

from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt

from apps.api.errors import Refused
from apps.api.intake import inbound
from apps.api.json_requests import JSON_TYPES
from apps.api.tokens.auth import Asker
from apps.sources.pushed import BODY_LARGEST_BYTES, PushMalformed, read_quotes
from apps.sources.services import Pushed, PushRefused, record_pushed
from apps.strict_json import UNTYPED


# Exempt, for the reason that the view of GraphQL has.
@csrf_exempt
@never_cache
def ingest(request: HttpRequest, feed: str) -> JsonResponse:
    """Store the quotes of the body in the feed's log, all that are believed, and say what became of them.

    What is malformed is refused as a whole, with its place. The analyzer is sent for by the next tick, not from here:
    the web publishes nothing.
    """

    def take(content: bytes, now: datetime, asker: Asker) -> dict[str, Any]:
        return _record(content, feed=feed, now=now, sender=asker.sender)

    return inbound.answer(
        request,
        permission="market.push_quotes",
        refusal="The owner of the token may not push quotes.",
        largest_bytes=BODY_LARGEST_BYTES,
        take=take,
        # A sender has a token, or the CSRF token: its content type guards nothing.
        content_types=(*JSON_TYPES, *UNTYPED),
    )


def _record(content: bytes, *, feed: str, now: datetime, sender: str) -> dict[str, Any]:
    try:
        pushes = [Pushed(received_at=now, quotes=read_quotes(content), sender=sender)]
        entry = record_pushed(feed_name=feed, pushes=pushes, now=now, trace_id=secrets.token_hex(16))
    except PushMalformed as error:
        raise Refused("BAD_USER_INPUT", str(error)) from None
    except PushRefused as error:
        raise Refused("NOT_FOUND", str(error), status=404) from None
    counts = {name: getattr(entry, name) for name in ("accepted", "late", "repeated", "unconfirmed", "rejected")}
    return {"entry": entry.seq} | counts
