"""A brute-force, exact oracle of the rule engine, written from the specification alone.

It shares no code and no idea with `apps.rules`: every evaluation looks at the whole list of quotes again, in Fractions,
and only the instances have a state. Times are microseconds since 1970 UTC, durations too;
prices are integers of 1e-18.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from tests.rules.oracle_conditions import (
    COMPARISONS,
    DAY,
    EVENTS,
    LEVELS,
    UNKNOWN,
    Look,
    Quote,
    Switch,
    evaluate,
    leaves_of,
    microseconds_at,
    microseconds_in,
    rounded,
)

INACTIVE, PENDING, FIRING, RECOVERING, ENDED = "inactive", "pending", "firing", "recovering", "ended"
PAUSED = "paused"
EVENT_OVER = "event"


@dataclass(frozen=True)
class QuotesEntry:
    seq: int
    as_of: int
    quotes: tuple[tuple[int, int, int], ...]  # (asset_id, at, price)
    provider: str = ""
    switches: tuple[Switch, ...] = ()


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


# The name of a calendar to its sessions, (open, close), oldest first. Between them it is closed; before and after all
# of them it is open.
Calendars = dict[str, Sequence[tuple[int, int]]]


def with_switches(log: Sequence[Entry], *, step_percent: int, interval: int) -> list[Entry]:
    """Return the log with the changes of provider in its entries, as docs/feeds.md has them.

    interval: the effective one of the feed, microseconds.
    """
    paths: dict[int, dict[int, int]] = {}  # By asset_id: at to price.
    first: dict[int, str] = {}  # By asset_id: its first provider.
    known: dict[int, list[tuple[Switch, int]]] = {}  # By asset_id: its changes, and when the price before each was.
    splits: list[SplitEntry] = []
    entries: list[Entry] = []
    for entry in log:
        switches = []
        if isinstance(entry, SplitEntry):
            splits.append(entry)
        if isinstance(entry, CorrectionEntry):
            for asset_id, at in entry.removed:
                paths.get(asset_id, {}).pop(at, None)
        for asset_id, at, price in entry.quotes if not isinstance(entry, RulesEntry | SplitEntry) else ():
            path, its = paths.setdefault(asset_id, {}), known.setdefault(asset_id, [])
            if not isinstance(entry, QuotesEntry):
                path[at] = price if isinstance(entry, CorrectionEntry) else path.get(at, price)
                continue
            last_at = max(path, default=None)
            if last_at is not None and at <= last_at:
                continue
            path[at] = price
            if last_at is None:
                first[asset_id] = entry.provider
            before = its[-1][0].now if its else first.setdefault(asset_id, entry.provider)
            if before == entry.provider:
                continue
            factor_before = its[-1][0].factor if its else Fraction(1)
            # What it had when another took over.
            had = [(index, left_at) for index, (one, left_at) in enumerate(its) if one.before == entry.provider]
            if had and at - had[-1][1] <= max(DAY, 3 * interval):
                index = had[-1][0]
                factor = its[index - 1][0].factor if index else Fraction(1)
            else:
                last = counted(Quote(asset_id, last_at, path[last_at]), splits)
                price = counted(Quote(asset_id, at, price), splits)
                is_movement = at - last_at > 3 * interval or min(price, last) <= 0
                is_movement = is_movement or Fraction(abs(price - last), last) * 100 > step_percent
                factor = factor_before if is_movement else rounded(Fraction(last, price) * factor_before, digits=34)
            its.append((Switch(asset_id, at, before, entry.provider, factor), last_at))
            switches.append(its[-1][0])
        if isinstance(entry, CorrectionEntry):
            # Where all prices from a change on are gone, the provider before is in force again.
            for asset_id, its in known.items():
                known[asset_id] = [one for one in its if max(paths[asset_id], default=-1) >= one[0].at]
        entries.append(replace(entry, switches=tuple(switches)) if isinstance(entry, QuotesEntry) else entry)
    return entries


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
        self.switches: list[Switch] = []  # Of all assets, oldest first.
        self.splits: list[SplitEntry] = []
        self.instances: dict[
            tuple[int, int], Instance
        ] = {}  # By (asset_id, rule_id), in which order they are evaluated.

    def read(self, entry: Entry) -> list[Expected]:
        """Return the transitions that the next entry leads to."""
        if isinstance(entry, HistoryEntry):
            for quote in (Quote(*row) for row in entry.quotes):
                if quote.at not in [known.at for known in self.path_of(quote.asset_id)]:
                    self.path.append(replace(quote, factor=self.factor_at(quote)))
            return []
        if isinstance(entry, SplitEntry):
            self.splits.append(entry)
            instances = [one for one in self.in_order() if one.asset_id == entry.asset_id]
            return [transition for one in instances for transition in one.split(entry)]
        if isinstance(entry, CorrectionEntry):
            gone = {*entry.removed, *((asset_id, at) for asset_id, at, _ in entry.quotes)}
            self.path = [quote for quote in self.path if (quote.asset_id, quote.at) not in gone]
            added = [Quote(*row) for row in entry.quotes]
            self.path += added
            self.switches = [
                one for one in self.switches if any(quote.at >= one.at for quote in self.path_of(one.asset_id))
            ]
            self.path = [replace(one, factor=self.factor_at(one)) if one in added else one for one in self.path]
            return []
        if isinstance(entry, RulesEntry):
            return [transition for change in entry.changes for transition in self.change(change, entry=entry)]
        transitions = []
        self.switches += entry.switches
        for quote in (Quote(*row) for row in entry.quotes):
            if any(quote.at <= known.at for known in self.path_of(quote.asset_id)):
                continue  # Late, or the second of its time.
            self.path.append(replace(quote, factor=self.factor_at(quote)))
            path = self.path_of(quote.asset_id)
            for instance in self.in_order():
                if instance.asset_id == quote.asset_id:
                    transitions += instance.evaluate(
                        seq=entry.seq,
                        now=quote.at,
                        quotes=path,
                        is_of_a_quote=True,
                        switch=self.switch_at(quote),
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
                    switch=self.switch_at(quotes[-1]) if quotes else None,
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

    def switch_at(self, quote: Quote) -> Switch | None:
        """Return the last change of provider of the quote's asset, at or before its time."""
        return next((one for one in self.switches[::-1] if one.asset_id == quote.asset_id and one.at <= quote.at), None)

    def factor_at(self, quote: Quote) -> Fraction:
        switch = self.switch_at(quote)
        return switch.factor if switch else Fraction(1)

    def in_order(self) -> list[Instance]:
        return [instance for _, instance in sorted(self.instances.items())]

    def path_of(self, asset_id: int) -> list[Quote]:
        """Return the quotes of one asset, oldest first, with their prices as they count now."""
        quotes = sorted((quote for quote in self.path if quote.asset_id == asset_id), key=lambda quote: quote.at)
        splits = [one for one in self.splits if one.asset_id == asset_id]
        return [replace(one, price=counted(one, splits)) for one in quotes] if splits else quotes


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
        switch: Switch | None = None,
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
        look = Look(quotes, now, is_open, switch, sessions, is_of_the_clock=not is_of_a_quote)
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
