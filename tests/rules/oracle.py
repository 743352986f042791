"""A brute-force, exact oracle of the rule engine, written from the specification alone.

It shares no code and no idea with `apps.rules`: every judgement looks at the whole list of quotes again, in Fractions,
and only the instances have a state. Times are microseconds since 1970 UTC, durations too;
prices are integers of 1e-10.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
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
PRICE_UNITS = 10**10

INACTIVE, PENDING, FIRING, RECOVERING, ENDED = "inactive", "pending", "firing", "recovering", "ended"

# The three truth values are True, False and this one.
UNKNOWN = None


@dataclass(frozen=True)
class QuotesEntry:
    seq: int
    as_of: int
    quotes: tuple[tuple[int, int, int], ...]  # (asset_id, at, price)


@dataclass(frozen=True)
class HistoryEntry:
    seq: int
    as_of: int
    quotes: tuple[tuple[int, int, int], ...]  # (asset_id, at, price)


@dataclass(frozen=True)
class Change:
    rule_id: int
    version_id: int | None  # None: the rule is gone or disabled.
    document: dict[str, Any] | None
    asset_ids: tuple[int, ...]


@dataclass(frozen=True)
class RulesEntry:
    seq: int
    as_of: int
    changes: tuple[Change, ...]


Entry = QuotesEntry | HistoryEntry | RulesEntry


@dataclass(frozen=True)
class Expected:
    """A transition that the engine must make."""

    seq: int
    rule_id: int
    version_id: int
    asset_id: int
    from_state: str
    to_state: str
    moment: int
    reason: str
    suppressed: bool
    operands: dict[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Quote:
    asset_id: int
    at: int
    price: int


def expected_transitions(log: Sequence[Entry]) -> list[Expected]:
    """Return every transition that `log` leads to, in order of judging."""
    path: list[Quote] = []  # Of all assets, in order of joining.
    instances: dict[tuple[int, int], Instance] = {}  # By (asset_id, rule_id), which is also the order of judging.
    transitions: list[Expected] = []
    for entry in log:
        if isinstance(entry, HistoryEntry):
            for quote in (Quote(*row) for row in entry.quotes):
                if quote.at not in [known.at for known in path_of(quote.asset_id, path=path)]:
                    path.append(quote)
        elif isinstance(entry, RulesEntry):
            for change in entry.changes:
                for key in sorted(instances):
                    if instances[key].rule_id == change.rule_id:
                        transitions += instances.pop(key).end_with_rule_change(seq=entry.seq, as_of=entry.as_of)
                if change.version_id is not None and change.document is not None:
                    for asset_id in change.asset_ids:
                        begun = Instance(change.rule_id, change.version_id, asset_id, change.document)
                        instances[asset_id, change.rule_id] = begun
        else:
            for quote in (Quote(*row) for row in entry.quotes):
                if any(quote.at <= known.at for known in path_of(quote.asset_id, path=path)):
                    continue  # Late, or the second of its time.
                path.append(quote)
                for key in sorted(instances):
                    if instances[key].asset_id == quote.asset_id:
                        quotes = path_of(quote.asset_id, path=path)
                        transitions += instances[key].judge(seq=entry.seq, now=quote.at, quotes=quotes)
            for key in sorted(instances):
                if instances[key].document.get("expires_at") is not None:
                    quotes = path_of(instances[key].asset_id, path=path)
                    transitions += instances[key].judge(seq=entry.seq, now=entry.as_of, quotes=quotes)
    return transitions


def path_of(asset_id: int, *, path: Sequence[Quote]) -> list[Quote]:
    """Return the quotes of one asset, oldest first."""
    return sorted((quote for quote in path if quote.asset_id == asset_id), key=lambda quote: quote.at)


@dataclass
class Instance:
    """The state machine of one (rule, asset)."""

    rule_id: int
    version_id: int
    asset_id: int
    document: dict[str, Any]
    state: str = INACTIVE
    since: int | None = None  # The moment of the last transition, whence also that of PENDING and of RECOVERING.
    opened: int | None = None  # The moment of the last opening that was not suppressed.
    is_suppressed: bool = False  # Whether the present episode is a suppressed one.

    def judge(self, *, seq: int, now: int, quotes: Sequence[Quote]) -> list[Expected]:
        """Judge the newest of `quotes` at `now`: its time, or as_of. Without quotes only expiry can happen."""
        moment = self.moment_of(now)
        expires_at = self.document.get("expires_at")
        if self.state == ENDED:
            return []
        if expires_at is not None and moment >= microseconds_at(expires_at):
            return [self.move(ENDED, reason="expired", seq=seq, moment=moment)]
        if not quotes:
            return []
        is_open = self.state in (FIRING, RECOVERING)
        truth, operands = evaluate(self.document["condition"], quotes=quotes, is_open=is_open)
        if truth is UNKNOWN:
            return []
        to_state, reason = self.next_state(is_true=truth, moment=moment)
        if to_state == self.state:
            return []
        if to_state == FIRING and not is_open:
            self.is_suppressed = self.opened is not None and moment - self.opened < self.duration("cooldown")
            if not self.is_suppressed:
                self.opened = moment
        transitions = [self.move(to_state, reason=reason, seq=seq, moment=moment, operands=operands)]
        if to_state == FIRING and self.document.get("trigger", "edge") == "once":
            transitions.append(self.move(ENDED, reason="once", seq=seq, moment=moment, operands=operands))
        return transitions

    def next_state(self, *, is_true: bool, moment: int) -> tuple[str, str]:
        """Return the state that a judgement leads to, and the reason; the present state where nothing changes."""
        elapsed = 0 if self.since is None else moment - self.since
        if self.state == INACTIVE and is_true:
            return (PENDING if self.duration("for") > 0 else FIRING), "true"
        if self.state == PENDING and is_true and elapsed >= self.duration("for"):
            return FIRING, "held"
        if self.state == PENDING and not is_true:
            return INACTIVE, "false"
        if self.state == FIRING and not is_true:
            return (RECOVERING, "false") if self.duration("keep_firing") > 0 else (INACTIVE, "recovered")
        if self.state == RECOVERING and is_true:
            return FIRING, "true"
        if self.state == RECOVERING and elapsed >= self.duration("keep_firing"):
            return INACTIVE, "recovered"
        return self.state, ""

    def end_with_rule_change(self, *, seq: int, as_of: int) -> list[Expected]:
        if self.state in (INACTIVE, ENDED):
            return []
        return [self.move(ENDED, reason="rule changed", seq=seq, moment=self.moment_of(as_of))]

    def move(self, to_state: str, *, reason: str, seq: int, moment: int, operands: Any = None) -> Expected:
        who = (self.rule_id, self.version_id, self.asset_id)
        was_suppressed, from_state = self.is_suppressed, self.state
        self.state, self.since = to_state, moment
        if to_state in (INACTIVE, ENDED):
            self.is_suppressed = False
        return Expected(seq, *who, from_state, to_state, moment, reason, was_suppressed, operands or {})

    def moment_of(self, now: int) -> int:
        return now if self.since is None else max(now, self.since)

    def duration(self, name: str) -> int:
        return microseconds_in(self.document.get(name, 0))


def evaluate(
    condition: dict[str, Any], *, quotes: Sequence[Quote], is_open: bool
) -> tuple[bool | None, dict[str, Any]]:
    """Return the truth of a leaf at the newest of `quotes` (oldest first, at least one), and its operands."""
    kind, judged = condition["kind"], quotes[-1]
    operands: dict[str, Any] = {"price": judged.price, "at": judged.at}
    if kind in ("above", "below"):
        level = threshold(condition, "level", is_open=is_open) * PRICE_UNITS
        return (judged.price > level if kind == "above" else judged.price < level), operands

    percent = threshold(condition, "percent", is_open=is_open)
    start = window_start(judged.at, length=microseconds_in(condition["window"]))
    operands["window_from"] = start
    if kind in ("rises", "falls"):
        reference = reference_of(condition, quotes=quotes, start=start)
        if reference is UNKNOWN:
            return UNKNOWN, operands
        operands["reference"] = (reference.price, reference.at)
        change_percent = (Fraction(judged.price, reference.price) - 1) * 100
        return (change_percent >= percent if kind == "rises" else change_percent <= -percent), operands
    if kind in ("above_average", "below_average"):
        pieces = [  # (price, how long it held inside [start, judged.at))
            (quote.price, following.at - max(quote.at, start))
            for quote, following in pairwise(quotes)
            if following.at > start
        ]
        known = sum(length for _, length in pieces)
        coverage = Fraction(known, judged.at - start)
        if known == 0 or coverage < Fraction(str(condition.get("min_coverage", "0.5"))):
            return UNKNOWN, operands
        mean = Fraction(sum(price * length for price, length in pieces), known)
        operands |= {"mean": mean, "coverage": coverage}
        if kind == "above_average":
            return judged.price > (1 + percent / 100) * mean, operands
        return judged.price < (1 - percent / 100) * mean, operands
    raise NotImplementedError(kind)


def reference_of(condition: dict[str, Any], *, quotes: Sequence[Quote], start: int) -> Quote | None:
    in_force_at_start = [quote for quote in quotes if quote.at <= start][-1:]
    if condition.get("ref", "window_extreme") == "window_start":
        return in_force_at_start[0] if in_force_at_start else UNKNOWN
    seen = in_force_at_start + [quote for quote in quotes if quote.at > start]
    if len(seen) == 1:
        return UNKNOWN  # The window sees no price but the judged one.
    extreme = (min if condition["kind"] == "rises" else max)(quote.price for quote in seen)
    return [quote for quote in seen if quote.price == extreme][-1]


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
