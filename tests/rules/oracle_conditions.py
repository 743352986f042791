"""The conditions of the brute-force oracle: what each leaf answers to a list of quotes, in Fractions.

It shares no code and no idea with `apps.rules`. Times are microseconds since 1970 UTC, durations too; prices are
integers of 1e-18.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Any

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
UNIT_LENGTHS = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY}
GRIDS = (SECOND, 5 * SECOND, 15 * SECOND, MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 6 * HOUR, DAY)
PRICE_UNITS = 10**18

EVENTS = ("crosses_up", "crosses_down", "crosses", "enters", "exits")
LEVELS = ("above", "below", "inside", "outside", *EVENTS)
COMPARISONS = ("rises", "falls", "above_average", "below_average", "zscore")

# The three truth values are True, False and this one.
UNKNOWN = None


@dataclass(frozen=True)
class Switch:
    """From the quote at `at` on, an asset's prices are another provider's; windows see price · factor."""

    asset_id: int
    at: int
    before: str
    now: str
    factor: Fraction


@dataclass(frozen=True)
class Leaf:
    """What one leaf of a condition answers, and what it sees."""

    kind: str
    truth: bool | None
    operands: dict[str, Any]


@dataclass(frozen=True)
class Quote:
    asset_id: int
    at: int
    price: int
    factor: Fraction = Fraction(1)

    @property
    def seen(self) -> int:
        """The price as windows see it: Python rounds half to even."""
        seen = abs(round(self.price * self.factor))
        return (max(seen, 1) if self.price > 0 else -max(seen, 1)) if self.price else 0


@dataclass(frozen=True)
class Look:
    """One evaluation: the quotes of the asset, oldest first, at least one; the moment; what it is that is evaluated."""

    quotes: Sequence[Quote]
    now: int  # The time of the newest quote, or as_of.
    is_open: bool  # An episode lasts.
    switch: Switch | None = None  # The last change of provider of the asset.
    sessions: Sequence[tuple[int, int]] | None = None  # (open, close) of the asset's calendar; None: always open.
    is_of_the_clock: bool = False  # Evaluated because the clock has moved.


def rounded(number: Fraction, *, digits: int) -> Fraction:
    """Return a number above 0 with so many significant digits, half to even."""
    power = 0
    while number * Fraction(10) ** power < 10 ** (digits - 1):
        power += 1
    while number * Fraction(10) ** power >= 10**digits:
        power -= 1
    return round(number * Fraction(10) ** power) / Fraction(10) ** power


def leaves_of(condition: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the leaves in the order in which they are written."""
    if "kind" in condition:
        return [condition]
    members = condition.get("all") or condition.get("any") or [condition["not"]]
    return [leaf for member in members for leaf in leaves_of(member)]


def answers_to(condition: dict[str, Any], *, look: Look, nots: int = 0) -> list[Leaf]:
    """Return what each leaf answers, in the order in which they are written; nots: how many are around it."""
    if "kind" in condition:
        return [answer(condition, look=look, is_negated=nots % 2 == 1)]
    if "not" in condition:
        return answers_to(condition["not"], look=look, nots=nots + 1)
    members = condition.get("all") or condition["any"]
    return [one for member in members for one in answers_to(member, look=look, nots=nots)]


def evaluate(condition: dict[str, Any], *, look: Look, nots: int = 0) -> bool | None:
    """Return the truth of a condition: Kleene's strong logic over its leaves."""
    if "not" in condition:
        inner = evaluate(condition["not"], look=look, nots=nots + 1)
        return UNKNOWN if inner is UNKNOWN else not inner
    if "all" in condition:
        truths = [evaluate(member, look=look, nots=nots) for member in condition["all"]]
        return False if False in truths else UNKNOWN if UNKNOWN in truths else True
    if "any" in condition:
        truths = [evaluate(member, look=look, nots=nots) for member in condition["any"]]
        return True if True in truths else UNKNOWN if UNKNOWN in truths else False
    return answer(condition, look=look, is_negated=nots % 2 == 1).truth


def answer(leaf: dict[str, Any], *, look: Look, is_negated: bool) -> Leaf:
    """Return what one leaf answers. is_negated: an odd number of nots is around it."""
    kind, price = leaf["kind"], look.quotes[-1].price
    if kind in ("above", "below"):
        level = threshold(leaf, "level", is_open=look.is_open) * PRICE_UNITS
        return Leaf(kind, price > level if kind == "above" else price < level, {})
    if kind in ("inside", "outside"):
        return Leaf(kind, is_inside(leaf, price) == (kind == "inside"), {})
    if kind in EVENTS:
        if len(look.quotes) < 2 or (look.switch is not None and look.switch.at == look.quotes[-1].at):
            return Leaf(kind, UNKNOWN, {})
        return Leaf(
            kind,
            happens(leaf, before=look.quotes[-2].price, price=price),
            {"before": look.quotes[-2].price},
        )
    if kind == "stale":
        newest_at = look.quotes[-1].at
        operands, silence = {"newest_at": newest_at, "clock": look.now}, look.now - newest_at
        if look.sessions is not None and look.is_of_the_clock:
            silence = open_time(look.sessions, newest_at, look.now)
            operands["open_seconds"] = silence // SECOND
        return Leaf(kind, silence >= microseconds_in(leaf["after"]), operands)
    if kind == "unchanged":
        newest = look.quotes[-1]
        others = [index for index, quote in enumerate(look.quotes) if quote.price != price]
        first = look.quotes[others[-1] + 1 if others else 0]
        length = newest.at - first.at
        if look.sessions is not None:
            length = open_time(look.sessions, first.at, newest.at)
        is_long = length >= microseconds_in(leaf["after"])
        return Leaf(kind, True if is_long else False if others else UNKNOWN, {})
    operands = {"window_from": window_start(look.quotes[-1].at, length=microseconds_in(leaf["window"]))}
    see = {"rises": change_seen, "falls": change_seen, "zscore": score_seen}.get(kind, average_seen)
    truth, seen = see(leaf, look=look, start=operands["window_from"])
    if is_negated and kind in ("rises", "falls"):
        # That no change was seen says something only where enough of the window was seen.
        coverage = known_part(quotes=look.quotes, start=operands["window_from"])
        seen["coverage"] = coverage
        is_enough = coverage >= Fraction(str(leaf.get("min_coverage", "0.5")))
        truth = UNKNOWN if truth is False and not is_enough else truth
    return Leaf(kind, truth, operands | seen)


def open_time(sessions: Sequence[tuple[int, int]], begin: int, end: int) -> int:
    """Return how much of [begin, end) is open."""
    (first_open, _), (_, last_close) = sessions[0], sessions[-1]
    spans = [(min(begin, first_open), first_open), *sessions, (last_close, max(end, last_close))]
    return sum(max(min(close, end) - max(open_, begin), 0) for open_, close in spans)


def known_part(*, quotes: Sequence[Quote], start: int) -> Fraction:
    """Return for which part of [start, the newest quote's time) some price is in force."""
    newest_at = quotes[-1].at
    return Fraction(newest_at - max(quotes[0].at, start), newest_at - start)


def is_inside(leaf: dict[str, Any], price: int) -> bool:
    return Fraction(str(leaf["low"])) * PRICE_UNITS <= price <= Fraction(str(leaf["high"])) * PRICE_UNITS


def happens(leaf: dict[str, Any], *, before: int, price: int) -> bool:
    """Tell whether the step from one price to the next is what the event leaf waits for."""
    kind = leaf["kind"]
    if kind == "enters":
        return not is_inside(leaf, before) and is_inside(leaf, price)
    if kind == "exits":
        return is_inside(leaf, before) and not is_inside(leaf, price)
    level = Fraction(str(leaf["level"])) * PRICE_UNITS
    ups, downs = before < level <= price, before > level >= price
    return {"crosses_up": ups, "crosses_down": downs, "crosses": ups or downs}[kind]


def change_seen(leaf: dict[str, Any], *, look: Look, start: int) -> tuple[bool | None, dict[str, Any]]:
    percent = threshold(leaf, "percent", is_open=look.is_open)
    reference = reference_of(leaf, quotes=look.quotes, start=start)
    if reference is UNKNOWN:
        return UNKNOWN, {}
    seen = {"reference": (as_given(reference.seen, look), reference.at)}
    if reference.seen <= 0:
        return UNKNOWN, seen
    change_percent = (Fraction(look.quotes[-1].seen, reference.seen) - 1) * 100
    truth = change_percent >= percent if leaf["kind"] == "rises" else change_percent <= -percent
    return truth, seen


def as_given(seen: int | Fraction, look: Look) -> int | Fraction:
    """Return what a window saw in the terms of the newest price."""
    newest = look.quotes[-1]
    return seen if newest.seen == newest.price else seen * Fraction(newest.price, newest.seen)


def names_switch(condition: dict[str, Any], *, look: Look) -> dict[str, str] | None:
    """Return what evidence says of the last change of provider, without its time and factor, or None."""
    switch = look.switch
    if switch is None:
        return None
    oldest = []
    for leaf in answers_to(condition, look=look):
        if "reference" in leaf.operands:
            oldest.append(leaf.operands["reference"][1])
        elif "mean" in leaf.operands:
            oldest.append(leaf.operands["window_from"])
    names = {"from": switch.before, "to": switch.now}
    if any(at < switch.at for at in oldest):
        return names | {"at": switch.at}
    return names if switch.at == look.quotes[-1].at else None


def average_seen(leaf: dict[str, Any], *, look: Look, start: int) -> tuple[bool | None, dict[str, Any]]:
    pieces, operands = pieces_known(leaf, look=look, start=start)
    if "by" in leaf and "mean" in operands:
        operands["difference"] = look.quotes[-1].price - operands["mean"]
    if not pieces:
        return UNKNOWN, operands
    if "by" in leaf:
        price, mean = look.quotes[-1].price, operands["mean"]
        amount = threshold(leaf, "by", is_open=look.is_open) * PRICE_UNITS
        return price > mean + amount if leaf["kind"] == "above_average" else price < mean - amount, operands
    price, mean = look.quotes[-1].seen, mean_of(pieces)
    percent = threshold(leaf, "percent", is_open=look.is_open)
    if mean <= 0:
        return UNKNOWN, operands
    if leaf["kind"] == "above_average":
        return price > (1 + percent / 100) * mean, operands
    return price < (1 - percent / 100) * mean, operands


def score_seen(leaf: dict[str, Any], *, look: Look, start: int) -> tuple[bool | None, dict[str, Any]]:
    pieces, operands = pieces_known(leaf, look=look, start=start)
    if not pieces:
        return UNKNOWN, operands
    mean = mean_of(pieces)
    variance = sum((price - mean) ** 2 * length for price, length in pieces) / sum(length for _, length in pieces)
    if variance == 0:
        return UNKNOWN, operands
    return (look.quotes[-1].seen - mean) ** 2 >= Fraction(str(leaf["n"])) ** 2 * variance, operands


def pieces_known(leaf: dict[str, Any], *, look: Look, start: int) -> tuple[list[tuple[int, int]], dict[str, Any]]:
    """Return (price, how long it held) within [start, the newest quote's time), nothing where too little is known."""
    pieces = [
        (quote.seen, following.at - max(quote.at, start))
        for quote, following in pairwise(look.quotes)
        if following.at > start
    ]
    known = sum(length for _, length in pieces)
    coverage = Fraction(known, look.quotes[-1].at - start)
    if known == 0:
        return [], {"coverage": coverage}
    is_enough = coverage >= Fraction(str(leaf.get("min_coverage", "0.5")))
    return (pieces if is_enough else []), {"coverage": coverage, "mean": as_given(mean_of(pieces), look)}


def mean_of(pieces: Sequence[tuple[int, int]]) -> Fraction:
    return Fraction(sum(price * length for price, length in pieces), sum(length for _, length in pieces))


def reference_of(condition: dict[str, Any], *, quotes: Sequence[Quote], start: int) -> Quote | None:
    in_force_at_start = [quote for quote in quotes if quote.at <= start][-1:]
    if condition.get("ref", "window_extreme") == "window_start":
        return in_force_at_start[0] if in_force_at_start else UNKNOWN
    seen = in_force_at_start + [quote for quote in quotes if quote.at > start]
    if len(seen) == 1:
        return UNKNOWN  # The window sees no price but the evaluated one.
    extreme = (min if condition["kind"] == "rises" else max)(quote.seen for quote in seen)
    return [quote for quote in seen if quote.seen == extreme][-1]


def threshold(condition: dict[str, Any], name: str, *, is_open: bool) -> Fraction:
    recovery = condition.get("recovery")
    return Fraction(str(recovery if is_open and recovery is not None else condition[name]))


def window_start(at: int, *, length: int) -> int:
    grids = [grid for grid in GRIDS if grid * 60 <= length]
    return (at - length) // grids[-1] * grids[-1] if grids else at - length


def microseconds_in(duration: str | int) -> int:
    return 0 if str(duration) == "0" else int(str(duration)[:-1]) * UNIT_LENGTHS[str(duration)[-1]]


def microseconds_at(moment: str) -> int:
    return (datetime.fromisoformat(moment) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
