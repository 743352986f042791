"""The written form of rules, and each comparison at its edge."""

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.notation import write_duration
from apps.rules.engine.conditions import read_condition
from apps.rules.engine.rule import Assets, RuleSpec
from apps.rules.engine.written import RuleInvalid, from_units, mean_from_units, read_duration, read_number
from tests.panel.watched import ONE, SECOND, Watched, verdict
from tests.rules import logs

pytestmark = pytest.mark.usefixtures("each_engine")

MINUTE = 60 * SECOND
DAY = 86_400 * SECOND

KINDS = (
    "must be one of above, below, crosses_up, crosses_down, crosses, inside, outside, enters, exits, rises, falls, "
    "above_average, below_average, zscore, stale, unchanged; or write all, any or not"
)
NUMBER = "is not a number; write it like 10 or '0.995'"
DURATION = "is not a duration; write it like 10s, 5m, 24h or 30d"


def rule(**changes):
    return {"assets": ["BTC-USD"], "condition": {"kind": "above", "level": "1"}, **changes}


def refusal_of(data, read=read_condition):
    with pytest.raises(RuleInvalid) as caught:
        read(data)
    return str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "condition: must be a mapping like {kind: above, level: 100}"),
        ([], "condition: must be a mapping like {kind: above, level: 100}"),
        ("above", "condition: must be a mapping like {kind: above, level: 100}"),
        ({}, f"condition.kind: {KINDS}"),
        ({"kind": "soars"}, f"condition.kind: {KINDS}"),
        ({"kind": ["above"]}, f"condition.kind: {KINDS}"),
        ({"kind": "above"}, f"condition.level: {NUMBER}"),
        ({"kind": "above", "level": "-1000000000001"}, f"condition.level: {NUMBER}"),
        ({"kind": "below", "level": "1000000000001"}, f"condition.level: {NUMBER}"),
        ({"kind": "above", "level": 1, "window": "5m"}, "condition.window: is not known here; "
         "known are kind, level, recovery"),
        ({"kind": "above", "level": 1, 5: 6}, "condition.5: is not known here; known are kind, level, recovery"),
        ({"kind": "above", "level": 1, "recovery": "1.0000000001"},
         "condition.recovery: must be the weaker one: at or below the level"),
        ({"kind": "below", "level": 1, "recovery": "0.9999999999"},
         "condition.recovery: must be the weaker one: at or above the level"),
        ({"kind": "above", "level": 1, "recovery": "soon"}, f"condition.recovery: {NUMBER}"),
        ({"kind": "rises", "window": "5m"}, f"condition.percent: {NUMBER}"),
        ({"kind": "rises", "percent": 0, "window": "5m"}, "condition.percent: must be above 0 and at most 1000000"),
        ({"kind": "falls", "percent": "100.1", "window": "5m"}, "condition.percent: must be above 0 and at most 100"),
        ({"kind": "rises", "percent": 10}, f"condition.window: {DURATION}"),
        ({"kind": "rises", "percent": 10, "window": "9s"}, "condition.window: must be from 10s to 400d"),
        ({"kind": "rises", "percent": 10, "window": "401d"}, "condition.window: must be from 10s to 400d"),
        ({"kind": "rises", "percent": 10, "window": "0"}, "condition.window: must be from 10s to 400d"),
        ({"kind": "rises", "percent": 10, "window": "5m", "ref": "yesterday"},
         "condition.ref: must be one of window_extreme, window_start"),
        ({"kind": "rises", "percent": 10, "window": "5m", "recovery": "10.1"},
         "condition.recovery: must be the weaker one: at most the percent"),
        ({"kind": "falls", "percent": 10, "window": "5m", "recovery": 0},
         "condition.recovery: must be above 0: the price is never on the other side of its extreme"),
        ({"kind": "rises", "percent": 10, "window": "5m", "min_coverage": 1},
         "condition.min_coverage: of rises counts only under not: elsewhere a change that is seen is true, "
         "however little is known"),
        ({"not": {"not": {"kind": "falls", "percent": 10, "window": "5m", "min_coverage": 1}}},
         "condition.not.not.min_coverage: of falls counts only under not: elsewhere a change that is seen is true, "
         "however little is known"),
        ({"not": {"kind": "falls", "percent": 10, "window": "5m", "min_coverage": 0}},
         "condition.not.min_coverage: must be above 0 and at most 1"),
        ({"kind": "below_average", "percent": 101, "window": "30d"},
         "condition.percent: must be at least 0 and at most 100"),
        ({"kind": "above_average", "percent": "1000000.1", "window": "30d"},
         "condition.percent: must be at least 0 and at most 1000000"),
        ({"kind": "above_average", "percent": 0, "window": "30d", "min_coverage": 0},
         "condition.min_coverage: must be above 0 and at most 1"),
        ({"kind": "above_average", "percent": 0, "window": "30d", "min_coverage": "1.1"},
         "condition.min_coverage: must be above 0 and at most 1"),
        ({"kind": "above_average", "percent": 1, "window": "30d", "recovery": 2},
         "condition.recovery: must be the weaker one: at most the percent"),
        ({"kind": "unchanged"}, "condition.after: is not a duration; write it like 10s, 5m, 24h or 30d"),
        ({"kind": "unchanged", "after": 0}, "condition.after: must be from 1s to 400d"),
        ({"kind": "unchanged", "after": "1h", "window": "1h"},
         "condition.window: is not known here; known are after, kind"),
        ({"kind": "above_average", "percent": 1, "by": 1, "window": "30d"},
         "condition.by: stands beside percent; write one of the two"),
        ({"kind": "above_average", "by": -1, "window": "30d"},
         "condition.by: must be at least 0 and at most 1000000000000"),
        ({"kind": "below_average", "by": 1, "window": "30d", "recovery": 2},
         "condition.recovery: must be the weaker one: at most by"),
        ({"kind": "above_average", "window": "30d"},
         "condition.percent: is missing; write how far it is from its average: percent or by"),
        ({"kind": "rises", "by": 1, "window": "30d"},
         "condition.by: is not known here; known are kind, min_coverage, percent, recovery, ref, window"),
        ({"kind": "above_average", "percent": 0, "window": "30d", "ref": "window_start"},
         "condition.ref: is not known here; known are by, kind, min_coverage, percent, recovery, window"),
    ],
)  # fmt: skip
def test_a_wrong_condition_is_refused_with_its_path_and_what_would_be_right(data, message):
    assert refusal_of(data) == message


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "rule: must be a mapping"),
        (["above"], "rule: must be a mapping"),
        (rule(colour="red"), "colour: is not known here; known are assets, condition, cooldown, enabled, expires_at, "
         "for, keep_firing, trigger"),
        (rule(trigger="twice"), "trigger: must be one of edge, once"),
        (rule(trigger=["once"]), "trigger: must be one of edge, once"),
        (rule(enabled="yes"), "enabled: must be true or false"),
        (rule(enabled=1), "enabled: must be true or false"),
        ({"condition": {"kind": "above", "level": 1}},
         "assets: must be a list of symbols, or {tag: NAME}, or {feed: NAME}"),
        (rule(assets=[]), "assets: must be a list of symbols, or {tag: NAME}, or {feed: NAME}"),
        (rule(assets="BTC-USD"), "assets: must be a list of symbols, or {tag: NAME}, or {feed: NAME}"),
        (rule(assets={"tag": "a", "feed": "b"}), "assets: must be a list of symbols, or {tag: NAME}, or {feed: NAME}"),
        (rule(assets={"tag": ""}), "assets: must be a list of symbols, or {tag: NAME}, or {feed: NAME}"),
        (rule(assets={"tag": "a\0"}), "assets: must be a list of symbols, or {tag: NAME}, or {feed: NAME}"),
        (rule(assets={"owner": "a"}), "assets: must be a list of symbols, or {tag: NAME}, or {feed: NAME}"),
        (rule(assets=["A", ""]), "assets[1]: is not a symbol"),
        (rule(assets=["A", None]), "assets[1]: is not a symbol"),
        (rule(assets=["A", ["B"]]), "assets[1]: is not a symbol"),
        (rule(assets=["A", "B\0"]), "assets[1]: is not a symbol"),
        (rule(assets=["A", "\ud800"]), "assets[1]: is not a symbol"),
        (rule(assets=["A" * 65]), "assets[0]: is not a symbol"),
        (rule(condition=None), "condition: must be a mapping like {kind: above, level: 100}"),
        (rule(**{"for": "soon"}), f"for: {DURATION}"),
        (rule(**{"for": "401d"}), "for: must be from 0s to 400d"),
        (rule(keep_firing=-1), f"keep_firing: {DURATION}"),
        (rule(cooldown=None), f"cooldown: {DURATION}"),
        (rule(expires_at="tomorrow"), "expires_at: is not a time; write it like 2026-01-31T12:00:00Z"),
        (rule(expires_at=1_700_000_000), "expires_at: is not a time; write it like 2026-01-31T12:00:00Z"),
        (rule(expires_at="2026-01-31"), "expires_at: has no time zone; write it like 2026-01-31T12:00:00Z"),
        (rule(expires_at="2026-01-31T12:00:00"), "expires_at: has no time zone; write it like 2026-01-31T12:00:00Z"),
        (rule(expires_at="0001-01-01T00:00:00+01:00"),
         "expires_at: is not a time; write it like 2026-01-31T12:00:00Z"),
        (rule(expires_at="9999-12-31T23:59:59-01:00"),
         "expires_at: is not a time; write it like 2026-01-31T12:00:00Z"),
    ],
)  # fmt: skip
def test_a_wrong_rule_is_refused_with_its_path_and_what_would_be_right(data, message):
    assert refusal_of(data, RuleSpec.read) == message


@pytest.mark.parametrize(
    "value",
    [
        None, True, False, [], {}, "", " 5 ", "5 ", "+5", "-", ".5", "5.", "1,5", "1_000", "0x10", "１２", "010",
        "007.50", "1e400", "1E999999", "1e-30", "NaN", "sNaN", "Infinity", "-Infinity", "5\n", "5\0", "1" * 13,
        pytest.param("1" * 5001, id="5001 written digits"), pytest.param(10**5000, id="5001 digits"),
        pytest.param(-(10**5000), id="minus 5001 digits"),
        2**63, "0.0000000000000000001", 0.1, 1.0, float("nan"), float("inf"), 1e400, b"5", Decimal("NaN"),
        Decimal("sNaN"), Decimal("-Infinity"), Decimal("1E+999999"), Decimal("1E-999999"), Decimal("0E+999999"),
        Decimal("1E+999999999999"),
    ],
)  # fmt: skip
def test_what_is_no_plain_number_is_refused(value):
    assert refusal_of({"kind": "above", "level": value}) == f"condition.level: {NUMBER}"


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("0.0000000001", "0.0000000001"), ("1000000000000", "1000000000000"), (1000000000000, "1000000000000"),
        (Decimal("1E12"), "1000000000000"), (Decimal("1E-10"), "0.0000000001"), ("7.50", "7.5"), (5, "5"),
        ("1e3", "1000"), ("1e-8", "0.00000001"), ("1.5E+2", "150"), ("1.00000000000", "1"), ("0.1e1", "1"),
        (Decimal("0.995"), "0.995"), ("999999999999.9999999999", "999999999999.9999999999"),
    ],
)  # fmt: skip
def test_a_plain_number_is_read_exactly(value, number):
    assert read_condition({"kind": "above", "level": value}).document() == {"kind": "above", "level": number}


def test_minus_zero_is_written_as_zero():
    condition = read_condition({"kind": "above_average", "percent": "-0.0", "window": "30d"})

    assert condition.document()["percent"] == "0"


def test_a_number_must_be_within_its_bounds_and_may_stand_on_them():
    bounds = {"lowest": Decimal(1), "highest": Decimal(2)}

    assert [read_number(one, "x", **bounds) for one in ("1", "2")] == [1, 2]
    with pytest.raises(RuleInvalid, match="x: must be above 1 and at most 2"):
        read_number("1", "x", **bounds, above_lowest=True)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(0, 0), ("0", 0), ("0s", 0), ("0d", 0), ("1s", 1), ("90s", 90), ("5m", 300), ("24h", 86_400), ("30d", 2_592_000)],
)
def test_a_duration_is_read_in_its_unit(text, seconds):
    assert read_duration(text, "for") == seconds * SECOND


@pytest.mark.parametrize(
    "value",
    [None, True, False, 5, 0.0, 1.5, "", "5", "s", "-5s", "1.5m", "5 m", "5M", "5w", "５m", "5m\n", "1" * 10 + "s",
     [], {}, Decimal(0), Decimal("sNaN")],
)  # fmt: skip
def test_what_is_no_duration_is_refused(value):
    assert refusal_of(value, lambda data: read_duration(data, "for")) == f"for: {DURATION}"


def test_a_duration_is_written_in_the_largest_unit_that_says_it_whole():
    seconds = [0, 1, 59, 60, 90, 300, 3_600, 5_400, 86_400, 90_000, 2_592_000]

    written = [write_duration(one * SECOND) for one in seconds]

    assert written == ["0s", "1s", "59s", "1m", "90s", "5m", "1h", "90m", "1d", "25h", "30d"]


def test_a_window_may_stand_on_both_of_its_bounds():
    windows = [read_condition({"kind": "rises", "percent": 1, "window": one}).window for one in ("10s", "400d")]

    assert windows == [10 * SECOND, 400 * DAY]


def test_units_are_written_as_decimals():
    assert [from_units(one) for one in (1, 10**30, 15 * 10**17, -5)] == [
        "0.000000000000000001", "1000000000000", "1.5", "-0.000000000000000005",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("mean", "written"),
    [
        (Fraction(20_000 * ONE, 3), "6666.66666666667"),
        (Fraction(10**12 * ONE - 1), "1000000000000"),
        (Fraction(1_475_000_000, 1), "0.000000001475"),
        (Fraction(2 * 10**9, 3), "0.000000000666666667"),
        (Fraction(5, 2), "0.000000000000000002"),
        (Fraction(7, 2), "0.000000000000000004"),
        (Fraction(-ONE, 8), "-0.125"),
        (Fraction(0), "0"),
    ],
)
def test_a_mean_is_written_with_the_digits_of_a_price_rounded_half_even(mean, written):
    assert mean_from_units(mean) == written


def test_the_document_says_everything_with_defaults_filled_in():
    spec = RuleSpec.read(
        {
            "assets": ["ETH-USD", "BTC-USD", "ETH-USD"],
            "condition": {"kind": "below_average", "percent": 0, "window": "720h"},
            "for": "120s",
            "expires_at": "2026-01-31T13:00:00.5+01:00",
        }
    )

    assert spec.document() == {
        "assets": ["ETH-USD", "BTC-USD"],
        "condition": {"kind": "below_average", "percent": "0", "window": "30d", "min_coverage": "0.5"},
        "for": "2m",
        "keep_firing": "0s",
        "trigger": "edge",
        "cooldown": "0s",
        "expires_at": "2026-01-31T12:00:00.500000Z",
        "enabled": True,
    }


def test_a_time_of_the_python_kind_is_read_like_a_written_one():
    written = RuleSpec.read(rule(expires_at="2026-01-31T12:00:00Z"))

    assert RuleSpec.read(rule(expires_at=datetime(2026, 1, 31, 12, tzinfo=UTC))) == written


@pytest.mark.parametrize("data", [["A", "B"], {"tag": "stablecoin"}, {"feed": "spot"}])
def test_a_selector_of_assets_is_written_as_it_was_read(data):
    assert Assets.read(data).document() == data


@settings(max_examples=200)
@given(
    logs.documents(),
    st.sampled_from([["A"], ["B", "A", "B"], {"tag": "x"}, {"feed": "y"}]),
    st.booleans(),
    st.one_of(st.none(), st.datetimes(timezones=st.timezones() | st.just(UTC)).filter(lambda one: 2 < one.year < 9998)),
)
def test_a_rule_read_from_its_own_document_is_the_same_rule(document, assets, enabled, expires_at):
    spec = RuleSpec.read({**document, "assets": assets, "enabled": enabled, "expires_at": expires_at})

    again = RuleSpec.read(spec.document())

    assert again == spec
    assert again.document() == spec.document()


@pytest.mark.parametrize(
    ("condition", "verdicts"),
    [
        ({"kind": "above", "level": 100}, [False, False, True]),
        ({"kind": "below", "level": 100}, [True, False, False]),
        # While an episode lasts the recovery stands in for the level: just as strict.
        ({"kind": "above", "level": 200, "recovery": 100}, [False, False, False]),
        ({"kind": "below", "level": 50, "recovery": 100}, [False, False, False]),
    ],
)
def test_a_price_equal_to_the_level_is_neither_above_nor_below(condition, verdicts):
    around = [100 * ONE - 1, 100 * ONE, 100 * ONE + 1]

    assert [verdict(condition, [(0, price)]) for price in around] == verdicts


@pytest.mark.parametrize(
    ("condition", "verdicts"),
    [
        ({"kind": "above", "level": 200, "recovery": 100}, [False, False, True]),
        ({"kind": "below", "level": 50, "recovery": 100}, [True, False, False]),
        ({"kind": "above", "level": 100}, [False, False, True]),
    ],
)
def test_while_firing_the_recovery_stands_in_for_the_level(condition, verdicts):
    around = [100 * ONE - 1, 100 * ONE, 100 * ONE + 1]

    assert [verdict(condition, [(0, price)], firing=True) for price in around] == verdicts


@pytest.mark.parametrize("ref", ["window_extreme", "window_start"])
def test_a_change_of_exactly_the_percent_counts(ref):
    rises = {"kind": "rises", "percent": "10", "window": "10s", "ref": ref}
    falls = {"kind": "falls", "percent": "10", "window": "10s", "ref": ref}

    up = [verdict(rises, [(0, 100 * ONE), (10, 110 * ONE + more)]) for more in (-1, 0, 1)]
    down = [verdict(falls, [(0, 100 * ONE), (10, 90 * ONE + more)]) for more in (-1, 0, 1)]

    assert (up, down) == ([False, True, True], [True, True, False])


@pytest.mark.parametrize("ref", ["window_extreme", "window_start"])
def test_while_firing_a_change_of_exactly_the_recovery_still_counts(ref):
    rises = {"kind": "rises", "percent": "10", "window": "10s", "ref": ref, "recovery": "5"}
    falls = {"kind": "falls", "percent": "10", "window": "10s", "ref": ref, "recovery": "5"}

    up = [verdict(rises, [(0, 100 * ONE), (10, 105 * ONE + more)], firing=True) for more in (-1, 0)]
    down = [verdict(falls, [(0, 100 * ONE), (10, 95 * ONE + more)], firing=True) for more in (0, 1)]
    before = verdict(rises, [(0, 100 * ONE), (10, 105 * ONE)])

    assert (up, down, before) == ([False, True], [True, False], False)


def test_the_extreme_is_against_a_dip_inside_the_window_and_the_start_is_not():
    dip = [(0, 100 * ONE), (5, 90 * ONE), (10, 100 * ONE)]
    rises = {"kind": "rises", "percent": "10", "window": "10s"}

    assert verdict(rises, dip) is True
    assert verdict({**rises, "ref": "window_start"}, dip) is False


def test_a_reference_between_two_polls_further_apart_than_the_window_is_the_price_in_force():
    polls = [(0, 100 * ONE), (1000, 110 * ONE)]

    assert verdict({"kind": "rises", "percent": "10", "window": "10s"}, polls) is True


def test_the_window_start_is_the_last_price_at_or_before_it():
    condition = {"kind": "rises", "percent": "10", "window": "10s", "ref": "window_start"}
    at_the_edge = Watched(condition, [(0, 50 * ONE), (10, 100 * ONE), (15, 70 * ONE), (20, 110 * ONE)])
    behind_it = Watched(condition, [(0, 50 * ONE), (10.000001, 100 * ONE), (15, 70 * ONE), (20, 110 * ONE)])

    assert at_the_edge.explain() == {
        "kind": "rises",
        "percent": "10",
        "window": "10s",
        "ref": "window_start",
        "window_from": "2023-03-11T02:00:10Z",
        "window_to": "2023-03-11T02:00:20Z",
        "reference": {"at": "2023-03-11T02:00:10Z", "price": "100"},
        "change_percent": "10",
        "result": True,
    }
    assert behind_it.explain()["reference"] == {"at": "2023-03-11T02:00:00Z", "price": "50"}


@pytest.mark.parametrize("ref", ["window_extreme", "window_start"])
def test_in_a_window_with_a_grid_a_price_leaves_at_the_grid_point_after_the_next_quote(ref):
    condition = {"kind": "rises", "percent": "10", "window": "5m", "ref": ref}  # a grid of 5 s
    quotes = [(0, 100 * ONE), (2, 120 * ONE), (6, 130 * ONE)]

    before = Watched(condition, [*quotes, (304.999999, 140 * ONE)]).explain()
    after = Watched(condition, [*quotes, (305, 140 * ONE)]).explain()

    assert (before["window_from"], before["reference"]["price"]) == ("2023-03-11T02:00:00Z", "100")
    assert (after["window_from"], after["reference"]["price"]) == ("2023-03-11T02:00:05Z", "120")


def test_without_a_reference_a_change_is_unknown():
    extreme = Watched({"kind": "rises", "percent": "10", "window": "10s"}, [(0, 100 * ONE)])
    young = Watched(
        {"kind": "rises", "percent": "10", "window": "10s", "ref": "window_start"}, [(0, 100 * ONE), (9, 200 * ONE)]
    )

    assert (extreme.verdict(), extreme.why_unknown()) == (None, "no_reference_price")
    assert (young.verdict(), young.why_unknown()) == (None, "no_price_at_window_start")


@pytest.mark.parametrize("price", [1_000, 10**27, 3 * 10**17, 100 * ONE + 1])  # 1e-15, 1e9, 0.3, …
@pytest.mark.parametrize(
    ("window", "step"), [("10s", 1.7), ("5m", 7), ("1h", 11.123457), ("30d", 9_973.3), ("400d", 86_399)]
)
def test_a_constant_price_is_neither_above_nor_below_its_own_mean(price, window, step):
    quotes = [(place * step, price) for place in range(400)]

    said = [
        verdict({"kind": kind, "percent": 0, "window": window, "min_coverage": "0.01"}, quotes)
        for kind in ("above_average", "below_average")
    ]

    assert said == [False, False]


def test_a_price_one_unit_from_its_mean_is_on_that_side():
    calm = [(place, 10**27) for place in range(400)]
    above = {"kind": "above_average", "percent": 0, "window": "5m"}
    below = {"kind": "below_average", "percent": 0, "window": "5m"}

    assert [verdict(above, [*calm, (400, 10**27 + one)]) for one in (-1, 0, 1)] == [False, False, True]
    assert [verdict(below, [*calm, (400, 10**27 + one)]) for one in (-1, 0, 1)] == [True, False, False]


def test_a_distance_from_the_mean_of_exactly_the_percent_does_not_count():
    calm = [(place, 100 * ONE) for place in range(20)]
    above = {"kind": "above_average", "percent": 10, "window": "10s"}
    below = {"kind": "below_average", "percent": 10, "window": "10s"}

    assert [verdict(above, [*calm, (20, 110 * ONE + one)]) for one in (0, 1)] == [False, True]
    assert [verdict(below, [*calm, (20, 90 * ONE + one)]) for one in (-1, 0)] == [True, False]


def test_while_firing_the_recovery_stands_in_for_the_distance_from_the_mean():
    calm = [(place, 100 * ONE) for place in range(20)]
    above = {"kind": "above_average", "percent": 10, "window": "10s", "recovery": 5}

    held = [verdict(above, [*calm, (20, 105 * ONE + one)], firing=True) for one in (0, 1)]

    assert (held, verdict(above, [*calm, (20, 105 * ONE + 1)])) == ([False, True], False)


def test_the_mean_is_weighted_by_time_and_the_price_itself_weighs_nothing():
    quotes = [(0, 100 * ONE), (8, 200 * ONE), (10, 119 * ONE)]
    operands = Watched({"kind": "below_average", "percent": 0, "window": "10s"}, quotes).explain()

    assert operands == {
        "kind": "below_average",
        "percent": "0",
        "window": "10s",
        "min_coverage": "0.5",
        "window_from": "2023-03-11T02:00:00Z",
        "window_to": "2023-03-11T02:00:10Z",
        "coverage": "1",
        "mean": "120",
        "difference_percent": "-0.8333",
        "result": True,
    }


def test_a_coverage_of_exactly_the_minimum_is_known():
    condition = {"kind": "above_average", "percent": 0, "window": "10s", "min_coverage": "0.5"}
    half = Watched(condition, [(5, 100 * ONE), (10, 101 * ONE)])
    less = Watched(condition, [(5.000001, 100 * ONE), (10, 101 * ONE)])

    assert half.verdict() is True
    assert less.verdict() is None
    assert less.why_unknown() == "not_enough_history"


def test_the_first_quote_alone_says_nothing_about_a_mean():
    first = Watched({"kind": "above_average", "percent": 0, "window": "10s", "min_coverage": "0.0000000001"}, [(0, 1)])

    assert (first.verdict(), first.why_unknown()) == (None, "not_enough_history")
