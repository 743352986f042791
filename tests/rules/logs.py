"""Random logs for the engine: prices, times, rules and cuts chosen where the edges are, and a store to fill windows
from."""

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

from apps.rules.engine import engine as engines
from apps.rules.engine.conditions import from_units, write_moment
from apps.rules.engine.instance import Transition
from apps.rules.engine.rule import RuleSpec
from tests.rules import oracle

SECOND = 1_000_000
START = 1_678_500_000 * SECOND  # 2023-03-11 02:00:00 UTC, on every grid up to an hour
ASSETS = (1, 2)

# Few values, close together, so that equality and small percents happen often; and the two ends of the range.
prices = st.one_of(
    st.sampled_from([100, 100, 101, 99, 110, 90, 105, 95, 111, 89]).map(lambda whole: whole * 10**10),
    st.sampled_from([1, 10**22, 10**10, 10**10 + 1, 3 * 10**9]),
)
# Steps that land on, just before and just after the grid points and the edges of the windows below.
steps = st.one_of(
    st.sampled_from([1, 5, 10, 15, 30, 60, 120, 300, 600]).map(lambda seconds: seconds * SECOND),
    st.sampled_from([1, SECOND - 1, SECOND + 1, 60 * SECOND - 1, 60 * SECOND + 1]),
    st.integers(min_value=1, max_value=900 * SECOND),
)
windows = st.sampled_from(["10s", "59s", "60s", "5m", "14m", "1h"])
percents = st.sampled_from(["0.0000000001", "1", "5", "10", "11.1111111111", "50"])
durations = st.sampled_from(["0s", "0s", "1s", "30s", "2m"])


@st.composite
def conditions(draw: st.DrawFn) -> dict[str, Any]:
    """A condition in the written form, with a recovery now and then."""
    kind = draw(st.sampled_from(["above", "below", "rises", "falls", "above_average", "below_average"]))
    with_recovery = draw(st.booleans())
    if kind in ("above", "below"):
        level = draw(st.sampled_from(["100", "100.0000000001", "105", "0.3"]))
        condition = {"kind": kind, "level": level}
        weaker = {"above": "0.25", "below": "106"}[kind]
        return condition | ({"recovery": weaker} if with_recovery else {})
    condition = {"kind": kind, "percent": draw(percents), "window": draw(windows)}
    if kind in ("rises", "falls"):
        condition["ref"] = draw(st.sampled_from(["window_extreme", "window_start"]))
        return condition | ({"recovery": "0.0000000001"} if with_recovery else {})
    condition["min_coverage"] = draw(st.sampled_from(["0.5", "1", "0.0000000001", "0.9"]))
    if draw(st.booleans()):
        condition["percent"] = "0"
    return condition | ({"recovery": "0"} if with_recovery else {})


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """The part of a rule that the engine judges, in the written form."""
    document = {"condition": draw(conditions()), "for": draw(durations), "keep_firing": draw(durations)}
    document |= {"cooldown": draw(durations), "trigger": draw(st.sampled_from(["edge", "edge", "edge", "once"]))}
    if draw(st.integers(0, 3)) == 0:
        document["expires_at"] = write_moment(START + draw(st.integers(0, 3600)) * SECOND)
    return document


def put_on_the_clock(draw: st.DrawFn, log: Sequence[oracle.Entry]) -> None:
    """Move expiries onto moments that are judged, and waits onto the time between two of them, in half of the rules.

    That is where `>=` and `>` differ; drawn freely, they hardly ever fall together.
    """
    quoted = {at for entry in log if not isinstance(entry, oracle.RulesEntry) for _, at, _ in entry.quotes}
    moments = sorted(quoted | {entry.as_of for entry in log})
    apart = {later - earlier for place, later in enumerate(moments) for earlier in moments[max(place - 3, 0) : place]}
    waits = sorted(wait // SECOND for wait in apart if wait % SECOND == 0)
    changes = [change for entry in log if isinstance(entry, oracle.RulesEntry) for change in entry.changes]
    for document in [change.document for change in changes if change.document]:
        if "expires_at" in document and draw(st.booleans()):
            document["expires_at"] = write_moment(draw(st.sampled_from(moments)))
        if waits and draw(st.booleans()):
            document[draw(st.sampled_from(["for", "keep_firing", "cooldown"]))] = f"{draw(st.sampled_from(waits))}s"


@st.composite
def logs(draw: st.DrawFn, *, length: int = 30) -> list[oracle.Entry]:
    """A log: rules first, then quotes, changes of rules and pieces of history, with late and equal times among them."""
    clock = {asset: START + draw(steps) for asset in ASSETS}
    # A market of one or two prices now and then: a constant price is where averages are compared at their edge.
    prices_here = draw(st.one_of(st.just(prices), st.lists(prices, min_size=1, max_size=2).map(st.sampled_from)))
    version = 0
    log: list[oracle.Entry] = []
    for seq in range(1, draw(st.integers(4, length)) + 1):
        as_of = max(clock.values())
        kind = "rules" if seq == 1 else draw(st.sampled_from(["quotes"] * 8 + ["rules", "history"]))
        if kind == "rules":
            changes = []
            for rule_id in draw(st.lists(st.integers(1, 4), min_size=1, max_size=3, unique=True)):
                version += 1
                assets = tuple(draw(st.lists(st.sampled_from(ASSETS), unique=True, max_size=2)))
                gone = draw(st.integers(0, 5)) == 0
                changes.append(
                    oracle.Change(rule_id, None, None, ())
                    if gone
                    else oracle.Change(rule_id, version, draw(documents()), assets)
                )
            log.append(oracle.RulesEntry(seq, as_of, tuple(changes)))
            continue
        quotes = []
        if kind == "history":
            asset = draw(st.sampled_from(ASSETS))
            times = draw(st.lists(steps, min_size=1, max_size=4, unique=True))
            quotes = sorted((asset, clock[asset] - back * 3 + 7, draw(prices_here)) for back in times)
            quotes = list({(asset, at): (asset, at, price) for asset, at, price in quotes}.values())
            clock[asset] = max(clock[asset], *(at for _, at, _ in quotes))
            log.append(oracle.HistoryEntry(seq, as_of, tuple(quotes)))
            continue
        for _ in range(draw(st.integers(0, 4))):
            asset = draw(st.sampled_from(ASSETS))
            back = draw(st.sampled_from([0] * 9 + [1]))
            if back:  # late, or a second quote of the same time
                at = clock[asset] - draw(st.sampled_from([0, 1, SECOND]))
            else:
                at = clock[asset] = clock[asset] + draw(steps)
            quotes.append((asset, at, draw(prices_here)))
        quotes.sort(key=lambda quote: (quote[1], quote[0]))
        log.append(oracle.QuotesEntry(seq, max(as_of, *clock.values()), tuple(quotes)))
    put_on_the_clock(draw, log)
    return log


class Store:
    """What is stored at each place of a log: the same answer as the project's query, from a plain list."""

    def __init__(self, log: Sequence[oracle.Entry]) -> None:
        self.known: dict[int, list[tuple[int, int, int]]] = {asset: [] for asset in ASSETS}  # seq, at, price
        for entry in log:
            if isinstance(entry, oracle.RulesEntry):
                continue
            for asset, at, price in entry.quotes:
                path = self.known[asset]
                newest = max((known_at for _, known_at, _ in path), default=-1)
                is_history = isinstance(entry, oracle.HistoryEntry)
                if at > newest or (is_history and at not in [known_at for _, known_at, _ in path]):
                    path.append((entry.seq, at, price))

    def before(self, seq: int) -> engines.History:
        """Return the reader for the entry `seq`: a piece of history sees itself, a change of rules what is before
        it."""

        def read(reach: Mapping[int, int]) -> Mapping[int, Iterable[tuple[int, int]]]:
            found = {}
            for asset, back in reach.items():
                path = sorted((at, price) for known_seq, at, price in self.known[asset] if known_seq <= seq)
                if path:
                    edge = path[-1][0] - back
                    first = max((place for place, (at, _) in enumerate(path) if at <= edge), default=0)
                    found[asset] = path[min(first, max(len(path) - 2, 0)) :]
            return found

        return read


def entry_of(entry: oracle.Entry) -> engines.Entry:
    """Return the oracle's entry as the engine reads it."""
    if isinstance(entry, oracle.QuotesEntry):
        return engines.QuotesEntry(entry.seq, entry.as_of, entry.quotes)
    if isinstance(entry, oracle.HistoryEntry):
        return engines.HistoryEntry(entry.seq, entry.as_of, sorted({asset for asset, _, _ in entry.quotes}))
    changes = [
        engines.RuleChange(
            change.rule_id, change.version_id, spec_of(change.document) if change.document else None, change.asset_ids
        )
        for change in entry.changes
    ]
    return engines.RulesEntry(entry.seq, entry.as_of, changes)


def spec_of(document: Mapping[str, Any]) -> RuleSpec:
    """Return the parsed rule; the assets come with the change."""
    return RuleSpec.read({"assets": ["ANY"], **document})


def made(seq: int, transition: Transition) -> tuple[Any, ...]:
    """Return what is compared of a transition, evidence included."""
    evidence = transition.evidence or {}
    known = {key: evidence.get(key) for key in ("price", "at", "reference", "mean", "coverage", "window_from")}
    return (
        seq,
        transition.rule_id,
        transition.version_id,
        transition.asset_id,
        transition.from_state,
        transition.to_state,
        transition.moment,
        transition.reason,
        transition.suppressed,
        tuple((key, str(value)) for key, value in known.items() if value is not None),
    )


def expected(one: oracle.Expected) -> tuple[Any, ...]:
    """Return the oracle's transition in the same shape."""
    operands = dict(one.operands)
    known: dict[str, Any] = {}
    if operands:
        known = {"price": from_units(operands["price"]), "at": write_moment(operands["at"])}
        if operands.get("reference"):
            price, at = operands["reference"]
            known["reference"] = {"at": write_moment(at), "price": from_units(price)}
        if operands.get("mean") is not None:
            known["mean"] = from_units(operands["mean"])
        if operands.get("coverage") is not None:
            whole, part = divmod(round(Fraction(operands["coverage"]) * 10_000), 10_000)
            known["coverage"] = f"{whole}.{part:04d}".rstrip("0").rstrip(".")
        if operands.get("window_from") is not None:
            known["window_from"] = write_moment(operands["window_from"])
    return (
        one.seq,
        one.rule_id,
        one.version_id,
        one.asset_id,
        one.from_state,
        one.to_state,
        one.moment,
        one.reason,
        one.suppressed,
        tuple((key, str(value)) for key, value in known.items()),
    )
