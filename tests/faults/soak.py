"""The soak (S1): steady work for hours, a child of a worker killed about once a minute, and what every process takes
meanwhile."""

import csv
import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import astuple, dataclass, fields
from functools import partial
from pathlib import Path
from statistics import fmean, linear_regression

from django.db import connection

from tests.faults import injections
from tests.faults.matrix import CHANNELS, Fault
from tests.faults.run import HANDS, ROLES, Run
from tests.faults.world import HISTORY_MINUTES, Size
from tests.rig import queue_lengths, wait_until

# Minutes of the recording in one of the run.
SPEED = 40
# Then the four days that are recorded are over.
MINUTES_MOST = 140
# Until then, processes take what they need.
WARM_MINUTES = 15
# What a measure may grow by in an hour, after that. Work comes in waves, so queues have some room.
GROWTH_MOST = {"MB": 1.0, "open files": 2.0, "connections": 2.0, "messages": 20.0}
RATE = "tasks a second"
COLUMNS = (0, WARM_MINUTES, 30, 60, 90)


@dataclass(frozen=True, slots=True)
class Sample:
    """What one measure was: minutes since the work began; of: which process, server or queue."""

    minutes: float
    of: str
    measure: str
    value: float


def size_of(*, minutes: int) -> Size:
    """Return a size that takes so many minutes: about 20 tasks a second, and a kill a minute. Raises ValueError for
    more than the recording has."""
    if minutes > MINUTES_MOST:
        raise ValueError(f"The recording is over after {MINUTES_MOST} minutes.")
    return Size(
        feeds=8,
        symbols=16,
        minutes=HISTORY_MINUTES + SPEED * minutes,
        slots=60 * minutes,
        kills=minutes,
        freeze_seconds=0,
        heartbeat_seconds=10,
        in_flight=0,
        has_visitor=False,
        outage_seconds=0,
    )


def soak(*, every_seconds: float, lease_seconds: int) -> Fault:
    """Return the soak as a fault of the matrix, with a sample of everything each so many seconds.

    Samples are in the run's folder, in soak.csv. lease_seconds: those of fetches and messages.
    """
    return Fault(
        partial(_work_steadily, every_seconds=every_seconds),
        check=injections.no_task_was_lost,
        channels=CHANNELS,
        environment={"FAULT_LEASE_SECONDS": str(lease_seconds)},
    )


def _work_steadily(run: Run, *, every_seconds: float) -> None:
    # The spared one has a child that lives as long as the run.
    spared = ("assets-tasks", "analysis.0", "notifications", "retries")
    run.start_roles(spared=spared, hands=HANDS | {"spared": 1})
    run.start_beat()
    sampler = Sampler(run, every_seconds=every_seconds)
    roles = run.rng.choices(sorted(ROLES), k=run.size.kills)
    try:
        for role in run.strikes(roles, pause_seconds=2 * run.size.slots / run.size.kills):
            injections.kill_child(run, role)
        wait_until(run.is_over, timeout_seconds=run.size.slots + 60, every_seconds=0.5)
    finally:
        sampler.end()


class Sampler:
    """It notes what every process of a run takes, into the run's soak.csv."""

    def __init__(self, run: Run, *, every_seconds: float) -> None:
        self._run = run
        self._every_seconds = every_seconds
        self._began_at = time.monotonic()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._sample_all_the_time, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Take a last sample, and stop."""
        self._is_over.set()
        self._thread.join(60)

    def _sample_all_the_time(self) -> None:
        with (self._run.folder / "soak.csv").open("w", newline="", buffering=1) as file:
            writer = csv.writer(file)
            writer.writerow(one.name for one in fields(Sample))
            is_last = False
            while not is_last:
                is_last = self._is_over.is_set()
                writer.writerows(astuple(one) for one in self._samples())
                self._is_over.wait(self._every_seconds)
            tasks = len(injections.received_tasks(self._run))
            seconds = time.monotonic() - self._began_at
            writer.writerow(astuple(Sample(round(seconds / 60, 3), "workers", RATE, round(tasks / seconds, 1))))
        connection.close()

    def _samples(self) -> Iterator[Sample]:
        minutes = round((time.monotonic() - self._began_at) / 60, 3)
        for name, process in {**self._run.workers, "beat": self._run.beat}.items():
            pids = {f"{name}, main": [process.pid], f"{name}, children": injections.children(process.pid)}
            for of, taken in pids.items():
                used = list(_used(taken))
                if used:
                    # Of children, that of one on average.
                    yield Sample(minutes, of, "MB", round(fmean(one[0] for one in used), 2))
                    yield Sample(minutes, of, "open files", round(fmean(one[1] for one in used), 1))
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
            yield Sample(minutes, "PostgreSQL", "connections", cursor.fetchone()[0])
        for queue, waiting in queue_lengths().items():
            yield Sample(minutes, queue, "messages", waiting)


def _used(pids: list[int]) -> Iterator[tuple[float, int]]:
    """Give the resident memory in MB, and the number of open files, of each process that is still there."""
    for pid in pids:
        # It may have been killed since.
        with suppress(OSError):
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            # None: it is dead, and its parent has not seen it yet.
            if pages:
                yield pages * os.sysconf("SC_PAGE_SIZE") / 1_000_000, len(os.listdir(f"/proc/{pid}/fd"))


def read_samples(path: Path) -> list[Sample]:
    """Return what a soak.csv has."""
    with path.open(newline="") as file:
        return [
            Sample(float(row["minutes"]), row["of"], row["measure"], float(row["value"]))
            for row in csv.DictReader(file)
        ]


def growth(samples: list[Sample]) -> float | None:
    """Return by how much a measure grew in an hour, by least squares over the samples of one measure after the first
    minutes; None where they are of less than a quarter of an hour."""
    warm = [one for one in samples if one.minutes >= WARM_MINUTES]
    if not warm or warm[-1].minutes - warm[0].minutes < 15:
        return None
    return linear_regression([one.minutes / 60 for one in warm], [one.value for one in warm]).slope


def _by_measure(samples: list[Sample]) -> dict[tuple[str, str], list[Sample]]:
    found: dict[tuple[str, str], list[Sample]] = defaultdict(list)
    for one in samples:
        found[one.measure, one.of].append(one)
    return dict(sorted(found.items()))


def grown(samples: list[Sample]) -> list[str]:
    """Return a line for each measure that grew by more than it may.

    Of children, only those of the spared worker count: the others are replaced all the time.
    """
    lines = []
    for (measure, of), those in _by_measure(samples).items():
        by = growth(those)
        is_replaced = of.endswith(", children") and not of.startswith("spared")
        if by is not None and by >= GROWTH_MOST[measure] and not is_replaced:
            lines.append(f"{of}: {by:+.2f} {measure} an hour")
    return lines


def table(samples: list[Sample]) -> str:
    """Return what was taken as a table of Markdown: by time, and how it grew."""
    last = samples[-1].minutes
    minutes = [*(one for one in COLUMNS if one < last), last]
    lines = [
        "| | " + " | ".join(f"{one:.0f} min" for one in minutes) + " | most | an hour |",
        "|---" * (len(minutes) + 3) + "|",
    ]
    for (measure, of), those in _by_measure(samples).items():
        # The sample that is next to each time.
        values = [min(those, key=lambda one, at=at: abs(one.minutes - at)).value for at in minutes]
        by = growth(those)
        shown = [*(f"{one:g}" for one in values), f"{max(one.value for one in those):g}"]
        lines.append(f"| {of}, {measure} | " + " | ".join(shown) + f" | {'' if by is None else f'{by:+.2f}'} |")
    return "\n".join(lines)
