"""The one path: queries and mutations by POST, and for people with a browser a page to write them on."""

from contextlib import nullcontext
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.request import RequestDataTooBig, UnreadablePostError
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from graphql import OperationType, execute

from apps import spans
from apps.api.errors import Refused
from apps.api.graphql import limits
from apps.api.graphql.context import Context
from apps.api.graphql.errors import DATABASE_ERRORS, INTERNAL, Unauthenticated, formatted_after_execution, logger
from apps.api.graphql.execution import Execution, reading
from apps.api.graphql.graphiql import page
from apps.api.graphql.schema import schema
from apps.api.json_requests import announced_bytes, check_form
from apps.api.tokens.auth import Asker, asker_of
from apps.api.tokens.models import ApiToken
from apps.strict_json import NotJson, read_json

BODY_LARGEST_BYTES = 64 * 1024
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
            return page(request)
        status, answer, headers = 200, _answer(request, request_id=request_id), {}
    except Refused as refused:
        status, answer, headers = refused.status, {"errors": refused.errors}, refused.headers
    # Both hold the same; a client that knows the newer one reads a 4xx as an answer of GraphQL.
    content_type = request.get_preferred_type(ANSWER_TYPES) or ANSWER_TYPES[0]
    return JsonResponse(answer, status=status, headers=headers, content_type=f"{content_type}; charset=utf-8")


def _answer(request: HttpRequest, *, request_id: str) -> dict[str, Any]:
    check_form(request, allow="GET, POST")
    asker = asker_of(request, now=timezone.now())
    context = Context(user=asker.user)
    body = _body_of(request)
    document = limits.read_query(body["query"])
    operation = limits.operation_of(document, body["operationName"])
    if operation.operation == OperationType.MUTATION:
        _refuse_change(asker)
    limits.check_shape(document)
    with_introspection = settings.MARKET_IS_PUBLIC or context.user.is_authenticated
    limits.validate(schema, document, with_introspection=with_introspection)
    variables = limits.variables_of(schema, operation, body["variables"])
    limits.check_cost(schema, document, operation, variables=variables, context=context)
    # Each change has a transaction of its own.
    whole = nullcontext() if operation.operation == OperationType.MUTATION else reading()
    name = operation.name.value[:100] if operation.name else "unnamed"
    try:
        with whole, spans.step(f"{operation.operation.value} {name}"):
            result = execute(
                schema,
                document,
                context_value=context,
                variable_values=body["variables"],
                operation_name=body["operationName"],
                execution_context_class=Execution,
            )
    except DATABASE_ERRORS:
        raise
    except Exception:
        logger.exception("graphql query failed", extra={"request_id": request_id})
        error = {"message": INTERNAL, "extensions": {"code": "INTERNAL_ERROR", "requestId": request_id}}
        return {"errors": [error], "data": None}
    if not any((result.data or {}).values()) or operation.operation != OperationType.MUTATION:
        # Whatever else there is of it; but of changes, those that were made have their answer.
        for error in result.errors or ():
            if isinstance(error.original_error, DATABASE_ERRORS):
                raise error.original_error
    errors = [formatted_after_execution(error, request_id=request_id) for error in result.errors or ()]
    return ({"errors": errors} if errors else {}) | {"data": result.data}


def _refuse_change(asker: Asker) -> None:
    """Raise Refused for a stranger, and for a token that only reads: whatever the change is."""
    if not asker.user.is_authenticated:
        raise Refused("UNAUTHENTICATED", Unauthenticated.message, status=401, headers={"WWW-Authenticate": "Bearer"})
    asker.refuse_unless(ApiToken.Scope.WRITE)


def _body_of(request: HttpRequest) -> dict[str, Any]:
    """Return query, variables and operationName. Raises Refused."""
    data = _read(request)
    if not isinstance(data, dict) or not isinstance(data.get("query"), str):
        raise Refused("BAD_REQUEST", 'Send one object like {"query": "…", "variables": {…}}.')
    variables, name = data.get("variables"), data.get("operationName")
    if not isinstance(variables, dict | None) or not isinstance(name, str | None):
        raise Refused("BAD_REQUEST", "variables must be an object, operationName a text.")
    if not isinstance(data.get("extensions"), dict | None):
        raise Refused("BAD_REQUEST", "extensions must be an object.")
    body = {"query": data["query"], "variables": variables or {}, "operationName": name or None}
    limits.refuse_unstorable(body)
    return body


def _read(request: HttpRequest) -> Any:
    too_large = Refused("LIMIT_EXCEEDED", f"The body is larger than {BODY_LARGEST_BYTES} bytes.")
    if announced_bytes(request) > BODY_LARGEST_BYTES:
        raise too_large
    try:
        content = request.body
        if len(content) > BODY_LARGEST_BYTES:
            raise too_large
        return read_json(content)
    except RequestDataTooBig:
        raise too_large from None
    except (NotJson, UnreadablePostError):
        raise Refused("BAD_REQUEST", "The body is not JSON.") from None
