"""Explains to people why a transaction failed that waited for too long for a lock, or took too long."""

from django.db import OperationalError
from psycopg.errors import DeadlockDetected, LockNotAvailable, QueryCanceled

BUSY = (
    "Rules or messages of the account were being worked on for longer than this waits, so nothing was changed. Try "
    "again in a minute; if it happens again, switch the rules off first, so that they are evaluated no more."
)
TOO_MUCH = "A part of it took longer than the database allows, so nothing was changed. Try again when less is going on."


def why_locked(error: OperationalError) -> str:
    """Return why a transaction failed and what to try, "" where the cause was neither a lock nor a time limit."""
    if isinstance(error.__cause__, LockNotAvailable | DeadlockDetected) or "database is locked" in str(error):
        return BUSY
    return TOO_MUCH if isinstance(error.__cause__, QueryCanceled) else ""
