"""Totals: counts that only grow, in a row that the same transaction writes anyway, so that pruning turns none back.

Totals are name -> number, fit for JSON; where one has a code, its name is "name:code".
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

Totals = dict[str, int | float]

# Upper bounds of the buckets of a duration, in seconds.
BOUNDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_MORE = "+Inf"
_SUM = "sum"


def added(*totals: Mapping[str, int | float]) -> Totals:
    """Return the sums of these totals, without those that are 0."""
    sums: Counter[str] = Counter()
    for one in totals:
        for name, count in one.items():
            sums[name] += count  # type: ignore[assignment]
    return {name: count for name, count in sums.items() if count}


def named(name: str, counts: Mapping[str, int | float]) -> Totals:
    """Return code -> count as totals of this name."""
    return {f"{name}:{code}": count for code, count in counts.items()}


def of_duration(name: str, seconds: float, *, count: int = 1) -> Totals:
    """Return the totals of a duration that was measured `count` times: its bucket, and the sum of the seconds. A clock
    that was set back makes it 0."""
    seconds = max(seconds, 0.0)
    bucket = next((f"{bound}" for bound in BOUNDS if seconds <= bound), _MORE)
    return {f"{name}:{bucket}": count, f"{name}:{_SUM}": round(seconds * count, 6)}


def by_code(totals: Mapping[str, Any], name: str) -> Totals:
    """Return code -> count of the totals of this name."""
    return {key.removeprefix(f"{name}:"): count for key, count in totals.items() if key.startswith(f"{name}:")}


def histogram(totals: Mapping[str, Any], name: str) -> tuple[list[tuple[str, float]], float]:
    """Return ((upper bound, how many were not longer), …) and the sum of the seconds, as Prometheus wants them."""
    found = by_code(totals, name)
    buckets, so_far = [], 0.0
    for bound in (*map(str, BOUNDS), _MORE):
        so_far += found.get(bound, 0)
        buckets.append((bound, so_far))
    return buckets, float(found.get(_SUM, 0.0))


def summed(rows: Iterable[tuple[str, int | float]]) -> Totals:
    """Return the sums of rows (name, count)."""
    return added(*({name: count} for name, count in rows))
