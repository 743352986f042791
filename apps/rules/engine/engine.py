"""The engine of one feed: reads the log entry by entry and says which instances change state. No clock, no I/O."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from apps.market import calendars
from apps.market.domain import Switch
from apps.rules.engine import core
from apps.rules.engine.bindings import Bindings, raising
from apps.rules.engine.codes import DETAIL_LONGEST, Reason, Unknown
from apps.rules.engine.conditions import compares_prices, counts_hours, has_price
from apps.rules.engine.entries import (
    Entry,
    EvaluatedQuote,
    HistoryEntry,
    QuotesEntry,
    RuleChange,
    RulesEntry,
    SplitEntry,
)
from apps.rules.engine.instance import (
    ENDED,
    ERROR,
    INACTIVE,
    OPEN,
    PAUSED,
    Evaluation,
    Instance,
    InstanceStatus,
    Transition,
)
from apps.rules.engine.leaves.binding import Verdict
from apps.rules.engine.pure import FOREVER
from apps.rules.engine.rule import RuleSpec
from apps.rules.engine.series import History, Past, Series, evidence_of, fill, past_of
from apps.rules.engine.windows import Newest, Run, WindowKey, looking_back, push_into
from apps.rules.engine.written import RuleInvalid

FORMAT = 7


class Engine:
    """Evaluates one feed. `seq` is the last entry it has read; entries are read in order, without gaps.

    checkpoint: (seq, as_of) of the feed's last one that is stored; None: who stores them has not looked yet.
    open_between: (calendar, begin, end) -> how much of that time counts; tests have calendars of their own.
    """

    open_between: Callable[[str, int, int], int] = staticmethod(calendars.open_between)

    def __init__(self) -> None:
        self.seq = 0
        self.checkpoint: tuple[int, datetime] | None = None
        self._series: dict[int, Series] = {}
        self._instances: dict[int, dict[int, Instance]] = {}  # rule id -> asset id -> instance, ended ones too
        self._clocked: dict[tuple[int, int], Instance] = {}  # (asset id, rule id): evaluated at each as_of as well
        self._clocked_order: list[tuple[int, int]] | None = None
        self._bindings = Bindings()

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
        def expire(series: Series, at: int) -> None:
            for instance in series.instances:
                self._evaluate_instance(series, instance, at, evaluation)

        def step(series: Series, instance: Instance, verdict: Verdict, at: int) -> None:
            self._step(series, instance, verdict, at, evaluation)

        def fail(series: Series, instance: Instance, error: Exception, at: int) -> None:
            self._fail(instance, error, at, evaluation)

        core.evaluate_quotes(self._series, quotes, push_into, expire, step, fail)

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

    def _step(self, series: Series, instance: Instance, verdict: Verdict, moment: int, evaluation: Evaluation) -> None:
        """Take a verdict that may change something, and note what did."""
        unknown = verdict if isinstance(verdict, Unknown) else None
        if unknown != instance.unknown:
            evaluation.touched[instance.rule_id, instance.asset_id] = instance
        if instance.began_at is None:
            instance.began_at = series.at
        evidence = None
        steps = [] if isinstance(verdict, Unknown) else instance.step(verdict, max(moment, instance.moment))
        if steps:
            evidence = evidence_of(instance, series)
        instance.unknown = unknown
        instance.settle()
        if steps:
            self._note(instance, steps, evidence, evaluation)
        if instance.is_live:
            series.evaluating[series.instances.index(instance)] = self._bindings.evaluating(instance)

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
        # Versions that are no longer evaluated go with it; the rest is bound anew as it is wanted.
        self._bindings = Bindings()
        gained: dict[int, list[Instance]] = {}
        rearranged: set[int] = set()
        for change in entry.changes:
            chosen = set(change.asset_ids) if change.version_id is not None else set()
            instances = self._instances.setdefault(change.rule_id, {})
            for asset_id, instance in sorted(instances.items()):
                goes_on = instance.version_id == change.version_id and asset_id in chosen
                is_resumed = change.resumes and instance.state == PAUSED
                if goes_on and not is_resumed:
                    continue
                del instances[asset_id]
                rearranged.add(asset_id)
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
                rearranged.add(asset_id)
                gained.setdefault(asset_id, [])
        rest = {pk: new for pk, new in gained.items() if pk in rearranged or not self._join(pk, new)}
        self._admit(rest, calendars_now, history)
        for rule_id in [rule_id for rule_id, instances in self._instances.items() if not instances]:
            del self._instances[rule_id]

    def _join(self, asset_id: int, new: Sequence[Instance]) -> bool:
        """Begin to evaluate new instances, where their asset has all of their windows already and they come after the
        others; tell whether that is so."""
        series = self._series.get(asset_id)
        new = sorted(new, key=lambda one: one.rule_id)
        if series is None or not series.instances or series.instances[-1].rule_id >= new[0].rule_id:
            return False
        if any(key not in series.keys for one in new if one.spec for key in one.spec.window_keys):
            return False
        for instance in new:
            instance.began_at = series.at if series.at != -FOREVER else None
        series.instances += tuple(new)
        self._bind(series, new)
        series.evaluating += [self._bindings.evaluating(one) for one in new]
        series.deadline = min(series.deadline, *(one.deadline for one in new))
        return True

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
            past = past_of(asset_id, stored)
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
        series.windows = tuple(known[key] if key in known else fill(series, key, past) for key in series.keys)
        self._bind_all(series)

    def _bind_all(self, series: Series) -> None:
        self._count_hours(series)
        self._bind(series, series.instances)
        series.evaluating = [self._bindings.evaluating(one) for one in series.instances]
        series.deadline = min((one.deadline for one in series.instances), default=FOREVER)

    def _bind(self, series: Series, instances: Iterable[Instance]) -> None:
        """Bind these instances of the series to its windows."""
        for instance in instances:
            instance.bound = self._bindings.bound(instance, series.keys)
            if instance.deadline != FOREVER or (instance.spec is not None and instance.spec.is_clocked):
                self._clocked[instance.asset_id, instance.rule_id] = instance
                self._clocked_order = None

    def _refill(self, many: Sequence[Series], history: History) -> None:
        wanted = {one.asset_id: looking_back(one.keys, by_hours=one.calendar != "") for one in many}
        stored = history(wanted) if many else {}
        for series in many:
            past = past_of(series.asset_id, stored)
            series.begin_at(past)
            series.windows = tuple(fill(series, key, past) for key in series.keys)
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
                series.evaluating[series.instances.index(instance)] = self._bindings.evaluating(instance)

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
        evidence = None
        # A window may be empty: a rule came when the quotes that would fill it were kept no more.
        if instance.is_live and series is not None and -FOREVER not in (series.at, *(one.at for one in series.windows)):
            evidence = evidence_of(instance, series)
        return instance.status(evidence)

    def dump(self) -> dict[str, Any]:
        """Return everything that `load` needs, as plain data (lists, strings and whole numbers)."""
        return {
            "format": FORMAT,
            "seq": self.seq,
            "series": [[series.asset_id, *series.dump()] for series in self._series.values()],
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
        for asset_id, *dumped in state["series"]:
            if only is None or asset_id in only:
                series = engine._series[asset_id] = Series(asset_id)
                series.load(dumped)
        live: dict[int, list[Instance]] = {}
        for rule_id, version_id, asset_id, dumped in state["instances"]:
            if only is not None and asset_id not in only:
                continue
            spec = specs.get(version_id)
            instance = Instance(rule_id, version_id, asset_id, spec if isinstance(spec, RuleSpec) else None)
            instance.load(dumped)
            if instance.spec is None:
                # What was read when it began can be read no more: it is in ERROR when it is evaluated next.
                instance.bound = raising(spec if isinstance(spec, RuleInvalid) else RuleInvalid("rule", "is missing"))
            engine._instances.setdefault(rule_id, {})[asset_id] = instance
            if instance.is_live:
                live.setdefault(asset_id, []).append(instance)
        for asset_id, instances in live.items():
            series = engine._series[asset_id]
            series.instances = tuple(sorted(instances, key=lambda one: one.rule_id))
            engine._bind_all(series)
        return engine
