"""From when a condition can be evaluated, and where a window is too narrow: said before anything is evaluated."""

import pytest

from apps.notation import SECOND
from apps.rules.advice import Outlook, Stored, outlook_of, warnings_of
from apps.rules.engine.conditions import leaves_of, read_condition
from apps.rules.engine.engine import Engine
from apps.rules.engine.entries import QuotesEntry, RuleChange, RulesEntry
from apps.rules.engine.pure import grid_of
from apps.rules.engine.rule import RuleSpec

START = 1_678_500_000 * SECOND  # 2023-03-11 02:00:00 UTC
HOUR, DAY = 3_600 * SECOND, 86_400 * SECOND


def outlook(condition, *, first=None, newest=None):
    return outlook_of(read_condition(condition), Stored(first, newest))


@pytest.mark.parametrize("kind", ["above", "below"])
def test_a_level_is_known_from_the_first_quote(kind):
    level = {"kind": kind, "level": "1"}
    assert outlook(level) == Outlook(False, None, "no price yet; needs one price")
    assert outlook(level, first=START, newest=START) == Outlook(True, None, "can be evaluated now")


@pytest.mark.parametrize(
    "condition",
    [
        {"kind": "crosses", "level": "1"},
        {"kind": "enters", "low": "1", "high": "2"},
        {"kind": "rises", "percent": "1", "window": "5m"},
    ],
)
def test_what_compares_with_an_earlier_price_is_known_from_the_second_quote(condition):
    assert outlook(condition).summary == "no price yet; needs two prices"
    assert outlook(condition, first=START, newest=START).summary == "one price so far; needs two prices"
    assert outlook(condition, first=START, newest=START + 1).is_known


def test_an_average_is_known_when_enough_of_its_window_is():
    average = {"kind": "below_average", "percent": "0", "window": "30d"}
    assert outlook(average).summary == "needs 15 of 30 days; no price yet"
    waiting = outlook(average, first=START, newest=START + 3 * DAY)
    assert waiting.summary == "needs 15 of 30 days; 3 are stored: known from 2023-03-26 05:00:00 UTC"
    assert outlook(average, first=START, newest=START + DAY).summary.startswith("needs 15 of 30 days; 1 is stored")
    assert not outlook(average, first=START, newest=waiting.known_from - 1).is_known
    assert outlook(average, first=START, newest=waiting.known_from).is_known


def test_an_unchanged_price_is_known_after_its_span_or_a_change():
    frozen = {"kind": "unchanged", "after": "1h"}
    assert outlook(frozen).summary == "no price yet; needs one price"
    waiting = outlook(frozen, first=START, newest=START + HOUR - 1)
    assert waiting == Outlook(False, START + HOUR, "known from 2023-03-11 03:00:00 UTC, or once its price has changed")
    assert outlook(frozen, first=START, newest=START + HOUR).is_known
    assert list(warnings_of(read_condition(frozen), feed="spot", interval_seconds=3_600)) == [
        "an unchanged price for 1 hour is under twice the pace of spot, where a quote comes every 60 min: it "
        "would be found in two equal quotes"
    ]


def test_a_change_from_the_start_needs_its_whole_window():
    change = {"kind": "falls", "percent": "1", "window": "24h", "ref": "window_start"}
    waiting = outlook(change, first=START + 1, newest=START + 90 * 60 * SECOND)
    assert waiting.summary == "needs 24 of 24 hours; 1.4 are stored: known from 2023-03-12 02:15:00 UTC"


def test_that_nothing_changed_is_known_when_enough_of_the_window_is():
    calm = {"not": {"kind": "rises", "percent": "1", "window": "6h", "min_coverage": "0.75"}}
    waiting = outlook(calm, first=START, newest=START + HOUR)
    assert waiting.summary == "needs 4.5 of 6 hours; 1 is stored: known from 2023-03-11 06:33:45 UTC"


def test_deviations_need_a_price_that_changes():
    spread = {"kind": "zscore", "n": "3", "window": "1m"}
    assert outlook(spread, first=START, newest=START + 5 * SECOND).summary == (
        "needs 30 of 60 seconds; 5 are stored: known from 2023-03-11 02:00:30 UTC, once its price has changed"
    )


def test_a_combination_is_known_with_the_last_of_its_parts():
    parts = [
        {"kind": "above", "level": "1"},
        {"kind": "above_average", "percent": "0", "window": "1h"},
        {"not": {"kind": "above_average", "percent": "0", "window": "24h"}},
    ]
    assert "of 24 hours" in outlook({"all": parts}, first=START, newest=START).summary
    assert outlook({"any": parts}, first=START, newest=START + DAY).is_known


@pytest.mark.parametrize(
    "condition",
    [
        {"kind": "below_average", "percent": "0", "window": "1h"},
        {"kind": "below_average", "percent": "0", "window": "24h", "min_coverage": "0.1"},
        {"kind": "above_average", "percent": "0", "window": "30m", "min_coverage": "1"},
        {"kind": "zscore", "n": "1", "window": "2h", "min_coverage": "0.7"},
        {"kind": "rises", "percent": "1", "window": "1h", "ref": "window_start"},
        {"kind": "rises", "percent": "1", "window": "1h"},
        {"not": {"kind": "falls", "percent": "1", "window": "1h"}},
        {"not": {"kind": "falls", "percent": "1", "window": "1h", "min_coverage": "0.8"}},
        {"not": {"kind": "falls", "percent": "1", "window": "1h", "ref": "window_start"}},
        {"kind": "crosses", "level": "1"},
    ],
)
@pytest.mark.parametrize("first", [START, START + 1, START + 77 * SECOND])
def test_what_is_said_is_what_the_engine_does(condition, first):
    """At the moment named it is known, and it was not a grid and a quote before."""
    spec = RuleSpec.read({"assets": ["ANY"], "condition": condition})
    engine, pace = Engine(), 7 * SECOND
    engine.evaluate(RulesEntry(1, START, [RuleChange(1, 1, spec, [1])]), lambda reach: {})
    times = [first + place * pace for place in range(3 * HOUR // pace)]
    known = []
    for seq, at in enumerate(times, start=2):
        engine.evaluate(QuotesEntry(seq, at, [(1, at, 10**18 + seq)]), lambda reach: {})
        known.append(engine.status_of_instance(1, 1).unknown is None)
    said = [outlook_of(spec.condition, Stored(first, at)).is_known for at in times]
    assert known[-1] and said[-1]
    assert [is_known for is_known, is_said in zip(known, said, strict=True) if is_said] == [True] * sum(said)
    width = max(getattr(leaf, "window", 0) for leaf in leaves_of(spec.condition))
    assert (said.index(True) - known.index(True)) * pace <= grid_of(width) + pace


def test_windows_under_twice_the_pace_are_warned_of_once():
    condition = {
        "all": [
            {"kind": "rises", "percent": "1", "window": "5m"},
            {"kind": "rises", "percent": "2", "window": "5m"},
            {"kind": "above_average", "percent": "2", "window": "10m"},
            {"kind": "stale", "after": "1m"},
            {"kind": "above", "level": "1"},
        ]
    }
    pace = "is under twice the pace of spot, where a quote comes every 5 min"
    assert list(warnings_of(read_condition(condition), feed="spot", interval_seconds=300)) == [
        f"a window of 5 minutes (rises) {pace}: it would often see one price alone",
        f"a silence of 1 minute {pace}: it would be found between two quotes",
    ]
    assert list(warnings_of(read_condition(condition), feed="spot", interval_seconds=30)) == []
