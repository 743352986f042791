"""Events, bands, spread, silence, and conditions combined: each at its edge."""

import itertools

import pytest

from apps.rules.engine.conditions import is_clocked, is_event, read_condition
from apps.rules.engine.rule import RuleSpec
from apps.rules.engine.written import RuleInvalid
from tests.panel.watched import ONE, SECOND, START, Watched, verdict

pytestmark = pytest.mark.usefixtures("each_engine")

ABOVE = {"kind": "above", "level": "5"}
CROSSES = {"kind": "crosses_up", "level": "5"}
STALE_BESIDE_EVENT = (
    "condition: has stale beside the event crosses_up: an event is true at a quote only, and at a quote nothing is "
    "stale; write two rules"
)
# What a leaf says of one quote of 10: true, false, UNKNOWN.
TRUE, FALSE = {"kind": "above", "level": "5"}, {"kind": "below", "level": "5"}
UNKNOWN = {"kind": "crosses", "level": "5"}


def refusal_of(data, read=read_condition):
    with pytest.raises(RuleInvalid) as caught:
        read(data)
    return str(caught.value)


def nested(depth):
    """Return a leaf inside so many nots that it is `depth` deep."""
    return ABOVE if depth == 1 else {"not": nested(depth - 1)}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"kind": "crosses", "level": 1, "recovery": 1},
         "condition.recovery: is not known here; known are kind, level"),
        ({"kind": "inside", "low": 2, "high": 2}, "condition.high: must be above low"),
        ({"kind": "enters", "low": 3, "high": 2}, "condition.high: must be above low"),
        ({"kind": "outside", "low": 1}, "condition.high: is not a number; write it like 10 or '0.995'"),
        ({"kind": "zscore", "n": 0, "window": "1h"}, "condition.n: must be above 0 and at most 1000"),
        ({"kind": "zscore", "n": 1}, "condition.window: is not a duration; write it like 10s, 5m, 24h or 30d"),
        ({"kind": "stale", "after": 0}, "condition.after: must be from 1s to 400d"),
        ({"all": []}, "condition.all: must be a list of 1 to 20 conditions"),
        ({"any": ABOVE}, "condition.any: must be a list of 1 to 20 conditions"),
        ({"any": [ABOVE] * 21}, "condition.any: must be a list of 1 to 20 conditions"),
        ({"not": [ABOVE]}, "condition.not: must be a mapping like {kind: above, level: 100}"),
        ({"all": [ABOVE], "kind": "above"}, "condition.kind: is not known here; known are all"),
        ({"all": [ABOVE, {"any": [ABOVE, {"kind": "rises", "percent": 1, "window": "1s"}]}]},
         "condition.all[1].any[1].window: must be from 10s to 400d"),
        ({"any": [{"all": [ABOVE] * 11}, {"all": [ABOVE] * 10}]},
         "condition: has 21 leaves; at most 20 are evaluated together"),
        (nested(6), "condition.not.not.not.not.not: is nested more than 5 deep"),
        ({"not": CROSSES}, "condition.not.kind: crosses_up is an event and may not stand under not: "
         "it would hold nearly always"),
        ({"not": {"all": [ABOVE, CROSSES]}},
         "condition.not.all[1].kind: crosses_up is an event and may not stand under not: "
         "it would hold nearly always"),
        ({"not": {"kind": "above", "level": 5, "recovery": 4}},
         "condition.not.recovery: may not stand under not: it would be the stronger one there"),
        ({"all": [CROSSES, {"kind": "above", "level": 5, "recovery": 4}]},
         "condition: is an event, which is over at once: leave the recovery of above out"),
        ({"any": [CROSSES, {"kind": "stale", "after": "5m"}]}, STALE_BESIDE_EVENT),
        ({"all": [{"not": {"any": [{"kind": "stale", "after": "5m"}]}}, {"any": [ABOVE, CROSSES]}]},
         STALE_BESIDE_EVENT),
    ],
)  # fmt: skip
def test_a_wrong_combination_is_refused_with_its_path(data, message):
    assert refusal_of(data) == message


@pytest.mark.parametrize("key", ["for", "keep_firing"])
def test_an_event_has_no_duration(key):
    rule = {"assets": ["A"], "condition": {"any": [ABOVE, CROSSES]}, key: "1s"}

    assert refusal_of(rule, RuleSpec.read) == f"{key}: has no place with an event, which is over at once; leave it out"
    assert RuleSpec.read({**rule, key: 0}).pending == 0


@pytest.mark.parametrize(
    "data",
    [
        nested(5),
        {"any": [{"all": [ABOVE] * 10}, {"all": [ABOVE] * 10}]},
        {"kind": "zscore", "n": "2.5", "window": "1h", "min_coverage": "0.8"},
        {"all": [{"kind": "stale", "after": "5m"}, {"kind": "outside", "low": "0.99", "high": "1.01"}]},
        {"all": [{"kind": "above", "level": "5"}, {"kind": "exits", "low": "0.99", "high": "1.01"}]},
    ],
)
def test_a_condition_is_written_as_it_is_read(data):
    assert read_condition(data).document() == data


def test_an_event_or_a_silence_anywhere_makes_the_whole_one():
    assert [is_event(read_condition(one)) for one in (ABOVE, {"any": [ABOVE, {"all": [CROSSES]}]})] == [False, True]
    assert [is_clocked(read_condition(one)) for one in (ABOVE, {"not": {"kind": "stale", "after": "1s"}})] == [
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("kind", "fires"),
    [
        ("crosses_up", {(4, 5), (4, 6)}),
        ("crosses_down", {(6, 5), (6, 4)}),
        ("crosses", {(4, 5), (4, 6), (6, 5), (6, 4)}),
    ],
)
def test_a_crossing_comes_from_beyond_the_level_and_reaches_it(kind, fires):
    pairs = list(itertools.product((4, 5, 6), repeat=2))
    condition = {"kind": kind, "level": "5"}

    assert {pair for pair in pairs if verdict(condition, [(0, pair[0] * ONE), (1, pair[1] * ONE)])} == fires
    assert verdict(condition, [(0, 4 * ONE)]) is None


@pytest.mark.parametrize(
    ("kind", "holds"),
    [("inside", {3, 4, 5}), ("outside", {2, 6})],
)
def test_the_edges_of_a_band_belong_to_it(kind, holds):
    condition = {"kind": kind, "low": "3", "high": "5"}

    assert {price for price in range(2, 7) if verdict(condition, [(0, price * ONE)])} == holds


@pytest.mark.parametrize(
    ("kind", "fires"),
    [("enters", {(2, 3), (2, 5), (6, 3), (6, 5)}), ("exits", {(3, 2), (5, 2), (3, 6), (5, 6)})],
)
def test_a_passage_goes_over_an_edge_of_the_band(kind, fires):
    pairs = list(itertools.product((2, 3, 5, 6), repeat=2))
    condition = {"kind": kind, "low": "3", "high": "5"}

    assert {pair for pair in pairs if verdict(condition, [(0, pair[0] * ONE), (1, pair[1] * ONE)])} == fires
    assert verdict(condition, [(0, 4 * ONE)]) is None


def test_a_distance_of_exactly_n_deviations_counts():
    # Half the time 90, half 110: a mean of 100 and a deviation of 10.
    waves = [(0, 90 * ONE), (10, 110 * ONE)]
    condition = {"kind": "zscore", "n": "2", "window": "20s"}

    assert [verdict(condition, [*waves, (20, 120 * ONE + one)]) for one in (-1, 0)] == [False, True]
    assert [verdict(condition, [*waves, (20, 80 * ONE + one)]) for one in (0, 1)] == [True, False]
    assert Watched(condition, [*waves, (20, 120 * ONE)]).explain()["deviations"] == "2"


@pytest.mark.parametrize(
    ("condition", "price", "figure", "shown"),
    [
        ({"kind": "below_average", "percent": 0}, 100 * ONE - 1, "difference_percent", "-0.000000000000000001"),
        ({"kind": "above_average", "percent": 0}, 100 * ONE + 123_456_700_000_000, "difference_percent", "0.0001"),
        ({"kind": "rises", "percent": "0.000000000000000001"}, 100 * ONE + 1, "change_percent", "0.000000000000000001"),
        ({"kind": "rises", "percent": "0.0000000001"}, 100 * ONE + 45_600_000_000, "change_percent", "0.000000046"),
        ({"kind": "rises", "percent": "0.0000000001", "ref": "window_start"}, 100 * ONE, "change_percent", "0"),
    ],
)
def test_a_distance_of_less_than_four_decimals_is_not_shown_as_none(condition, price, figure, shown):
    watched = Watched(condition | {"window": "20s"}, [(0, 100 * ONE), (20, price)])

    assert watched.explain()[figure] == shown


def test_a_deviation_of_less_than_four_decimals_is_not_shown_as_none():
    waves = [(0, 90 * ONE), (10, 110 * ONE), (20, 100 * ONE + 1_234_500_000_000)]

    assert Watched({"kind": "zscore", "n": "0.0000000001", "window": "20s"}, waves).explain()["deviations"] == (
        "0.00000012345"
    )


def test_a_distance_of_more_digits_than_a_decimal_keeps_is_shown_too():
    # The last decimal for a microsecond, and then the highest price there is.
    blip = [(0, ONE), (19.999999, ONE + 1), (20, 10**12 * ONE)]

    deviations = Watched({"kind": "zscore", "n": "2", "window": "20s"}, blip).explain()["deviations"]

    assert 4.47e33 < float(deviations) < 4.48e33


def test_without_a_spread_or_enough_of_the_window_the_deviations_are_unknown():
    calm = Watched({"kind": "zscore", "n": "2", "window": "20s"}, [(0, 100 * ONE), (10, 100 * ONE), (20, 150 * ONE)])
    young = [(0, 90 * ONE), (5, 110 * ONE), (9, 500 * ONE)]

    assert (calm.verdict(), verdict({"kind": "zscore", "n": "2", "window": "20s"}, young)) == (None, None)
    assert verdict({"kind": "zscore", "n": "2", "window": "18s"}, young) is True
    assert calm.why_unknown() == "zero_variance"
    few = Watched({"kind": "zscore", "n": "2", "window": "20s"}, young)
    assert few.why_unknown() == "not_enough_history"


def test_silence_is_counted_from_the_newest_quote_to_the_clock():
    watched = Watched({"kind": "stale", "after": "5s"}, [(0, ONE), (10, ONE)])
    (newest,) = watched.windows
    verdicts = []
    for clock in (10, 14.999999, 15):
        newest.advance(START + round(clock * SECOND))
        verdicts.append(watched.verdict())

    assert verdicts == [False, False, True]


@pytest.mark.parametrize(
    ("word", "members", "said"),
    [
        ("all", [TRUE, TRUE], True), ("all", [TRUE, FALSE], False), ("all", [UNKNOWN, TRUE], None),
        ("all", [UNKNOWN, FALSE], False), ("all", [FALSE, UNKNOWN], False), ("all", [UNKNOWN], None),
        ("any", [FALSE, FALSE], False), ("any", [FALSE, TRUE], True), ("any", [UNKNOWN, FALSE], None),
        ("any", [UNKNOWN, TRUE], True), ("any", [TRUE, UNKNOWN], True), ("any", [UNKNOWN], None),
    ],
)  # fmt: skip
def test_a_combination_decides_as_soon_as_it_can_and_else_says_what_is_unknown(word, members, said):
    assert verdict({word: members}, [(0, 10 * ONE)]) is said


def test_not_turns_true_and_false_and_leaves_unknown():
    unknown = {"kind": "rises", "percent": 1, "window": "10s"}

    assert [verdict({"not": one}, [(0, 10 * ONE)]) for one in (TRUE, FALSE, unknown)] == [False, True, None]


def test_a_combination_is_explained_leaf_by_leaf():
    watched = Watched({"all": [TRUE, {"not": FALSE}, UNKNOWN]}, [(0, 10 * ONE)])

    assert watched.explain() == {
        "all": [
            {"kind": "above", "level": "5", "result": True},
            {"not": {"kind": "below", "level": "5", "result": False}, "result": True},
            {"kind": "crosses", "level": "5", "result": None},
        ],
        "result": None,
    }
    assert watched.why_unknown() == "no_previous_price"


def test_recovery_is_in_force_inside_a_combination_while_it_fires():
    condition = {"any": [{"kind": "above", "level": "10", "recovery": "8"}, FALSE]}

    assert [verdict(condition, [(0, 9 * ONE)], firing=firing) for firing in (False, True)] == [False, True]
