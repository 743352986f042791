"""What every path by which other systems send something in has in common: who may, how large, and what is answered."""

from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any

from django.http import HttpRequest, JsonResponse
from django.http.request import UnreadablePostError
from django.utils import timezone

from apps.api.errors import Refused
from apps.api.json_requests import FORM, JSON_TYPES, announced_bytes, check_form
from apps.api.tokens.auth import Asker, asker_of
from apps.api.tokens.models import ApiToken


def answer(
    request: HttpRequest,
    *,
    permission: str,
    refusal: str,
    largest_bytes: int,
    take: Callable[[bytes, datetime, Asker], dict[str, Any]],
    content_types: Collection[str] = JSON_TYPES,
    form: str = FORM,
) -> JsonResponse:
    """Give the body to `take`, with the time and who sends it, and answer with what it returns; it raises Refused.

    refusal: what is said to whom lacks the permission; content_types: those that the body may come under;
    form: what is said of another. While the
    database is away or too busy the site answers 503, which senders try again; a 4xx they do not.
    """
    try:
        now = timezone.now()
        check_form(request, allow="POST", content_types=content_types, form=form)
        asker = asker_of(request, now=now, scope=ApiToken.Scope.WRITE)
        content = _content_from_whom_may(request, asker, permission=permission, refusal=refusal, most=largest_bytes)
        status, answered, headers = 200, take(content, now, asker), {}
    except Refused as refused:
        status, answered, headers = refused.status, {"errors": refused.errors}, refused.headers
    return JsonResponse(answered, status=status, headers=headers)


def _content_from_whom_may(request: HttpRequest, asker: Asker, *, permission: str, refusal: str, most: int) -> bytes:
    if not asker.user.is_authenticated:
        raise Refused("UNAUTHENTICATED", "Send a token.", status=401, headers={"WWW-Authenticate": "Bearer"})
    if not asker.user.has_perm(permission):
        raise Refused("FORBIDDEN", refusal, status=403)
    too_large = Refused("LIMIT_EXCEEDED", f"The body is larger than {most} bytes.", status=413)
    if announced_bytes(request) > most:
        raise too_large
    try:
        # Not `body`, whose limit is the forms'.
        content = request.read(most + 1)
    except UnreadablePostError:
        raise Refused("BAD_REQUEST", "The body did not come whole.") from None
    if len(content) > most:
        raise too_large
    return content
