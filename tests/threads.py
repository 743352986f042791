"""Calls made at the same moment, each in a thread with database connections of its own."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

from django.db import connection, connections, transaction

from tests.rig import wait_until

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


def is_somebody_waiting() -> bool:
    """Tell whether another session waits for a lock of this one."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
        )
        return cursor.fetchone()[0] > 0


def overlapping(first: Callable[[], Any], second: Callable[[], Any]) -> Any:
    """Make the first call in a transaction that ends only when the second, on another connection, waits for it or is
    over. Return what the second returned, or the exception that it raised."""

    def run() -> Any:
        try:
            return second()
        except Exception as error:
            return error
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            first()
            future = pool.submit(run)
            wait_until(lambda: future.done() or is_somebody_waiting())
        return future.result(PATIENCE_SECONDS)


def elsewhere(call: Callable[[], Any]) -> Any:
    """Make the call on another connection, while this one's transaction stays open."""
    return at_once(call)[0]
