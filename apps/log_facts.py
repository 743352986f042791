"""The fields that every log line of a piece of work has besides its own: the request, the task, the feed, the entry,
the trace."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import Any

_facts: ContextVar[dict[str, Any]] = ContextVar("log_facts", default={})  # noqa: B039 (never changed in place)


def facts() -> dict[str, Any]:
    """Return the facts of what is being done in this thread."""
    return _facts.get()


@contextmanager
def noted(**more: Any) -> Iterator[None]:
    """Add facts for as long as the context lasts."""
    token = note(**more)
    try:
        yield
    finally:
        forget(token)


def note(**more: Any) -> Token[dict[str, Any]]:
    """Add facts until `forget` is called with what this returns."""
    return _facts.set(_facts.get() | more)


def forget(token: Token[dict[str, Any]]) -> None:
    """Set the facts back to what they were."""
    _facts.reset(token)
