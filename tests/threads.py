"""Calls made at the same moment, each in a thread with database connections of its own."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

from django.db import connections

# Far beyond what any call takes that does not wait for a lock, and below PostgreSQL's lock_timeout.
PATIENCE_SECONDS = 4


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Make the calls at the same moment and return their results in order. Raises what one raised, or TimeoutError."""
    begin = Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        try:
            begin.wait(PATIENCE_SECONDS)
            return call()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(calls)) as pool:
        futures = [pool.submit(run, call) for call in calls]
        return [future.result(PATIENCE_SECONDS) for future in futures]


def elsewhere(call: Callable[[], Any]) -> Any:
    """Make the call on another connection, while this one's transaction stays open."""
    return at_once(call)[0]
