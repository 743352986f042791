"""A replica of the database, from which candles, history and logs are read where DATABASE_REPLICA_URL names one.

A replica is behind the primary. So it is read for what was stored some time ago, and never for a page to which a change
leads; and where it does not answer, or is too far behind, the primary is read.
"""

import logging
import time
from collections.abc import Callable
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

from django.db import DEFAULT_DB_ALIAS, Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.db.models import Model
from django.dispatch import receiver

logger = logging.getLogger(__name__)

ALIAS = "replica"
# The apps whose rows are read there. Sessions, people and what they may do are always read from the primary.
APPS = frozenset({"market", "rules"})
BEHIND_MOST = timedelta(seconds=10)
# How long each process relies on what it found: that the replica may be read, and that it may not.
GOOD_SECONDS, BAD_SECONDS = 1.0, 10.0
# How long an answer is waited for: to how it is, and to what is read, a second longer than `statement_timeout` of the
# server. A server that is frozen ends no statement, and its machine keeps the connection alive.
LOOK_SECONDS, READ_SECONDS = 1.0, 16.0
# Up to when all is there, of what the primary has committed. Ticks commit each second.
_STATE = "SELECT pg_is_in_recovery(), extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8"

Value = TypeVar("Value")


class State(NamedTuple):
    """How the replica is. behind: it lacks at most what was committed within that time, None where that is not known;
    why_not: why it is not read, as the end of a sentence, "" where it is read."""

    behind: timedelta | None = None
    why_not: str = ""


_known: tuple[State, float] | None = None
_read_behind: ContextVar[timedelta | None] = ContextVar("read_behind", default=None)


class Router:
    """Sends the reads of these apps to the replica within `from_replica`, and all else to the primary."""

    def db_for_read(self, model: type[Model], **hints: Any) -> str:
        is_there = _read_behind.get() is not None and model._meta.app_label in APPS
        return ALIAS if is_there else DEFAULT_DB_ALIAS

    def db_for_write(self, model: type[Model], **hints: Any) -> str:
        return DEFAULT_DB_ALIAS

    def allow_relation(self, one: Model, other: Model, **hints: Any) -> bool:
        return True

    def allow_migrate(self, alias: str, app_label: str, **hints: Any) -> bool:
        return alias == DEFAULT_DB_ALIAS


def is_configured() -> bool:
    """Tell whether there is a replica."""
    return ALIAS in connections.settings


def from_replica(read: Callable[[], Value]) -> Value:
    """Return what `read` returns, which reads rows and changes nothing: from the replica where there is one that may be
    read. Where it fails meanwhile, `read` is called once more, on the primary.

    A query that is made later, of what `read` returns, goes to the primary.
    """
    if not is_configured():
        return read()
    found = state()
    if found.why_not:
        return read()
    token = _read_behind.set(found.behind)
    try:
        return read()
    except Error as error:
        if not connections[ALIAS].errors_occurred:
            # It is the primary's.
            raise
        _keep(_failed(error))
    finally:
        _read_behind.reset(token)
    return read()


def read_behind() -> timedelta | None:
    """Return how far behind that is at most which is read here; None where it is read from the primary."""
    return _read_behind.get()


def look() -> State:
    """Ask the replica how it is."""
    try:
        with connections[ALIAS].cursor() as cursor:
            cursor.execute(_STATE)
            is_replica, seconds = cursor.fetchone()
    except Error as error:
        return _failed(error)
    if not is_replica:
        return State(why_not="is a primary itself")
    if seconds is None:
        return State(why_not="has replayed nothing yet")
    # By the clocks of two machines.
    behind = timedelta(seconds=max(seconds, 0.0))
    return State(behind, f"is {behind.total_seconds():.0f} s behind" if behind > BEHIND_MOST else "")


@receiver(connection_created)
def _wait_no_longer(*, connection: BaseDatabaseWrapper, **_: Any) -> None:
    """Let each statement at the replica fail that has no answer in time."""
    if connection.alias != ALIAS:
        return
    wait = connection.connection.wait

    def wait_in_time(*arguments: Any, **options: Any) -> Any:
        seconds = LOOK_SECONDS if read_behind() is None else READ_SECONDS
        return wait(*arguments, **{"timeout": seconds} | options)

    connection.connection.wait = wait_in_time


def state() -> State:
    """Return how the replica is, asked anew once that was long ago."""
    now = time.monotonic()
    if _known is None or now >= _known[1]:
        return _keep(look())
    return _known[0]


def _keep(found: State) -> State:
    global _known
    was_read = _known is None or not _known[0].why_not
    _known = found, time.monotonic() + (BAD_SECONDS if found.why_not else GOOD_SECONDS)
    if found.why_not and was_read:
        logger.warning("replica not read", extra={"reason": found.why_not})
    elif not found.why_not and not was_read:
        logger.info("replica read again")
    return found


def _failed(error: Error) -> State:
    # The next one begins with a new connection.
    connections[ALIAS].close()
    return State(why_not=f"does not answer ({type(error).__name__})")


def forget() -> None:
    """Be as a process that has not asked yet."""
    global _known
    _known = None
