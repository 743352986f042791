"""Reasons and figures in words."""

import re

import pytest

from apps.alerts.episodes import REASONS
from apps.alerts.wording import describe_event_reason
from apps.rules.domain import describe_reason, describe_unknown
from apps.rules.engine.codes import CODE_LONGEST, Reason, Unknown
from apps.rules.engine.conditions import read_condition
from apps.rules.explain import parts_of
from apps.wording import format_time


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("", ""),
        ("became_true", "the condition became true"),
        ("became_false", "the condition became false"),
        ("held_long_enough", "the condition held for as long as it must"),
        ("recovered", "the condition is over"),
        ("event", "an event is over at once"),
        ("once", "the rule ends with its first opening"),
        ("expired", "the rule expired"),
        ("rule_changed", "the rule was changed, disabled or deleted, or the asset is chosen no more"),
        ("evaluation_failed", "evaluating failed"),
    ],
)
def test_every_reason_has_a_text(reason, text):
    assert describe_reason(reason) == text


def test_what_was_raised_stands_behind_the_reason():
    detail = "RuleInvalid: rule: is missing"
    assert describe_reason("evaluation_failed", detail) == "evaluating failed: RuleInvalid: rule: is missing"


@pytest.mark.parametrize("unknown", list(Unknown))
def test_every_unknown_has_a_text(unknown):
    assert " " in describe_unknown(unknown)


@pytest.mark.parametrize("code", [*Reason, *Unknown])
def test_a_code_is_one_short_name(code):
    assert re.fullmatch(r"[a-z_]+", code) and len(code) <= CODE_LONGEST


def test_every_reason_of_an_alert_has_a_text():
    assert all(" " in describe_event_reason(reason) for reason in REASONS)


def test_a_code_of_a_newer_version_stands_for_itself():
    assert (describe_reason("from_tomorrow"), describe_unknown("from_tomorrow")) == ("from_tomorrow", "from_tomorrow")


def test_a_moment_is_written_in_utc():
    assert format_time(1_678_500_000_999_999) == "2023-03-11 02:00:00 UTC"


@pytest.mark.parametrize(
    ("condition", "evidence", "figures"),
    [
        (
            {"kind": "rises", "percent": "10", "window": "5m"},
            {"reference": {"at": "2023-03-11T06:31:00Z", "price": "61230.00"}, "change_percent": "10.4"},
            "61\u202f230.0 at 2023-03-11 06:31:00 UTC → 67\u202f598.5: +10.4 %",
        ),
        (
            {"kind": "falls", "percent": "10", "window": "5m"},
            {},
            "the price is 67\u202f598.5; there is no price to compare it with",
        ),
        (
            {"kind": "rises", "percent": "10", "window": "6h"},
            {
                "reference": {"at": "2023-03-11T06:31:00Z", "price": "61230"},
                "change_percent": "10.4",
                "coverage": "0.25",
            },
            "61\u202f230.0 at 2023-03-11 06:31:00 UTC → 67\u202f598.5: +10.4 %; known: 1.5 of 6 hours",
        ),
        (
            {"kind": "crosses", "level": "1"},
            {},
            "the price is 67\u202f598.5; there is no quote before it, or one of another provider",
        ),
        ({"kind": "exits", "low": "1", "high": "2"}, {"before": "2"}, "2.0 → 67\u202f598.5"),
        (
            {"kind": "below_average", "percent": "0", "window": "24h"},
            {"coverage": "0"},
            "the price is 67\u202f598.5; known: 0 of 1 day",
        ),
        (
            {"kind": "zscore", "n": "3", "window": "30d"},
            {"coverage": "0.9999", "mean": "60000.123456", "difference_percent": "12.6639", "deviations": "3.2"},
            "the price is 67\u202f598.5, the average 60\u202f000.12: 3.2 deviations; known: 29.9 of 30 days",
        ),
        (
            {"kind": "zscore", "n": "3", "window": "30d"},
            {"coverage": "1", "mean": "67598.5", "difference_percent": "0"},
            "the price is 67\u202f598.5, the average 67\u202f598.5: its price never changed; known: 30 of 30 days",
        ),
    ],
)
def test_what_was_compared_is_said_in_figures(condition, evidence, figures):
    seen = {"price": "67598.5", "result": None} | evidence
    assert parts_of(read_condition(condition), seen, is_open=False).figures == figures


def test_a_recovery_is_mentioned_only_while_it_applies():
    condition = read_condition({"kind": "rises", "percent": "10", "window": "5m", "recovery": "5"})
    seen = {"price": "1", "result": True}
    assert parts_of(condition, seen, is_open=False).summary == "rises 10 % or more within 5 minutes"
    assert parts_of(condition, seen, is_open=True).summary == (
        "rises 10 % or more within 5 minutes; while it fires, 5 % is what counts"
    )
