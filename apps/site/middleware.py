"""Numbers requests, refuses addresses, and sets headers by which browsers refuse what pages do not need."""

import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC
from typing import Any

from csp.middleware import CSPMiddleware
from django.conf import settings
from django.contrib.admin.exceptions import DisallowedModelAdminLookup
from django.core.paginator import InvalidPage
from django.http import HttpRequest, HttpResponseBadRequest, HttpResponseBase
from django.middleware.gzip import GZipMiddleware
from django.shortcuts import redirect
from django.utils import timezone
from django.views.defaults import bad_request, page_not_found
from structlog.contextvars import bound_contextvars

from apps import spans
from apps.accounts.queries import reader_of
from apps.accounts.second_factor import must_turn_on
from apps.reader import activate, nobody_in_particular
from apps.site.unavailable import DATABASE_ERRORS
from apps.tracing import new_trace_id

# Asked each few seconds by what stands beside the process.
_POLLED = {"/healthz", "/readyz", "/status", "/metrics"}
# Beginnings of routes.
_FOR_PROGRAMS = ("graphql", "ingest/", "imports", "alertmanager", "metrics", "healthz", "readyz", "status")
# Names of addresses at which somebody is let in who has yet to set up a second factor.
_SET_UP = {"second_factor", "logout"}
_IN_UTC = ("portfolios/", "manual/", "admin/portfolios/")
_TEXTS = {"application/json", "application/graphql-response+json", "application/javascript", "image/svg+xml"}


class ContentSecurityPolicy(CSPMiddleware):
    """One strict policy; the admin's own pages have theirs. A view's csp decorators go over both."""

    def get_policy_parts(self, request: HttpRequest, response: HttpResponseBase, report_only: bool = False) -> Any:
        parts = super().get_policy_parts(request, response, report_only)
        if request.resolver_match is not None and "admin" in request.resolver_match.app_names:
            parts.replace = settings.ADMIN_CONTENT_SECURITY_POLICY | (parts.replace or {})
        return parts


class Compressed(GZipMiddleware):
    """Compresses texts, for browsers that take that. Pictures and fonts are compressed already."""

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        kind = response.headers.get("Content-Type", "").partition(";")[0]
        is_text = kind.startswith("text/") or kind in _TEXTS
        if not is_text or response.status_code == 206:
            return response
        return super().process_response(request, response)


class WrongAddress:
    """Answers errors of an address that views let through: 404 for a page of a list that there is not, and 400 for a
    filter that a list of the admin does not have, which Django would log with a traceback."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponseBase | None:
        if isinstance(error, InvalidPage):
            return page_not_found(request, error)
        return bad_request(request, error) if isinstance(error, DisallowedModelAdminLookup) else None


class ActiveReader:
    """Activates the time zone and the locale of a signed-in reader while a page is made for them. Programs are answered
    in UTC and by the default locale. The pages of portfolios and of manual prices are in UTC, as their days are."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        with nobody_in_particular():
            return self.get_response(request)

    def process_view(self, request: HttpRequest, *_: Any) -> None:
        route = request.resolver_match.route  # type: ignore[union-attr]
        if settings.SESSION_COOKIE_NAME in request.COOKIES and not route.startswith(_FOR_PROGRAMS):
            try:
                reader = reader_of(request.user)
            except DATABASE_ERRORS:
                # A page that needs rows says so itself.
                return
            activate(replace(reader, zone=UTC) if route.startswith(_IN_UTC) else reader)


class RequiredSecondFactor:
    """Leads a signed-in person without a second factor to where they set it up, where the site requires one. Programs
    are refused where they show a session."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, *_: Any) -> HttpResponseBase | None:
        if settings.TWO_FACTOR_REQUIRED == "off" or settings.SESSION_COOKIE_NAME not in request.COOKIES:
            return None
        match = request.resolver_match
        is_page = match.route == "graphql" and request.method in ("GET", "HEAD")  # type: ignore[union-attr]
        if match.view_name in _SET_UP or (match.route.startswith(_FOR_PROGRAMS) and not is_page):  # type: ignore[union-attr]
            return None
        user = request.user
        return redirect("second_factor") if user.is_authenticated and must_turn_on([user]) else None


def refuse_nul(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable[[HttpRequest], HttpResponseBase]:
    """Answer 400 where a page is asked for with a NUL: to look for such a text is an error to PostgreSQL, whatever list
    or filter it is for."""

    def answer(request: HttpRequest) -> HttpResponseBase:
        if "%00" in request.META.get("QUERY_STRING", ""):
            return HttpResponseBadRequest("An address cannot have a NUL in it.")
        return get_response(request)

    return answer


def number_requests(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Give each request an id, which stands in its log lines and in the header X-Request-ID of the answer."""

    def answer(request: HttpRequest) -> HttpResponseBase:
        request.request_id = secrets.token_hex(8)  # type: ignore[attr-defined]
        with bound_contextvars(request_id=request.request_id):  # type: ignore[attr-defined]
            response = get_response(request)
        response.headers["X-Request-ID"] = request.request_id  # type: ignore[attr-defined]
        return response

    return answer


def trace_requests(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Record each request as a trace of its own, where spans are sent. It is named by its route: an address may let
    whoever reads it act."""

    def answer(request: HttpRequest) -> HttpResponseBase:
        if not spans.is_on() or request.path in _POLLED:
            return get_response(request)
        trace_id, began_at = new_trace_id(), timezone.now()
        span = spans.span_id(trace_id)
        with bound_contextvars(**spans.named(trace_id, span)), spans.collected(trace_id) as steps:
            response = get_response(request)
        route = f"/{request.resolver_match.route}" if request.resolver_match is not None else ""
        spans.record(
            f"{request.method} {route}".rstrip(),
            trace_id=trace_id,
            span=span,
            parent=None,
            began_at=began_at,
            ended_at=timezone.now(),
            attributes={
                "http.request.method": request.method,
                "http.route": route,
                "http.response.status_code": response.status_code,
                "request_id": request.request_id,  # type: ignore[attr-defined]
            },
            error=response.reason_phrase if response.status_code >= 500 else "",
            steps=steps,
        )
        return response

    return answer
