"""Quotes pushed by HTTP: `POST /ingest/<feed>`. docs/feeds.md says who may, how, and what is answered."""

import logging
import secrets
from typing import Any

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, JsonResponse
from django.http.request import RequestDataTooBig, UnreadablePostError
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt

from apps.api.auth import user_of
from apps.api.errors import Refused
from apps.api.view import check_form
from apps.market.pushed import BODY_LARGEST_BYTES, PushMalformed, read_quotes
from apps.market.services import Pushed, PushRefused, record_pushed

logger = logging.getLogger(__name__)


# Exempt, for the reason that the view of GraphQL has.
@csrf_exempt
@never_cache
def ingest(request: HttpRequest, feed: str) -> JsonResponse:
    """Store the quotes of the body in the feed's log, all that are believed, and say what became of them.

    What is malformed is refused as a whole, with its place. The judge is sent for by the next tick, not from here: the
    web publishes nothing.
    """
    request_id = secrets.token_hex(8)
    try:
        status, answer, headers = 200, _answer(request, feed=feed), {}
    except Refused as refused:
        status, answer, headers = refused.status, {"errors": refused.errors}, refused.headers
    except (InterfaceError, OperationalError) as error:
        logger.warning("pushed quotes not stored", extra={"request_id": request_id, "reason": type(error).__name__})
        away = Refused("UNAVAILABLE", "Nothing was stored. Send it again.", status=503, headers={"Retry-After": "5"})
        status, answer, headers = away.status, {"errors": away.errors}, away.headers
    return JsonResponse(answer, status=status, headers={"X-Request-ID": request_id} | headers)


def _answer(request: HttpRequest, *, feed: str) -> dict[str, Any]:
    check_form(request, allow="POST")
    now = timezone.now()
    user = user_of(request, now=now)
    if not user.is_authenticated:
        raise Refused("UNAUTHENTICATED", "Send a token.", status=401, headers={"WWW-Authenticate": "Bearer"})
    if not user.has_perm("market.push_quotes"):
        raise Refused("FORBIDDEN", "The owner of the token may not push quotes.", status=403)
    try:
        quotes = read_quotes(_body_of(request))
        pushes = [Pushed(received_at=now, quotes=quotes)]
        entry = record_pushed(feed_name=feed, pushes=pushes, now=now, trace_id=secrets.token_hex(16))
    except PushMalformed as error:
        raise Refused("BAD_USER_INPUT", str(error)) from None
    except PushRefused as error:
        raise Refused("NOT_FOUND", str(error), status=404) from None
    counts = {name: getattr(entry, name) for name in ("accepted", "late", "repeated", "held", "rejected")}
    return {"entry": entry.seq} | counts


def _body_of(request: HttpRequest) -> bytes:
    too_large = Refused("LIMIT_EXCEEDED", f"The body is larger than {BODY_LARGEST_BYTES} bytes.", status=413)
    try:
        content = request.body
    except RequestDataTooBig:
        raise too_large from None
    except UnreadablePostError:
        raise Refused("BAD_REQUEST", "The body did not come whole.") from None
    if len(content) > BODY_LARGEST_BYTES:
        raise too_large
    return content
