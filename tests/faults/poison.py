"""A task that kills whoever runs it, for the test of the dead-letter queue; imported by its worker with `-I`."""

import os
import signal
from pathlib import Path

from celery import shared_task


@shared_task(name="faults.poison")
def poison(folder: str) -> None:
    """Leave a mark and kill this process."""
    with (Path(folder) / "runs").open("a") as marks:
        marks.write("x")
    os.kill(os.getpid(), signal.SIGKILL)


@shared_task(name="faults.harmless")
def harmless(folder: str) -> None:
    """Leave a mark."""
    (Path(folder) / "harmless").touch()
