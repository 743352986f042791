"""The 503 answer while the database is away, or while too many passwords are being hashed."""

import sys
from typing import Any

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseServerError, JsonResponse
from django.template.loader import render_to_string
from django.utils.cache import add_never_cache_headers
from django.utils.log import log_response

from apps.accounts.hashers import TooManyPasswords

# Names of addresses that programs ask, and read the answers of.
ANSWERED_IN_JSON = {"graphql", "ingest", "imports", "alertmanager"}
ANSWERED_IN_TEXT = {"metrics"}

DATABASE_ERRORS = (InterfaceError, OperationalError)
# error -> what is said, and after how many seconds trying again makes sense
_SAID: dict[tuple[type[Exception], ...], tuple[str, int]] = {
    DATABASE_ERRORS: ("The database does not answer, or has too much to do. Try again in some seconds.", 5),
    (TooManyPasswords,): ("Too many people are signing in at this moment. Try again in some seconds.", 2),
}


class Unavailable:
    """Answers errors of views that pass by themselves."""

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        return next((unavailable(request, error) for kinds in _SAID if isinstance(error, kinds)), None)


def unavailable(request: HttpRequest, error: Exception) -> HttpResponse:
    """Return the answer to one of the errors above, in the form that who asks can read. It needs no database."""
    text, seconds = next(said for kinds, said in _SAID.items() if isinstance(error, kinds))
    name = _name_of(request)
    if name in ANSWERED_IN_JSON:
        answer: HttpResponse = _json("UNAVAILABLE", text, status=503)
    elif name in ANSWERED_IN_TEXT:
        answer = HttpResponse(text, content_type="text/plain", status=503)
    else:
        answer = HttpResponse(render_to_string("503.html", {"title": "Not now", "text": text}), status=503)
    answer.headers["Retry-After"] = str(seconds)
    add_never_cache_headers(answer)
    reason = type(error).__name__
    log_response("Unavailable: %s (%s)", request.path, reason, response=answer, request=request, level="warning")
    return answer


def failed(request: HttpRequest) -> HttpResponse:
    """Answer 500, to programs in JSON; and what passes by itself as above, where it was raised outside of a view."""
    error = sys.exc_info()[1]
    if isinstance(error, DATABASE_ERRORS):
        return unavailable(request, error)
    if _name_of(request) not in ANSWERED_IN_JSON:
        context = {"request_id": getattr(request, "request_id", "")}
        return HttpResponseServerError(render_to_string("500.html", context))
    return _json("INTERNAL_ERROR", "internal error", status=500, requestId=getattr(request, "request_id", ""))


def _name_of(request: HttpRequest) -> str | None:
    return request.resolver_match.url_name if request.resolver_match is not None else None


def _json(code: str, text: str, *, status: int, **more: str) -> JsonResponse:
    """Return an error in the form of apps.api.errors."""
    return JsonResponse({"errors": [{"message": text, "extensions": {"code": code} | more}]}, status=status)
