"""Conditions: what may be asked of an asset's price, read from the written form and bound to the asset's windows.

A condition answers True, False or None (UNKNOWN). The kinds, and what each means, are in docs/rules.md.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, cast

from apps.rules.engine.windows import NEVER, SECOND, Extreme, Path, Window, WindowKey, edge_of

UNITS_PER_ONE = 10**10
LEVEL_LOWEST, LEVEL_HIGHEST = Decimal("1e-10"), Decimal("1e12")
WINDOW_SHORTEST, WINDOW_LONGEST = 10 * SECOND, 400 * 86_400 * SECOND

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER = re.compile(r"-?\d{1,12}(\.\d{1,10})?|1000000000000", re.ASCII)
_DURATION = re.compile(r"(\d{1,9})(s|m|h|d)", re.ASCII)
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class RuleInvalid(ValueError):
    """The written form is wrong. The text names the path (`condition.window`) and says what would be right."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path


# (price, the asset's windows, firing) -> True, False or None. Called once for each judged quote and shared by all
# assets, so it is a closure over plain numbers and the place of its window.
Windows = Sequence[Window]
Test = Callable[[int, Any, bool], bool | None]


@dataclass(frozen=True, slots=True)
class Bound:
    """A condition bound to the place of its window among an asset's windows.

    explain(price, windows) gives the operands as plain data; why_unknown(windows) says what is wanting.
    """

    test: Test
    explain: Callable[[int, Windows], dict[str, Any]]
    why_unknown: Callable[[Windows], str]


def read_number(value: Any, path: str, *, lowest: Decimal, highest: Decimal, above_lowest: bool = False) -> Decimal:
    """Return a number that a person wrote: a string, an int or a Decimal, with at most 10 decimals, within the
    bounds."""
    text = value if isinstance(value, str) else ""
    # Only what is of a number's size is written out: 1E+999999999 would be a gigabyte, and 5 000 digits are refused.
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() < 64:
        text = str(value)
    elif isinstance(value, Decimal) and value.is_finite() and abs(value.adjusted()) < 64:
        text = format(value, "f")
    if not _NUMBER.fullmatch(text):
        raise RuleInvalid(path, "is not a number; write it like 10 or '0.995'")
    number = Decimal(text) or Decimal(0)  # There is no minus zero.
    if not lowest <= number <= highest or (above_lowest and number == lowest):
        raise RuleInvalid(path, f"must be {'above' if above_lowest else 'at least'} {lowest:f} and at most {highest:f}")
    return number


def read_duration(value: Any, path: str, *, shortest: int = 0, longest: int = WINDOW_LONGEST) -> int:
    """Return a duration like 10s, 5m, 24h or 30d in microseconds; 0 may be written bare."""
    text = "0s" if value == "0" or (type(value) is int and value == 0) else value
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if not match:
        raise RuleInvalid(path, "is not a duration; write it like 10s, 5m, 24h or 30d")
    duration = int(match[1]) * _UNIT_SECONDS[match[2]] * SECOND
    if not shortest <= duration <= longest:
        raise RuleInvalid(path, f"must be from {write_duration(shortest)} to {write_duration(longest)}")
    return duration


def write_duration(duration: int) -> str:
    """Return microseconds in the written form, in the largest unit that says it whole: 300 s is 5m."""
    seconds = duration // SECOND
    unit = next((unit for unit in "dhm" if seconds and seconds % _UNIT_SECONDS[unit] == 0), "s")
    return f"{seconds // _UNIT_SECONDS[unit]}{unit}"


def write_number(number: Decimal) -> str:
    """Return a Decimal without exponent and without trailing zeros."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def refuse_unknown_keys(data: Mapping[str, Any], known: set[str], path: str) -> None:
    """Raise RuleInvalid for the first key that is not known, by its name."""
    for key in data:
        if key not in known:
            raise RuleInvalid(
                f"{path}.{key}" if path else str(key), f"is not known here; known are {', '.join(sorted(known))}"
            )


def to_units(number: Decimal) -> int:
    """Return a level as an integer of 1e-10."""
    return int(number * UNITS_PER_ONE)


def from_units(units: int | Fraction) -> str:
    """Return 1e-10 units as a decimal string, rounded half-even to 10 decimals."""
    whole = round(units)
    sign, whole = ("-", -whole) if whole < 0 else ("", whole)
    return sign + write_number(Decimal(f"{whole // UNITS_PER_ONE}.{whole % UNITS_PER_ONE:010d}"))


def write_moment(microseconds: int) -> str:
    """Return microseconds since 1970 as ISO 8601 UTC."""
    return (_EPOCH + timedelta(microseconds=microseconds)).isoformat().replace("+00:00", "Z")


def _percent_string(fraction: Fraction) -> str:
    return write_number(Decimal(round(fraction * 10**6)).scaleb(-4))


@dataclass(frozen=True, slots=True)
class Level:
    """`above` and `below`: the price against a level; strict, known from the first quote."""

    kind: str
    level: Decimal
    recovery: Decimal | None = None

    KINDS = ("above", "below")

    @classmethod
    def read(cls, data: Mapping[str, Any], path: str) -> "Level":
        """Return the condition. Raises RuleInvalid."""
        refuse_unknown_keys(data, {"kind", "level", "recovery"}, path)
        kind = data["kind"]
        level = read_number(data.get("level"), f"{path}.level", lowest=LEVEL_LOWEST, highest=LEVEL_HIGHEST)
        recovery = None
        if data.get("recovery") is not None:
            where = f"{path}.recovery"
            recovery = read_number(data["recovery"], where, lowest=LEVEL_LOWEST, highest=LEVEL_HIGHEST)
            if recovery > level if kind == "above" else recovery < level:
                side = "at or below" if kind == "above" else "at or above"
                raise RuleInvalid(where, f"must be the weaker one: {side} the level")
        return cls(kind, level, recovery)

    def document(self) -> dict[str, Any]:
        """Return the written form."""
        document = {"kind": self.kind, "level": write_number(self.level)}
        return document | ({"recovery": write_number(self.recovery)} if self.recovery is not None else {})

    def window_keys(self) -> list[WindowKey]:
        """Return what it needs of the past: nothing."""
        return []

    def bind(self, places: Mapping[WindowKey, int]) -> Bound:
        """Return the test; it needs no window."""
        level = to_units(self.level)
        relaxed = to_units(self.recovery) if self.recovery is not None else level

        def is_above(price: int, windows: Windows, firing: bool) -> bool | None:
            return price > (relaxed if firing else level)

        def is_below(price: int, windows: Windows, firing: bool) -> bool | None:
            return price < (relaxed if firing else level)

        test = is_above if self.kind == "above" else is_below
        return Bound(test, lambda price, windows: self.document(), lambda windows: "no quote yet")


@dataclass(frozen=True, slots=True)
class Change:
    """`rises` and `falls`: the change from a reference within the window, in percent of the reference; equality
    counts."""

    kind: str
    percent: Decimal
    window: int
    ref: str = "window_extreme"
    recovery: Decimal | None = None

    KINDS = ("rises", "falls")
    REFS = ("window_extreme", "window_start")

    @classmethod
    def read(cls, data: Mapping[str, Any], path: str) -> "Change":
        """Return the condition. Raises RuleInvalid."""
        refuse_unknown_keys(data, {"kind", "percent", "window", "ref", "recovery"}, path)
        kind = data["kind"]
        highest = Decimal(100) if kind == "falls" else Decimal(1_000_000)
        percent, recovery = _read_percents(data, path, highest=highest, above_lowest=True)
        window = read_duration(data.get("window"), f"{path}.window", shortest=WINDOW_SHORTEST)
        ref = data.get("ref", "window_extreme")
        if ref not in cls.REFS:
            raise RuleInvalid(f"{path}.ref", f"must be one of {', '.join(cls.REFS)}")
        if recovery == 0 and ref == "window_extreme":
            raise RuleInvalid(
                f"{path}.recovery", "must be above 0: the price is never on the other side of its extreme"
            )
        return cls(kind, percent, window, ref, recovery)

    def document(self) -> dict[str, Any]:
        """Return the written form."""
        document = {"kind": self.kind, "percent": write_number(self.percent), "window": write_duration(self.window)}
        document |= {"ref": self.ref}
        return document | ({"recovery": write_number(self.recovery)} if self.recovery is not None else {})

    def window_keys(self) -> list[WindowKey]:
        """Return what it needs of the past."""
        return [self._key()]

    def _key(self) -> WindowKey:
        if self.ref == "window_start":
            return ("path", self.window)
        return ("lowest" if self.kind == "rises" else "highest", self.window)

    def bind(self, places: Mapping[WindowKey, int]) -> Bound:
        """Return the test for assets whose windows stand at `places`."""
        place = places[self._key()]
        # (p / ref − 1) · 100 ≥ X, in whole numbers: (p − ref) · scale ≥ X · scale/100 · ref.
        scale = 100 * UNITS_PER_ONE
        wanted = to_units(self.percent)
        relaxed = to_units(self.recovery) if self.recovery is not None else wanted
        sign = 1 if self.kind == "rises" else -1

        def from_extreme(price: int, windows: Windows, firing: bool) -> bool | None:
            window: Extreme = windows[place]  # type: ignore[assignment]
            ref = window.best
            if ref == price:
                # The newest quote is the extreme itself; UNKNOWN where there is no other, else a change of 0.
                return False if window.sees_more else None
            return sign * (price - ref) * scale >= (relaxed if firing else wanted) * ref

        def from_start(price: int, windows: Windows, firing: bool) -> bool | None:
            known = windows[place].in_force()  # type: ignore[union-attr]
            if known is None:
                return None
            return sign * (price - known[1]) * scale >= (relaxed if firing else wanted) * known[1]

        def reference(window: Window) -> tuple[int, int] | None:
            if isinstance(window, Path):
                return window.in_force()
            return (window.best_at, window.best) if window.sees_more else None

        def explain(price: int, windows: Windows) -> dict[str, Any]:
            window = windows[place]
            operands = self.document() | _window_bounds(window)
            known = reference(window)
            if known is not None:
                at, ref = known
                operands["reference"] = {"at": write_moment(at), "price": from_units(ref)}
                operands["change_percent"] = _percent_string(Fraction(price, ref) - 1)
            return operands

        if self.ref == "window_start":
            return Bound(from_start, explain, lambda windows: "no price at its start")
        return Bound(from_extreme, explain, lambda windows: "no earlier price")


@dataclass(frozen=True, slots=True)
class Average:
    """`above_average` and `below_average`: the price against the time-weighted mean of [e, t), the quote itself
    weighing nothing."""

    kind: str
    percent: Decimal
    window: int
    min_coverage: Decimal = Decimal("0.5")
    recovery: Decimal | None = None

    KINDS = ("above_average", "below_average")

    @classmethod
    def read(cls, data: Mapping[str, Any], path: str) -> "Average":
        """Return the condition. Raises RuleInvalid."""
        refuse_unknown_keys(data, {"kind", "percent", "window", "min_coverage", "recovery"}, path)
        kind = data["kind"]
        highest = Decimal(100) if kind == "below_average" else Decimal(1_000_000)
        percent, recovery = _read_percents(data, path, highest=highest, above_lowest=False)
        window = read_duration(data.get("window"), f"{path}.window", shortest=WINDOW_SHORTEST)
        coverage = data.get("min_coverage", Decimal("0.5"))
        where = f"{path}.min_coverage"
        min_coverage = read_number(coverage, where, lowest=Decimal(0), highest=Decimal(1), above_lowest=True)
        return cls(kind, percent, window, min_coverage, recovery)

    def document(self) -> dict[str, Any]:
        """Return the written form."""
        document = {"kind": self.kind, "percent": write_number(self.percent), "window": write_duration(self.window)}
        document |= {"min_coverage": write_number(self.min_coverage)}
        return document | ({"recovery": write_number(self.recovery)} if self.recovery is not None else {})

    def window_keys(self) -> list[WindowKey]:
        """Return what it needs of the past."""
        return [("path", self.window)]

    def bind(self, places: Mapping[WindowKey, int]) -> Bound:
        """Return the test for assets whose windows stand at `places`."""
        place = places["path", self.window]
        # p > (1 + X/100) · sum/duration, in whole numbers: p · duration · scale > (scale + X · scale/100) · sum.
        scale = 100 * UNITS_PER_ONE
        sign = 1 if self.kind == "above_average" else -1
        wanted = scale + sign * to_units(self.percent)
        relaxed = scale + sign * to_units(self.recovery) if self.recovery is not None else wanted
        coverage_wanted = to_units(self.min_coverage)
        above = sign == 1

        def test(price: int, windows: Windows, firing: bool) -> bool | None:
            path: Path = windows[place]  # type: ignore[assignment]
            duration = path.duration
            if path.front_cell == -NEVER and (
                not duration or duration * UNITS_PER_ONE < coverage_wanted * (path.at - path.edge)
            ):
                return None
            left = price * duration * scale
            right = (relaxed if firing else wanted) * path.total
            return left > right if above else left < right

        def explain(price: int, windows: Windows) -> dict[str, Any]:
            path = cast(Path, windows[place])
            operands = self.document() | _window_bounds(path)
            operands["coverage"] = _percent_string(Fraction(path.duration, path.at - path.edge) / 100)
            if path.duration:
                mean = Fraction(path.total, path.duration)
                operands["mean"] = from_units(mean)
                operands["difference_percent"] = _percent_string(price / mean - 1)
            return operands

        def why_unknown(windows: Windows) -> str:
            return f"less than {write_number(100 * self.min_coverage)} % of its window is known"

        return Bound(test, explain, why_unknown)


def _read_percents(
    data: Mapping[str, Any], path: str, *, highest: Decimal, above_lowest: bool
) -> tuple[Decimal, Decimal | None]:
    where = f"{path}.percent"
    percent = read_number(data.get("percent"), where, lowest=Decimal(0), highest=highest, above_lowest=above_lowest)
    if data.get("recovery") is None:
        return percent, None
    where = f"{path}.recovery"
    recovery = read_number(data["recovery"], where, lowest=Decimal(0), highest=highest)
    if recovery > percent:
        raise RuleInvalid(where, "must be the weaker one: at most the percent")
    return percent, recovery


def _window_bounds(window: Window) -> dict[str, Any]:
    edge = edge_of(window.at, window.width, window.grid)
    return {"window_from": write_moment(edge), "window_to": write_moment(window.at)}


Condition = Level | Change | Average
_READERS: dict[str, Callable[[Mapping[str, Any], str], Condition]] = {
    kind: cls.read for cls in (Level, Change, Average) for kind in cls.KINDS
}


def read_condition(data: Any, path: str = "condition") -> Condition:
    """Return the condition that `data` writes down. Raises RuleInvalid, which names the path."""
    if not isinstance(data, Mapping):
        raise RuleInvalid(path, "must be a mapping like {kind: above, level: 100}")
    kind = data.get("kind")
    if not isinstance(kind, str) or kind not in _READERS:
        raise RuleInvalid(f"{path}.kind", f"must be one of {', '.join(_READERS)}")
    return _READERS[kind](data, path)
