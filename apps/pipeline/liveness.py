"""The marks by which a check from outside sees that workers do work, without Django: `compose/check.py fresh QUEUE`."""

import os
import time

from django.conf import settings


def mark_alive(*, queue: str) -> None:
    """Write the monotonic time, in seconds, to the queue's mark. It is that of the machine, the same for all its
    processes, and no step of the wall clock makes a mark old or new."""
    if settings.LIVENESS_DIR is None:
        return
    settings.LIVENESS_DIR.mkdir(parents=True, exist_ok=True)
    mark = settings.LIVENESS_DIR / queue
    written = mark.with_name(f".{queue}.{os.getpid()}")
    written.write_text(f"{time.monotonic():.3f}")
    written.replace(mark)
