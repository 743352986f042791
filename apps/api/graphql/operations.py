"""GraphQL requests: reading the body, parsing and validating the operation, executing it."""

from functools import lru_cache
from typing import Any, NamedTuple

from django.conf import settings
from django.http import HttpRequest
from django.http.request import RequestDataTooBig, UnreadablePostError
from graphql import (
    DocumentNode,
    ExecutionResult,
    FragmentDefinitionNode,
    OperationDefinitionNode,
    OperationType,
    execute,
)
from graphql.execution.collect_fields import collect_fields
from graphql.execution.values import get_argument_values

from apps.api.errors import Refused
from apps.api.graphql import limits
from apps.api.graphql.context import Context
from apps.api.graphql.documents import query_of
from apps.api.graphql.execution import Execution
from apps.api.graphql.schema import schema
from apps.api.json_requests import announced_bytes
from apps.strict_json import NotJson, read_json

BODY_LARGEST_BYTES = 64 * 1024
# Parsed and validated once: a query of the largest size takes about a megabyte.
_DOCUMENTS_KEPT = 64


class Body(NamedTuple):
    """The body of a GraphQL request. wants_cost: the answer is to say what the operation costs."""

    query: str
    variables: dict[str, Any]
    name: str | None
    wants_cost: bool = False


class Operation(NamedTuple):
    """One operation of a query. read: its variables as their types read them, and cost: what it costs, once it was
    checked."""

    body: Body
    document: DocumentNode
    definition: OperationDefinitionNode
    read: dict[str, Any]
    cost: int = 0

    @property
    def kind(self) -> OperationType:
        return self.definition.operation

    def root_field(self) -> tuple[str, dict[str, Any]]:
        """Return the name and the arguments of the one field of a subscription that was checked. Raises Refused where a
        directive leaves it out."""
        kind = schema.subscription_type
        fragments = {
            one.name.value: one for one in self.document.definitions if isinstance(one, FragmentDefinitionNode)
        }
        found = collect_fields(schema, fragments, self.read, kind, self.definition.selection_set)
        if len(found) != 1:
            raise Refused("BAD_REQUEST", "Follow one field.")
        [[node, *_]] = found.values()
        return node.name.value, get_argument_values(kind.fields[node.name.value], node, self.read)

    def execute(self, *, context: Context, root: Any = None) -> ExecutionResult:
        """Return the result; of a subscription, for one thing that happened, which is the root."""
        return execute(
            schema,
            self.document,
            root,
            context,
            self.body.variables,
            self.body.name,
            execution_context_class=Execution,
        )


def body_of(request: HttpRequest) -> Body:
    """Return what was posted. Raises Refused."""
    too_large = Refused("LIMIT_EXCEEDED", f"The body is larger than {BODY_LARGEST_BYTES} bytes.")
    if announced_bytes(request) > BODY_LARGEST_BYTES:
        raise too_large
    try:
        content = request.body
        if len(content) > BODY_LARGEST_BYTES:
            raise too_large
        return body_from(read_json(content))
    except RequestDataTooBig:
        raise too_large from None
    except (NotJson, UnreadablePostError):
        raise Refused("BAD_REQUEST", "The body is not JSON.") from None


def body_from(data: Any) -> Body:
    """Return query, variables and operationName of an object of JSON. Raises Refused."""
    if not isinstance(data, dict):
        raise Refused("BAD_REQUEST", 'Send one object like {"query": "…", "variables": {…}}.')
    query = query_of(data)
    variables, name, extensions = data.get("variables"), data.get("operationName"), data.get("extensions")
    if not isinstance(variables, dict | None) or not isinstance(name, str | None):
        raise Refused("BAD_REQUEST", "variables must be an object, operationName a text.")
    if not isinstance(extensions, dict | None):
        raise Refused("BAD_REQUEST", "extensions must be an object.")
    body = Body(query, variables or {}, name or None, (extensions or {}).get("cost") is True)
    limits.refuse_unstorable(body._asdict())
    return body


def read(body: Body, *, is_followed: bool = False) -> Operation:
    """Return the operation that is to be executed: a query or mutation, or one that is followed. Raises Refused."""
    document = _parsed(body.query)
    return Operation(body, document, limits.operation_of(document, body.name, is_followed=is_followed), {})


def may_introspect(user: Any) -> bool:
    """Tell whether somebody may read the schema, and so the page, which is drawn from it."""
    return settings.MARKET_IS_PUBLIC or user.is_authenticated


def checked(operation: Operation, *, context: Context) -> Operation:
    """Return the operation, where it may be executed. Raises Refused."""
    _check(operation.body.query, with_introspection=may_introspect(context.user))
    read = limits.variables_of(schema, operation.definition, operation.body.variables)
    cost = limits.check_cost(schema, operation.document, operation.definition, variables=read, context=context)
    return operation._replace(read=read, cost=cost)


def check_document(query: str) -> None:
    """Raise Refused for a document whose shape is too large, or that does not fit the schema."""
    _check(query, with_introspection=True)


_parsed = lru_cache(_DOCUMENTS_KEPT)(limits.read_query)


@lru_cache(_DOCUMENTS_KEPT)
def _check(query: str, *, with_introspection: bool) -> None:
    document = _parsed(query)
    limits.check_shape(document)
    limits.validate(schema, document, with_introspection=with_introspection)
