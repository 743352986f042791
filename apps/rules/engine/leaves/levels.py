"""Leaves that compare the price with prices that the rule names: levels, bands, and crossings of both."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar, cast

from apps.notation import write_number
from apps.rules.engine import core
from apps.rules.engine.codes import Unknown
from apps.rules.engine.leaves.binding import LEVEL_HIGHEST, LEVEL_LOWEST, NEWEST, Bound, Leaf, Verdict, Windows, bind
from apps.rules.engine.windows import Newest, WindowKey
from apps.rules.engine.written import (
    RuleInvalid,
    from_units,
    read_number,
    refuse_unknown_keys,
    to_units,
)


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

        def is_above(price: int, windows: Windows, firing: bool) -> Verdict:
            return price > (relaxed if firing else level)

        def is_below(price: int, windows: Windows, firing: bool) -> Verdict:
            return price < (relaxed if firing else level)

        test = core.compile_test(self.kind, is_above if self.kind == "above" else is_below, 0, (level, relaxed), ())
        return bind(test, lambda price, windows: self.document())


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

        def is_inside(price: int, windows: Windows, firing: bool) -> Verdict:
            return low <= price <= high

        def is_outside(price: int, windows: Windows, firing: bool) -> Verdict:
            return not low <= price <= high

        test = core.compile_test(self.kind, is_inside if self.kind == "inside" else is_outside, 0, (low, high), ())
        return bind(test, lambda price, windows: self.document())


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


def _bound_to_previous(holds: Callable[[int, int], bool], place: int, document: Mapping[str, Any]) -> Bound:
    def test(price: int, windows: Windows, firing: bool) -> Verdict:
        newest: Newest = windows[place]  # type: ignore[assignment]
        return Unknown.NO_PREVIOUS_PRICE if newest.before is None else holds(newest.before, price)

    def operands(price: int, windows: Windows) -> dict[str, Any]:
        before = cast(Newest, windows[place]).before
        return dict(document) | ({} if before is None else {"before": from_units(before)})

    return bind(test, operands)


def _read_band(data: Mapping[str, Any], path: str) -> tuple[Decimal, Decimal]:
    refuse_unknown_keys(data, {"kind", "low", "high"}, path)
    low = read_number(data.get("low"), f"{path}.low", lowest=LEVEL_LOWEST, highest=LEVEL_HIGHEST)
    high = read_number(data.get("high"), f"{path}.high", lowest=LEVEL_LOWEST, highest=LEVEL_HIGHEST)
    if low >= high:
        raise RuleInvalid(f"{path}.high", "must be above low")
    return low, high
