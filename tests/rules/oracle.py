"""A brute-force, exact oracle of the rule engine, written from the specification alone.

It shares no code and no idea with `apps.rules`: every evaluation looks at the whole list of quotes again, in Fractions,
and only the instances have a state. Times are microseconds since 1970 UTC, durations too;
prices are integers of 1e-18.
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
PRICE_UNITS = 10**18

EVENTS = ("crosses_up", "crosses_down", "crosses", "enters", "exits")

INACTIVE, PENDING, FIRING, RECOVERING, ENDED = "inactive", "pending", "firing", "recovering", "ended"
PAUSED = "paused"
LEVELS = ("above", "below", "inside", "outside", *EVENTS)
COMPARISONS = ("rises", "falls", "above_average", "below_average", "zscore")
EVENT_OVER = "event"

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
class CorrectionEntry:
    """Quotes that are removed from the past, and quotes that take the place of what is there at their times."""

    seq: int
    as_of: int
    removed: tuple[tuple[int, int], ...]  # (asset_id, at)
    quotes: tuple[tuple[int, int, int], ...]  # (asset_id, at, price)


@dataclass(frozen=True)
class Change:
    rule_id: int
    version_id: int | None  # None: the rule is gone or disabled.
    document: dict[str, Any] | None
    asset_ids: tuple[int, ...]
    calendars: dict[int, str] = field(default_factory=dict)  # asset_id to its calendar; else always open.
    resumes: bool = False  # The owner has checked the levels of what is paused.


@dataclass(frozen=True)
class RulesEntry:
    seq: int
    as_of: int
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class SplitEntry:
    seq: int
    as_of: int
    asset_id: int
    effective_at: int
    numerator: int
    denominator: int
    quotes: tuple[tuple[int, int, int], ...] = ()  # There are none in it.


Entry = QuotesEntry | HistoryEntry | CorrectionEntry | RulesEntry | SplitEntry


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
    condition: dict[str, Any]
    look: Look | None  # What it was evaluated by: None where an expiry or a change of rules ended it.


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


@dataclass(frozen=True)
class Look:
    """One evaluation: the quotes of the asset, oldest first, at least one; the moment; what it is that is evaluated."""

    quotes: Sequence[Quote]
    now: int  # The time of the newest quote, or as_of.
    is_open: bool  # An episode lasts.
    sessions: Sequence[tuple[int, int]] | None = None  # (open, close) of the asset's calendar; None: always open.
    is_of_the_clock: bool = False  # Evaluated because the clock has moved.


# The name of a calendar to its sessions, (open, close), oldest first. Between them it is closed; before and after all
# of them it is open.
Calendars = dict[str, Sequence[tuple[int, int]]]


def expected_transitions(log: Sequence[Entry], calendars: Calendars | None = None) -> list[Expected]:
    """Return every transition that `log` leads to, in order of evaluating."""
    reader = Reader(calendars)
    return [transition for entry in log for transition in reader.read(entry)]


class Reader:
    """Reads a log entry by entry."""

    def __init__(self, calendars: Calendars | None = None) -> None:
        self.calendars = calendars or {}
        self.calendar_of: dict[int, str] = {}  # By asset_id, as the last change that looks at silences has it.
        self.path: list[Quote] = []  # Of all assets, in order of joining, with the prices as they came.
        self.splits: list[SplitEntry] = []
        self.instances: dict[
            tuple[int, int], Instance
        ] = {}  # By (asset_id, rule_id), in which order they are evaluated.

    def read(self, entry: Entry) -> list[Expected]:
        """Return the transitions that the next entry leads to."""
        if isinstance(entry, HistoryEntry):
            for quote in (Quote(*row) for row in entry.quotes):
                if quote.at not in [known.at for known in self.path_of(quote.asset_id)]:
                    self.path.append(quote)
            return []
        if isinstance(entry, SplitEntry):
            self.splits.append(entry)
            instances = [one for one in self.in_order() if one.asset_id == entry.asset_id]
            return [transition for one in instances for transition in one.split(entry)]
        if isinstance(entry, CorrectionEntry):
            gone = {*entry.removed, *((asset_id, at) for asset_id, at, _ in entry.quotes)}
            self.path = [quote for quote in self.path if (quote.asset_id, quote.at) not in gone]
            self.path += [Quote(*row) for row in entry.quotes]
            return []
        if isinstance(entry, RulesEntry):
            return [transition for change in entry.changes for transition in self.change(change, entry=entry)]
        transitions = []
        for quote in (Quote(*row) for row in entry.quotes):
            if any(quote.at <= known.at for known in self.path_of(quote.asset_id)):
                continue  # Late, or the second of its time.
            self.path.append(quote)
            for instance in self.in_order():
                if instance.asset_id == quote.asset_id:
                    transitions += instance.evaluate(
                        seq=entry.seq,
                        now=quote.at,
                        quotes=self.path_of(quote.asset_id),
                        is_of_a_quote=True,
                        sessions=self.calendars.get(self.calendar_of.get(quote.asset_id)),
                    )
        for instance in self.in_order():
            if instance.is_evaluated_by_the_clock:
                quotes = self.path_of(instance.asset_id)
                transitions += instance.evaluate(
                    seq=entry.seq,
                    now=entry.as_of,
                    quotes=quotes,
                    is_of_a_quote=False,
                    sessions=self.calendars.get(self.calendar_of.get(instance.asset_id)),
                )
        return transitions

    def change(self, change: Change, *, entry: RulesEntry) -> list[Expected]:
        """End what is of another version or no more chosen, and begin what is new."""
        transitions = []
        chosen = change.asset_ids if change.version_id is not None and change.document is not None else ()
        for key, instance in sorted(self.instances.items()):
            goes_on = instance.version_id == change.version_id and instance.asset_id in chosen
            is_checked = change.resumes and instance.state == PAUSED
            if instance.rule_id == change.rule_id and (not goes_on or is_checked):
                reason = "confirmed" if goes_on else "rule_changed"
                ended = self.instances.pop(key).end_with_rule_change(reason, seq=entry.seq, as_of=entry.as_of)
                transitions += ended
        for asset_id in chosen:
            begun = Instance(change.rule_id, change.version_id, asset_id, change.document)
            begun.began_at = max((quote.at for quote in self.path_of(asset_id)), default=None)
            self.instances.setdefault((asset_id, change.rule_id), begun)
            if {"stale", "unchanged"} & {leaf["kind"] for leaf in leaves_of(change.document["condition"])}:
                self.calendar_of[asset_id] = change.calendars.get(asset_id)
        return transitions

    def in_order(self) -> list[Instance]:
        return [instance for _, instance in sorted(self.instances.items())]

    def path_of(self, asset_id: int) -> list[Quote]:
        """Return the quotes of one asset, oldest first, with their prices as they count now."""
        quotes = sorted((quote for quote in self.path if quote.asset_id == asset_id), key=lambda quote: quote.at)
        return [Quote(asset_id, one.at, counted(one, self.splits)) for one in quotes]


def counted(quote: Quote, splits: Sequence[SplitEntry]) -> int:
    """Return the price of a quote after these splits, of whatever assets; what was not 0 is not 0 then."""
    later = [one for one in splits if one.asset_id == quote.asset_id and quote.at < one.effective_at]
    price = Fraction(quote.price)
    for split in later:
        price *= Fraction(split.denominator, split.numerator)
    return round(price) or (price > 0) - (price < 0)


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
    began_at: int | None = None  # The time of the newest quote when it began, else of the first that came.
    newest_answer: str = "not evaluated"  # Then "known" or "unknown", as the newest evaluation was.

    @property
    def is_evaluated_by_the_clock(self) -> bool:
        contains_stale = any(leaf["kind"] == "stale" for leaf in leaves_of(self.document["condition"]))
        return contains_stale or self.document.get("expires_at") is not None

    @property
    def is_event(self) -> bool:
        return any(leaf["kind"] in EVENTS for leaf in leaves_of(self.document["condition"]))

    def evaluate(
        self,
        *,
        seq: int,
        now: int,
        quotes: Sequence[Quote],
        is_of_a_quote: bool,
        sessions: Sequence[tuple[int, int]] | None = None,
    ) -> list[Expected]:
        """Evaluate the newest of `quotes` at `now`: its time, or as_of. Without quotes only expiry can happen, and so
        it is with an event where only the clock has moved."""
        moment = self.moment_of(now)
        expires_at = self.document.get("expires_at")
        if self.state in (ENDED, PAUSED):
            return []
        if expires_at is not None and moment >= microseconds_at(expires_at):
            return [self.move(ENDED, reason="expired", seq=seq, moment=moment)]
        if not quotes or (self.is_event and not is_of_a_quote):
            return []
        if self.began_at is None:
            self.began_at = quotes[-1].at
        is_open = self.state in (FIRING, RECOVERING)
        look = Look(quotes, now, is_open, sessions, is_of_the_clock=not is_of_a_quote)
        truth = evaluate(self.document["condition"], look=look)
        self.newest_answer = "unknown" if truth is UNKNOWN else "known"
        if truth is UNKNOWN:
            return []
        to_state, reason = self.next_state(is_true=truth, moment=moment)
        if to_state == self.state:
            return []
        if to_state == FIRING and not is_open:
            self.is_suppressed = self.opened is not None and moment - self.opened < self.duration("cooldown")
            if not self.is_suppressed:
                self.opened = moment
        transitions = [self.move(to_state, reason=reason, seq=seq, moment=moment, look=look)]
        if to_state == FIRING and self.document.get("trigger", "edge") == "once":
            transitions.append(self.move(ENDED, reason="once", seq=seq, moment=moment, look=look))
        elif to_state == FIRING and self.is_event:
            transitions.append(self.move(INACTIVE, reason=EVENT_OVER, seq=seq, moment=moment, look=look))
        return transitions

    def next_state(self, *, is_true: bool, moment: int) -> tuple[str, str]:
        """Return the state that a evaluation leads to, and the reason; the present state where nothing changes."""
        elapsed = 0 if self.since is None else moment - self.since
        if self.state == INACTIVE and is_true:
            return (PENDING if self.duration("for") > 0 else FIRING), "became_true"
        if self.state == PENDING and is_true and elapsed >= self.duration("for"):
            return FIRING, "held_long_enough"
        if self.state == PENDING and not is_true:
            return INACTIVE, "became_false"
        if self.state == FIRING and not is_true:
            return (RECOVERING, "became_false") if self.duration("keep_firing") > 0 else (INACTIVE, "recovered")
        if self.state == RECOVERING and is_true:
            return FIRING, "became_true"
        if self.state == RECOVERING and elapsed >= self.duration("keep_firing"):
            return INACTIVE, "recovered"
        return self.state, ""

    def end_with_rule_change(self, reason: str, *, seq: int, as_of: int) -> list[Expected]:
        if self.state in (INACTIVE, ENDED):
            return []
        return [self.move(ENDED, reason=reason, seq=seq, moment=self.moment_of(as_of))]

    def split(self, entry: SplitEntry) -> list[Expected]:
        """Pause where the condition names a price; end the episode of one that compared prices across the split."""
        if self.state in (ENDED, PAUSED) or self.began_at is None or self.began_at >= entry.effective_at:
            return []
        kinds = {leaf["kind"] for leaf in leaves_of(self.document["condition"])}
        where = {"reason": "split", "seq": entry.seq, "moment": self.moment_of(entry.as_of)}
        amounts = [leaf for leaf in leaves_of(self.document["condition"]) if "by" in leaf]
        if kinds & set(LEVELS) or amounts:
            return [self.move(PAUSED, **where)]
        is_loud = self.state in (FIRING, RECOVERING) and not self.is_suppressed
        if kinds & set(COMPARISONS) and is_loud and self.opened >= entry.effective_at:
            return [self.move(INACTIVE, **where)]
        return []

    def move(self, to_state: str, *, reason: str, seq: int, moment: int, look: Look | None = None) -> Expected:
        who = (self.rule_id, self.version_id, self.asset_id)
        was_suppressed, from_state, condition = self.is_suppressed, self.state, self.document["condition"]
        self.state, self.since = to_state, moment
        if to_state in (INACTIVE, ENDED, PAUSED):
            self.is_suppressed = False
        if to_state in (ENDED, PAUSED):
            self.newest_answer = "known"
        return Expected(seq, *who, from_state, to_state, moment, reason, was_suppressed, condition, look)

    def moment_of(self, now: int) -> int:
        return now if self.since is None else max(now, self.since)

    def duration(self, name: str) -> int:
        return microseconds_in(self.document.get(name, 0))


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
        if len(look.quotes) < 2:
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
    if reference.price <= 0:
        return UNKNOWN, {"reference": (reference.price, reference.at)}
    change_percent = (Fraction(look.quotes[-1].price, reference.price) - 1) * 100
    truth = change_percent >= percent if leaf["kind"] == "rises" else change_percent <= -percent
    return truth, {"reference": (reference.price, reference.at)}


def average_seen(leaf: dict[str, Any], *, look: Look, start: int) -> tuple[bool | None, dict[str, Any]]:
    pieces, operands = pieces_known(leaf, quotes=look.quotes, start=start)
    if "by" in leaf and "mean" in operands:
        operands["difference"] = look.quotes[-1].price - operands["mean"]
    if not pieces:
        return UNKNOWN, operands
    price, mean = look.quotes[-1].price, operands["mean"]
    if "by" in leaf:
        amount = threshold(leaf, "by", is_open=look.is_open) * PRICE_UNITS
        return price > mean + amount if leaf["kind"] == "above_average" else price < mean - amount, operands
    percent = threshold(leaf, "percent", is_open=look.is_open)
    if mean <= 0:
        return UNKNOWN, operands
    if leaf["kind"] == "above_average":
        return price > (1 + percent / 100) * mean, operands
    return price < (1 - percent / 100) * mean, operands


def score_seen(leaf: dict[str, Any], *, look: Look, start: int) -> tuple[bool | None, dict[str, Any]]:
    pieces, operands = pieces_known(leaf, quotes=look.quotes, start=start)
    if not pieces:
        return UNKNOWN, operands
    mean = operands["mean"]
    variance = sum((price - mean) ** 2 * length for price, length in pieces) / sum(length for _, length in pieces)
    if variance == 0:
        return UNKNOWN, operands
    return (look.quotes[-1].price - mean) ** 2 >= Fraction(str(leaf["n"])) ** 2 * variance, operands


def pieces_known(
    leaf: dict[str, Any], *, quotes: Sequence[Quote], start: int
) -> tuple[list[tuple[int, int]], dict[str, Any]]:
    """Return (price, how long it held) within [start, the newest quote's time), nothing where too little is known."""
    pieces = [
        (quote.price, following.at - max(quote.at, start))
        for quote, following in pairwise(quotes)
        if following.at > start
    ]
    known = sum(length for _, length in pieces)
    coverage = Fraction(known, quotes[-1].at - start)
    if known == 0:
        return [], {"coverage": coverage}
    operands = {"coverage": coverage, "mean": Fraction(sum(price * length for price, length in pieces), known)}
    is_enough = coverage >= Fraction(str(leaf.get("min_coverage", "0.5")))
    return (pieces if is_enough else []), operands


def reference_of(condition: dict[str, Any], *, quotes: Sequence[Quote], start: int) -> Quote | None:
    in_force_at_start = [quote for quote in quotes if quote.at <= start][-1:]
    if condition.get("ref", "window_extreme") == "window_start":
        return in_force_at_start[0] if in_force_at_start else UNKNOWN
    seen = in_force_at_start + [quote for quote in quotes if quote.at > start]
    if len(seen) == 1:
        return UNKNOWN  # The window sees no price but the evaluated one.
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
