"""Conditions: leaves, and their combinations in Kleene's three-valued logic."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from apps.rules.engine import core
from apps.rules.engine.codes import Unknown
from apps.rules.engine.leaves.binding import Bound, Verdict, Windows, result_of
from apps.rules.engine.leaves.comparisons import MIN_COVERAGE, Average, Change, ZScore
from apps.rules.engine.leaves.levels import Band, Crossing, Level, Passage
from apps.rules.engine.leaves.silences import Stale, Unchanged
from apps.rules.engine.windows import WindowKey
from apps.rules.engine.written import RuleInvalid, refuse_unknown_keys

DEPTH_MOST, LEAVES_MOST = 5, 20

AnyLeaf = Level | Band | Crossing | Passage | Change | Average | ZScore | Stale | Unchanged
_READERS: dict[str, Callable[[Mapping[str, Any], str], AnyLeaf]] = {
    kind: cls.read
    for cls in (Level, Crossing, Band, Passage, Change, Average, ZScore, Stale, Unchanged)
    for kind in cls.KINDS
}
KINDS = tuple(_READERS)
_WITH_LEVELS = (Level, Crossing, Band, Passage)


@dataclass(frozen=True, slots=True)
class Combination:
    """`all`: false where one is false, else UNKNOWN where one is. `any`: true where one is true, else UNKNOWN where
    one is."""

    kind: str
    members: tuple["Condition", ...]

    def document(self) -> dict[str, Any]:
        """Return the written form."""
        return {self.kind: [member.document() for member in self.members]}

    def window_keys(self) -> list[WindowKey]:
        """Return what its members need of the past, each key once."""
        return list(dict.fromkeys(key for member in self.members for key in member.window_keys()))

    def bind(self, places: Mapping[WindowKey, int]) -> Bound:
        """Return the test for assets whose windows stand at `places`."""
        bounds = tuple(member.bind(places) for member in self.members)
        tests = tuple(bound.test for bound in bounds)
        decides = self.kind == "any"
        kind = self.kind

        def test(price: int, windows: Windows, firing: bool) -> Verdict:
            verdict: Verdict = not decides
            for member in tests:
                one = member(price, windows, firing)
                if one is decides:
                    return decides
                # The first that is unknown stands for all; the evidence has each.
                if not isinstance(verdict, Unknown):
                    verdict = one
            return verdict

        def explain(price: int, windows: Windows, firing: bool) -> dict[str, Any]:
            seen = [bound.explain(price, windows, firing) for bound in bounds]
            return {kind: seen, "result": result_of(test(price, windows, firing))}

        return Bound(core.compile_test(kind, test, 0, (), tests), explain)


@dataclass(frozen=True, slots=True)
class Not:
    """`not`: UNKNOWN stays UNKNOWN."""

    member: "Condition"

    def document(self) -> dict[str, Any]:
        """Return the written form."""
        return {"not": self.member.document()}

    def window_keys(self) -> list[WindowKey]:
        """Return what its member needs of the past."""
        return self.member.window_keys()

    def bind(self, places: Mapping[WindowKey, int]) -> Bound:
        """Return the test for assets whose windows stand at `places`."""
        bound = self.member.bind(places)

        def test(price: int, windows: Windows, firing: bool) -> Verdict:
            verdict = bound.test(price, windows, firing)
            return verdict if isinstance(verdict, Unknown) else not verdict

        def explain(price: int, windows: Windows, firing: bool) -> dict[str, Any]:
            seen = bound.explain(price, windows, firing)
            return {"not": seen, "result": result_of(test(price, windows, firing))}

        return Bound(core.compile_test("not", test, 0, (), (bound.test,)), explain)


Condition = AnyLeaf | Combination | Not


def leaves_of(condition: Condition) -> Iterator[AnyLeaf]:
    """Give the leaves in the order in which they are written."""
    if isinstance(condition, Combination):
        for member in condition.members:
            yield from leaves_of(member)
    elif isinstance(condition, Not):
        yield from leaves_of(condition.member)
    else:
        yield condition


def is_event(condition: Condition) -> bool:
    """Tell whether an event leaf is anywhere in it: then it is true at one quote only."""
    return any(leaf.is_event for leaf in leaves_of(condition))


def is_clocked(condition: Condition) -> bool:
    """Tell whether it changes with the clock too, not with quotes only."""
    return any(leaf.is_clocked for leaf in leaves_of(condition))


def counts_hours(condition: Condition) -> bool:
    """Tell whether it measures time by the calendar of its asset."""
    return any(leaf.counts_hours for leaf in leaves_of(condition))


def has_price(condition: Condition) -> bool:
    """Tell whether it names a price or an amount anywhere, which a split makes another."""
    return any(leaf.has_price or (isinstance(leaf, Average) and leaf.by is not None) for leaf in leaves_of(condition))


def levels_of(condition: Condition) -> list[Decimal]:
    """Return the prices that it compares with, each once, in the order in which they are written."""
    leaves = [leaf for leaf in leaves_of(condition) if isinstance(leaf, _WITH_LEVELS)]
    named = [getattr(leaf, name, None) for leaf in leaves for name in ("level", "low", "high")]
    return list(dict.fromkeys(level for level in named if level is not None))


def compares_prices(condition: Condition) -> bool:
    """Tell whether it compares a price with those of a window anywhere."""
    return any(leaf.compares_prices for leaf in leaves_of(condition))


def why_unfit(condition: Condition, *, signed: bool, has_flows: bool = False) -> str | None:
    """Return why a condition does not apply to an asset that is signed, or is not; None where it applies.

    There is no percent of a price of 0 or less, and a price that is always above 0 comes to no level of 0 or less.
    has_flows: money that comes or goes moves it too, so what it was before says nothing of a gain.
    """
    for leaf in leaves_of(condition):
        if has_flows and isinstance(leaf, Change | Average | ZScore):
            why = "since a deposit is no gain: use its performance index"
            return f"{leaf.kind} does not apply to the value of a portfolio, {why}"
        if signed and getattr(leaf, "percent", None) is not None:
            return f"{leaf.kind} in percent does not apply to a price that may be 0 or less (the asset is signed)"
        levels = (getattr(leaf, name, None) for name in ("level", "low", "high", "recovery"))
        lowest = min((level for level in levels if level is not None), default=None)
        if not signed and isinstance(leaf, _WITH_LEVELS) and lowest is not None and lowest <= 0:
            return f"{leaf.kind} {lowest:f} does not apply to a price that is always above 0 (the asset is not signed)"
    return None


def read_condition(data: Any, path: str = "condition") -> Condition:
    """Return the condition that `data` writes down. Raises RuleInvalid, which names the path."""
    condition = _read(data, path, depth=1, nots=0)
    leaves = list(leaves_of(condition))
    if len(leaves) > LEAVES_MOST:
        raise RuleInvalid(path, f"has {len(leaves)} leaves; at most {LEAVES_MOST} are evaluated together")
    recovering = next((leaf.kind for leaf in leaves if getattr(leaf, "recovery", None) is not None), None)
    event = next((leaf.kind for leaf in leaves if leaf.is_event), None)
    if recovering and event:
        raise RuleInvalid(path, f"is an event, which is over at once: leave the recovery of {recovering} out")
    if event and is_clocked(condition):
        raise RuleInvalid(
            path,
            f"has stale beside the event {event}: an event is true at a quote only, and at a quote nothing is stale; "
            "write two rules",
        )
    return condition


def _read(data: Any, path: str, *, depth: int, nots: int) -> Condition:
    if not isinstance(data, Mapping):
        raise RuleInvalid(path, "must be a mapping like {kind: above, level: 100}")
    if depth > DEPTH_MOST:
        raise RuleInvalid(path, f"is nested more than {DEPTH_MOST} deep")
    word = next((word for word in ("all", "any", "not") if word in data), None)
    if word is None:
        return _read_leaf(data, path, nots=nots)
    refuse_unknown_keys(data, {word}, path)
    if word == "not":
        return Not(_read(data["not"], f"{path}.not", depth=depth + 1, nots=nots + 1))
    members = data[word]
    if not isinstance(members, list | tuple) or not 1 <= len(members) <= LEAVES_MOST:
        raise RuleInvalid(f"{path}.{word}", f"must be a list of 1 to {LEAVES_MOST} conditions")
    read = (
        _read(member, f"{path}.{word}[{index}]", depth=depth + 1, nots=nots) for index, member in enumerate(members)
    )
    return Combination(word, tuple(read))


def _read_leaf(data: Mapping[str, Any], path: str, *, nots: int) -> AnyLeaf:
    kind = data.get("kind")
    if not isinstance(kind, str) or kind not in _READERS:
        raise RuleInvalid(f"{path}.kind", f"must be one of {', '.join(_READERS)}; or write all, any or not")
    leaf: AnyLeaf = _READERS[kind](data, path)
    if nots and leaf.is_event:
        raise RuleInvalid(
            f"{path}.kind", f"{kind} is an event and may not stand under not: it would hold nearly always"
        )
    if nots and getattr(leaf, "recovery", None) is not None:
        raise RuleInvalid(f"{path}.recovery", "may not stand under not: it would be the stronger one there")
    return _with_coverage(leaf, path, is_negated=nots % 2 == 1) if isinstance(leaf, Change) else leaf


def _with_coverage(leaf: Change, path: str, *, is_negated: bool) -> Change:
    """Return a change as it is meant there: under an odd number of nots it is false only where enough is known."""
    if is_negated:
        return replace(leaf, min_coverage=MIN_COVERAGE) if leaf.min_coverage is None else leaf
    if leaf.min_coverage is not None:
        raise RuleInvalid(
            f"{path}.min_coverage",
            f"of {leaf.kind} counts only under not: elsewhere a change that is seen is true, however little is known",
        )
    return leaf
