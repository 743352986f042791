"""Leaves that compare the price with those of a window: changes, averages, deviations."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import isqrt, lcm
from typing import Any, ClassVar, cast

from apps.market.domain import UNITS_PER_ONE
from apps.notation import WIDE, write_duration, write_number
from apps.rules.engine import core
from apps.rules.engine.codes import Unknown
from apps.rules.engine.leaves.binding import LEVEL_HIGHEST, Bound, Leaf, Test, Verdict, Windows, bind, result_of
from apps.rules.engine.pure import FOREVER, Extreme, Path
from apps.rules.engine.windows import Newest, Run, Spread, Window, WindowKey, edge_of
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

# For which part of a window the price must be known, where a condition does not say.
MIN_COVERAGE = Decimal("0.5")


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
        from_start_of_window = self.ref == "window_start"

        # Of the newest quote the window has its price · factor.
        def from_extreme(price: int, windows: Windows, firing: bool) -> Verdict:
            window: Extreme = windows[place]  # type: ignore[assignment]
            ref, price = window.best, window.price
            if ref == price:
                # The newest quote is the extreme itself; UNKNOWN where there is no other, else a change of 0.
                if not window.sees_more:
                    return Unknown.NO_REFERENCE_PRICE
                return False if ref > 0 else Unknown.PRICE_NOT_POSITIVE
            if ref <= 0:
                return Unknown.PRICE_NOT_POSITIVE
            left, right = price * scale, (relaxed if firing else wanted) * ref
            return left >= right if rises else left <= right

        def from_start(price: int, windows: Windows, firing: bool) -> Verdict:
            window: Path = windows[place]  # type: ignore[assignment]
            known = window.in_force()
            if known is None:
                return Unknown.NO_PRICE_AT_WINDOW_START
            if known[1] <= 0:
                return Unknown.PRICE_NOT_POSITIVE
            left, right = window.price * scale, (relaxed if firing else wanted) * known[1]
            return left >= right if rises else left <= right

        def reference(window: Window) -> tuple[int, int] | None:
            if from_start_of_window:
                return cast(Path, window).in_force()
            extreme = cast(Extreme, window)
            return (extreme.best_at, extreme.best) if extreme.sees_more else None

        def operands(price: int, windows: Windows) -> dict[str, Any]:
            window = cast(Extreme | Path, windows[place])
            seen = self.document() | _window_bounds(window)
            known = reference(window)
            if known is not None:
                at, ref = known
                seen["reference"] = {"at": write_moment(at), "price": _write_as_given(ref, price, window)}
                if ref > 0:
                    seen["change_percent"] = write_percent(Fraction(window.price, ref) - 1)
            return seen

        numbers = (scale, wanted, relaxed)
        if from_start_of_window:
            unknown = (Unknown.NO_PRICE_AT_WINDOW_START, Unknown.PRICE_NOT_POSITIVE)
            test = core.compile_test(f"{self.kind}_from_start", from_start, place, numbers, unknown)
        else:
            unknown = (Unknown.NO_REFERENCE_PRICE, Unknown.PRICE_NOT_POSITIVE)
            test = core.compile_test(self.kind, from_extreme, place, numbers, unknown)
        bound = bind(test, operands)
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

        test = (
            self._by_amount(place, coverage_wanted) if self.by is not None else self._by_percent(place, coverage_wanted)
        )
        return bind(test, operands)

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

        def test(price: int, windows: Windows, firing: bool) -> Verdict:
            path: Path = windows[place]  # type: ignore[assignment]
            duration = path.duration
            if not _covers(path, coverage_wanted):
                return Unknown.NOT_ENOUGH_HISTORY
            if path.total <= 0:
                return Unknown.PRICE_NOT_POSITIVE
            left = path.price * duration * scale
            right = (relaxed if firing else wanted) * path.total
            return left > right if above else left < right

        unknown = (Unknown.NOT_ENOUGH_HISTORY, Unknown.PRICE_NOT_POSITIVE)
        return core.compile_test(self.kind, test, place, (scale, wanted, relaxed, coverage_wanted), unknown)

    def _by_amount(self, place: int, coverage_wanted: int) -> Test:
        # p > sum/duration + L, in whole numbers: (p - L) · duration > sum.
        above = self.kind == "above_average"
        sign = 1 if above else -1
        wanted = sign * to_units(self._distance())
        relaxed = wanted if self.recovery is None else sign * to_units(self.recovery)

        def test(price: int, windows: Windows, firing: bool) -> Verdict:
            path: Path = windows[place]  # type: ignore[assignment]
            if not _covers(path, coverage_wanted):
                return Unknown.NOT_ENOUGH_HISTORY
            left = (price - (relaxed if firing else wanted)) * path.duration
            # An amount is in the terms of the newest price.
            total = _as_given(path.total, price, path)
            return left > total if above else left < total

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

        def test(price: int, windows: Windows, firing: bool) -> Verdict:
            spread: Spread = windows[place]  # type: ignore[assignment]
            if not _covers(spread, coverage_wanted):
                return Unknown.NOT_ENOUGH_HISTORY
            # Mean and variance are S/D and (Q·D − S²)/D², so the D² on both sides drops out.
            duration, total = spread.duration, spread.total
            variance = spread.squares * duration - total * total
            if not variance:
                return Unknown.ZERO_VARIANCE
            return bool((spread.price * duration - total) ** 2 * scale >= n_squared * variance)

        def operands(price: int, windows: Windows) -> dict[str, Any]:
            spread = cast(Spread, windows[place])
            seen = self.document() | _mean_of(price, spread)
            variance = spread.squares * spread.duration - spread.total**2
            if variance:
                # For people, cut to four decimals, or to eighteen where that would be 0: the squares are compared.
                square = (spread.price * spread.duration - spread.total) ** 2
                cut = (Decimal(isqrt(square * 10 ** (2 * n) // variance)).scaleb(-n, context=WIDE) for n in (4, 18))
                seen["deviations"] = write_number(next((one for one in cut if one), Decimal(0)))
            return seen

        return bind(test, operands)


def _known_to_be_false(bound: Bound, place: int, wanted: int) -> Bound:
    """Return the test with UNKNOWN for false where too little of the window is known; place: of its path."""

    def test(price: int, windows: Windows, firing: bool) -> Verdict:
        verdict = bound.test(price, windows, firing)
        if verdict is False and not _covers(cast(Path, windows[place]), wanted):
            return Unknown.NOT_ENOUGH_HISTORY
        return verdict

    def explain(price: int, windows: Windows, firing: bool) -> dict[str, Any]:
        coverage = _coverage_of(cast(Path, windows[place]))
        result = result_of(test(price, windows, firing))
        return bound.explain(price, windows, firing) | {"coverage": coverage, "result": result}

    return Bound(test, explain)


def _factors(percent: Decimal, recovery: Decimal) -> tuple[int, int, int]:
    """Return (scale, wanted, relaxed), as small as they can be: wanted/scale is 1 + percent/100, relaxed/scale is
    1 + recovery/100."""
    wanted, relaxed = (1 + Fraction(each) / 100 for each in (percent, recovery))
    scale = lcm(wanted.denominator, relaxed.denominator)
    return scale, int(wanted * scale), int(relaxed * scale)


def _covers(path: Path, wanted: int) -> bool:
    """Tell whether enough of a window is known; wanted: in 1e-18."""
    if path.front_cell != -FOREVER:
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
        given = _as_given(mean, price, path)
        seen["mean"] = mean_from_units(Fraction(given))
        if not in_percent:
            seen["difference"] = mean_from_units(Fraction(price - given))
        elif mean > 0:
            seen["difference_percent"] = write_percent(path.price / mean - 1)
    return seen


def _as_given(seen: int | Fraction, price: int, window: Extreme | Path) -> int | Fraction:
    """Return what a window saw, in the terms of the newest price as it was given."""
    return seen if window.price == price else Fraction(seen * price) / window.price


def _write_as_given(seen: int, price: int, window: Extreme | Path) -> str:
    given = _as_given(seen, price, window)
    return from_units(given) if isinstance(given, int) else mean_from_units(given)


def _read_coverage(data: Mapping[str, Any], path: str) -> Decimal:
    coverage, where = data.get("min_coverage", MIN_COVERAGE), f"{path}.min_coverage"
    return read_number(coverage, where, lowest=Decimal(0), highest=Decimal(1), above_lowest=True)


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
