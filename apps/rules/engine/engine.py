"""The engine of one feed: reads the log entry by entry and says which instances change state. No clock, no I/O."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from apps.market import calendars
from apps.market.domain import ONE, Factor, PathCandle, PathItem, Switch, epoch_microseconds
from apps.rules.engine.codes import DETAIL_LONGEST, Reason
from apps.rules.engine.conditions import compares_prices, counts_hours, has_price, is_clocked
from apps.rules.engine.instance import ENDED, ERROR, FOREVER, INACTIVE, OPEN, PAUSED, Instance, Transition
from apps.rules.engine.leaves import Bound, Test
from apps.rules.engine.rule import RuleSpec
from apps.rules.engine.windows import Newest, Run, Window, WindowKey, filled, looking_back, new_window, push_into
from apps.rules.engine.written import RuleInvalid, from_units, write_factor, write_moment

FORMAT = 7

# (asset id, time in microseconds, price in 1e-18)
EvaluatedQuote = tuple[int, int, int]
# (asset id, time in microseconds) -> the change of provider with that quote.
Switches = Mapping[tuple[int, int], Switch]
# Takes asset id -> the windows to be filled. Returns asset id -> (at, price), oldest first: what is stored at this
# place in the log, from the price in force where the longest of them begins, and at least the two newest quotes. Where
# these windows see the same, candles stand for quotes; a change of provider stands before its first quote, and the one
# in force at the beginning before all. Or the series of an engine that has evaluated all that, and has these windows.
# Assets without quotes may be absent.
Past = Sequence[PathItem]
History = Callable[[Mapping[int, Collection[WindowKey]]], Mapping[int, "Iterable[PathItem] | Series"]]


@dataclass(frozen=True, slots=True)
class RuleChange:
    """In this feed, from here on, `rule_id` is evaluated as `version_id` on `asset_ids`; no assets: not at all.

    Instances of the same version on assets that stay chosen go on undisturbed. spec: what the version says, or why
    it cannot be read (its instances are in ERROR from the start). calendars: asset id -> the one by which its time
    is measured from here on; what is absent is always open. A rule that measures no time says nothing of them.
    resumes: its owner has checked its levels, so paused instances of this version begin anew.
    """

    rule_id: int
    version_id: int | None
    spec: RuleSpec | RuleInvalid | None
    asset_ids: Sequence[int]
    calendars: Mapping[int, str] = field(default_factory=dict)
    resumes: bool = False


@dataclass(frozen=True, slots=True)
class QuotesEntry:
    """Quotes of one entry, in the order in which they are evaluated; it may be empty (then only the clock moves).

    switched: (asset id, time) of quotes that come from another provider than the asset's quote before -> the change.
    """

    seq: int
    as_of: int
    quotes: Sequence[EvaluatedQuote]
    switched: Switches = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RulesEntry:
    """A change of rules at its place in the log."""

    seq: int
    as_of: int
    changes: Sequence[RuleChange]


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """The past of these assets is another one from here on, by quotes that were added to it or corrected: the newest
    quote is what is stored now, the windows are filled anew, nothing opens or resolves."""

    seq: int
    as_of: int
    asset_ids: Sequence[int]


@dataclass(frozen=True, slots=True)
class SplitEntry:
    """An asset was split, effective at a time in microseconds: its past is read anew, with other prices. ratio: as
    people write it, like 20:1."""

    seq: int
    as_of: int
    asset_id: int
    effective_at: int
    ratio: str


Entry = QuotesEntry | RulesEntry | HistoryEntry | SplitEntry
# Test, whether an episode lasts, and the verdict that changes nothing.
Evaluating = tuple[Test, bool, Any]


@dataclass(slots=True)
class Evaluation:
    """What one entry changed: transitions in the order made, and the instances whose visible state is another now."""

    transitions: list[Transition] = field(default_factory=list)
    touched: dict[tuple[int, int], Instance] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InstanceStatus:
    """One instance as it stands.

    since, opened_at: microseconds since 1970, -FOREVER where there was none; reason: of its last step; detail: what was
    raised there; unknown: why it can be evaluated neither way, or None; evidence: its operands at the newest quote, or
    None before one.
    """

    version_id: int
    state: str
    since: int
    opened_at: int
    suppressed: bool
    reason: str
    detail: str
    unknown: str | None
    evidence: dict[str, Any] | None


class Series:
    """One watched asset: its newest two quotes, its windows, its live instances in order of rule.

    keys, windows: what is seen of the past, in one order; evaluating: (test, firing, quiet) of each instance, in their
    order; deadline: when the first of them expires; switch: the last change of provider, or None; factor: what windows
    multiply its prices by, or None for 1; calendar: by which its silence is measured, or "".
    """

    __slots__ = (
        "asset_id",
        "at",
        "before_at",
        "before_price",
        "calendar",
        "deadline",
        "evaluating",
        "factor",
        "instances",
        "keys",
        "price",
        "switch",
        "windows",
    )

    def __init__(self, asset_id: int) -> None:
        self.asset_id = asset_id
        self.at = self.before_at = -FOREVER
        self.price = self.before_price = 0
        self.keys: tuple[WindowKey, ...] = ()
        self.windows: tuple[Window, ...] = ()
        self.instances: tuple[Instance, ...] = ()
        self.evaluating: list[Evaluating] = []
        self.deadline = FOREVER
        self.switch: Switch | None = None
        self.factor: Factor | None = None
        self.calendar = ""

    @property
    def is_switched(self) -> bool:
        """The newest quote comes from another provider than the one before."""
        return self.switch is not None and self.switch.at == self.at

    def begin_switch(self, switch: Switch | None) -> None:
        """Take the prices from here on for those of another provider."""
        self.switch = switch
        self.factor = None if switch is None or switch.factor == ONE else switch.factor

    def keys_wanted(self) -> set[WindowKey]:
        """Return what the live instances need of the past."""
        return {key for one in self.instances if one.spec for key in one.spec.condition.window_keys()}

    def forget_runs(self) -> None:
        """Have no runs, until they are filled again."""
        kept = [(key, window) for key, window in zip(self.keys, self.windows, strict=True) if key[0] != "run"]
        self.keys = tuple(key for key, _ in kept)
        self.windows = tuple(window for _, window in kept)

    def begin_at(self, past: "Past | Series") -> None:
        """Take the newest two of these quotes, oldest first, or none where there are fewer, and the last change of
        provider for its own."""
        if isinstance(past, Series):
            self.at, self.price = past.at, past.price
            self.before_at, self.before_price = past.before_at, past.before_price
            self.begin_switch(past.switch)
            return
        quotes: list[tuple[int, int]] = []
        for one in [item for item in past if not isinstance(item, Switch)][-2:]:
            if isinstance(one, PathCandle):
                quotes += sorted({(one.first_at, one.given.open), (one.last_at, one.given.close)})
            else:
                quotes.append(one)
        if past:
            self.begin_switch(next((one for one in reversed(past) if isinstance(one, Switch)), None))
        nothing = (-FOREVER, 0)
        (self.before_at, self.before_price), (self.at, self.price) = [nothing, nothing, *quotes][-2:]


class Engine:
    """Evaluates one feed. `seq` is the last entry it has read; entries are read in order, without gaps.

    open_between: (calendar, begin, end) -> how much of that time counts; tests have calendars of their own.
    """

    open_between: Callable[[str, int, int], int] = staticmethod(calendars.open_between)

    def __init__(self) -> None:
        self.seq = 0
        self._series: dict[int, Series] = {}
        self._instances: dict[int, dict[int, Instance]] = {}  # rule id -> asset id -> instance, ended ones too
        self._clocked: dict[tuple[int, int], Instance] = {}  # (asset id, rule id): evaluated at each as_of as well
        self._clocked_order: list[tuple[int, int]] | None = None
        self._bound: dict[tuple[int, ...], Bound] = {}  # (version id, places of its windows)
        self._evaluating: dict[Evaluating, Evaluating] = {}

    @classmethod
    def reading_ahead(cls, seq: int, changes: Sequence[RuleChange], history: History) -> "Engine":
        """Return an engine at `seq` for rules that come later, with their windows filled there: on the way to that
        place it keeps them up to date, and `series_of` gives them then."""
        engine = cls()
        engine._change_rules(RulesEntry(seq, 0, changes), history, Evaluation())
        engine.seq = seq
        return engine

    @property
    def has_quotes(self) -> bool:
        """One of its assets has had a quote."""
        return any(series.at != -FOREVER for series in self._series.values())

    @property
    def asset_ids(self) -> set[int]:
        """The assets that are evaluated."""
        return set(self._series)

    def series_of(self, wanted: Mapping[int, Collection[WindowKey]]) -> dict[int, Series]:
        """Return the series of these assets that have these windows."""
        found = {}
        for asset_id, keys in wanted.items():
            series = self._series.get(asset_id)
            if series is not None and set(keys) <= set(series.keys):
                found[asset_id] = series
        return found

    def evaluate(self, entry: Entry, history: History) -> Evaluation:
        """Read the next entry and return what it changed. Raises ValueError for an entry out of turn."""
        if entry.seq != self.seq + 1:
            raise ValueError(f"entry {entry.seq} after {self.seq}")
        evaluation = Evaluation()
        if isinstance(entry, QuotesEntry):
            begin = 0
            for index, (asset_id, at, _) in enumerate(entry.quotes if entry.switched else ()):
                if (asset_id, at) in entry.switched:
                    self._evaluate_quotes(entry.quotes[begin:index], evaluation)
                    self._switch(asset_id, entry.switched[asset_id, at])
                    begin = index
            self._evaluate_quotes(entry.quotes[begin:] if begin else entry.quotes, evaluation)
            self._evaluate_clock(entry.as_of, evaluation)
        elif isinstance(entry, RulesEntry):
            self._change_rules(entry, history, evaluation)
        elif isinstance(entry, HistoryEntry):
            self._refill([self._series[one] for one in entry.asset_ids if one in self._series], history)
        elif entry.asset_id in self._series:
            self._split(self._series[entry.asset_id], entry, history, evaluation)
        self.seq = entry.seq
        return evaluation

    def _switch(self, asset_id: int, switch: Switch) -> None:
        """Let no event be seen between the next quote and the one before it, and windows see its price by the factor of
        the change: two providers say slightly different prices at all times."""
        series = self._series.get(asset_id)
        if series is None or switch.at <= series.at:
            return
        series.begin_switch(switch)
        for window in series.windows:
            if isinstance(window, Newest):
                window.forget()

    def _evaluate_quotes(self, quotes: Sequence[EvaluatedQuote], evaluation: Evaluation) -> None:
        series_of = self._series
        for asset_id, at, price in quotes:
            series = series_of.get(asset_id)
            if series is None or at <= series.at:
                continue
            series.before_at = series.at
            series.before_price = series.price
            series.at = at
            series.price = price
            windows = series.windows
            if series.factor is None:
                for window in windows:
                    window.push(at, price)
            else:
                push_into(windows, at, price, series.factor)
            if at >= series.deadline:
                for instance in series.instances:
                    self._evaluate_instance(series, instance, at, evaluation)
                continue
            # What a step changes here (an instance may end) is for the next quote: this one goes on over what it
            # began with.
            instances = series.instances
            for index, (test, firing, quiet) in enumerate(series.evaluating):
                try:
                    verdict = test(price, windows, firing)
                    if verdict is not quiet:
                        self._step(series, instances[index], verdict, at, evaluation)
                except Exception as error:
                    self._fail(instances[index], error, at, evaluation)

    def _evaluate_clock(self, as_of: int, evaluation: Evaluation) -> None:
        if self._clocked_order is None:
            self._clocked_order = sorted(self._clocked)
        for key in self._clocked_order:
            instance = self._clocked.get(key)
            # An event is true at a quote: the clock can end it, and nothing else.
            if instance is not None and (not instance.is_event or as_of >= instance.deadline):
                series = self._series[instance.asset_id]
                try:
                    self._advance(series, as_of)
                except calendars.UnknownCalendar as error:
                    self._fail(instance, error, as_of, evaluation)
                    continue
                self._evaluate_instance(series, instance, as_of, evaluation)

    def _advance(self, series: Series, as_of: int) -> None:
        for window in series.windows:
            if isinstance(window, Newest):
                quiet_for = None
                if series.calendar and -FOREVER < window.at < as_of:
                    quiet_for = self.open_between(series.calendar, window.at, as_of)
                window.advance(as_of, calendar=series.calendar, quiet_for=quiet_for)

    def _evaluate_instance(self, series: Series, instance: Instance, moment: int, evaluation: Evaluation) -> None:
        """Evaluate one instance by the newest quote, if there is any, at `moment`, which may be the end of it."""
        if moment >= instance.deadline:
            self._end(instance, Reason.EXPIRED, moment, evaluation)
        elif series.at != -FOREVER:
            firing, quiet = instance.mode
            try:
                verdict = instance.bound.test(series.price, series.windows, firing)
                if verdict is not quiet:
                    self._step(series, instance, verdict, moment, evaluation)
            except Exception as error:
                self._fail(instance, error, moment, evaluation)

    def _step(
        self, series: Series, instance: Instance, verdict: bool | None, moment: int, evaluation: Evaluation
    ) -> None:
        """Take a verdict that may change something, and note what did."""
        firing, _ = instance.mode
        unknown = instance.bound.why_unknown(series.price, series.windows, firing) if verdict is None else None
        if unknown is not None and unknown == instance.unknown:
            return
        if unknown != instance.unknown:
            evaluation.touched[instance.rule_id, instance.asset_id] = instance
        if instance.began_at is None:
            instance.began_at = series.at
        evidence = None
        steps = instance.step(verdict, max(moment, instance.moment))
        if steps:
            evidence = _evidence(instance, series)
        instance.unknown = unknown
        instance.settle()
        if steps:
            self._note(instance, steps, evidence, evaluation)
        if instance.is_live:
            series.evaluating[series.instances.index(instance)] = self._evaluating_of(instance)

    def _note(
        self,
        instance: Instance,
        steps: list[tuple[str, str, str, bool]],
        evidence: dict[str, Any] | None,
        evaluation: Evaluation,
        *,
        keeps_windows: bool = False,
    ) -> None:
        evaluation.touched[instance.rule_id, instance.asset_id] = instance
        for from_state, to_state, reason, suppressed in steps:
            evaluation.transitions.append(
                Transition(
                    instance.rule_id,
                    instance.version_id,
                    instance.asset_id,
                    from_state,
                    to_state,
                    instance.moment,
                    reason,
                    suppressed,
                    evidence,
                    instance.detail,
                )
            )
        if not instance.is_live:
            self._retire(instance, keeps_windows=keeps_windows)

    def _end(self, instance: Instance, reason: str, moment: int, evaluation: Evaluation) -> None:
        steps = instance.end(ENDED, reason, max(moment, instance.moment))
        instance.unknown = None
        self._note(instance, steps, None, evaluation)

    def _fail(self, instance: Instance, error: Exception, moment: int, evaluation: Evaluation) -> None:
        """One bad instance does not stop a feed: it becomes ERROR, with what was raised, and is no longer evaluated."""
        moment = max(moment, instance.moment, 0)
        detail = f"{type(error).__name__}: {error}"[:DETAIL_LONGEST]
        steps = instance.end(ERROR, Reason.EVALUATION_FAILED, moment, detail=detail)
        instance.unknown = None
        self._note(instance, steps, None, evaluation)

    def _retire(self, instance: Instance, *, keeps_windows: bool = False) -> None:
        """Evaluate it no more. The hot loop goes on over what it began with. keeps_windows: whoever takes its place may
        need the same; its asset is then admitted anew."""
        if self._clocked.pop((instance.asset_id, instance.rule_id), None) is not None:
            self._clocked_order = None
        series = self._series.get(instance.asset_id)
        if series is None:
            return
        series.instances = tuple(one for one in series.instances if one is not instance)
        if keeps_windows:
            return
        if series.instances:
            self._arrange(series, ())
        else:
            del self._series[series.asset_id]

    def _change_rules(self, entry: RulesEntry, history: History, evaluation: Evaluation) -> None:
        self._evaluating = {}
        self._bound = {}  # Versions that are no longer evaluated go with it; the rest is bound anew as it is wanted.
        gained: dict[int, list[Instance]] = {}
        for change in entry.changes:
            chosen = set(change.asset_ids) if change.version_id is not None else set()
            instances = self._instances.setdefault(change.rule_id, {})
            for asset_id, instance in sorted(instances.items()):
                goes_on = instance.version_id == change.version_id and asset_id in chosen
                is_resumed = change.resumes and instance.state == PAUSED
                if goes_on and not is_resumed:
                    continue
                del instances[asset_id]
                gained[asset_id] = [one for one in gained.get(asset_id, ()) if one is not instance]
                if instance.state not in (INACTIVE, ENDED):
                    moment = max(entry.as_of, instance.moment)
                    reason = Reason.CONFIRMED if goes_on else Reason.RULE_CHANGED
                    steps = instance.end(ENDED, reason, moment)
                    self._note(instance, steps, None, evaluation, keeps_windows=True)
                else:
                    self._retire(instance, keeps_windows=True)
                evaluation.touched.pop((change.rule_id, asset_id), None)
            for asset_id in sorted(chosen - instances.keys()):
                assert change.version_id is not None
                spec = change.spec if isinstance(change.spec, RuleSpec) else None
                instance = instances[asset_id] = Instance(change.rule_id, change.version_id, asset_id, spec)
                evaluation.touched[change.rule_id, asset_id] = instance
                if spec is None:
                    error = change.spec if isinstance(change.spec, RuleInvalid) else RuleInvalid("rule", "is missing")
                    self._fail(instance, error, entry.as_of, evaluation)
                else:
                    gained.setdefault(asset_id, []).append(instance)
        calendars_now = {
            asset_id: change.calendars.get(asset_id, "")
            for change in entry.changes
            if isinstance(change.spec, RuleSpec) and counts_hours(change.spec.condition)
            for asset_id in change.asset_ids
        }
        for asset_id, calendar in calendars_now.items():
            series = self._series.get(asset_id)
            if series is not None and series.calendar != calendar:
                series.calendar = calendar
                # By another calendar a run may have to reach further back than it is known.
                series.forget_runs()
                gained.setdefault(asset_id, [])
        self._admit(gained, calendars_now, history)
        for rule_id in [rule_id for rule_id, instances in self._instances.items() if not instances]:
            del self._instances[rule_id]

    def _admit(
        self, gained: Mapping[int, Sequence[Instance]], calendars_now: Mapping[int, str], history: History
    ) -> None:
        """Begin to evaluate new instances: their windows are filled from what is stored at this place in the log."""
        wanted: dict[int, set[WindowKey]] = {}
        for asset_id, instances in gained.items():
            series = self._series.get(asset_id)
            if series is None and not instances:
                continue
            if series is None:
                series = self._series[asset_id] = Series(asset_id)
                series.calendar = calendars_now.get(asset_id, "")
                wanted[asset_id] = set()
            series.instances = tuple(sorted((*series.instances, *instances), key=lambda one: one.rule_id))
            missing = series.keys_wanted() - set(series.keys)
            if missing:
                wanted[asset_id] = looking_back(missing, by_hours=series.calendar != "")
        stored = history(wanted) if wanted else {}
        for asset_id in gained:
            series = self._series.get(asset_id)
            if series is None:
                continue
            if not series.instances:
                del self._series[asset_id]
                continue
            found = stored.get(asset_id, ())
            past = found if isinstance(found, Series) else list(found)
            if series.at == -FOREVER:
                series.begin_at(past)
            for instance in gained[asset_id]:
                instance.began_at = series.at if series.at != -FOREVER else None
            self._arrange(series, past)

    def _arrange(self, series: Series, past: Past | Series) -> None:
        """Give the series the windows that its instances want, new ones filled from the past, and bind its tests to
        them."""
        known = dict(zip(series.keys, series.windows, strict=True))
        series.keys = tuple(sorted(series.keys_wanted()))
        series.windows = tuple(known[key] if key in known else _filled(series, key, past) for key in series.keys)
        self._bind(series)

    def _bind(self, series: Series) -> None:
        self._count_hours(series)
        places = {key: index for index, key in enumerate(series.keys)}
        for instance in series.instances:
            instance.bound = self._bound_to(instance, places)
            if instance.deadline != FOREVER or (instance.spec is not None and is_clocked(instance.spec.condition)):
                self._clocked[instance.asset_id, instance.rule_id] = instance
                self._clocked_order = None
        series.evaluating = [self._evaluating_of(one) for one in series.instances]
        series.deadline = min((one.deadline for one in series.instances), default=FOREVER)

    def _evaluating_of(self, instance: Instance) -> Evaluating:
        """Return what the hot loop reads of it: the same few tuples for all assets, for the processor's cache."""
        evaluating = (instance.bound.test, *instance.mode)
        return self._evaluating.setdefault(evaluating, evaluating)

    def _bound_to(self, instance: Instance, places: Mapping[WindowKey, int]) -> Bound:
        """Return the condition bound to these places: one for all assets whose windows stand alike."""
        if instance.spec is None:
            return instance.bound
        condition = instance.spec.condition
        key = (instance.version_id, *(places[key] for key in condition.window_keys()))
        if key not in self._bound:
            self._bound[key] = condition.bind(places)
        return self._bound[key]

    def _refill(self, many: Sequence[Series], history: History) -> None:
        wanted = {one.asset_id: looking_back(one.keys, by_hours=one.calendar != "") for one in many}
        stored = history(wanted) if many else {}
        for series in many:
            found = stored.get(series.asset_id, ())
            past = found if isinstance(found, Series) else list(found)
            series.begin_at(past)
            series.windows = tuple(_filled(series, key, past) for key in series.keys)
            self._count_hours(series)

    def _count_hours(self, series: Series) -> None:
        for window in series.windows:
            if isinstance(window, Run):
                window.hours = partial(self.open_between, series.calendar) if series.calendar else None

    def _split(self, series: Series, entry: SplitEntry, history: History, evaluation: Evaluation) -> None:
        """Read the past of an asset anew, and leave no instance with what it knows of prices from before the split."""
        self._refill([series], history)
        for instance in series.instances:
            began_before = instance.began_at is not None and instance.began_at < entry.effective_at
            if instance.spec is None or not began_before:
                continue
            moment = max(entry.as_of, instance.moment)
            if has_price(instance.spec.condition):
                steps = instance.end(PAUSED, Reason.SPLIT, moment, detail=entry.ratio)
                instance.unknown = None
                self._note(instance, steps, None, evaluation)
            elif self._opened_by_split(instance, entry):
                steps = instance.end(INACTIVE, Reason.SPLIT, moment, detail=entry.ratio)
                instance.settle()
                self._note(instance, steps, None, evaluation)
                series.evaluating[series.instances.index(instance)] = self._evaluating_of(instance)

    @staticmethod
    def _opened_by_split(instance: Instance, entry: SplitEntry) -> bool:
        """Tell whether an episode lasts that compared prices from before the split with those from after it."""
        if instance.state not in OPEN or instance.suppressed or instance.opened_at < entry.effective_at:
            return False
        return instance.spec is not None and compares_prices(instance.spec.condition)

    def status_of_instance(self, rule_id: int, asset_id: int) -> InstanceStatus | None:
        """Return how far one instance has come and what its condition sees, or None where the rule is not evaluated
        there."""
        instance = self._instances.get(rule_id, {}).get(asset_id)
        if instance is None:
            return None
        series = self._series.get(asset_id)
        can_explain = instance.is_live and series is not None and series.at != -FOREVER
        if can_explain and series is not None and any(window.at == -FOREVER for window in series.windows):
            # A rule came when the quotes that would fill its windows were kept no more.
            can_explain = False
        return InstanceStatus(
            instance.version_id,
            instance.state,
            instance.since,
            instance.opened_at,
            instance.suppressed,
            instance.reason,
            instance.detail,
            instance.unknown,
            _evidence(instance, series) if can_explain and series is not None else None,
        )

    def dump(self) -> dict[str, Any]:
        """Return everything that `load` needs, as plain data (lists, strings and whole numbers)."""
        return {
            "format": FORMAT,
            "seq": self.seq,
            "series": [
                [
                    series.asset_id,
                    series.at,
                    series.price,
                    series.before_at,
                    series.before_price,
                    series.switch,
                    series.calendar,
                    [[*key, window.dump()] for key, window in zip(series.keys, series.windows, strict=True)],
                ]
                for series in self._series.values()
            ],
            "instances": [
                [rule_id, instance.version_id, asset_id, instance.dump()]
                for rule_id, instances in self._instances.items()
                for asset_id, instance in instances.items()
            ],
        }

    @classmethod
    def load(
        cls,
        state: Mapping[str, Any],
        specs: Mapping[int, RuleSpec | RuleInvalid],
        *,
        only: Collection[int] | None = None,
    ) -> "Engine":
        """Return the engine that was dumped. specs: version id -> what it says; only: assets that go on, the others
        are left out. Raises ValueError for another format."""
        if state.get("format") != FORMAT:
            raise ValueError(f"checkpoint format {state.get('format')!r}")
        engine = cls()
        engine.seq = state["seq"]
        for asset_id, at, price, before_at, before_price, switch, calendar, windows in state["series"]:
            if only is not None and asset_id not in only:
                continue
            series = engine._series[asset_id] = Series(asset_id)
            series.at, series.price, series.before_at, series.before_price = at, price, before_at, before_price
            if switch is not None:
                since, before, now, (numerator, denominator) = switch
                series.begin_switch(Switch(since, before, now, (numerator, denominator)))
            series.calendar = calendar
            series.keys = tuple((name, width) for name, width, _ in windows)
            series.windows = tuple(new_window(key) for key in series.keys)
            for window, (_, _, dumped) in zip(series.windows, windows, strict=True):
                window.load(dumped)
        live: dict[int, list[Instance]] = {}
        for rule_id, version_id, asset_id, dumped in state["instances"]:
            if only is not None and asset_id not in only:
                continue
            spec = specs.get(version_id)
            instance = Instance(rule_id, version_id, asset_id, spec if isinstance(spec, RuleSpec) else None)
            instance.load(dumped)
            if instance.spec is None:
                # What was read when it began can be read no more: it is in ERROR when it is evaluated next.
                instance.bound = _raising(spec if isinstance(spec, RuleInvalid) else RuleInvalid("rule", "is missing"))
            engine._instances.setdefault(rule_id, {})[asset_id] = instance
            if instance.is_live:
                live.setdefault(asset_id, []).append(instance)
        for asset_id, instances in live.items():
            series = engine._series[asset_id]
            series.instances = tuple(sorted(instances, key=lambda one: one.rule_id))
            engine._bind(series)
        return engine


def _evidence(instance: Instance, series: Series) -> dict[str, Any]:
    """Return what the instance's condition sees at the newest quote."""
    firing, _ = instance.mode
    evidence = instance.bound.explain(series.price, series.windows, firing)
    evidence |= {"price": from_units(series.price), "at": write_moment(series.at)}
    if series.before_at != -FOREVER:
        evidence["previous"] = {"price": from_units(series.before_price), "at": write_moment(series.before_at)}
    switch = series.switch
    if switch is not None:
        names = {"from": switch.before, "to": switch.now}
        if _compares_across(evidence, switch.at):
            evidence["switched"] = names | {"at": write_moment(switch.at), "factor": write_factor(*switch.factor)}
        elif series.is_switched:
            evidence["switched"] = names
    return evidence


def _compares_across(seen: Mapping[str, Any], at: int) -> bool:
    """Tell whether a part of a condition compared the newest price with one from before `at`."""
    members = seen.get("all") or seen.get("any") or ([seen["not"]] if "not" in seen else [])
    if members:
        return any(_compares_across(member, at) for member in members)
    # A mean is one of the whole window.
    oldest = seen["reference"]["at"] if "reference" in seen else seen["window_from"] if "mean" in seen else None
    return oldest is not None and epoch_microseconds(datetime.fromisoformat(oldest)) < at


def _filled(series: Series, key: WindowKey, past: Past | Series) -> Window:
    """Return a window that has seen this past, which knows no price before a quote of another provider."""
    if isinstance(past, Series):
        window = new_window(key)
        if not isinstance(window, Newest):
            window.load(past.windows[past.keys.index(key)].dump())
            return window
        # As a path gives it: the clock has not been looked at.
        newest = ((past.before_at, past.before_price), (past.at, past.price))
        past = [quote for quote in newest if quote[0] != -FOREVER]
    window = filled(key, past)
    if isinstance(window, Newest) and series.is_switched:
        window.before = None
    return window


def _raising(error: Exception) -> Bound:
    def fail(*_: Any) -> Any:
        raise error

    return Bound(fail, fail, fail)
