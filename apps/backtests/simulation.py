"""A rule tried on the past: the same engine, in a log of its own that holds nothing but the rule and the quotes."""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import groupby, islice
from operator import itemgetter
from typing import Any

from apps.market.domain import PRICE_DECIMALS, Switch
from apps.notation import WIDE, write_number
from apps.rules.engine.conditions import Combination, Condition, Not, leaves_of
from apps.rules.engine.engine import Engine
from apps.rules.engine.entries import EvaluatedQuote, QuotesEntry, RuleChange, RulesEntry, Switches
from apps.rules.engine.instance import FIRING, INACTIVE, OPEN, InstanceStatus, Transition
from apps.rules.engine.leaves.binding import LEVEL_HIGHEST, LEVEL_LOWEST
from apps.rules.engine.leaves.comparisons import Average as AverageLeaf
from apps.rules.engine.leaves.comparisons import Change, ZScore
from apps.rules.engine.leaves.levels import Level
from apps.rules.engine.rule import RuleSpec
from apps.rules.engine.series import History
from apps.rules.engine.windows import WindowKey

# What a threshold is multiplied by in a sweep: percents and deviations are tried far around it, levels near to it.
FAR = tuple(Decimal(factor) for factor in ("0.5", "0.6", "0.7", "0.8", "0.9", "1", "1.1", "1.25", "1.5", "2"))
NEAR = tuple(Decimal(factor) for factor in ("0.9", "0.95", "0.98", "0.99", "1", "1.01", "1.02", "1.05", "1.1"))
FROM_ZERO = tuple(Decimal(percent) for percent in ("0", "0.25", "0.5", "1", "2", "3", "5"))
# The parameters that a sweep changes: the first leaf that has one of them is taken.
THRESHOLDS = ("percent", "by", "n", "level")
QUOTES_AT_ONCE = 10_000
DAY = 86_400_000_000
_LAST_DECIMAL = Decimal(1).scaleb(-PRICE_DECIMALS)


@dataclass(slots=True)
class Opening:
    """An episode that would have been told. Times are microseconds since 1970; resolved_at is None while it lasts."""

    asset_id: int
    opened_at: int
    evidence: dict[str, Any]
    resolved_at: int | None = None
    reason: str = ""  # why it resolved, one of Reason


@dataclass(slots=True)
class Outcome:
    """What one rule would have done. in_state: state -> microseconds, over all assets; errors: what evaluating
    raised."""

    openings: list[Opening] = field(default_factory=list)
    suppressed: int = 0
    in_state: dict[str, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    @property
    def messages(self) -> int:
        """How many messages a channel would have had: one for each opening and one for each resolution."""
        return len(self.openings) + sum(opening.resolved_at is not None for opening in self.openings)

    def add(self, other: "Outcome") -> None:
        """Take in what the same rule would have done on other assets."""
        self.openings += other.openings
        self.suppressed += other.suppressed
        self.errors += other.errors
        for state, spent in other.in_state.items():
            self.in_state[state] = self.in_state.get(state, 0) + spent

    def per_day(self) -> dict[int, int]:
        """Return day since 1970 (UTC) -> openings, for the days that have some."""
        days: dict[int, int] = {}
        for opening in self.openings:
            days[opening.opened_at // DAY] = days.get(opening.opened_at // DAY, 0) + 1
        return days


class Backtest:
    """Rules on the same assets, evaluated side by side over quotes that are handed in; they share their windows."""

    def __init__(
        self,
        specs: Sequence[RuleSpec],
        asset_ids: Iterable[int],
        *,
        calendars: Mapping[int, str] | None = None,
        history: History | None = None,
        switches: Mapping[int, Sequence[Switch]] | None = None,
    ) -> None:
        """calendars: asset id -> its calendar, where it has one; history: what is stored before the first quote; None
        where nothing is; switches: asset id -> its changes of provider from then on, oldest first."""
        self._is_clocked = any(spec.is_clocked or spec.expires_at is not None for spec in specs)
        self._asset_ids = sorted(asset_ids)
        self._watched = frozenset(self._asset_ids)
        self._engine = Engine()
        self._outcomes = [Outcome() for _ in specs]
        self._last: dict[tuple[int, int], tuple[str, int]] = {}  # (rule, asset) -> state, since
        self._open: dict[tuple[int, int], Opening] = {}
        self._begin: dict[int, int] = {}
        self._clock = 0
        self._switches = {asset_id: deque(its) for asset_id, its in (switches or {}).items()}
        changes = [RuleChange(rule, rule, spec, self._asset_ids, calendars or {}) for rule, spec in enumerate(specs)]
        self._engine.evaluate(RulesEntry(1, 0, changes), history or _nothing)

    def take(self, quotes: Sequence[EvaluatedQuote], *, as_of: int) -> None:
        """Evaluate one entry: its quotes in the order in which they stand, then the clock; other assets' only move
        it."""
        for asset_id, at, _ in quotes if len(self._begin) < len(self._asset_ids) else ():
            if asset_id in self._watched:
                self._begin.setdefault(asset_id, at)
        self._clock = max(self._clock, as_of)
        entry = QuotesEntry(self._engine.seq + 1, as_of, quotes, self._switched(quotes) if self._switches else {})
        for step in self._engine.evaluate(entry, _nothing).transitions:
            self._note(step)

    def _switched(self, quotes: Sequence[EvaluatedQuote]) -> Switches:
        """Return the changes of provider with these quotes: a change is with the first quote from its time on."""
        switched: dict[tuple[int, int], Switch] = {}
        for asset_id, at, _ in quotes:
            waiting = self._switches.get(asset_id)
            while waiting and waiting[0].at <= at:
                switched[asset_id, at] = waiting.popleft()._replace(at=at)
        return switched

    def take_all(self, quotes: Iterable[EvaluatedQuote]) -> None:
        """Evaluate quotes in the order in which they stand. Each distinct time is an entry, and its clock."""
        if self._is_clocked:
            for at, entry in groupby(quotes, key=itemgetter(1)):
                self.take(list(entry), as_of=at)
            return
        # Where nothing goes by the clock, it makes no difference how many quotes an entry has.
        for chunk in _chunks(quotes):
            self.take(chunk, as_of=max(map(itemgetter(1), chunk)))

    @property
    def openings(self) -> int:
        """How many openings are kept so far, of all rules."""
        return sum(len(outcome.openings) for outcome in self._outcomes)

    def status_of_instance(self, place: int, asset_id: int) -> InstanceStatus:
        """Return how far the rule at this place among the specs has come on one asset."""
        status_of_instance = self._engine.status_of_instance(place, asset_id)
        assert status_of_instance is not None
        return status_of_instance

    def _note(self, step: Transition) -> None:
        key = (step.rule_id, step.asset_id)
        outcome = self._outcomes[step.rule_id]
        self._spend(key, step.from_state, step.moment)
        self._last[key] = (step.to_state, step.moment)
        if step.to_state == FIRING and step.from_state not in OPEN and step.suppressed:
            outcome.suppressed += 1
        elif step.opens:
            self._open[key] = Opening(step.asset_id, step.moment, step.evidence or {})
            outcome.openings.append(self._open[key])
        elif step.resolves and key in self._open:
            opening = self._open.pop(key)
            opening.resolved_at, opening.reason = step.moment, step.reason
        if step.to_state == "error":
            outcome.errors.append(step.detail)

    def _spend(self, key: tuple[int, int], state: str, until: int) -> None:
        rule_id, asset_id = key
        since = self._last[key][1] if key in self._last else self._begin.get(asset_id, until)
        spent = self._outcomes[rule_id].in_state
        spent[state] = spent.get(state, 0) + max(until - since, 0)

    def outcomes(self) -> list[Outcome]:
        """Return what each rule would have done, in the order of the specs. Call it once, at the end."""
        for rule_id, outcome in enumerate(self._outcomes):
            # One that was quiet from the beginning may have been evaluated by the clock.
            for asset_id in self._begin.keys() | {asset_id for rule, asset_id in self._last if rule == rule_id}:
                state, _ = self._last.get((rule_id, asset_id), (INACTIVE, 0))
                self._spend((rule_id, asset_id), state, self._clock)
            outcome.openings.sort(key=lambda opening: (opening.opened_at, opening.asset_id))
        return self._outcomes


def variants(spec: RuleSpec) -> list[tuple[str, RuleSpec]]:
    """Return the rule at other thresholds of its first leaf that has one, as (threshold, rule), from low to high.

    Empty where no leaf has one. The rule as it stands is among them.
    """
    leaf = next((one for one in leaves_of(spec.condition) if _threshold(one) is not None), None)
    threshold = None if leaf is None else _threshold(leaf)
    if leaf is None or threshold is None:
        return []
    factors = NEAR if hasattr(leaf, "level") else FAR
    found: dict[Decimal, RuleSpec] = {}
    # Rounded to what can be written; what is nothing then is left out. Around a level or an amount of 0 is nothing.
    around = [WIDE.normalize(WIDE.quantize(threshold * factor, _LAST_DECIMAL)) for factor in factors]
    if not threshold:
        around = list(FROM_ZERO) if getattr(leaf, "percent", None) is not None else [threshold]
    for value in around if not threshold else filter(None, around):
        changed = _with_threshold(leaf, value)
        if changed is not None:
            found[value] = replace(spec, condition=_replaced(spec.condition, leaf, changed))
    return [(write_number(value), found[value]) for value in sorted(found)]


def _threshold(leaf: Any) -> Decimal | None:
    values = (getattr(leaf, name, None) for name in THRESHOLDS)
    return next((value for value in values if value is not None), None)


def _with_threshold(leaf: Any, value: Decimal) -> Any:
    """Return the leaf at another threshold, its recovery no stronger than that; None where the value may not be."""
    if isinstance(leaf, ZScore):
        return replace(leaf, n=value) if value <= 1_000 else None
    if isinstance(leaf, AverageLeaf) and leaf.by is not None:
        return replace(leaf, by=value, recovery=None if leaf.recovery is None else min(leaf.recovery, value))
    if isinstance(leaf, Change | AverageLeaf):
        if leaf.kind in ("falls", "below_average") and value > 100:
            return None
        return replace(leaf, percent=value, recovery=None if leaf.recovery is None else min(leaf.recovery, value))
    if not LEVEL_LOWEST <= value <= LEVEL_HIGHEST:
        return None
    if isinstance(leaf, Level) and leaf.recovery is not None:
        weaker = min if leaf.kind == "above" else max
        return replace(leaf, level=value, recovery=weaker(leaf.recovery, value))
    return replace(leaf, level=value)


def _replaced(condition: Condition, leaf: Any, changed: Any) -> Condition:
    if condition is leaf:
        return changed  # type: ignore[no-any-return]
    if isinstance(condition, Combination):
        return replace(condition, members=tuple(_replaced(member, leaf, changed) for member in condition.members))
    return Not(_replaced(condition.member, leaf, changed)) if isinstance(condition, Not) else condition


def _chunks(quotes: Iterable[EvaluatedQuote]) -> Iterator[list[EvaluatedQuote]]:
    iterator = iter(quotes)
    while entry := list(islice(iterator, QUOTES_AT_ONCE)):
        yield entry


def _nothing(wanted: Mapping[int, Collection[WindowKey]]) -> Mapping[int, Iterable[tuple[int, int]]]:
    return {}
