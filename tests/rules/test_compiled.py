"""The compiled engine says what the one of Python says, of all numbers; each goes on where the other has stopped."""

import json
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.rules.engine import core, pure
from apps.rules.engine.conditions import Combination, Not, read_condition
from apps.rules.engine.engine import Engine as PlainEngine
from apps.rules.engine.entries import QuotesEntry, RuleChange, RulesEntry
from apps.rules.engine.leaves.binding import Bound, Leaf
from apps.rules.engine.rule import Assets, RuleSpec
from apps.rules.engine.windows import new_window
from tests.rules import comparing, logs
from tests.rules.comparing import Engine
from tests.rules.sources import needs_compiled, running
from tests.rules.test_engine import MANY, specs_of

SECOND, DAY = 1_000_000, 86_400_000_000
START = 1_678_500_000 * SECOND
ONE = 10**18
REFS = ("window_extreme", "window_start")
pytestmark = needs_compiled

# What most prices are, and what 125, 128 and any number of bits hold.
numbers = st.one_of(
    st.sampled_from([100, 101, 99, 110, 90]).map(lambda whole: whole * ONE),
    st.sampled_from([2**edge + beside for edge in (62, 63, 64, 90, 124, 125, 127, 128) for beside in (-1, 0, 1)]),
    st.integers(-(10**30), 10**30),
    st.integers(-(2**200), 2**200),
)
steps = st.one_of(
    st.sampled_from([1, SECOND, 5 * SECOND, 60 * SECOND, 300 * SECOND, 3_600 * SECOND, DAY, 40 * DAY]),
    st.integers(1, 400 * SECOND),
)
streams = st.lists(st.tuples(steps, numbers), min_size=1, max_size=60)
widths = st.sampled_from([10, 60, 302, 3_600, 30 * 86_400]).map(lambda seconds: seconds * SECOND)
LEAVES = [
    {"kind": "above", "level": "100", "recovery": "99"},
    {"kind": "below", "level": "-100"},
    {"kind": "inside", "low": "99", "high": "101"},
    {"kind": "outside", "low": "99", "high": "101"},
    {"kind": "rises", "percent": "10", "window": "1m", "recovery": "5"},
    {"kind": "falls", "percent": "10", "window": "1m"},
    {"kind": "rises", "percent": "0.000000000000000001", "window": "1h"},
    {"kind": "rises", "percent": "10", "window": "1m", "ref": "window_start"},
    {"kind": "falls", "percent": "10", "window": "1m", "ref": "window_start"},
    {"kind": "above_average", "percent": "0", "window": "1m", "min_coverage": "0.3"},
    {"kind": "above_average", "percent": "0.000000000000000001", "window": "1h", "min_coverage": "0.01"},
    {"kind": "below_average", "percent": "1.5", "window": "1h", "recovery": "1"},
    {"kind": "below_average", "percent": "100", "window": "30d", "min_coverage": "0.01"},
    {"kind": "crosses", "level": "100"},
    {"kind": "zscore", "n": "1", "window": "1m", "min_coverage": "0.1"},
]
leaves = st.sampled_from(LEAVES).map(read_condition)
members = st.lists(leaves, min_size=1, max_size=3).map(tuple)
conditions = st.one_of(
    leaves, leaves.map(Not), members.map(partial(Combination, "all")), members.map(partial(Combination, "any"))
)


def timed(stream):
    at = START
    for step, price in stream:
        at += step
        yield at, price


@settings(max_examples=2 * MANY)
@given(streams, widths, st.sampled_from(["lowest", "highest", "path"]), st.integers(0, 60))
def test_windows_see_the_same_and_go_on_where_the_other_has_stopped(stream, width, name, cut):
    with running("pure"):
        known, again = new_window((name, width)), new_window((name, width))
    compiled = new_window((name, width))
    assert (type(known).__module__, type(compiled).__module__) == (pure.__name__, "apps.rules.engine._compiled")
    for index, (at, price) in enumerate(timed(stream)):
        known.push(at, price)
        compiled.push(at, price)
        if index == cut:
            # A restart, from the one to the other and back.
            again.load(json.loads(json.dumps(compiled.dump())))
            compiled = new_window((name, width))
            compiled.load(json.loads(json.dumps(again.dump())))
        assert compiled.dump() == known.dump()
        for field in ("at", "price", "width", "grid"):
            assert getattr(compiled, field) == getattr(known, field)
        if name == "path":
            assert compiled.in_force() == known.in_force()
            for field in ("total", "duration", "edge", "front_cell"):
                assert getattr(compiled, field) == getattr(known, field)
        else:
            for field in ("best", "best_at", "sees_more"):
                assert getattr(compiled, field) == getattr(known, field)


@settings(max_examples=2 * MANY)
@given(streams, conditions)
def test_conditions_say_the_same(stream, condition):
    keys = condition.window_keys()
    places = {key: index for index, key in enumerate(keys)}
    with running("pure"):
        known, seen = condition.bind(places), [new_window(key) for key in keys]
    compiled, windows = condition.bind(places), [new_window(key) for key in keys]
    for at, price in timed(stream):
        for window in (*seen, *windows):
            window.push(at, price)
        for firing in (False, True):
            expected = known.test(price, seen, firing)
            assert compiled.test(price, tuple(windows), firing) is expected
            # Each takes the windows of the other.
            assert compiled.test(price, seen, firing) is expected
            assert known.test(price, windows, firing) is expected


percents = st.sampled_from(["0.5", "1", "9.999999999", "10", "10.000000001", "11", "50", "100"])
# Of rules on one window: percent, recovery, and how much of it must be known.
variants = st.lists(st.tuples(percents, st.none() | percents, st.sampled_from(["0.1", "0.5"])), min_size=2, max_size=8)
AVERAGES = ("above_average", "below_average")


# Prices so near to each other that some thresholds are passed and others are not.
near = st.lists(
    st.tuples(st.integers(1, 20 * SECOND), st.integers(80, 125).map(lambda whole: whole * ONE)), min_size=2, max_size=30
)


@settings(max_examples=2 * MANY)
@given(st.one_of(near, near, streams), st.sampled_from(["rises", "falls", *AVERAGES]), variants, st.booleans())
def test_rules_that_differ_in_their_threshold_say_what_each_says_alone(stream, kind, variants, from_start):
    def condition(percent, recovery, coverage):
        leaf = {"kind": kind, "percent": percent, "window": "1m"}
        if recovery is not None and float(recovery) <= float(percent):
            leaf["recovery"] = recovery
        return leaf | ({"min_coverage": coverage} if kind in AVERAGES else {"ref": REFS[from_start]})

    specs = [RuleSpec.read({"assets": ["ANY"], "condition": condition(*one)}) for one in variants]
    quotes = [(1, at, price) for at, price in timed(stream)]
    made = []
    for source in ("pure", "compiled"):
        with running(source):
            engine = PlainEngine()
            changes = [RuleChange(index, index, spec, [1]) for index, spec in enumerate(specs)]
            engine.evaluate(RulesEntry(1, START, changes), lambda wanted: {})
            made.append(engine.evaluate(QuotesEntry(2, quotes[-1][1], quotes), lambda wanted: {}).transitions)

    assert made[1] == made[0]


@settings(max_examples=MANY)
@given(logs.logs(), st.sets(st.integers(1, 30)))
def test_engines_make_the_same_steps_whichever_has_read_the_log_before(log, cuts):
    store, specs = comparing.Store(log), specs_of(log)
    with running("pure"):
        known = Engine()
    other, source = Engine(), "compiled"
    for entry in log:
        with running("pure"):
            expected = known.evaluate(store.entry_of(entry), store.before(entry.seq))
        with running(source):
            made = other.evaluate(store.entry_of(entry), store.before(entry.seq))
        assert made.transitions == expected.transitions
        assert made.touched.keys() == expected.touched.keys()
        if entry.seq in cuts:
            source = "compiled" if source == "pure" else "pure"
            with running(source):
                other = Engine.load(json.loads(json.dumps(other.dump())), specs)
        assert json.dumps(other.dump()) == json.dumps(known.dump())


def path_of(*quotes, days):
    path = core.Path(days * DAY)
    for at, price in quotes:
        path.push(START + at, price)
    return path


def test_a_sum_of_more_than_125_bits_is_kept_to_the_last_unit():
    # Half of a sum fits.
    price = 2**125 // (2 * DAY) - 1
    narrow = path_of((0, price), (DAY, price), (2 * DAY, price), days=2)
    wide = path_of((0, price + 2), (DAY, price + 1), (2 * DAY, price + 2), days=2)

    assert (narrow.is_wide(), narrow.total) == (False, 2 * DAY * price)
    assert (wide.is_wide(), wide.total) == (True, DAY * (2 * price + 3))


@pytest.mark.parametrize("price", [2**124, -(2**124), 2**125 - 1])
def test_a_price_that_is_narrow_makes_a_sum_that_is_not(price):
    # Of the product, the lowest 128 bits are 0 or few.
    path = path_of((0, price), (64 * SECOND, 0), days=1)

    assert (path.is_wide(), path.total) == (True, 64 * SECOND * price)


@pytest.mark.parametrize(
    ("kind", "price", "percents", "fired"),
    [
        ("rises", 107, ["10", "5", "8", "1"], [1, 3]),
        ("rises", 107, ["1", "10", "5", "8"], [0, 2]),
        ("falls", 93, ["10", "5", "8", "1"], [1, 3]),
        ("falls", 93, ["1", "10", "5", "8"], [0, 2]),
        ("above_average", 107, ["10", "5", "8", "1"], [1, 3]),
        ("below_average", 93, ["1", "10", "5", "8"], [0, 2]),
    ],
)
def test_each_threshold_of_a_sweep_is_passed_or_not_by_itself(kind, price, percents, fired):
    conditions = [{"kind": kind, "percent": percent, "window": "1m"} for percent in percents]
    engine = PlainEngine()
    specs = [RuleSpec.read({"assets": ["ANY"], "condition": condition}) for condition in conditions]
    engine.evaluate(
        RulesEntry(1, START, [RuleChange(n, n, spec, [1]) for n, spec in enumerate(specs)]), lambda wanted: {}
    )
    quotes = [(1, START, 100 * ONE), (1, START + 40 * SECOND, price * ONE)]
    made = engine.evaluate(QuotesEntry(2, START + 40 * SECOND, quotes), lambda wanted: {})

    assert [one.rule_id for one in made.transitions] == fired


def test_sums_since_long_ago_do_not_make_a_window_wide():
    price, days = 2**125 // (3 * DAY), 400
    path = path_of(*((day * DAY, price + day) for day in range(days)), days=1)
    long_ago = pure.Path(DAY)
    for day in range(days):
        long_ago.push(START + day * DAY, price + day)
    now, front, queue = long_ago.dump()
    # As dumps were before they counted sums from the front on.
    now[3] += long_ago.front_area
    front[3] += long_ago.front_area
    loaded = core.Path(DAY)
    loaded.load([now, front, [[*rest, area + long_ago.front_area] for *rest, area in queue]])

    assert long_ago.area > 2**130
    assert (path.is_wide(), loaded.is_wide()) == (False, False)
    assert path.total == loaded.total == long_ago.total == DAY * (price + days - 2)


@pytest.mark.parametrize(("last", "is_true"), [(-1, False), (0, False), (1, True)])
def test_a_mean_of_the_highest_prices_is_compared_to_the_last_unit(last, is_true):
    spec = RuleSpec.read({"assets": ["ANY"], "condition": {"kind": "above_average", "percent": "0", "window": "30d"}})
    engine, highest = PlainEngine(), 10**30 - 1
    engine.evaluate(RulesEntry(1, START, [RuleChange(1, 1, spec, [1])]), lambda wanted: {})
    quotes = [(1, START + day * DAY, highest) for day in range(40)] + [(1, START + 40 * DAY, highest + last)]
    made = engine.evaluate(QuotesEntry(2, START + 40 * DAY, quotes), lambda wanted: {})

    (window,) = engine._series[1].windows
    assert window.is_wide()
    assert [one.to_state for one in made.transitions] == (["firing"] if is_true else [])


def test_an_asset_whose_only_rule_has_ended_is_evaluated_no_more_within_the_same_entry():
    document = {"assets": ["ANY"], "condition": {"kind": "above", "level": "100"}, "trigger": "once"}
    engine = PlainEngine()
    engine.evaluate(RulesEntry(1, START, [RuleChange(1, 1, RuleSpec.read(document), [1])]), lambda wanted: {})
    quotes = [(1, START + step * SECOND, price * ONE) for step, price in enumerate((99, 101, 99, 101))]
    made = engine.evaluate(QuotesEntry(2, START + 3 * SECOND, quotes), lambda wanted: {})

    assert [one.to_state for one in made.transitions] == ["firing", "ended"]


def test_a_price_of_any_size_is_compared():
    windows = [new_window(("lowest", 60 * SECOND))]
    document = {"kind": "rises", "percent": "10", "window": "1m"}
    test = read_condition(document).bind({("lowest", 60 * SECOND): 0}).test
    for at, price in ((0, 10 * 2**200), (SECOND, 11 * 2**200 - 1)):
        windows[0].push(START + at, price)
    before = test(11 * 2**200 - 1, windows, False)
    windows[0].push(START + 2 * SECOND, 11 * 2**200)

    assert (before, test(11 * 2**200, windows, False)) == (False, True)


class Interrupting(Leaf):
    """A condition that is interrupted, as by Ctrl-C."""

    def window_keys(self):
        return []

    def bind(self, places):
        def interrupt(price, windows, firing):
            raise KeyboardInterrupt

        return Bound(interrupt, interrupt)


@pytest.mark.parametrize(
    ("quotes", "error"),
    [
        ([(1, START, 100 * ONE)], KeyboardInterrupt),
        ([(1, START)], (TypeError, ValueError)),
        ([(1, "then", 1)], TypeError),
        (7, TypeError),
    ],
)
def test_what_is_no_quote_or_no_error_of_a_rule_goes_on_to_the_caller(quotes, error):
    engine = PlainEngine()
    spec = RuleSpec(assets=Assets(symbols=("ANY",)), condition=Interrupting())
    engine.evaluate(RulesEntry(1, START, [RuleChange(1, 1, spec, [1])]), lambda wanted: {})

    with pytest.raises(error):
        engine.evaluate(QuotesEntry(2, START, quotes), lambda wanted: {})
