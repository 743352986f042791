"""Durations of short work, over several runs."""

import time


def milliseconds(work, *, runs: int) -> float:
    """Return how long one run takes, over so many."""
    began = time.monotonic()
    for _ in range(runs):
        work()
    return (time.monotonic() - began) / runs * 1_000
