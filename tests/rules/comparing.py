"""The engine on logs of the oracle, and the steps of both in one form, so that a test can compare them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

from apps.market.domain import PathItem, Switch
from apps.rules.engine import engine as engines
from apps.rules.engine import entries, series
from apps.rules.engine.codes import Unknown
from apps.rules.engine.instance import Instance, InstanceStatus, Transition
from apps.rules.engine.rule import RuleSpec
from apps.rules.engine.windows import WindowKey, reach_of
from apps.rules.engine.written import from_units, write_moment
from tests.rules import oracle, oracle_conditions
from tests.rules.logs import ALWAYS, ASSETS, COMPARED, open_between


class Engine(engines.Engine):
    """The engine, with the invented calendars."""

    open_between = staticmethod(open_between)


class Store:
    """What is stored at each place of a log: the same answer as the project's query, from a plain list."""

    def __init__(self, log: Sequence[oracle.Entry]) -> None:
        # asset_id to rows: from which entry on, time, price, and until which entry.
        self.known: dict[int, list[tuple[int, int, int, float]]] = {asset: [] for asset in ASSETS}
        # From which entry on, the change, and until which entry.
        self.switches: dict[int, list[tuple[int, Switch, float]]] = {asset: [] for asset in ASSETS}
        for entry in log:
            if isinstance(entry, oracle.RulesEntry):
                continue
            for one in entry.switches if isinstance(entry, oracle.QuotesEntry) else ():
                self.switches[one.asset_id].append((entry.seq, switch_of(one), ALWAYS))
            if isinstance(entry, oracle.CorrectionEntry):
                gone = {*entry.removed, *((asset, at) for asset, at, _ in entry.quotes)}
                for asset, path in self.known.items():
                    for index, (seq, at, price, until) in enumerate(path):
                        if (asset, at) in gone and until == ALWAYS:
                            path[index] = (seq, at, price, entry.seq)
            for asset, at, price in entry.quotes:
                path = self.known[asset]
                stored = [known_at for _, known_at, _, until in path if until == ALWAYS]
                is_past = not isinstance(entry, oracle.QuotesEntry)
                if at > max(stored, default=-1) or (is_past and at not in stored):
                    path.append((entry.seq, at, price, ALWAYS))
            if isinstance(entry, oracle.CorrectionEntry):
                for asset, switches in self.switches.items():
                    newest = max((at for _, at, _, until in self.known[asset] if until == ALWAYS), default=-1)
                    self.switches[asset] = [
                        (since, one, entry.seq if one.at > newest and until == ALWAYS else until)
                        for since, one, until in switches
                    ]
        self.splits = [entry for entry in log if isinstance(entry, oracle.SplitEntry)]

    def counted(self, asset: int, at: int, price: int, *, seq: int) -> int:
        """Return a price as it counts at the entry `seq`."""
        return oracle.counted(oracle_conditions.Quote(asset, at, price), [one for one in self.splits if one.seq <= seq])

    def entry_of(self, entry: oracle.Entry) -> entries.Entry:
        """Return the oracle's entry as the engine reads it."""
        if isinstance(entry, oracle.QuotesEntry):
            quotes = tuple(
                (asset, at, self.counted(asset, at, price, seq=entry.seq)) for asset, at, price in entry.quotes
            )
            switched = {(one.asset_id, one.at): switch_of(one) for one in entry.switches}
            return entries.QuotesEntry(entry.seq, entry.as_of, quotes, switched)
        return _entry_of(entry)

    def before(self, seq: int) -> series.History:
        """Return the reader for the entry `seq`: a piece of history sees itself, a change of rules what is before
        it."""

        def read(wanted: Mapping[int, Collection[WindowKey]]) -> Mapping[int, Iterable[PathItem]]:
            found: dict[int, list[PathItem]] = {}
            for asset, keys in wanted.items():
                back = reach_of(keys)
                known = [(at, price) for since, at, price, until in self.known[asset] if since <= seq < until]
                path = sorted((at, self.counted(asset, at, price, seq=seq)) for at, price in known)
                if path:
                    edge = path[-1][0] - back
                    first = max((index for index, (at, _) in enumerate(path) if at <= edge), default=0)
                    path = path[min(first, max(len(path) - 2, 0)) :]
                    switches = [switch for since, switch, until in self.switches[asset] if since <= seq < until]
                    in_force = [switch for switch in switches if switch.at <= path[0][0]][-1:]
                    later = [switch for switch in switches if switch.at > path[0][0]]
                    # At one time the change stands before its quote.
                    items = [*path, *in_force, *later]
                    found[asset] = sorted(items, key=lambda item: (item[0], not isinstance(item, Switch)))
            return found

        return read


def switch_of(switch: oracle_conditions.Switch) -> Switch:
    """Return the oracle's change of provider as the engine reads it."""
    return Switch(switch.at, switch.before, switch.now, switch.factor.as_integer_ratio())


def _entry_of(
    entry: oracle.HistoryEntry | oracle.CorrectionEntry | oracle.RulesEntry | oracle.SplitEntry,
) -> entries.Entry:
    if isinstance(entry, oracle.SplitEntry):
        ratio = f"{entry.numerator}:{entry.denominator}"
        return entries.SplitEntry(entry.seq, entry.as_of, entry.asset_id, entry.effective_at, ratio)
    if isinstance(entry, oracle.HistoryEntry):
        return entries.HistoryEntry(entry.seq, entry.as_of, sorted({asset for asset, _, _ in entry.quotes}))
    if isinstance(entry, oracle.CorrectionEntry):
        corrected = {asset for asset, _ in entry.removed} | {asset for asset, _, _ in entry.quotes}
        return entries.HistoryEntry(entry.seq, entry.as_of, sorted(corrected))
    changes = [
        entries.RuleChange(
            change.rule_id,
            change.version_id,
            spec_of(change.document) if change.document else None,
            change.asset_ids,
            change.calendars,
            change.resumes,
        )
        for change in entry.changes
    ]
    return entries.RulesEntry(entry.seq, entry.as_of, changes)


def spec_of(document: Mapping[str, Any]) -> RuleSpec:
    """Return the parsed rule; the assets come with the change."""
    return RuleSpec.read({"assets": ["ANY"], **document})


def leaves_in(evidence: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return what the evidence says of each leaf, in the order in which they are written."""
    if "kind" in evidence:
        return [evidence]
    members = evidence.get("all") or evidence.get("any") or [evidence["not"]]
    return [leaf for member in members for leaf in leaves_in(member)]


def made(seq: int, transition: Transition) -> tuple[Any, ...]:
    """Return what is compared of a transition, evidence included."""
    evidence = transition.evidence
    seen: list[Any] = []
    if evidence is not None:
        switched = evidence.get("switched")
        seen = [{key: evidence[key] for key in ("price", "at", "result")} | {"previous": evidence.get("previous")}]
        seen[0]["switched"] = {key: switched[key] for key in switched if key != "factor"} if switched else None
        seen += [{key: leaf[key] for key in COMPARED if key in leaf} for leaf in leaves_in(evidence)]
    who = (transition.rule_id, transition.version_id, transition.asset_id)
    what = (transition.from_state, transition.to_state, transition.moment, transition.reason, transition.suppressed)
    return (seq, *who, *what, seen)


def expected(one: oracle.Expected) -> tuple[Any, ...]:
    """Return the oracle's transition in the same shape."""
    seen: list[Any] = []
    if one.look is not None:
        newest, *before = one.look.quotes[-1:-3:-1]
        previous = {"price": from_units(before[0].price), "at": write_moment(before[0].at)} if before else None
        truth = oracle_conditions.evaluate(one.condition, look=one.look)
        seen = [{"price": from_units(newest.price), "at": write_moment(newest.at), "result": truth}]
        seen[0]["previous"] = previous
        switched = oracle_conditions.names_switch(one.condition, look=one.look)
        is_across = switched is not None and "at" in switched
        seen[0]["switched"] = switched | {"at": write_moment(switched["at"])} if is_across else switched
        answers = oracle_conditions.answers_to(one.condition, look=one.look)
        seen += [{"kind": leaf.kind, "result": leaf.truth} | _written(leaf.operands) for leaf in answers]
    who = (one.rule_id, one.version_id, one.asset_id)
    return (one.seq, *who, one.from_state, one.to_state, one.moment, one.reason, one.suppressed, seen)


def _written(operands: Mapping[str, Any]) -> dict[str, Any]:
    written: dict[str, Any] = {}
    if "reference" in operands:
        price, at = operands["reference"]
        # A price has no other digits than those that were given; in the terms of another provider it is rounded.
        written["reference"] = {
            "at": write_moment(at),
            "price": from_units(price) if isinstance(price, int) else mean_of(price),
        }
    if "before" in operands:
        written["before"] = from_units(operands["before"])
    if "mean" in operands:
        written["mean"] = mean_of(operands["mean"])
    if "difference" in operands:
        written["difference"] = mean_of(operands["difference"])
    if "coverage" in operands:
        whole, part = divmod(round(Fraction(operands["coverage"]) * 10_000), 10_000)
        written["coverage"] = f"{whole}.{part:04d}".rstrip("0").rstrip(".")
    if "open_seconds" in operands:
        written["open_seconds"] = operands["open_seconds"]
    for key in ("window_from", "newest_at", "clock"):
        if key in operands:
            written[key] = write_moment(operands[key])
    return written


def mean_of(units: Fraction) -> str:
    """Return a mean in the written form: 15 significant digits, and 18 decimals at most."""
    mean = Fraction(units) / 10**18
    decimals = next((count for count in range(-30, 18) if abs(mean) * Fraction(10) ** count >= 10**14), 18)
    if decimals <= 0:
        return str(round(mean / 10**-decimals) * 10**-decimals)
    digits = f"{abs(round(mean * 10**decimals)):0{decimals + 1}d}"
    sign = "-" if mean < 0 else ""
    return sign + f"{digits[:-decimals]}.{digits[-decimals:]}".rstrip("0").rstrip(".")


def state_of(one: Instance | InstanceStatus) -> tuple[Any, ...]:
    """Return what the owner can see of an instance: version, state, since when, suppressed, known or not."""
    since = None if one.since < 0 else one.since
    answer = {None: "known", Unknown.NOT_EVALUATED: "not evaluated"}.get(one.unknown, "unknown")
    return (one.version_id, one.state, since, one.suppressed, answer)


def expected_state(instance: oracle.Instance) -> tuple[Any, ...]:
    """Return the oracle's instance in the same shape."""
    return (instance.version_id, instance.state, instance.since, instance.is_suppressed, instance.newest_answer)


def units(price: str) -> int:
    """Return a price in whole units of 1e-18."""
    return int(Decimal(price) * 10**18)
