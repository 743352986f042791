"""The scheduler of beat, and of the embedded run: by the monotonic clock, without a file."""

import logging
import time
from typing import Any

from celery import beat

logger = logging.getLogger(__name__)


class Scheduler(beat.Scheduler):  # type: ignore[misc]
    """Sends each entry once a period, the first time at once.

    The wall clock may be set forward or back: nothing stays away and nothing is sent twice. After a pause, each entry
    is sent once. What cannot be sent is left out: its next turn says the same.
    """

    # None: each publishing takes a connection of the pool, with the short retries of task_publish_retry_policy. A
    # connection of its own would be waited for with pauses of up to 30 s.
    producer = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # name -> monotonic time, in seconds
        self._due_at: dict[str, float] = {}
        super().__init__(*args, **kwargs)

    def tick(self, **_: Any) -> float:
        """Send what is due, and return the seconds until something is due again."""
        for entry in list(self.schedule.values()):
            now = time.monotonic()
            due_at = self._due_at.get(entry.name, now)
            if due_at > now:
                continue
            period = entry.schedule.run_every.total_seconds()
            self._due_at[entry.name] = due_at + period if due_at + period > now else now + period
            self.apply_entry(entry)
        return max(min(self._due_at.values()) - time.monotonic(), 0.0)

    def apply_entry(self, entry: beat.ScheduleEntry, producer: Any = None) -> None:
        """Send one entry. A failure stops no other."""
        try:
            self.apply_async(entry, advance=False)
        except beat.SchedulingError as error:
            logger.warning("not sent", extra={"task": entry.task, "reason": str(error)})
