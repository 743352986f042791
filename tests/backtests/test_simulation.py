"""A rule tried on quotes that are handed in: outcomes, chunks, and the rule at other thresholds."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.backtests import simulation as backtests
from apps.backtests.simulation import Backtest, Opening, Outcome, variants
from apps.rules.engine.rule import RuleSpec

SECOND = 1_000_000
DAY = 86_400 * SECOND
ABOVE = {"kind": "above", "level": 100}


def spec_of(condition, **more):
    return RuleSpec.read({"assets": ["A", "B"], "condition": condition} | more)


def quotes_of(*rows):
    """Return (asset id, microseconds, price in 1e-18) of (asset id, seconds, price)."""
    return [(asset_id, seconds * SECOND, int(Decimal(price) * 10**18)) for asset_id, seconds, price in rows]


def outcome_of(condition, *rows, **more):
    backtest = Backtest([spec_of(condition, **more)], [1, 2])
    backtest.take_all(quotes_of(*rows))
    (outcome,) = backtest.outcomes()
    return outcome


def opened(outcome):
    return [
        (one.asset_id, one.opened_at // SECOND, None if one.resolved_at is None else one.resolved_at // SECOND)
        for one in outcome.openings
    ]


def thresholds(condition):
    return [threshold for threshold, _ in variants(spec_of(condition))]


# What one rule would have done.


def test_an_opening_has_its_times_its_evidence_and_why_it_resolved():
    (opening,) = outcome_of(ABOVE, (1, 0, 99), (1, 10, 101), (1, 20, 100)).openings

    assert (opening.asset_id, opening.opened_at, opening.resolved_at) == (1, 10 * SECOND, 20 * SECOND)
    assert (opening.reason, opening.evidence["price"], opening.evidence["level"]) == ("recovered", "101", "100")


def test_what_lasts_at_the_end_is_open():
    outcome = outcome_of(ABOVE, (1, 0, 101), (1, 10, 102))

    assert opened(outcome) == [(1, 0, None)]
    assert outcome.openings[0].reason == ""


def test_openings_are_in_order_of_time_and_asset_whatever_the_order_of_the_quotes():
    outcome = outcome_of(ABOVE, (2, 10, 101), (1, 10, 101), (1, 20, 99), (1, 30, 101), (2, 20, 99))

    assert opened(outcome) == [(1, 10, 20), (2, 10, 20), (1, 30, None)]


def test_each_opening_and_each_resolution_is_a_message():
    assert outcome_of(ABOVE, (1, 0, 101), (1, 10, 99), (1, 20, 101)).messages == 3


def test_a_suppressed_episode_is_counted_and_neither_opens_nor_resolves():
    outcome = outcome_of(ABOVE, (1, 0, 101), (1, 10, 99), (1, 20, 101), (1, 90, 99), cooldown="1m")

    assert (opened(outcome), outcome.suppressed, outcome.messages) == ([(1, 0, 10)], 1, 2)


def test_time_in_state_goes_from_the_first_quote_to_the_last_clock_over_all_assets():
    rows = [(1, 0, 99), (1, 10, 101), (2, 20, 101), (1, 30, 101), (1, 40, 99), (2, 100, 101)]
    outcome = outcome_of(ABOVE, *rows, **{"for": "10s", "keep_firing": "1m"})

    # Asset 1: inactive 0-10, pending 10-30, firing 30-40, recovering 40-100. Asset 2: pending 20-100, firing from 100.
    assert {state: spent // SECOND for state, spent in outcome.in_state.items()} == {
        "inactive": 10,
        "pending": 20 + 80,
        "firing": 10,
        "recovering": 60,
    }


def test_an_asset_without_a_quote_is_in_no_state():
    assert outcome_of(ABOVE, (1, 0, 99), (1, 10, 99)).in_state == {"inactive": 10 * SECOND}


def test_an_instance_that_ended_spends_the_rest_so():
    outcome = outcome_of(ABOVE, (1, 0, 101), (1, 10, 99), trigger="once")

    assert opened(outcome) == [(1, 0, 0)]
    assert outcome.in_state == {"inactive": 0, "firing": 0, "ended": 10 * SECOND}


def test_openings_are_counted_per_day_of_utc():
    outcome = Outcome(openings=[Opening(1, at, {}) for at in (0, DAY - 1, DAY, 3 * DAY)])

    assert outcome.per_day() == {0: 2, 1: 1, 3: 1}


def test_outcomes_of_other_assets_are_added():
    outcome = Outcome([Opening(1, 0, {})], 1, {"firing": 5, "inactive": 1}, ["a"])
    outcome.add(Outcome([Opening(2, 1, {}, 2)], 2, {"firing": 7, "pending": 3}, ["b"]))

    assert [one.asset_id for one in outcome.openings] == [1, 2]
    assert (outcome.suppressed, outcome.messages, outcome.errors) == (3, 3, ["a", "b"])
    assert outcome.in_state == {"firing": 12, "inactive": 1, "pending": 3}


def test_what_raises_while_it_is_evaluated_is_an_error_and_ends_the_episode(monkeypatch):
    backtest = Backtest([spec_of({"kind": "rises", "percent": 10, "window": "1m"})], [1])
    backtest.take_all(quotes_of((1, 0, 100), (1, 10, 110)))
    monkeypatch.setattr(backtests.Engine, "_step", lambda *_: 1 / 0)
    backtest.take_all(quotes_of((1, 20, 100)))
    (outcome,) = backtest.outcomes()

    assert outcome.errors == ["ZeroDivisionError: division by zero"]
    assert opened(outcome) == [(1, 10, 20)]


def test_a_rule_that_is_disabled_is_tried_all_the_same():
    assert opened(outcome_of(ABOVE, (1, 0, 101), enabled=False)) == [(1, 0, None)]


def test_rules_are_evaluated_side_by_side():
    backtest = Backtest([spec_of(ABOVE), spec_of({"kind": "below", "level": 100})], [1])
    backtest.take_all(quotes_of((1, 0, 101), (1, 10, 99)))
    above, below = backtest.outcomes()

    assert (opened(above), opened(below)) == ([(1, 0, 10)], [(1, 10, None)])


def test_windows_are_filled_from_what_was_before():
    past = {1: [(0, 100 * 10**18)]}
    backtest = Backtest([spec_of({"kind": "rises", "percent": 10, "window": "1m"})], [1], history=lambda reach: past)
    backtest.take_all(quotes_of((1, 10, 110)))
    (outcome,) = backtest.outcomes()

    assert opened(outcome) == [(1, 10, None)]


# Entries and chunks.

rows = st.lists(st.tuples(st.sampled_from([1, 2]), st.integers(0, 300), st.sampled_from([98, 99, 100, 101, 110])))
clockless = st.sampled_from(
    [
        ABOVE | {"recovery": 99},
        {"kind": "crosses", "level": 100},
        {"kind": "rises", "percent": 5, "window": "1m"},
        {"kind": "above_average", "percent": 1, "window": "1m"},
        {"any": [{"kind": "zscore", "n": 1, "window": "30s"}, {"not": {"kind": "inside", "low": 99, "high": 101}}]},
    ]
)


@given(rows=rows, condition=clockless, size=st.integers(1, 50))
def test_without_the_clock_it_makes_no_difference_how_many_quotes_an_entry_has(rows, condition, size):
    quotes, spec = quotes_of(*rows), spec_of(condition, cooldown="20s")
    one_by_one, in_chunks = Backtest([spec], [1, 2]), Backtest([spec], [1, 2])
    for quote in quotes:
        one_by_one.take([quote], as_of=quote[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backtests, "QUOTES_AT_ONCE", size)
        in_chunks.take_all(iter(quotes))

    assert in_chunks.outcomes() == one_by_one.outcomes()


@pytest.mark.parametrize("more", [{}, {"expires_at": "1970-01-01T00:01:00Z"}])
def test_with_the_clock_each_distinct_time_is_an_entry(more):
    stale = {"kind": "stale", "after": "30s"}
    quotes = quotes_of((1, 0, 100), (2, 0, 100), (2, 29, 100), (2, 30, 100), (2, 60, 100), (1, 60, 100), (2, 61, 100))
    entries, all_at_once = Backtest([spec_of(stale, **more)], [1, 2]), Backtest([spec_of(stale, **more)], [1, 2])
    for entry, at in ((quotes[:2], 0), (quotes[2:3], 29), (quotes[3:4], 30), (quotes[4:6], 60), (quotes[6:], 61)):
        entries.take(entry, as_of=at * SECOND)
    all_at_once.take_all(quotes)
    (expected,), (outcome,) = entries.outcomes(), all_at_once.outcomes()

    assert outcome == expected
    assert opened(outcome) == [(1, 30, 60)]


def test_an_empty_entry_moves_the_clock():
    backtest = Backtest([spec_of({"kind": "stale", "after": "30s"})], [1])
    backtest.take(quotes_of((1, 0, 100)), as_of=0)
    backtest.take([], as_of=29 * SECOND)
    assert backtest.status_of_instance(0, 1).state == "inactive"
    backtest.take([], as_of=30 * SECOND)
    assert backtest.status_of_instance(0, 1).state == "firing"
    (outcome,) = backtest.outcomes()

    assert opened(outcome) == [(1, 30, None)]


def test_the_clock_of_a_file_that_is_not_sorted_is_its_latest_time():
    outcome = outcome_of(ABOVE, (1, 0, 101), (1, 100, 101), (2, 0, 99), (2, 50, 99))

    assert outcome.in_state == {"inactive": 100 * SECOND, "firing": 100 * SECOND}


# The rule at other thresholds.


def test_percents_are_tried_far_around_and_levels_near():
    percents = ["5", "6", "7", "8", "9", "10", "11", "12.5", "15", "20"]

    assert thresholds({"kind": "rises", "percent": 10, "window": "5m"}) == percents
    assert thresholds({"kind": "zscore", "n": 2, "window": "5m"}) == [
        *("1", "1.2", "1.4", "1.6", "1.8", "2", "2.2", "2.5", "3", "4"),
    ]
    for condition in (ABOVE, {"kind": "crosses", "level": 100}):
        assert thresholds(condition) == ["90", "95", "98", "99", "100", "101", "102", "105", "110"]


def test_a_percent_of_0_is_swept_upward():
    assert thresholds({"kind": "below_average", "percent": 0, "window": "5m"}) == [
        "0",
        "0.25",
        "0.5",
        "1",
        "2",
        "3",
        "5",
    ]


@pytest.mark.parametrize(
    ("condition", "highest"),
    [
        ({"kind": "falls", "percent": 80, "window": "5m"}, "100"),
        ({"kind": "below_average", "percent": 90, "window": "5m"}, "99"),
        ({"kind": "zscore", "n": 900, "window": "5m"}, "990"),
        ({"kind": "above", "level": "1000000000000"}, "1000000000000"),
    ],
)
def test_thresholds_that_a_rule_may_not_have_are_not_tried(condition, highest):
    assert thresholds(condition)[-1] == highest


def test_a_level_is_not_swept_below_the_lowest():
    assert thresholds({"kind": "below", "level": "-1000000000000"})[0] == "-1000000000000"


def test_an_amount_is_swept_with_its_recovery():
    by_5 = {"kind": "above_average", "by": 5, "window": "1h", "recovery": 3}
    found = [spec.document()["condition"] for _, spec in variants(spec_of(by_5))]
    assert [(one["by"], one["recovery"]) for one in found] == [
        ("2.5", "2.5"), ("3", "3"), ("3.5", "3"), ("4", "3"), ("4.5", "3"), ("5", "3"), ("5.5", "3"), ("6.25", "3"),
        ("7.5", "3"), ("10", "3"),
    ]  # fmt: skip
    assert thresholds({"kind": "below_average", "by": 0, "window": "1h"}) == ["0"]


def test_a_level_of_0_has_nothing_around_it():
    assert thresholds({"kind": "below", "level": 0}) == ["0"]
    assert thresholds({"kind": "below", "level": -100}) == [
        str(-level) for level in (110, 105, 102, 101, 100, 99, 98, 95, 90)
    ]


@pytest.mark.parametrize(
    "condition",
    [{"kind": "stale", "after": "5m"}, {"kind": "inside", "low": 1, "high": 2}, {"kind": "exits", "low": 1, "high": 2}],
)
def test_where_nothing_has_a_threshold_nothing_is_swept(condition):
    assert thresholds(condition) == []


@pytest.mark.parametrize(
    ("condition", "recoveries"),
    [
        ({"kind": "above", "level": 100, "recovery": 97}, ["90", "95", *["97"] * 7]),
        ({"kind": "below", "level": 100, "recovery": 103}, [*["103"] * 7, "105", "110"]),
        ({"kind": "rises", "percent": 10, "window": "5m", "recovery": "6.5"}, ["5", "6", *["6.5"] * 8]),
        ({"kind": "below_average", "percent": 10, "window": "5m", "recovery": "8"}, ["5", "6", "7", *["8"] * 7]),
    ],
)
def test_the_recovery_stays_the_weaker_one(condition, recoveries):
    found = [spec.document()["condition"]["recovery"] for _, spec in variants(spec_of(condition))]

    assert found == recoveries


def test_each_variant_is_a_rule_that_could_be_written():
    conditions = [
        {"kind": "above", "level": "0.0123", "recovery": "0.0122"},
        {"kind": "falls", "percent": "3.3", "window": "1h", "ref": "window_start", "recovery": "0"},
        {"kind": "above_average", "percent": 0, "window": "1h", "recovery": 0},
        # These have a multiple with more decimals than can be written, and one that is nothing.
        {"kind": "above", "level": "0.000000000000012345"},
        {"kind": "rises", "percent": "0.000000000000000001", "window": "1h"},
        {"kind": "zscore", "n": "0.000000000000000001", "window": "1h"},
    ]
    tried = [spec for condition in conditions for _, spec in variants(spec_of(condition))]

    assert [RuleSpec.read(spec.document()) for spec in tried] == tried


def test_of_a_combination_the_first_leaf_with_a_threshold_is_swept_and_the_rest_stays():
    rises = {"kind": "rises", "percent": "10", "window": "5m", "ref": "window_extreme", "min_coverage": "0.5"}
    condition = {
        "all": [
            {"kind": "inside", "low": "1", "high": "1000"},
            {"not": {"any": [rises]}},
            {"kind": "above", "level": "100"},
        ]
    }
    (threshold, first), *_ = variants(spec_of(condition, **{"for": "2m"}))

    condition["all"][1]["not"]["any"][0]["percent"] = "5"
    assert threshold == "5"
    assert first.document()["condition"] == condition
    assert first.pending == 120 * SECOND


def test_the_rule_as_it_stands_is_among_its_variants():
    spec = spec_of({"kind": "rises", "percent": 10, "window": "5m"})

    assert ("10", spec) in variants(spec)
