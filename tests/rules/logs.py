"""Random logs for the engine: prices, times, rules and cuts chosen where the edges are."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from hypothesis import strategies as st

from apps.market.calendars import Hours
from apps.rules.engine.written import from_units, write_moment
from tests.rules import oracle, oracle_conditions

SECOND = 1_000_000
MINUTE, HOUR, DAY = 60 * SECOND, 3_600 * SECOND, 86_400 * SECOND
START = 1_678_500_000 * SECOND  # 2023-03-11 02:00:00 UTC, on every grid up to an hour
# And an hour before a clock changes somewhere: Europe on 2026-03-29 and 2026-10-25, America on 2026-11-01.
STARTS = (START, 1_774_742_400 * SECOND, 1_792_886_400 * SECOND, 1_793_509_200 * SECOND)
ASSETS = (1, 2)
RATIOS = ((2, 1), (20, 1), (1, 10), (3, 2), (1, 3))
ALWAYS = float("inf")
# Two calendars that no exchange has: open for 10 of 15 minutes, for 12 hours; and for two spans each day, for 30 days.
CALENDARS: oracle.Calendars = {
    "BUSY": [(start + n * 15 * MINUTE, start + (n * 15 + 10) * MINUTE) for start in STARTS for n in range(48)],
    "DAYS": [
        (day * DAY + opens * HOUR, day * DAY + closes * HOUR)
        for day in sorted({start // DAY + n for start in STARTS for n in range(-1, 30)})
        for opens, closes in ((1, 2), (3, 8))
    ],
}
HOURS = {code: Hours.of(sessions, ends=[close for _, close in sessions]) for code, sessions in CALENDARS.items()}
GRIDS = (SECOND, 5 * SECOND, 15 * SECOND, MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 6 * HOUR, DAY)

# Few values, close together, so that equality and small percents happen often; the whole range, 1e-15 to 1e9; and the
# two ends of what is admitted.
near_prices = st.sampled_from([100, 100, 101, 99, 110, 90, 105, 95, 111, 89, 120]).map(lambda whole: whole * 10**18)
prices = st.one_of(
    near_prices,
    near_prices,
    st.integers(min_value=1_000, max_value=10**27),
    st.sampled_from([1_000, 10**30, 10**18, 10**18 + 1, 3 * 10**17]),
)
# Those of a signed asset.
signed_prices = st.one_of(
    prices, prices.map(lambda price: -price), st.just(0), near_prices.map(lambda one: one - 10**20)
)
# One price, two or three of them, or any.
markets = st.one_of(
    st.just(prices),
    st.lists(prices, min_size=1, max_size=3).map(st.sampled_from),
    st.lists(signed_prices, min_size=2, max_size=4).map(st.sampled_from),
)
# How far it is to the next moment: microseconds, or (grid, points, microseconds beside) for the points on a grid.
waits = st.one_of(
    st.sampled_from([1, 5, 10, 15, 30, 60, 120, 300, 600]).map(lambda seconds: seconds * SECOND),
    st.sampled_from([1, SECOND - 1, SECOND + 1, MINUTE - 1, MINUTE + 1, HOUR, 5 * HOUR, 15 * HOUR, 15 * DAY]),
    st.integers(min_value=1, max_value=900 * SECOND),
)
points = st.tuples(st.sampled_from(GRIDS), st.integers(1, 60), st.sampled_from([0, 0, -1, 1]))
steps = st.one_of(waits, points, waits)
# How a log passes, with the widths of windows (in seconds) that suit it: anyhow, evenly, in steps as long as a window.
PACES = [
    (steps, [60, 300]),
    (steps, [900, 3_600]),
    *((st.just(pace * SECOND), [2 * pace, 2 * pace, 4 * pace, 6 * pace]) for pace in (10, 10, 60, 60)),
    *(
        (st.one_of(waits, st.sampled_from([width * SECOND, width * SECOND + 1])), [width])
        for width in (10, 60, 300, 900, 3_600, 18_000, 54_000)
    ),
]
some_waits = st.lists(waits, min_size=1, max_size=4)
within_an_hour = st.integers(0, 3600).map(lambda seconds: seconds * SECOND)
some_rules = st.lists(st.integers(1, 4), min_size=1, max_size=3, unique=True)
# Two under a minute, where there is no grid, and one for each grid.
windows = st.sampled_from(
    ["10s", "59s", "60s", "60s", "5m", "5m", "14m", "15m", "1h", "5h", "15h", "60h", "15d", "60d"]
)
percents = st.sampled_from(["0.0000000001", "1", "5", "10", "11.1111111111", "50"])
coverages = st.sampled_from(["0.5", "1", "0.0000000001", "0.9"])
durations = st.sampled_from(["0s", "0s", "1s", "30s", "2m"])
bands = st.sampled_from(
    [("99", "101"), ("100", "105"), ("100", "100.000000000000000001"), ("0.3", "110"), ("90", "99.5")]
)
# What is compared of a leaf's evidence.
COMPARED = (
    "kind",
    "result",
    "before",
    "reference",
    "mean",
    "difference",
    "coverage",
    "window_from",
    "newest_at",
    "clock",
    "open_seconds",
)
# What may stand beside an event, and all states.
BESIDE_EVENTS = (
    *("above", "below", "inside", "outside", "rises", "falls", "above_average", "below_average", "zscore", "unchanged"),
)
STATES = (*BESIDE_EVENTS, "stale")


@lru_cache(maxsize=1_000)
def _one_of(values: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


def choose(draw: st.DrawFn, *values: Any) -> Any:
    """Draw one of the values. A strategy made anew for each draw would take longer than all the evaluating."""
    return draw(_one_of(values))


def after(step: int | tuple[int, int, int], at: int) -> int:
    """Return the moment that is a step after `at`."""
    if isinstance(step, int):
        return at + step
    grid, points, beside = step
    return max(at + 1, at - at % grid + points * grid + beside)


def _leaf(draw: st.DrawFn, *, kinds: Sequence[str], recovers: bool, nots: int) -> dict[str, Any]:
    """Draw a leaf in the written form, with a recovery now and then; nots: how many are around it."""
    kind = choose(draw, *kinds)
    leaf: dict[str, Any] = {"kind": kind}
    recovers = recovers and draw(st.booleans())
    if kind in ("inside", "outside", "enters", "exits"):
        leaf["low"], leaf["high"] = draw(bands)
    elif kind in ("stale", "unchanged"):
        leaf["after"] = choose(draw, "1s", "5s", "30s", "1m", "5m", "1h")
    elif kind in ("above", "below") or kind.startswith("crosses"):
        leaf["level"] = choose(draw, "100", "100.000000000000000001", "105", "0.3", "0", "-1")
        if recovers and kind in ("above", "below"):
            leaf["recovery"] = {"above": "-1", "below": "106"}[kind]
    else:
        leaf["window"] = draw(windows)
        if kind == "zscore":
            leaf["n"] = choose(draw, "1", "2", "3", "0.5", "1.5", "0.0000000001", "1000")
        else:
            leaf["percent"] = draw(percents)
        if kind in ("rises", "falls"):
            leaf["ref"] = choose(draw, "window_extreme", "window_start")
            if nots % 2 and draw(st.booleans()):
                leaf["min_coverage"] = draw(coverages)
        else:
            leaf["min_coverage"] = draw(coverages)
        if kind.endswith("average"):
            what = choose(draw, "as it is", "0", "by", "by 0")
            if what == "0":
                leaf["percent"] = "0"
            elif what != "as it is":
                del leaf["percent"]
                leaf["by"] = "0" if what == "by 0" else choose(draw, "5", "10", "0.000000000000000001", "1000000000000")
        if recovers and kind != "zscore":
            leaf["recovery"] = "0" if kind.endswith("average") else "0.0000000001"
    return leaf


@st.composite
def conditions(draw: st.DrawFn) -> dict[str, Any]:
    """A condition in the written form: a leaf, or leaves combined, within the limits; a state or an event."""
    wants_event = draw(st.booleans())
    depth, room = choose(draw, (1, 1), (1, 1), (2, 3), (3, 6), (5, 20))
    if wants_event:
        return _grown(
            draw, depth=depth, room=room, kinds=oracle_conditions.EVENTS, others=BESIDE_EVENTS, recovers=False
        )
    return _grown(draw, depth=depth, room=room, kinds=STATES, others=STATES, recovers=True)


def _grown(
    draw: st.DrawFn,
    *,
    depth: int,
    room: int,
    kinds: Sequence[str],
    others: Sequence[str],
    recovers: bool,
    nots: int = 0,
) -> dict[str, Any]:
    """Draw a condition of at most `depth`, with at most `room` leaves, one of them of `kinds`, the rest of `others`."""
    word = "leaf" if depth == 1 else choose(draw, "all", "any", "all", "any", "not", "leaf")
    if word == "leaf":
        return _leaf(draw, kinds=kinds, recovers=recovers, nots=nots)
    if word == "not":
        inner = _grown(draw, depth=depth - 1, room=room, kinds=others, others=others, recovers=False, nots=nots + 1)
        return {"not": inner}
    count = min(room, choose(draw, 1, 2, 2, 3, 5))
    first = choose(draw, *range(count))
    members = [
        _grown(
            draw,
            depth=depth - 1,
            room=room // count,
            kinds=kinds if place == first else others,
            others=others,
            recovers=recovers,
            nots=nots,
        )
        for place in range(count)
    ]
    return {word: members}


def is_event(document: Mapping[str, Any]) -> bool:
    """Tell whether the rule is an event."""
    return any(leaf["kind"] in oracle_conditions.EVENTS for leaf in oracle_conditions.leaves_of(document["condition"]))


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """The part of a rule that the engine evaluates, in the written form."""
    return _document(draw, start=START)


def _document(draw: st.DrawFn, *, start: int) -> dict[str, Any]:
    document = {"condition": draw(conditions()), "cooldown": draw(durations)}
    document["trigger"] = choose(draw, "edge", "edge", "edge", "once")
    if not is_event(document):
        document |= {"for": draw(durations), "keep_firing": draw(durations)}
    if choose(draw, False, False, False, True):
        document["expires_at"] = write_moment(start + draw(within_an_hour))
    return document


def documents_in(log: Sequence[oracle.Entry]) -> Iterator[dict[str, Any]]:
    """Give the document of each version, once."""
    changes = [change for entry in log if isinstance(entry, oracle.RulesEntry) for change in entry.changes]
    yield from {change.version_id: change.document for change in changes if change.document}.values()


def put_on_the_clock(draw: st.DrawFn, log: Sequence[oracle.Entry]) -> None:
    """Move expiries onto moments that are evaluated, and waits onto the time between two of them, in half of the rules.

    That is where `>=` and `>` differ; drawn freely, they hardly ever fall together.
    """
    quoted = {at for entry in log if not isinstance(entry, oracle.RulesEntry) for _, at, _ in entry.quotes}
    moments = sorted(quoted | {entry.as_of for entry in log})
    pairs = [(one, later) for index, later in enumerate(moments) for one in moments[max(index - 3, 0) : index]]
    apart = {later - earlier for earlier, later in pairs}
    apart |= {open_between(code, *pair) for pair in pairs for code in CALENDARS} - {0}
    between = sorted(wait // SECOND for wait in apart if wait % SECOND == 0)
    for document in documents_in(log):
        if "expires_at" in document and draw(st.booleans()):
            document["expires_at"] = write_moment(choose(draw, *moments[len(moments) // 2 :]))
        if between and draw(st.booleans()):
            names = ["cooldown"] if is_event(document) else ["for", "keep_firing", "cooldown"]
            document[choose(draw, *names)] = f"{choose(draw, *between)}s"
        for leaf in oracle_conditions.leaves_of(document["condition"]):
            if between and leaf["kind"] in ("stale", "unchanged") and draw(st.booleans()):
                leaf["after"] = f"{choose(draw, *between)}s"


def put_on_the_prices(draw: st.DrawFn, log: Sequence[oracle.Entry]) -> None:
    """Move levels and the edges of bands onto prices of the log, in half of the rules."""
    seen = {price for entry in log if not isinstance(entry, oracle.RulesEntry) for _, _, price in entry.quotes}
    for document in documents_in(log):
        if not seen or not draw(st.booleans()):
            continue
        for leaf in oracle_conditions.leaves_of(document["condition"]):
            if "low" not in leaf and "level" not in leaf:
                continue
            low, high = sorted(choose(draw, *sorted(seen)) for _ in range(2))
            if "low" in leaf and low < high:
                leaf |= {"low": from_units(low), "high": from_units(high)}
            elif "level" in leaf:
                level, weaker = (high, low) if leaf["kind"] in ("above", "crosses_up") else (low, high)
                leaf["level"] = from_units(level)
                leaf |= {"recovery": from_units(weaker)} if "recovery" in leaf else {}


def put_on_the_pace(draw: st.DrawFn, log: Sequence[oracle.Entry], *, widths: Sequence[int]) -> None:
    """Make windows of these widths (seconds), which suit the pace of the log, in half of the rules."""
    for document in documents_in(log):
        if not draw(st.booleans()):
            continue
        for leaf in oracle_conditions.leaves_of(document["condition"]):
            if "window" in leaf:
                leaf["window"] = f"{choose(draw, *widths)}s"
            if "n" in leaf:
                leaf["n"] = choose(draw, "1", "1", "2", "3")
            if "min_coverage" in leaf:
                leaf["min_coverage"] = choose(draw, "0.5", "0.5", "1")


@st.composite
def logs(draw: st.DrawFn, *, length: int = 30) -> list[oracle.Entry]:
    """A log of quotes, changes of rules, pieces of history and splits, with late and equal times and empty batches in
    it."""
    as_of = start = choose(draw, *STARTS)
    clock = {asset: after(draw(steps), start) for asset in ASSETS}
    # A constant price, and pieces of equal length, are where averages and deviations are compared at their edge;
    # steps as long as a window are where what has gathered on one point of its grid leaves it.
    prices_here = draw(markets)
    steps_here, widths = PACES[choose(draw, *range(len(PACES)))]
    kinds = ["rules", *["quotes"] * 8, "rules", "history", "correction", "split"]
    status_of_instance: dict[int, oracle.Change] = {}
    # Mostly one provider; or several, in turns or one after the other.
    providers = choose(draw, ("a",), ("a", "a", "b"), ("a", "b", "c"))
    provider = "a"
    log: list[oracle.Entry] = []
    for seq in range(1, choose(draw, *range(4, length + 1)) + 1):
        # Something may be stored before the first rule comes; by the third entry there is one.
        kind = choose(draw, *kinds) if seq != 3 or status_of_instance else "rules"
        if kind == "rules":
            changes = tuple(_changes(draw, version=10 * seq, status_of_instance=status_of_instance, start=start))
            status_of_instance |= {change.rule_id: change for change in changes}
            log.append(oracle.RulesEntry(seq, as_of, changes))
        elif kind == "history":
            quotes = _history(draw, clock=clock, prices=prices_here)
            as_of = max(as_of, *clock.values())
            log.append(oracle.HistoryEntry(seq, as_of, quotes))
        elif kind == "split":
            asset = choose(draw, *ASSETS)
            effective_at = choose(draw, as_of, clock[asset], clock[asset] + 1, clock[asset] - MINUTE, start)
            log.append(oracle.SplitEntry(seq, as_of, asset, effective_at, *choose(draw, *RATIOS)))
        elif kind == "correction":
            log.append(oracle.CorrectionEntry(seq, as_of, *_correction(draw, log, prices=prices_here)))
        else:
            quotes = _quotes(draw, clock=clock, prices=prices_here, steps=steps_here)
            idle = choose(draw, 0, 0, 0, 1)
            as_of = max(after(draw(steps_here), as_of) if idle or not quotes else as_of, *clock.values())
            provider = choose(draw, provider, *providers)
            log.append(oracle.QuotesEntry(seq, as_of, quotes, provider))
    step_percent, interval = choose(draw, 5, 5, 0, 100), choose(draw, *widths) * SECOND
    log = oracle.with_switches(log, step_percent=step_percent, interval=interval)
    put_on_the_clock(draw, log)
    put_on_the_prices(draw, log)
    put_on_the_pace(draw, log, widths=widths)
    return log


def _changes(
    draw: st.DrawFn, *, version: int, status_of_instance: Mapping[int, oracle.Change], start: int
) -> Iterator[oracle.Change]:
    """Draw changes of some rules: a new version, the same one on other assets, or none any more."""
    for rule_id in draw(some_rules):
        assets = choose(draw, (1,), (2,), (1, 2), (2, 1), ())
        calendars = dict(choose(draw, (), ((1, "BUSY"),), ((1, "DAYS"), (2, "DAYS")), ((1, "DAYS"), (2, "BUSY"))))
        what = choose(draw, "changed", "changed", "changed", "chosen", "confirmed", "gone")
        before = status_of_instance.get(rule_id)
        if what == "gone":
            yield oracle.Change(rule_id, None, None, ())
        elif what == "chosen" and before:
            yield oracle.Change(rule_id, before.version_id, before.document, assets, calendars)
        elif what == "confirmed" and before:
            yield replace(before, resumes=True)
        else:
            yield oracle.Change(rule_id, version + rule_id, _document(draw, start=start), assets, calendars)


def _history(
    draw: st.DrawFn, *, clock: dict[int, int], prices: st.SearchStrategy[int]
) -> tuple[tuple[int, int, int], ...]:
    """Draw a piece of the past of one asset, which may end just after its newest quote."""
    asset = choose(draw, *ASSETS)
    times = {clock[asset] - 3 * back + 7 for back in draw(some_waits)}
    clock[asset] = max(clock[asset], *times)
    return tuple((asset, at, draw(prices)) for at in sorted(times))


def _correction(
    draw: st.DrawFn, log: Sequence[oracle.Entry], *, prices: st.SearchStrategy[int]
) -> tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int, int], ...]]:
    """Draw what a correction removes and puts in: of one asset, a range of what came, the newest one or all of it too;
    and other prices at some of its times, or beside them."""
    asset = choose(draw, *ASSETS)
    quoted = [one for entry in log if not isinstance(entry, oracle.RulesEntry) for one in entry.quotes]
    times = sorted({at for asset_id, at, _ in quoted if asset_id == asset})
    if not times:
        return (), ()
    first = choose(draw, *range(len(times)), 0, len(times) - 1)
    last = choose(draw, *range(first, len(times)), len(times) - 1)
    chosen = times[first : last + 1]
    removed = tuple((asset, at) for at in chosen) if draw(st.booleans()) else ()
    beside = choose(draw, 0, 0, 0, -1)
    put_in = [[], chosen[:3], chosen[-1:], chosen[-2:]][choose(draw, 0, 1, 2, 3)]
    return removed, tuple((asset, at + beside, draw(prices)) for at in put_in)


def _quotes(
    draw: st.DrawFn, *, clock: dict[int, int], prices: st.SearchStrategy[int], steps: st.SearchStrategy[Any]
) -> tuple[tuple[int, int, int], ...]:
    """Draw the quotes of one entry: new ones, late ones, second ones of one time, and several assets at one time."""
    quotes = []
    for _ in range(choose(draw, 1, 0, 2, 3, 4, 4)):
        asset = choose(draw, *ASSETS)
        when = choose(draw, *["new"] * 7, "together", "late")
        if when == "late":
            at = clock[asset] - choose(draw, 0, 1, SECOND)
        elif when == "together" and clock[asset] < max(clock.values()):
            at = clock[asset] = max(clock.values())
        else:
            at = clock[asset] = after(draw(steps), clock[asset])
        quotes.append((asset, at, draw(prices)))
    # As rows of a feed come, by time; or as they stand in a file.
    return tuple(sorted(quotes, key=lambda quote: (quote[1], quote[0])) if draw(st.booleans()) else quotes)


def open_between(code: str, begin: int, end: int) -> int:
    """Return the open time within [begin, end) by one of the invented calendars."""
    return HOURS[code].open_between(begin, end)
