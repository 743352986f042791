"""Durations of short work, over several runs, and the processor time of processes."""

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from django.db import connection


def milliseconds(work, *, runs: int) -> float:
    """Return how long one run takes, over so many."""
    began = time.monotonic()
    for _ in range(runs):
        work()
    return (time.monotonic() - began) / runs * 1_000


def processor_seconds(groups: Iterable[int] = (), *, processes: Iterable[int] = ()) -> float:
    """Return the processor time that process groups and single processes of this machine have used; those that are
    gone, or elsewhere, count nothing."""
    leaders, single, ticks = set(groups), set(processes), 0
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            # The fields behind the command, which may have spaces in it.
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(folder.name) in single or int(fields[2]) in leaders:
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def database_seconds() -> float:
    """Return the processor time that PostgreSQL has used for what works on this database, but for this process's own
    connection; 0 where it runs elsewhere."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return processor_seconds(processes=[pid for (pid,) in cursor.fetchall()])
