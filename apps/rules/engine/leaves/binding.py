"""The base of a condition's leaves: each is bound to the places of its windows, and then tested.

A leaf answers True, False or why it is UNKNOWN. The kinds, and what each means, are in docs/rules.md.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from apps.market.domain import PRICE_HIGHEST
from apps.rules.engine.codes import Unknown
from apps.rules.engine.windows import Window, WindowKey

LEVEL_LOWEST = -PRICE_HIGHEST
LEVEL_HIGHEST = PRICE_HIGHEST
NEWEST: WindowKey = ("newest", 0)
# What a test gives: True, False, or why it can be evaluated neither way.
Verdict = bool | Unknown
# (price, the asset's windows, firing) -> verdict. Called once for each evaluated quote and shared by all assets, so it
# is a closure over plain numbers and the place of its window.
Windows = Sequence[Window]
Test = Callable[[int, Any, bool], Verdict]


@dataclass(frozen=True, slots=True)
class Bound:
    """A condition bound to the place of its window among an asset's windows.

    explain gives the operands and the result of each leaf as plain data, and takes what test takes.
    """

    test: Test
    explain: Callable[[int, Windows, bool], dict[str, Any]]


class Leaf:
    """The base of every leaf. An event is true at one quote only; a clocked leaf changes with the clock too.

    counts_hours: it measures time by the calendar of its asset, where it has one; has_price: it names a price itself,
    which a split makes another; compares_prices: with those of a window.
    """

    __slots__ = ()
    is_event: ClassVar[bool] = False
    is_clocked: ClassVar[bool] = False
    counts_hours: ClassVar[bool] = False
    has_price: ClassVar[bool] = False
    compares_prices: ClassVar[bool] = False


def bind(test: Test, operands: Callable[[int, Windows], dict[str, Any]]) -> Bound:
    def explain(price: int, windows: Windows, firing: bool) -> dict[str, Any]:
        return operands(price, windows) | {"result": result_of(test(price, windows, firing))}

    return Bound(test, explain)


def result_of(verdict: Verdict) -> bool | None:
    """Return what evidence says of a verdict: None where it is UNKNOWN."""
    return None if isinstance(verdict, Unknown) else verdict
