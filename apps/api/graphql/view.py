"""The one path: queries and mutations by POST, and for people with a browser a page to write them on."""

from contextlib import nullcontext
from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from graphql import OperationType

from apps import spans
from apps.accounts.services import address_of
from apps.api.errors import Refused
from apps.api.graphql import limits, operations
from apps.api.graphql.context import Context
from apps.api.graphql.errors import DATABASE_ERRORS, INTERNAL, Unauthenticated, formatted_after_execution, logger
from apps.api.graphql.execution import reading
from apps.api.graphql.graphiql import page
from apps.api.json_requests import check_form
from apps.api.rates import Turn
from apps.api.tokens.auth import Asker, asker_of
from apps.api.tokens.models import ApiToken

# What an answer may come as, the usual one first.
ANSWER_TYPES = ["application/json", "application/graphql-response+json"]


# Exempt, since auth.py makes Django's check itself: a token needs none, and the answer is JSON.
@csrf_exempt
@never_cache
def graphql(request: HttpRequest) -> HttpResponse:
    """Answer one query or mutation; with GET, and to a browser, give the page."""
    request_id: str = request.request_id  # type: ignore[attr-defined]
    try:
        if request.method in ("GET", "HEAD") and "text/html" in request.headers.get("Accept", ""):
            if not operations.may_introspect(request.user):
                return redirect_to_login(request.get_full_path())
            return page(request)
        status, answer, headers = 200, _answer(request, request_id=request_id), {}
    except Refused as refused:
        status, answer, headers = refused.status, {"errors": refused.errors}, refused.headers
    # Both hold the same; a client that knows the newer one reads a 4xx as an answer of GraphQL.
    content_type = request.get_preferred_type(ANSWER_TYPES) or ANSWER_TYPES[0]
    return JsonResponse(answer, status=status, headers=headers, content_type=f"{content_type}; charset=utf-8")


def _answer(request: HttpRequest, *, request_id: str) -> dict[str, Any]:
    check_form(request, allow="GET, POST")
    with Turn() as turn:
        # Before the token is looked for: whoever tries many is counted too.
        turn.take(address=address_of(request))
        asker = asker_of(request, now=timezone.now())
        turn.take(**asker.counted_as)
        return _answered(request, asker, turn, request_id=request_id)


def _answered(request: HttpRequest, asker: Asker, turn: Turn, *, request_id: str) -> dict[str, Any]:
    operation = operations.read(operations.body_of(request))
    context = Context(user=asker.user, from_replica=operation.kind == OperationType.QUERY)
    if operation.kind == OperationType.MUTATION:
        _refuse_change(asker)
    operation = operations.checked(operation, context=context)
    # Each change has a transaction of its own.
    whole = nullcontext() if operation.kind == OperationType.MUTATION else reading()
    name = operation.definition.name.value[:100] if operation.definition.name else "unnamed"
    try:
        with whole, spans.step(f"{operation.kind.value} {name}"):
            result = operation.execute(context=context)
    except DATABASE_ERRORS:
        raise
    except Exception:
        logger.exception("graphql query failed", extra={"request_id": request_id})
        error = {"message": INTERNAL, "extensions": {"code": "INTERNAL_ERROR", "requestId": request_id}}
        return {"errors": [error], "data": None}
    if not any((result.data or {}).values()) or operation.kind != OperationType.MUTATION:
        # The answer is an error even if parts of it are there. Mutations keep theirs: some may have been committed.
        for error in result.errors or ():
            if isinstance(error.original_error, DATABASE_ERRORS):
                raise error.original_error
    errors = [formatted_after_execution(error, request_id=request_id) for error in result.errors or ()]
    answer = ({"errors": errors} if errors else {}) | {"data": result.data}
    if operation.body.wants_cost:
        # Only where it is asked for: else the answers about what is not there, and what is not the reader's, differ.
        cost = {"requested": operation.cost, "most": limits.COST, "requestsLeft": turn.left}
        answer["extensions"] = {"cost": cost}
    return answer


def _refuse_change(asker: Asker) -> None:
    """Raise Refused for a stranger, and for a token that only reads: whatever the change is."""
    if not asker.user.is_authenticated:
        raise Refused("UNAUTHENTICATED", Unauthenticated.message, status=401, headers={"WWW-Authenticate": "Bearer"})
    asker.refuse_unless(ApiToken.Scope.WRITE)
