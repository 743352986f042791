"""Tasks for a worker of tests, which end in every way that a task can."""

import os
import signal
import time
from pathlib import Path

from celery import shared_task


@shared_task(name="counted.succeed")
def succeed() -> None:
    """Do nothing."""


@shared_task(name="counted.fail")
def fail() -> None:
    raise ValueError("on purpose")


@shared_task(name="counted.die_once")
def die_once(mark: str) -> None:
    """Kill its own process the first time; the second time the mark is there."""
    if not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)


@shared_task(name="counted.hang", time_limit=1, soft_time_limit=0)
def hang() -> None:
    """Take longer than its hard limit."""
    time.sleep(60)  # It is killed: nothing waits for it.
