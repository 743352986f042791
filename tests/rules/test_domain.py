"""Rules and evidence in words: every kind, to the letter."""

from datetime import UTC, datetime, timedelta

import pytest

from apps import wording
from apps.rules import domain
from apps.rules.engine.conditions import read_condition
from apps.rules.engine.rule import RuleSpec

SECOND = 1_000_000
OPENED_AT = 1_772_453_275 * SECOND
QUOTED = {"result": True, "price": "67598", "at": "2026-03-02T12:07:55Z"}


def text(**condition):
    return domain.describe_condition(read_condition(condition))


def evidence(condition, **seen):
    return domain.describe_evidence(
        symbol="BTC-USD", condition=read_condition(condition), evidence=QUOTED | seen, opened_at=OPENED_AT
    )


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 seconds"), (1, "1 second"), (59, "59 seconds"), (60, "1 minute"), (90, "90 seconds"), (3_600, "1 hour"),
     (86_400, "1 day"), (2_592_000, "30 days")],
)  # fmt: skip
def test_a_duration_is_said_in_its_largest_whole_unit(seconds, said):
    assert wording.format_duration(seconds * SECOND) == said


@pytest.mark.parametrize(
    ("number", "said"),
    [("0.0000000001", "0.0000000001"), ("999", "999"), ("1000", "1\u202f000"), ("61230.50", "61\u202f230.5"),
     ("1000000000000", "1\u202f000\u202f000\u202f000\u202f000")],
)  # fmt: skip
def test_a_number_is_said_in_groups_of_thousands(number, said):
    assert wording.format_number(number) == said


@pytest.mark.parametrize(
    ("percent", "said"),
    [("10", "10 %"), ("10.4", "10.4 %"), ("-10.456", "10.46 %"), ("0.005", "0.005 %"), ("0.015", "0.02 %"),
     ("0", "0 %"), ("-0.00012345", "0.00012 %"), ("0.0000000001", "0.0000000001 %"), ("0.0096", "0.01 %"),
     ("1000000000000000000000000", "1" + "\u202f000" * 8 + " %")],
)  # fmt: skip
def test_a_percent_is_said_with_two_decimals_or_two_digits_and_without_its_sign(percent, said):
    assert wording.format_percent(percent) == said


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ({"kind": "above", "level": 100000}, "is above 100\u202f000"),
        ({"kind": "below", "level": "0.99", "recovery": "0.995"}, "is below 0.99"),
        ({"kind": "rises", "percent": 10, "window": "5m"}, "rises 10 % or more within 5 minutes"),
        ({"kind": "falls", "percent": "0.5", "window": "1h"}, "falls 0.5 % or more within 1 hour"),
        ({"kind": "rises", "percent": 1, "window": "24h", "ref": "window_start"},
         "rises 1 % or more within 1 day (against the price at its start)"),
        ({"kind": "above_average", "percent": 8, "window": "24h"}, "is more than 8 % above its average of 1 day"),
        ({"kind": "below_average", "percent": 0, "window": "30d"}, "is below its average of 30 days"),
        ({"kind": "unchanged", "after": "1h"}, "has had the same price for 1 hour"),
        (
            {"kind": "above_average", "by": "1500.5", "window": "24h"},
            "is more than 1\u202f500.5 above its average of 1 day",
        ),
        ({"kind": "below_average", "by": 0, "window": "30d"}, "is below its average of 30 days"),
        # A rule is said as it is written.
        ({"kind": "rises", "percent": "0.001", "window": "5m"}, "rises 0.001 % or more within 5 minutes"),
        ({"kind": "falls", "percent": "0.125", "window": "5m"}, "falls 0.125 % or more within 5 minutes"),
        ({"kind": "above_average", "percent": "0.0001", "window": "1h"},
         "is more than 0.0001 % above its average of 1 hour"),
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
        ({"kind": "above", "level": 60000}, {}, "BTC-USD is above 60\u202f000: 67\u202f598 at 12:07:55 UTC"),
        ({"kind": "below", "level": 70000}, {}, "BTC-USD is below 70\u202f000: 67\u202f598 at 12:07:55 UTC"),
        (
            {"kind": "rises", "percent": 10, "window": "5m"},
            {"reference": {"price": "61230.25", "at": "2026-03-02T12:03:10.5Z"}, "change_percent": "10.3999"},
            "BTC-USD rose 10.4 % in 5 minutes: 61\u202f230.25 at 12:03:10 UTC → 67\u202f598.00 at 12:07:55 UTC",
        ),
        (
            {"kind": "falls", "percent": 1, "window": "1h", "ref": "window_start"},
            {"reference": {"price": "70000", "at": "2026-03-02T11:00:00Z"}, "change_percent": "-3.4314"},
            "BTC-USD fell 3.43 % in 1 hour: 70\u202f000 at 11:00:00 UTC → 67\u202f598 at 12:07:55 UTC",
        ),
        (
            {"kind": "above_average", "percent": 0, "window": "30d"},
            {"mean": "61230.2549999999", "difference_percent": "10.4"},
            "BTC-USD is 10.4 % above its average of 30 days: 67\u202f598 at 12:07:55 UTC, average 61\u202f230.25",
        ),
        (
            {"kind": "unchanged", "after": "1h"},
            {"price": "61230", "unchanged_since": "2026-03-02T11:03:10Z"},
            "BTC-USD has had the same price for 1 hour: 61\u202f230 at 12:07:55 UTC, first quoted at 11:03:10 UTC",
        ),
        (
            {"kind": "unchanged", "after": "1h"},
            {"price": "61230", "unchanged_since": "2026-02-27T20:03:10Z", "trading_seconds": 3_700},
            "BTC-USD has had the same price for 1 hour of trading: 61\u202f230 at 12:07:55 UTC, first "
            "quoted on 2026-02-27 at "
            "20:03:10 UTC",
        ),
        (
            {"kind": "below_average", "by": "0.5", "window": "30d"},
            {"price": "-1.25", "mean": "0.0123456789", "difference": "-1.2623456789"},
            "BTC-USD is 1.26 below its average of 30 days: -1.25 at 12:07:55 UTC, average 0.01",
        ),
        (
            {"kind": "above_average", "by": "0", "window": "30d"},
            {"price": "0.00000000151", "mean": "0.00000000144", "difference": "0.00000000007"},
            "BTC-USD is 0.00000000007 above its average of 30 days: 0.00000000151 at 12:07:55 UTC, "
            "average 0.00000000144",
        ),
        (
            {"kind": "below_average", "percent": 0, "window": "30d"},
            {"price": "0.99012", "mean": "1.0000049999", "difference_percent": "-0.9885"},
            "BTC-USD is 0.99 % below its average of 30 days: 0.99012 at 12:07:55 UTC, average 1",
        ),
        (
            {"kind": "below_average", "percent": 0, "window": "30d"},
            {"price": "100", "mean": "100.0000123", "difference_percent": "-0.000012"},
            "BTC-USD is 0.000012 % below its average of 30 days: 100 at 12:07:55 UTC, average 100.00001",
        ),
        (
            {"kind": "below_average", "percent": 0, "window": "30d"},
            {"price": "100", "mean": "100", "difference_percent": "-0.00000000000012"},
            "BTC-USD is 0.00000000000012 % below its average of 30 days: 100 at 12:07:55 UTC, average 100",
        ),
        (
            {"kind": "zscore", "n": "0.001", "window": "1h"},
            {"mean": "67598.5", "deviations": "0.0012"},
            "BTC-USD is 0.0012 standard deviations from its average of 1 hour: 67\u202f598 at 12:07:55 "
            "UTC, average 67\u202f598.5",
        ),
        # What is of another day than the alert, and what was compared over a gap.
        (
            {"kind": "rises", "percent": 10, "window": "5m"},
            {"reference": {"price": "60000", "at": "2026-02-27T18:30:00Z"}, "change_percent": "12.6633"},
            "BTC-USD rose 12.66 % in 5 minutes (last price 65 h earlier): "
            "60\u202f000 on 2026-02-27 at 18:30:00 UTC → 67\u202f598 at 12:07:55 UTC",
        ),
        (
            {"kind": "rises", "percent": 10, "window": "24h"},
            {"reference": {"price": "60000", "at": "2026-03-01T18:30:00Z"}, "change_percent": "12.6633"},
            "BTC-USD rose 12.66 % in 1 day: 60\u202f000 on 2026-03-01 at 18:30:00 UTC → 67\u202f598 at 12:07:55 UTC",
        ),
        (
            {"kind": "rises", "percent": 10, "window": "5m"},
            {"reference": {"price": "60000", "at": "2026-03-02T11:57:55Z"}, "change_percent": "12.6633"},
            "BTC-USD rose 12.66 % in 5 minutes (last price 10 min earlier): "
            "60\u202f000 at 11:57:55 UTC → 67\u202f598 at 12:07:55 UTC",
        ),
        (
            {"kind": "crosses", "level": 65000},
            {"before": "60000", "previous": {"price": "60000", "at": "2026-02-27T18:30:00Z"}},
            "BTC-USD crossed 65\u202f000: 60\u202f000 on 2026-02-27 at 18:30:00 UTC → 67\u202f598 at 12:07:55 UTC",
        ),
        (
            {"kind": "crosses", "level": 65000},
            {"before": "60000", "previous": {"price": "60000", "at": "2026-03-02T00:00:00Z"}},
            "BTC-USD crossed 65\u202f000: 60\u202f000 → 67\u202f598 at 12:07:55 UTC",
        ),
        (
            {"kind": "stale", "after": "5m"},
            {"at": "2026-02-27T18:30:00Z", "clock": "2026-03-02T12:07:55Z"},
            "BTC-USD has had no quote for 5 minutes: the last was 67\u202f598 on 2026-02-27 at "
            "18:30:00 UTC, and the clock is "
            "at 12:07:55 UTC",
        ),
        (
            {"all": [{"kind": "above", "level": 65000}, {"kind": "rises", "percent": 10, "window": "5m"}]},
            {"all": [{"result": True}, {"result": True, "change_percent": "12.6633",
                                        "reference": {"price": "60000", "at": "2026-02-27T18:30:00Z"}}]},
            "BTC-USD is above 65\u202f000 and rose 12.66 % in 5 minutes (last price 65 h earlier): "
            "67\u202f598 at 12:07:55 UTC",
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
