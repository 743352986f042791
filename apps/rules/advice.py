"""What can be said of a rule before it is evaluated: from when it can be, and where its windows are too narrow.
Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import ceil

from apps.locales import STANDARD, Reader
from apps.notation import SECOND
from apps.rules.engine.conditions import AnyLeaf, Condition, leaves_of
from apps.rules.engine.leaves.comparisons import Average, Change, ZScore
from apps.rules.engine.leaves.levels import Crossing, Passage
from apps.rules.engine.leaves.silences import Stale, Unchanged
from apps.rules.engine.pure import grid_of
from apps.wording import format_duration, format_number, format_span, format_time

_UNITS = (("day", 86_400 * SECOND), ("hour", 3_600 * SECOND), ("minute", 60 * SECOND), ("second", SECOND))


@dataclass(frozen=True, slots=True)
class Stored:
    """What is stored of an asset's price, late quotes left out: microseconds since 1970, None where there is none."""

    first_at: int | None = None
    newest_at: int | None = None


@dataclass(frozen=True, slots=True)
class Outlook:
    """Whether a condition can be evaluated on an asset, and if not, from when on.

    is_known: at its newest quote already; known_from: microseconds since 1970, in the feed's own time, or None where
    that hangs on quotes that are still to come.
    """

    is_known: bool
    known_from: int | None
    summary: str


def outlook_of(condition: Condition, stored: Stored, *, reader: Reader = STANDARD) -> Outlook:
    """Return from when every part of the condition can be evaluated, by what is stored now.

    A combination may be decided earlier, by one of its parts. reader: whom the text is for; here and below.
    """
    waiting = [one for leaf in leaves_of(condition) if not (one := _outlook_of_leaf(leaf, stored, reader)).is_known]
    if not waiting:
        return Outlook(True, None, "can be evaluated now")
    # What hangs on quotes to come is told only where nothing with a date is.
    return max(waiting, key=lambda one: -1 if one.known_from is None else one.known_from)


def _outlook_of_leaf(leaf: AnyLeaf, stored: Stored, reader: Reader) -> Outlook:
    if isinstance(leaf, Average | ZScore | Change) and (coverage := _coverage_needed(leaf)) is not None:
        return _outlook_of_window(leaf, coverage, stored, reader)
    if isinstance(leaf, Unchanged) and stored.first_at is not None and stored.newest_at is not None:
        known_from = stored.first_at + leaf.after
        text = f"known from {format_time(known_from, reader=reader)}, or once its price has changed"
        return Outlook(True, None, "") if known_from <= stored.newest_at else Outlook(False, known_from, text)
    needs_two = isinstance(leaf, Crossing | Passage | Change)
    if stored.first_at is None:
        return Outlook(False, None, f"no price yet; needs {'two prices' if needs_two else 'one price'}")
    if needs_two and stored.newest_at == stored.first_at:
        return Outlook(False, None, "one price so far; needs two prices")
    return Outlook(True, None, "")


def _coverage_needed(leaf: Average | ZScore | Change) -> Fraction | None:
    """Return for which part of its window a leaf needs to know the price; None where it asks for no part."""
    if isinstance(leaf, Change) and leaf.ref == "window_start":
        return Fraction(1)
    return None if leaf.min_coverage is None else Fraction(leaf.min_coverage)


def _outlook_of_window(leaf: Average | ZScore | Change, coverage: Fraction, stored: Stored, reader: Reader) -> Outlook:
    """Tell of a leaf that needs to know the price for this part of its window."""
    # Windows are 10 s at least.
    unit, size = next((name, size) for name, size in _UNITS if leaf.window >= 2 * size)
    needed, whole = (_in_units(span, size, reader) for span in (ceil(coverage * leaf.window), leaf.window))
    needs = f"needs {needed} of {whole} {unit}s"
    if stored.first_at is None or stored.newest_at is None:
        return Outlook(False, None, f"{needs}; no price yet")
    grid = grid_of(leaf.window)
    # It is known whole once it begins at the first quote; a window is up to a grid longer than its width.
    known_from = stored.first_at + -stored.first_at % grid + leaf.window
    if coverage < 1:
        known_from = min(known_from, stored.first_at + ceil(coverage * (leaf.window + grid)))
    if known_from <= stored.newest_at:
        return Outlook(True, None, "")
    are_stored = _in_units(stored.newest_at - stored.first_at, size, reader)
    moved = ", once its price has changed" if isinstance(leaf, ZScore) else ""
    verb = "is" if are_stored == "1" else "are"
    text = f"{needs}; {are_stored} {verb} stored: known from {format_time(known_from, reader=reader)}{moved}"
    return Outlook(False, known_from, text)


def _in_units(span: int, size: int, reader: Reader) -> str:
    """Return a span as a number of units, rounded down to one decimal."""
    return format_number(Decimal(span * 10 // size).scaleb(-1), reader=reader)


def warnings_of(
    condition: Condition, *, feed: str, interval_seconds: float, reader: Reader = STANDARD
) -> Iterator[str]:
    """Give what is narrower than twice the pace at which a feed's quotes come, once each."""
    warned = set()
    for leaf in leaves_of(condition):
        width = leaf.after if isinstance(leaf, Stale | Unchanged) else getattr(leaf, "window", None)
        if width is None or width >= 2 * interval_seconds * SECOND or (leaf.kind, width) in warned:
            continue
        warned.add((leaf.kind, width))
        what = f"a window of {format_duration(width)} ({leaf.kind})"
        follows = "it would often see one price alone"
        if isinstance(leaf, Stale):
            what, follows = f"a silence of {format_duration(width)}", "it would be found between two quotes"
        if isinstance(leaf, Unchanged):
            what, follows = f"an unchanged price for {format_duration(width)}", "it would be found in two equal quotes"
        pace = format_span(interval_seconds, reader=reader)
        yield f"{what} is under twice the pace of {feed}, where a quote comes every {pace}: {follows}"
