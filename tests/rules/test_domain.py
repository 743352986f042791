"""Rules and evidence in words: every kind, to the letter."""

from datetime import UTC, datetime, timedelta

import pytest

from apps import wording
from apps.rules import domain
from apps.rules.engine.conditions import read_condition
from apps.rules.engine.rule import RuleSpec

SECOND = 1_000_000
QUOTED = {"result": True, "price": "67598", "at": "2026-03-02T12:07:55Z"}


def text(**condition):
    return domain.describe_condition(read_condition(condition))


def evidence(condition, **seen):
    return domain.describe_evidence(symbol="BTC-USD", condition=read_condition(condition), evidence=QUOTED | seen)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 seconds"), (1, "1 second"), (59, "59 seconds"), (60, "1 minute"), (90, "90 seconds"), (3_600, "1 hour"),
     (86_400, "1 day"), (2_592_000, "30 days")],
)  # fmt: skip
def test_a_duration_is_said_in_its_largest_whole_unit(seconds, said):
    assert wording.format_duration(seconds * SECOND) == said


@pytest.mark.parametrize(
    ("number", "said"),
    [("0.0000000001", "0.0000000001"), ("999", "999"), ("1000", "1 000"), ("61230.50", "61 230.5"),
     ("1000000000000", "1 000 000 000 000")],
)  # fmt: skip
def test_a_number_is_said_in_groups_of_thousands(number, said):
    assert wording.format_number(number) == said


@pytest.mark.parametrize(
    ("percent", "said"),
    [("10", "10 %"), ("10.4", "10.4 %"), ("-10.456", "10.46 %"), ("0.005", "0 %"), ("0.015", "0.02 %"),
     ("1000000000000000000000000", "1000000000000000000000000 %")],
)  # fmt: skip
def test_a_percent_is_said_with_two_decimals_at_most_and_without_its_sign(percent, said):
    assert wording.format_percent(percent) == said


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ({"kind": "above", "level": 100000}, "is above 100 000"),
        ({"kind": "below", "level": "0.99", "recovery": "0.995"}, "is below 0.99"),
        ({"kind": "rises", "percent": 10, "window": "5m"}, "rises 10 % or more within 5 minutes"),
        ({"kind": "falls", "percent": "0.5", "window": "1h"}, "falls 0.5 % or more within 1 hour"),
        ({"kind": "rises", "percent": 1, "window": "24h", "ref": "window_start"},
         "rises 1 % or more within 1 day (against the price at its start)"),
        ({"kind": "above_average", "percent": 8, "window": "24h"}, "is more than 8 % above its average of 1 day"),
        ({"kind": "below_average", "percent": 0, "window": "30d"}, "is below its average of 30 days"),
    ],
)  # fmt: skip
def test_every_kind_of_condition_has_a_description(condition, said):
    assert text(**condition) == said


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"assets": ["BTC-USD"]}, "BTC-USD is below 1"),
        ({"assets": ["BTC-USD", "ETH-USD"], "for": "90s"}, "BTC-USD, ETH-USD is below 1, for 90 seconds"),
        ({"assets": {"tag": "peg"}, "trigger": "once"}, "any asset tagged peg is below 1, once"),
        ({"assets": {"feed": "spot"}, "for": "1m", "trigger": "once"},
         "any asset of spot is below 1, for 1 minute, once"),
    ],
)  # fmt: skip
def test_a_whole_rule_has_a_description(document, said):
    spec = RuleSpec.read({"condition": {"kind": "below", "level": 1}, **document})

    assert domain.describe_rule(spec) == said


@pytest.mark.parametrize(
    ("condition", "seen", "said"),
    [
        ({"kind": "above", "level": 60000}, {}, "BTC-USD is above 60 000: 67 598 at 12:07:55"),
        ({"kind": "below", "level": 70000}, {}, "BTC-USD is below 70 000: 67 598 at 12:07:55"),
        (
            {"kind": "rises", "percent": 10, "window": "5m"},
            {"reference": {"price": "61230.25", "at": "2026-03-02T12:03:10.5Z"}, "change_percent": "10.3999"},
            "BTC-USD rose 10.4 % in 5 minutes: 61 230.25 at 12:03:10 → 67 598 at 12:07:55",
        ),
        (
            {"kind": "falls", "percent": 1, "window": "1h", "ref": "window_start"},
            {"reference": {"price": "70000", "at": "2026-03-02T11:00:00Z"}, "change_percent": "-3.4314"},
            "BTC-USD fell 3.43 % in 1 hour: 70 000 at 11:00:00 → 67 598 at 12:07:55",
        ),
        (
            {"kind": "above_average", "percent": 0, "window": "30d"},
            {"mean": "61230.2549999999", "difference_percent": "10.4"},
            "BTC-USD is 10.4 % above its average of 30 days: 67 598 at 12:07:55, average 61 230.25",
        ),
        (
            {"kind": "below_average", "percent": 0, "window": "30d"},
            {"price": "0.99012", "mean": "1.0000049999", "difference_percent": "-0.9885"},
            "BTC-USD is 0.99 % below its average of 30 days: 0.99012 at 12:07:55, average 1",
        ),
    ],
)  # fmt: skip
def test_the_evidence_of_every_kind_has_a_description(condition, seen, said):
    assert evidence(condition, **seen) == said


def moments(*ages):
    return [datetime(2026, 3, 10, 12, tzinfo=UTC) - timedelta(seconds=age) for age in ages]


def test_checkpoints_grow_rarer_with_age_and_the_newest_is_kept():
    day = 86_400
    clocks = moments(4 * day + 60, 4 * day, 3 * day, 3 * day - 60, 7_200, 7_140, 3_600, 3_539, 1, 0)

    # The first of each day; of each hour up to two days; of each minute up to an hour.
    assert domain.checkpoints_kept(clocks) == {0, 2, 4, 6, 7, 8, 9}
    assert domain.checkpoints_kept(clocks, oldest=clocks[2]) == {2, 4, 6, 7, 8, 9}


def test_a_clock_that_stands_still_keeps_its_first_and_its_newest_checkpoint():
    assert domain.checkpoints_kept(moments(0, 0, 0)) == {0, 2}
    assert domain.checkpoints_kept([]) == set()
