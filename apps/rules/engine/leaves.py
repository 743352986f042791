"""The leaves of a condition: what may be asked of an asset's price, read from the written form and bound to the asset's
windows.

A leaf answers True, False or None (UNKNOWN). The kinds, and what each means, are in docs/rules.md.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import isqrt, lcm
from typing import Any, ClassVar, cast

from apps.market.domain import PRICE_HIGHEST, UNITS_PER_ONE
from apps.notation import SECOND, WIDE, write_duration, write_number
from apps.rules.engine.codes import Unknown
from apps.rules.engine.windows import NEVER, Extreme, Newest, Path, Run, Spread, Window, WindowKey, edge_of
from apps.rules.engine.written import (
    WINDOW_SHORTEST,
    RuleInvalid,
    from_units,
    mean_from_units,
    read_duration,
    read_number,
    refuse_unknown_keys,
    to_units,
    write_moment,
    write_part,
    write_percent,
)

LEVEL_LOWEST, LEVEL_HIGHEST = -PRICE_HIGHEST, PRICE_HIGHEST
# For which part of a window the price must be known, where a condition does not say.
MIN_COVERAGE = Decimal("0.5")
NEWEST: WindowKey = ("newest", 0)

# (price, the asset's windows, firing) -> True, False or None. Called once for each evaluated quote and shared by all
# assets, so it is a closure over plain numbers and the place of its window.
Windows = Sequence[Window]
Test = Callable[[int, Any, bool], bool | None]
WhyUnknown = Callable[[int, Windows, bool], Unknown]


@dataclass(frozen=True, slots=True)
class Bound:
    """A condition bound to the place of its window among an asset's windows.

    explain gives the operands and the result of each leaf as plain data, why_unknown says what is wanting; both take
    what test takes.
    """

    test: Test
    explain: Callable[[int, Windows, bool], dict[str, Any]]
    why_unknown: WhyUnknown


class Leaf:
    """What the leaves have in common. An event is true at one quote only; a clocked leaf changes with the clock too.

    counts_hours: it measures time by the calendar of its asset, where it has one; has_price: it names a price itself,
    which a split makes another; compares_prices: with those of a window.
    """

    __slots__ = ()
    is_event: ClassVar[bool] = False
    is_clocked: ClassVar[bool] = False
    counts_hours: ClassVar[bool] = False
    has_price: ClassVar[bool] = False
    compares_prices: ClassVar[bool] = False


def _bound(test: Test, operands: Callable[[int, Windows], dict[str, Any]], why_unknown: Unknown | WhyUnknown) -> Bound:
    def explain(price: int, windows: Windows, firing: bool) -> dict[str, Any]:
        return operands(price, windows) | {"result": test(price, windows, firing)}

    if isinstance(why_unknown, Unknown):
        return Bound(test, explain, lambda price, windows, firing: why_unknown)
    return Bound(test, explain, why_unknown)


@dataclass(frozen=True, slots=True)
class Level(Leaf):
    """`above` and `below`: the price against a level; strict, known from the first quote."""

    kind: str
    level: Decimal
    recovery: Decimal | None = None

    KINDS: ClassVar = ("above", "below")
    has_price: ClassVar[bool] = True

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
        return _bound(test, lambda price, windows: self.document(), Unknown.NO_PRICE)


@dataclass(frozen=True, slots=True)
class Band(Leaf):
    """`inside` and `outside`: the price against a band, whose edges belong to it."""

    kind: str
    low: Decimal
    high: Decimal

    KINDS: ClassVar = ("inside", "outside")
    has_price: ClassVar[bool] = True

    @classmethod
    def read(cls, data: Mapping[str, Any], path: str) -> "Band":
        """Return the condition. Raises RuleInvalid."""
        return cls(data["kind"], *_read_band(data, path))

    def document(self) -> dict[str, Any]:
        """Return the written form."""
        return {"kind": self.kind, "low": write_number(self.low), "high": write_number(self.high)}

    def window_keys(self) -> list[WindowKey]:
        """Return what it needs of the past: nothing."""
        return []

    def bind(self, places: Mapping[WindowKey, int]) -> Bound:
        """Return the test; it needs no window."""
        low, high = to_units(self.low), to_units(self.high)

        def is_inside(price: int, windows: Windows, firing: bool) -> bool | None:
            return low <= price <= high

        def is_outside(price: int, windows: Windows, firing: bool) -> bool | None:
            return not low <= price <= high

        test = is_inside if self.kind == "inside" else is_outside
        return _bound(test, lambda price, windows: self.document(), Unknown.NO_PRICE)


@dataclass(frozen=True, slots=True)
class Crossing(Leaf):
    """`crosses_up`, `crosses_down` and `crosses`: the quote that comes to a level from one side, or passes it."""

    kind: str
    level: Decimal

    KINDS: ClassVar = ("crosses_up", "crosses_down", "crosses")
    has_price: ClassVar[bool] = True
    is_event: ClassVar[bool] = True

    @classmethod
    def read(cls, data: Mapping[str, Any], path: str) -> "Crossing":
        """Return the condition. Raises RuleInvalid."""
        refuse_unknown_keys(data, {"kind", "level"}, path)
        level = read_number(data.get("level"), f"{path}.level", lowest=LEVEL_LOWEST, highest=LEVEL_HIGHEST)
        return cls(data["kind"], level)

    def document(self) -> dict[str, Any]:
        """Return the written form."""
        return {"kind": self.kind, "level": write_number(self.level)}

    def window_keys(self) -> list[WindowKey]:
        """Return what it needs of the past: the quote before."""
        return [NEWEST]

    def bind(self, places: Mapping[WindowKey, int]) -> Bound:
        """Return the test for assets whose newest quote stands at its place."""
        level = to_units(self.level)
        up, down = self.kind != "crosses_down", self.kind != "crosses_up"

        def test(before: int, price: int) -> bool:
            return (up and before < level <= price) or (down and before > level >= price)

        return _bound_to_previous(test, places[NEWEST], self.document())


@dataclass(frozen=True, slots=True)
class Passage(Leaf):
    """`enters` and `exits`: the quote that comes into a band, whose edges belong to it, or leaves it."""

    kind: str
    low: Decimal
    high: Decimal

    KINDS: ClassVar = ("enters", "exits")
    has_price: ClassVar[bool] = True
    is_event: ClassVar[bool] = True

    @classmethod
    def read(cls, data: Mapping[str, Any], path: str) -> "Passage":
        """Return the condition. Raises RuleInvalid."""
        return cls(data["kind"], *_read_band(data, path))

    def document(self) -> dict[str, Any]:
        """Return the written form."""
        return {"kind": self.kind, "low": write_number(self.low), "high": write_number(self.high)}

    def window_keys(self) -> list[WindowKey]:
        """Return what it needs of the past: the quote before."""
        return [NEWEST]

    def bind(self, places: Mapping[WindowKey, int]) -> Bound:
        """Return the test for assets whose newest quote stands at its place."""
        low, high = to_units(self.low), to_units(self.high)
        enters = self.kind == "enters"

        def test(before: int, price: int) -> bool:
            return (low <= before <= high) is not enters and (low <= price <= high) is enters

        return _bound_to_previous(test, places[NEWEST], self.document())


@dataclass(frozen=True, slots=True)
class Change(Leaf):
    """`rises` and `falls`: the change from a reference within the window, in percent of the reference; equality
    counts.

    min_coverage: the part of the window that must be known for it to be false; None: it is false where no change is
    seen.
    """

    kind: str
    percent: Decimal
    window: int
    ref: str = "window_extreme"
    recovery: Decimal | None = None
    min_coverage: Decimal | None = None

    KINDS: ClassVar = ("rises", "falls")
    compares_prices: ClassVar[bool] = True
    REFS: ClassVar = ("window_extreme", "window_start")

    @classmethod
    def read(cls, data: Mapping[str, Any], path: str) -> "Change":
        """Return the condition. Raises RuleInvalid."""
        refuse_unknown_keys(data, {"kind", "percent", "window", "ref", "recovery", "min_coverage"}, path)
        kind = data["kind"]
        highest = Decimal(100) if kind == "falls" else Decimal(1_000_000)
        percent, recovery = _read_distance(data, path, "percent", highest=highest, above_lowest=True)
        window = read_duration(data.get("window"), f"{path}.window", shortest=WINDOW_SHORTEST)
        ref = data.get("ref", "window_extreme")
        if ref not in cls.REFS:
            raise RuleInvalid(f"{path}.ref", f"must be one of {', '.join(cls.REFS)}")
        if recovery == 0 and ref == "window_extreme":
            raise RuleInvalid(
                f"{path}.recovery", "must be above 0: the price is never on the other side of its extreme"
            )
        min_coverage = _read_coverage(data, path) if "min_coverage" in data else None
        return cls(kind, percent, window, ref, recovery, min_coverage)

    def document(self) -> dict[str, Any]:
        """Return the written form."""
        document = {"kind": self.kind, "percent": write_number(self.percent), "window": write_duration(self.window)}
        document |= {"ref": self.ref}
        if self.min_coverage is not None:
            document |= {"min_coverage": write_number(self.min_coverage)}
        return document | ({"recovery": write_number(self.recovery)} if self.recovery is not None else {})

    def window_keys(self) -> list[WindowKey]:
        """Return what it needs of the past."""
        keys = [self._key()]
        # How much of a window is known is what a path knows.
        return keys if self.min_coverage is None else list(dict.fromkeys([*keys, ("path", self.window)]))

    def _key(self) -> WindowKey:
        if self.ref == "window_start":
            return ("path", self.window)
        return ("lowest" if self.kind == "rises" else "highest", self.window)

    def bind(self, places: Mapping[WindowKey, int]) -> Bound:
        """Return the test for assets whose windows stand at `places`."""
        place = places[self._key()]
        # (p / ref − 1) · 100 ≥ X, in whole numbers: p · scale ≥ factor · ref.
        recovery = self.recovery if self.recovery is not None else self.percent
        sign = 1 if self.kind == "rises" else -1
        scale, wanted, relaxed = _factors(sign * self.percent, sign * recovery)
        rises = sign == 1

        def from_extreme(price: int, windows: Windows, firing: bool) -> bool | None:
            window: Extreme = windows[place]  # type: ignore[assignment]
            ref = window.best
            if ref == price:
                # The newest quote is the extreme itself; UNKNOWN where there is no other, else a change of 0.
                return False if window.sees_more and ref > 0 else None
            if ref <= 0:
                return None
            left, right = price * scale, (relaxed if firing else wanted) * ref
            return left >= right if rises else left <= right

        def from_start(price: int, windows: Windows, firing: bool) -> bool | None:
            known = windows[place].in_force()  # type: ignore[union-attr]
            if known is None or known[1] <= 0:
                return None
            left, right = price * scale, (relaxed if firing else wanted) * known[1]
            return left >= right if rises else left <= right

        def reference(window: Window) -> tuple[int, int] | None:
            if isinstance(window, Path):
                return window.in_force()
            extreme = cast(Extreme, window)
            return (extreme.best_at, extreme.best) if extreme.sees_more else None

        def operands(price: int, windows: Windows) -> dict[str, Any]:
            window = windows[place]
            seen = self.document() | _window_bounds(window)
            known = reference(window)
            if known is not None:
                at, ref = known
                seen["reference"] = {"at": write_moment(at), "price": from_units(ref)}
                if ref > 0:
                    seen["change_percent"] = write_percent(Fraction(price, ref) - 1)
            return seen

        is_extreme = self.ref == "window_extreme"
        no_reference = Unknown.NO_REFERENCE_PRICE if is_extreme else Unknown.NO_PRICE_AT_WINDOW_START

        def why_unknown(price: int, windows: Windows, firing: bool) -> Unknown:
            return no_reference if reference(windows[place]) is None else Unknown.PRICE_NOT_POSITIVE

        bound = _bound(from_extreme if is_extreme else from_start, operands, why_unknown)
        if self.min_coverage is None:
            return bound
        return _known_to_be_false(bound, places["path", self.window], to_units(self.min_coverage))


@dataclass(frozen=True, slots=True)
class Average(Leaf):
    """`above_average` and `below_average`: the price against the time-weighted mean of [e, t), the quote itself
    weighing nothing; percent or by: how far from it, the other is None. recovery replaces what there is."""

    kind: str
    percent: Decimal | None
    window: int
    min_coverage: Decimal = MIN_COVERAGE
    recovery: Decimal | None = None
    by: Decimal | None = None

    KINDS: ClassVar = ("above_average", "below_average")
    compares_prices: ClassVar[bool] = True

    @classmethod
    def read(cls, data: Mapping[str, Any], path: str) -> "Average":
        """Return the condition. Raises RuleInvalid."""
        refuse_unknown_keys(data, {"kind", "percent", "by", "window", "min_coverage", "recovery"}, path)
        kind, percent, by = data["kind"], None, None
        if data.get("by") is None and data.get("percent") is None:
            raise RuleInvalid(f"{path}.percent", "is missing; write how far it is from its average: percent or by")
        if data.get("by") is None:
            highest = Decimal(100) if kind == "below_average" else Decimal(1_000_000)
            percent, recovery = _read_distance(data, path, "percent", highest=highest, above_lowest=False)
        elif data.get("percent") is not None:
            raise RuleInvalid(f"{path}.by", "stands beside percent; write one of the two")
        else:
            by, recovery = _read_distance(data, path, "by", highest=LEVEL_HIGHEST, above_lowest=False)
        window = read_duration(data.get("window"), f"{path}.window", shortest=WINDOW_SHORTEST)
        return cls(kind, percent, window, _read_coverage(data, path), recovery, by)

    def document(self) -> dict[str, Any]:
        """Return the written form."""
        name = "percent" if self.by is None else "by"
        document = {"kind": self.kind, name: write_number(self._distance())}
        document |= {"window": write_duration(self.window), "min_coverage": write_number(self.min_coverage)}
        return document | ({"recovery": write_number(self.recovery)} if self.recovery is not None else {})

    def window_keys(self) -> list[WindowKey]:
        """Return what it needs of the past."""
        return [("path", self.window)]

    def bind(self, places: Mapping[WindowKey, int]) -> Bound:
        """Return the test for assets whose windows stand at `places`."""
        place = places["path", self.window]
        coverage_wanted = to_units(self.min_coverage)

        def operands(price: int, windows: Windows) -> dict[str, Any]:
            return self.document() | _mean_of(price, windows[place], in_percent=self.by is None)

        def why_unknown(price: int, windows: Windows, firing: bool) -> Unknown:
            is_known = _covers(cast(Path, windows[place]), coverage_wanted)
            return Unknown.PRICE_NOT_POSITIVE if is_known else Unknown.NOT_ENOUGH_HISTORY

        test = (
            self._by_amount(place, coverage_wanted) if self.by is not None else self._by_percent(place, coverage_wanted)
        )
        return _bound(test, operands, why_unknown)

    def _distance(self) -> Decimal:
        distance = self.percent if self.by is None else self.by
        assert distance is not None
        return distance

    def _by_percent(self, place: int, coverage_wanted: int) -> Test:
        # p > (1 + X/100) · sum/duration, in whole numbers: p · duration · scale > factor · sum.
        above = self.kind == "above_average"
        sign = 1 if above else -1
        percent = self._distance()
        recovery = percent if self.recovery is None else self.recovery
        scale, wanted, relaxed = _factors(sign * percent, sign * recovery)

        def test(price: int, windows: Windows, firing: bool) -> bool | None:
            path: Path = windows[place]  # type: ignore[assignment]
            duration = path.duration
            if not _covers(path, coverage_wanted) or path.total <= 0:
                return None
            left = price * duration * scale
            right = (relaxed if firing else wanted) * path.total
            return left > right if above else left < right

        return test

    def _by_amount(self, place: int, coverage_wanted: int) -> Test:
        # p > sum/duration + L, in whole numbers: (p - L) · duration > sum.
        above = self.kind == "above_average"
        sign = 1 if above else -1
        wanted = sign * to_units(self._distance())
        relaxed = wanted if self.recovery is None else sign * to_units(self.recovery)

        def test(price: int, windows: Windows, firing: bool) -> bool | None:
            path: Path = windows[place]  # type: ignore[assignment]
            if not _covers(path, coverage_wanted):
                return None
            left = (price - (relaxed if firing else wanted)) * path.duration
            return left > path.total if above else left < path.total

        return test


@dataclass(frozen=True, slots=True)
class ZScore(Leaf):
    """`zscore`: the price is n standard deviations or more from the time-weighted mean of [e, t), to either side."""

    kind: str
    n: Decimal
    window: int
    min_coverage: Decimal = MIN_COVERAGE

    KINDS: ClassVar = ("zscore",)
    compares_prices: ClassVar[bool] = True

    @classmethod
    def read(cls, data: Mapping[str, Any], path: str) -> "ZScore":
        """Return the condition. Raises RuleInvalid."""
        refuse_unknown_keys(data, {"kind", "n", "window", "min_coverage"}, path)
        where = f"{path}.n"
        n = read_number(data.get("n"), where, lowest=Decimal(0), highest=Decimal(1_000), above_lowest=True)
        window = read_duration(data.get("window"), f"{path}.window", shortest=WINDOW_SHORTEST)
        return cls(data["kind"], n, window, _read_coverage(data, path))

    def document(self) -> dict[str, Any]:
        """Return the written form."""
        document = {"kind": self.kind, "n": write_number(self.n), "window": write_duration(self.window)}
        return document | {"min_coverage": write_number(self.min_coverage)}

    def window_keys(self) -> list[WindowKey]:
        """Return what it needs of the past."""
        return [("spread", self.window)]

    def bind(self, places: Mapping[WindowKey, int]) -> Bound:
        """Return the test for assets whose windows stand at `places`."""
        place = places["spread", self.window]
        coverage_wanted = to_units(self.min_coverage)
        n_squared, scale = (Fraction(self.n) ** 2).as_integer_ratio()

        def test(price: int, windows: Windows, firing: bool) -> bool | None:
            spread: Spread = windows[place]  # type: ignore[assignment]
            if not _covers(spread, coverage_wanted):
                return None
            # Mean and variance are S/D and (Q·D − S²)/D², so the D² on both sides drops out.
            duration, total = spread.duration, spread.total
            variance = spread.squares * duration - total * total
            if not variance:
                return None
            return bool((price * duration - total) ** 2 * scale >= n_squared * variance)

        def operands(price: int, windows: Windows) -> dict[str, Any]:
            spread = cast(Spread, windows[place])
            seen = self.document() | _mean_of(price, spread)
            variance = spread.squares * spread.duration - spread.total**2
            if variance:
                # For people, cut to four decimals, or to eighteen where that would be 0: the squares are compared.
                square = (price * spread.duration - spread.total) ** 2
                cut = (Decimal(isqrt(square * 10 ** (2 * n) // variance)).scaleb(-n, context=WIDE) for n in (4, 18))
                seen["deviations"] = write_number(next((one for one in cut if one), Decimal(0)))
            return seen

        def why_unknown(price: int, windows: Windows, firing: bool) -> Unknown:
            is_known = _covers(cast(Spread, windows[place]), coverage_wanted)
            return Unknown.ZERO_VARIANCE if is_known else Unknown.NOT_ENOUGH_HISTORY

        return _bound(test, operands, why_unknown)


@dataclass(frozen=True, slots=True)
class Stale(Leaf):
    """`stale`: no newer quote for so long, by the feed's clock; where the asset has a calendar, of open time."""

    kind: str
    after: int

    KINDS: ClassVar = ("stale",)
    is_clocked: ClassVar[bool] = True
    counts_hours: ClassVar[bool] = True

    @classmethod
    def read(cls, data: Mapping[str, Any], path: str) -> "Stale":
        """Return the condition. Raises RuleInvalid."""
        refuse_unknown_keys(data, {"kind", "after"}, path)
        return cls(data["kind"], read_duration(data.get("after"), f"{path}.after", shortest=SECOND))

    def document(self) -> dict[str, Any]:
        """Return the written form."""
        return {"kind": self.kind, "after": write_duration(self.after)}

    def window_keys(self) -> list[WindowKey]:
        """Return what it needs: the newest quote, and the moment of evaluating."""
        return [NEWEST]

    def bind(self, places: Mapping[WindowKey, int]) -> Bound:
        """Return the test for assets whose newest quote stands at its place."""
        place = places[NEWEST]
        after = self.after

        def test(price: int, windows: Windows, firing: bool) -> bool | None:
            newest: Newest = windows[place]  # type: ignore[assignment]
            return newest.quiet_for >= after

        def operands(price: int, windows: Windows) -> dict[str, Any]:
            newest = cast(Newest, windows[place])
            seen = self.document() | {"newest_at": write_moment(newest.at), "clock": write_moment(newest.moment)}
            if newest.calendar:
                seen |= {"calendar": newest.calendar, "open_seconds": newest.quiet_for // SECOND}
            return seen

        return _bound(test, operands, Unknown.NO_PRICE)


@dataclass(frozen=True, slots=True)
class Unchanged(Leaf):
    """`unchanged`: every quote for so long has had the same price; where the asset has a calendar, of open time."""

    kind: str
    after: int

    KINDS: ClassVar = ("unchanged",)
    counts_hours: ClassVar[bool] = True

    @classmethod
    def read(cls, data: Mapping[str, Any], path: str) -> "Unchanged":
        """Return the condition. Raises RuleInvalid."""
        refuse_unknown_keys(data, {"kind", "after"}, path)
        return cls(data["kind"], read_duration(data.get("after"), f"{path}.after", shortest=SECOND))

    def document(self) -> dict[str, Any]:
        """Return the written form."""
        return {"kind": self.kind, "after": write_duration(self.after)}

    def window_keys(self) -> list[WindowKey]:
        """Return what it needs of the past."""
        return [("run", self.after)]

    def bind(self, places: Mapping[WindowKey, int]) -> Bound:
        """Return the test for assets whose run stands at its place."""
        place = places["run", self.after]
        after = self.after

        def test(price: int, windows: Windows, firing: bool) -> bool | None:
            run: Run = windows[place]  # type: ignore[assignment]
            if run.length >= after:
                return True
            return False if run.is_whole else None

        def operands(price: int, windows: Windows) -> dict[str, Any]:
            run = cast(Run, windows[place])
            seen = self.document() | {"unchanged_since": write_moment(run.since)}
            return seen if run.hours is None else seen | {"trading_seconds": run.length // SECOND}

        return _bound(test, operands, Unknown.NOT_ENOUGH_HISTORY)


def _known_to_be_false(bound: Bound, place: int, wanted: int) -> Bound:
    """Return the test with UNKNOWN for false where too little of the window is known; place: of its path."""

    def test(price: int, windows: Windows, firing: bool) -> bool | None:
        verdict = bound.test(price, windows, firing)
        return None if verdict is False and not _covers(cast(Path, windows[place]), wanted) else verdict

    def explain(price: int, windows: Windows, firing: bool) -> dict[str, Any]:
        coverage = _coverage_of(cast(Path, windows[place]))
        return bound.explain(price, windows, firing) | {"coverage": coverage, "result": test(price, windows, firing)}

    def why_unknown(price: int, windows: Windows, firing: bool) -> Unknown:
        is_seen = bound.test(price, windows, firing) is not None
        return Unknown.NOT_ENOUGH_HISTORY if is_seen else bound.why_unknown(price, windows, firing)

    return Bound(test, explain, why_unknown)


def _bound_to_previous(holds: Callable[[int, int], bool], place: int, document: Mapping[str, Any]) -> Bound:
    def test(price: int, windows: Windows, firing: bool) -> bool | None:
        newest: Newest = windows[place]  # type: ignore[assignment]
        return None if newest.before is None else holds(newest.before, price)

    def operands(price: int, windows: Windows) -> dict[str, Any]:
        before = cast(Newest, windows[place]).before
        return dict(document) | ({} if before is None else {"before": from_units(before)})

    return _bound(test, operands, Unknown.NO_PREVIOUS_PRICE)


def _factors(percent: Decimal, recovery: Decimal) -> tuple[int, int, int]:
    """Return (scale, wanted, relaxed), as small as they can be: wanted/scale is 1 + percent/100, relaxed/scale is
    1 + recovery/100."""
    wanted, relaxed = (1 + Fraction(each) / 100 for each in (percent, recovery))
    scale = lcm(wanted.denominator, relaxed.denominator)
    return scale, int(wanted * scale), int(relaxed * scale)


def _covers(path: Path, wanted: int) -> bool:
    """Tell whether enough of a window is known; wanted: in 1e-18."""
    if path.front_cell != -NEVER:
        return True
    return path.duration > 0 and path.duration * UNITS_PER_ONE >= wanted * (path.at - path.edge)


def _coverage_of(path: Path) -> str:
    """Return for which part of a window the price is known: "0.5"."""
    return write_part(Fraction(path.duration, path.at - path.edge))


def _mean_of(price: int, window: Window, *, in_percent: bool = True) -> dict[str, Any]:
    path = cast(Path, window)
    seen = _window_bounds(path) | {"coverage": _coverage_of(path)}
    if path.duration:
        mean = Fraction(path.total, path.duration)
        seen["mean"] = mean_from_units(mean)
        if not in_percent:
            seen["difference"] = mean_from_units(price - mean)
        elif mean > 0:
            seen["difference_percent"] = write_percent(price / mean - 1)
    return seen


def _read_coverage(data: Mapping[str, Any], path: str) -> Decimal:
    coverage, where = data.get("min_coverage", MIN_COVERAGE), f"{path}.min_coverage"
    return read_number(coverage, where, lowest=Decimal(0), highest=Decimal(1), above_lowest=True)


def _read_band(data: Mapping[str, Any], path: str) -> tuple[Decimal, Decimal]:
    refuse_unknown_keys(data, {"kind", "low", "high"}, path)
    low = read_number(data.get("low"), f"{path}.low", lowest=LEVEL_LOWEST, highest=LEVEL_HIGHEST)
    high = read_number(data.get("high"), f"{path}.high", lowest=LEVEL_LOWEST, highest=LEVEL_HIGHEST)
    if low >= high:
        raise RuleInvalid(f"{path}.high", "must be above low")
    return low, high


def _read_distance(
    data: Mapping[str, Any], path: str, name: str, *, highest: Decimal, above_lowest: bool
) -> tuple[Decimal, Decimal | None]:
    """Return a distance and its recovery; name: `percent` or `by`."""
    where = f"{path}.{name}"
    distance = read_number(data.get(name), where, lowest=Decimal(0), highest=highest, above_lowest=above_lowest)
    if data.get("recovery") is None:
        return distance, None
    where = f"{path}.recovery"
    recovery = read_number(data["recovery"], where, lowest=Decimal(0), highest=highest)
    if recovery > distance:
        raise RuleInvalid(where, f"must be the weaker one: at most {'the percent' if name == 'percent' else name}")
    return distance, recovery


def _window_bounds(window: Window) -> dict[str, Any]:
    assert not isinstance(window, Newest | Run)
    edge = edge_of(window.at, window.width, window.grid)
    return {"window_from": write_moment(edge), "window_to": write_moment(window.at)}
