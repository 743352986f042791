"""The rules by worked examples: what is expected is worked out by hand, and both, oracle and engine, are held to it."""

import pytest

from apps.rules.engine.conditions import read_condition
from apps.rules.engine.leaves.binding import result_of
from apps.rules.engine.windows import new_window
from tests.rules import logs, oracle_conditions
from tests.rules.comparing import units

pytestmark = pytest.mark.usefixtures("each_engine")

SECOND = 1_000_000
START = logs.START
UNKNOWN = {"kind": "rises", "percent": 1, "window": "60s"}  # At a first quote.
TRUE, FALSE = {"kind": "above", "level": 50}, {"kind": "below", "level": 50}
UP = {"kind": "crosses_up", "level": 100}


def verdicts_of_the_oracle(condition, quotes):
    path = [oracle_conditions.Quote(1, at, price) for at, price in quotes]
    looks = [oracle_conditions.Look(path[: n + 1], now=path[n].at, is_open=False) for n in range(len(path))]
    return [oracle_conditions.evaluate(condition, look=look) for look in looks]


def verdicts_of_the_engine(condition, quotes):
    read = read_condition(condition)
    keys = read.window_keys()
    windows = [new_window(key) for key in keys]
    test = read.bind({key: index for index, key in enumerate(keys)}).test
    given = []
    for at, price in quotes:
        for window in windows:
            window.push(at, price)
        given.append(result_of(test(price, windows, False)))
    return given


@pytest.fixture(params=[verdicts_of_the_oracle, verdicts_of_the_engine], ids=["oracle", "engine"])
def verdicts(request):
    """Give what a condition says of each of these prices, ten seconds apart: T, F, or ? for UNKNOWN."""

    def said(condition, prices, *, apart=10):
        quotes = [(START + apart * index * SECOND, units(price)) for index, price in enumerate(prices.split())]
        return "".join({True: "T", False: "F", None: "?"}[one] for one in request.param(condition, quotes))

    return said


@pytest.mark.parametrize(
    ("kind", "prices", "expected"),
    [
        ("crosses_up", "99 100 101 99 98 101 100 99.9999999999 100", "?TFFFTFFT"),
        ("crosses_up", "101 102 100 99 100", "?FFFT"),
        ("crosses_down", "101 100 99 101 99 100 99", "?TFFTFF"),
        ("crosses_down", "99 98 100 100.0000000001 100", "?FFFT"),
        ("crosses", "99 100 99 101 100 100 99", "?TFTTFF"),
        ("above", "100 100.0000000001", "FT"),
        ("below", "100 99.9999999999", "FT"),
    ],
)
def test_a_level(verdicts, kind, prices, expected):
    assert verdicts({"kind": kind, "level": 100}, prices) == expected


@pytest.mark.parametrize(
    ("kind", "prices", "expected"),
    [
        ("inside", "98.9999999999 99 100 101 101.0000000001", "FTTTF"),
        ("outside", "98.9999999999 99 100 101 101.0000000001", "TFFFT"),
        ("enters", "98 99 100 101 102 101 98 102", "?TFFFTFF"),
        ("exits", "98 99 100 101 102 101 98 102", "?FFFTFTF"),
    ],
)
def test_a_band_has_its_edges_and_what_jumps_over_it_neither_enters_nor_exits(verdicts, kind, prices, expected):
    assert verdicts({"kind": kind, "low": 99, "high": 101}, prices) == expected


@pytest.mark.parametrize(
    ("leaf", "prices", "apart", "expected"),
    [
        # A change of exactly X % counts, and a poll further apart than the window still has its reference.
        ({"kind": "rises", "percent": 10}, "100 110 109.9999999999", 10, "?TF"),
        ({"kind": "rises", "percent": 10}, "100 110 110", 600, "?TF"),
        ({"kind": "falls", "percent": 10}, "100 90 90.0000000001", 10, "?TF"),
        # The price in force at e is the first one from 60 s on.
        ({"kind": "rises", "percent": 10, "ref": "window_start"}, "100 100 100 100 100 200 110 110", 10, "??????TT"),
        # Half of the window is known from 30 s on; the mean is 100, and what equals the bound is not beyond it.
        ({"kind": "below_average", "percent": 0}, "100 100 100 100 99.9999999999", 10, "???FT"),
        ({"kind": "above_average", "percent": 10}, "100 100 100 100 110", 10, "???FF"),
        ({"kind": "above_average", "percent": 10}, "100 100 100 100 110.0000000001", 10, "???FT"),
        # The mean is 100, and a distance of just the amount does not count; while it fires, the recovery does.
        ({"kind": "above_average", "by": 10}, "100 100 100 100 110", 10, "???FF"),
        ({"kind": "above_average", "by": 10}, "100 100 100 100 110.000000000001", 10, "???FT"),
        ({"kind": "below_average", "by": 10}, "100 100 100 100 90 89.9", 10, "???FFF"),
        ({"kind": "below_average", "by": "10"}, "100 100 100 100 89.9", 10, "???FT"),
        ({"kind": "below_average", "by": 0}, "-1 -1 -1 -1 -1 -1.1", 10, "???FFT"),
        ({"kind": "above_average", "by": 1}, "-1 -1 -1 -1 0.1 0", 10, "???FTF"),
        # At 40 s, 100 and 110 have stood for 20 s each: the mean is 105, a deviation is 5.
        ({"kind": "zscore", "n": 1}, "100 110 100 110 110", 10, "???TT"),
        ({"kind": "zscore", "n": 1}, "100 110 100 110 109.9999999999", 10, "???TF"),
        ({"kind": "zscore", "n": 3}, "100 110 100 110 120", 10, "???FT"),
        ({"kind": "zscore", "n": 3}, "100 110 100 110 119.9999999999", 10, "???FF"),
        ({"kind": "zscore", "n": 3}, "100 110 100 110 90", 10, "???FT"),
        ({"kind": "zscore", "n": "2.5", "min_coverage": "0.6"}, "100 110 100 110 117.5", 10, "????T"),
        # A price that never changed has no deviation to be measured in.
        ({"kind": "zscore", "n": 1}, "100 100 100 100 200 100", 10, "?????F"),
    ],
)
def test_a_window_of_60_seconds(verdicts, leaf, prices, apart, expected):
    assert verdicts(leaf | {"window": "60s"}, prices, apart=apart) == expected


@pytest.mark.parametrize(
    ("condition", "prices", "expected"),
    [
        # Of a window of 60 s half is known from 30 s on; a change that is seen is seen at once.
        ({"not": {"kind": "rises", "percent": 10}}, "100 100 100 100 100", "???TT"),
        ({"not": {"kind": "rises", "percent": 10}}, "100 110 105 100 100", "?F?TT"),
        ({"not": {"kind": "falls", "percent": 10}}, "100 90 100 100 100", "?F?TT"),
        ({"not": {"kind": "rises", "percent": 10, "min_coverage": "0.8"}}, "100 100 100 100 100 100 100", "?????TT"),
        ({"not": {"kind": "rises", "percent": 10, "min_coverage": "0.0000000001"}}, "100 100", "?T"),
        ({"not": {"kind": "rises", "percent": 10, "ref": "window_start"}}, "100 100 100 100 100 100 100", "??????T"),
        # Two nots are none, and of three the third counts.
        ({"kind": "rises", "percent": 10}, "100 100 110", "?FT"),
        ({"not": {"not": {"kind": "rises", "percent": 10}}}, "100 100 110", "?FT"),
        ({"not": {"not": {"not": {"kind": "rises", "percent": 10}}}}, "100 100 110 100 100", "??FTT"),
        ({"not": {"any": [{"not": {"kind": "rises", "percent": 10}}, FALSE]}}, "100 100 110", "?FT"),
        ({"not": {"any": [{"kind": "rises", "percent": 10}, FALSE]}}, "100 100 100 100", "???T"),
    ],
)
def test_that_no_change_is_seen_in_60_seconds_is_false_under_not_only_where_enough_is_known(
    verdicts, condition, prices, expected
):
    assert verdicts(within_a_minute(condition), prices) == expected


def within_a_minute(condition):
    """Return the condition with a window of 60 s in each change."""
    if "kind" in condition:
        return condition | ({"window": "60s"} if condition["kind"] in ("rises", "falls") else {})
    [(word, inner)] = condition.items()
    return {word: [within_a_minute(one) for one in inner] if isinstance(inner, list) else within_a_minute(inner)}


def test_what_has_left_the_window_is_not_in_its_variance(verdicts):
    leaf = {"kind": "zscore", "n": "0.0000000001", "window": "10s"}

    # At 30 s only the price of 20 s stood within the window, at 40 s that of 30 s.
    assert verdicts(leaf, "100 110 110 110 200") == "?????"


@pytest.mark.parametrize(
    ("after", "prices", "expected"),
    [
        # The run reaches back to the first known quote until the price changes.
        ("20s", "100 100 100 100", "??TT"),
        ("20s", "100 101 101 101 101 100", "?FFTTF"),
        ("20s", "100 100.000000000000000001 100 100 100", "?FFFT"),
        ("21s", "100 101 101 101 101", "?FFFT"),
        ("1s", "0 0 -1 -1", "?TFT"),
    ],
)
def test_a_price_is_unchanged_from_the_first_quote_of_its_run_on(verdicts, after, prices, expected):
    assert verdicts({"kind": "unchanged", "after": after}, prices) == expected


def test_unknown_stays_unknown_under_not(verdicts):
    assert verdicts({"not": {"kind": "unchanged", "after": "20s"}}, "100 100 101 101 101") == "??TTF"


def test_a_quote_is_not_stale_itself_however_long_the_last_one_has_been_there(verdicts):
    assert verdicts({"kind": "stale", "after": "1s"}, "100 100") == "FF"


@pytest.mark.parametrize(
    ("members", "of_all", "of_any"),
    [
        ([TRUE, TRUE], "T", "T"),
        ([TRUE, FALSE], "F", "T"),
        ([TRUE, UNKNOWN], "?", "T"),
        ([FALSE, FALSE], "F", "F"),
        ([FALSE, UNKNOWN], "F", "?"),
        ([UNKNOWN, FALSE], "F", "?"),
        ([UNKNOWN, TRUE], "?", "T"),
        ([UNKNOWN, UNKNOWN], "?", "?"),
        ([TRUE, UNKNOWN, FALSE], "F", "T"),
        ([TRUE], "T", "T"),
        ([UNKNOWN], "?", "?"),
        ([UP, FALSE], "F", "?"),
    ],
)
def test_kleenes_logic(verdicts, members, of_all, of_any):
    assert (verdicts({"all": members}, "100"), verdicts({"any": members}, "100")) == (of_all, of_any)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"not": TRUE}, "F"),
        ({"not": FALSE}, "T"),
        ({"not": UNKNOWN}, "?"),
        ({"not": {"all": [UNKNOWN, FALSE]}}, "T"),
        ({"all": [{"not": FALSE}, {"any": [FALSE, {"not": {"not": TRUE}}]}]}, "T"),
        ({"any": [{"all": [{"any": [{"all": [TRUE] * 19}]}]}, FALSE]}, "T"),  # 5 deep, 20 leaves: as far as it goes
    ],
)
def test_what_is_nested(verdicts, condition, expected):
    assert verdicts(condition, "100") == expected
