"""The errors of the API: fixed messages, and codes that programs can rely on."""

import logging
from typing import Any

from django.conf import settings
from django.db import InterfaceError, OperationalError
from graphql import GraphQLError

from apps.api.errors import Refused

logger = logging.getLogger(__name__)

INTERNAL = "internal error"
# The database is away, or has too much to do.
DATABASE_ERRORS = (InterfaceError, OperationalError)


class Invalid(Refused):
    """The query does not fit the schema; one error per kind of fault."""

    def __init__(self, errors: list[GraphQLError]) -> None:
        super().__init__("GRAPHQL_VALIDATION_FAILED", "the query is not valid")
        self.errors = [_formatted(one, code=self.code, message=without_suggestion(one.message)) for one in errors]


class Unauthenticated(Exception):
    """A field is only for people who are signed in. The message is the same for every id, so it reveals nothing."""

    code = "UNAUTHENTICATED"
    message = "Sign in, or send a token."


class Forbidden(Exception):
    """The user lacks the permission for a change, whatever it is about."""

    code = "FORBIDDEN"
    message = "Your account may not do this."


class AskedTooOften(Exception):
    """One request asks more often for what is costly than is answered."""

    code = "LIMIT_EXCEEDED"

    def __init__(self, most: int) -> None:
        self.message = f"At most {most} of this are answered in one request. Ask for the others in another."
        super().__init__(self.message)


def without_suggestion(message: str) -> str:
    """Return a message of graphql-core without the names in the schema that it offers; in development as it is."""
    return message if settings.DEBUG else message.partition(" Did you mean ")[0]


def formatted_after_execution(error: GraphQLError, *, request_id: str) -> dict[str, Any]:
    """Return an error of a field as the client sees it. An unexpected one is logged, and has only the request's id."""
    original = error.original_error
    if isinstance(original, Unauthenticated | Forbidden | AskedTooOften):
        return _formatted(error, code=original.code, message=original.message)
    if isinstance(original, DATABASE_ERRORS):
        return _formatted(error, code="UNAVAILABLE", message="The database does not answer. Try again in some seconds.")
    facts = {"request_id": request_id, "path": ".".join(map(str, error.path or []))}
    logger.error("graphql field failed", extra=facts, exc_info=original or error)
    return _formatted(error, code="INTERNAL_ERROR", message=INTERNAL, request_id=request_id)


def _formatted(error: GraphQLError, *, code: str, message: str, request_id: str | None = None) -> dict[str, Any]:
    answer: dict[str, Any] = {"message": message}
    if error.locations:
        answer["locations"] = [{"line": place.line, "column": place.column} for place in error.locations]
    if error.path:
        answer["path"] = error.path
    answer["extensions"] = {"code": code} | ({"requestId": request_id} if request_id else {})
    return answer
