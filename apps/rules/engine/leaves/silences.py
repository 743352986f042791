"""Leaves that measure time: since the last price, and since the price last changed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from apps.notation import SECOND, write_duration
from apps.rules.engine.codes import Unknown
from apps.rules.engine.leaves.binding import NEWEST, Bound, Leaf, Verdict, Windows, bind
from apps.rules.engine.windows import Newest, Run, WindowKey
from apps.rules.engine.written import (
    read_duration,
    refuse_unknown_keys,
    write_moment,
)


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

        def test(price: int, windows: Windows, firing: bool) -> Verdict:
            newest: Newest = windows[place]  # type: ignore[assignment]
            return newest.quiet_for >= after

        def operands(price: int, windows: Windows) -> dict[str, Any]:
            newest = cast(Newest, windows[place])
            seen = self.document() | {"newest_at": write_moment(newest.at), "clock": write_moment(newest.moment)}
            if newest.calendar:
                seen |= {"calendar": newest.calendar, "open_seconds": newest.quiet_for // SECOND}
            return seen

        return bind(test, operands)


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

        def test(price: int, windows: Windows, firing: bool) -> Verdict:
            run: Run = windows[place]  # type: ignore[assignment]
            if run.length >= after:
                return True
            return False if run.is_whole else Unknown.NOT_ENOUGH_HISTORY

        def operands(price: int, windows: Windows) -> dict[str, Any]:
            run = cast(Run, windows[place])
            seen = self.document() | {"unchanged_since": write_moment(run.since)}
            return seen if run.hours is None else seen | {"trading_seconds": run.length // SECOND}

        return bind(test, operands)
