"""`manage.py backtest RULE.yaml QUOTES.csv`: its report, its output and its exit status.

No test here has a database: pytest-django refuses it to those that do not ask for it.
"""

import csv
import gzip
import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from apps.backtests import evaluation as backtests
from apps.backtests.management.commands import backtest as command
from apps.market.domain import admit_price, price_units, read_time
from apps.rules.engine.rule import RuleSpec
from tests.backtests.files import ABOVE, opened, rows_of
from tests.rules import oracle, oracle_conditions

ROOT = Path(__file__).resolve().parents[2]
RECORDING = ROOT / "apps/sources/recordings/usdc-depeg-2023-03.csv.gz"
NOWHERE = "postgres://nobody:nothing@127.0.0.1:1/none"
CALENDARS = ((), ("--calendar", "XNYS"))


def environment():
    return os.environ | {"DATABASE_URL": NOWHERE, "DJANGO_SECRET_KEY": "k" * 40, "CELERY_BROKER_URL": ""}


# What is said.


def test_the_report_has_these_keys_and_no_others(report):
    found = report(ABOVE, rows_of(99, 101, 100))

    assert list(found) == [
        "quotes",
        "evaluated",
        "repeated",
        "unconfirmed",
        "rejected",
        "rejected_by_reason",
        "wrong",
        "wrong_lines",
        "rule",
        "assets",
        "openings",
        "openings_per_day",
        "suppressed",
        "messages",
        "seconds_in_state",
        "errors",
    ]
    assert list(found["openings"][0]) == [
        "asset",
        "opened_at",
        "resolved_at",
        "resolved_because",
        "price",
        "summary",
        "evidence",
    ]


def test_the_report_of_a_small_file_worked_out_by_hand(report):
    found = report(ABOVE, rows_of(99, 101, 100, "100.5"))

    openings = found.pop("openings")
    assert found == {
        "quotes": 4,
        "evaluated": 4,
        "repeated": 0,
        "unconfirmed": 0,
        "rejected": 0,
        "rejected_by_reason": {},
        "wrong": 0,
        "wrong_lines": [],
        "rule": "A is above 100",
        "assets": ["A"],
        "openings_per_day": {"2026-01-01": 2},
        "suppressed": 0,
        "messages": 3,
        "seconds_in_state": {"firing": 60.0, "inactive": 120.0},
        "errors": [],
    }
    assert [{key: one[key] for key in one if key not in ("evidence", "summary")} for one in openings] == [
        {
            "asset": "A",
            "opened_at": "2026-01-01T00:01:00Z",
            "resolved_at": "2026-01-01T00:02:00Z",
            "resolved_because": "recovered",
            "price": "101",
        },
        {
            "asset": "A",
            "opened_at": "2026-01-01T00:03:00Z",
            "resolved_at": None,
            "resolved_because": "",
            "price": "100.5",
        },
    ]
    assert openings[0]["evidence"] == {
        "kind": "above",
        "level": "100",
        "result": True,
        "price": "101",
        "at": "2026-01-01T00:01:00Z",
        "previous": {"price": "99", "at": "2026-01-01T00:00:00Z"},
    }


def test_a_tiny_price_is_compared_and_shown_with_all_its_digits(report):
    rule = "assets: [A]\ncondition: {kind: rises, percent: 4.8, window: 5m}\n"
    found = report(rule, rows_of("1.44e-9", "1.51e-9"))

    assert [one["summary"] for one in found["openings"]] == [
        "A rose 4.86 % in 5 minutes: 0.00000000144 at 00:00:00 UTC → 0.00000000151 at 00:01:00 UTC"
    ]
    assert report(rule.replace("4.8", "4.87"), rows_of("1.44e-9", "1.51e-9"))["openings"] == []


def test_openings_are_in_order_of_time_and_symbol(report):
    rule = "assets: [Z, B, A]\ncondition: {kind: above, level: 100}\n"
    rows = "time,symbol,price\n60,Z,101\n60,B,101\n60,A,99\n120,A,101\n120,Z,99\n120,B,99\n180,B,101\n"
    rows = rows.replace("\n60", "\n1767225660").replace("\n120", "\n1767225720").replace("\n180", "\n1767225780")

    assert opened(report(rule, rows)) == [("B", 1, 2), ("Z", 1, 2), ("A", 2, None), ("B", 3, None)]


def test_times_are_in_utc_whatever_zone_they_were_written_in(report):
    found = report(ABOVE, "time,symbol,price\n2026-01-01T01:30:00.25+01:30,A,101\n")

    assert found["openings"][0]["opened_at"] == "2026-01-01T00:00:00.250000Z"
    assert found["openings"][0]["evidence"]["at"] == "2026-01-01T00:00:00.250000Z"


def test_openings_are_counted_per_day_of_utc(report):
    times = ("2026-01-01T23:59:59Z", "2026-01-02T01:00:00+02:00", "2026-01-02T00:00:00Z")
    rows = "time,symbol,price\n" + "".join(f"{at},{symbol},101\n" for at, symbol in zip(times, "ABC", strict=True))

    assert report(ABOVE.replace("[A]", "[A, B, C]"), rows)["openings_per_day"] == {"2026-01-01": 2, "2026-01-02": 1}


def test_an_event_opens_and_resolves_in_one_step(report):
    rule = "assets: [A]\ncondition: {kind: crosses, level: 100}\n"
    found = report(rule, rows_of(99, 101, 99))

    assert opened(found) == [("A", 1, 1), ("A", 2, 2)]
    assert [one["resolved_because"] for one in found["openings"]] == ["event", "event"]
    assert (found["messages"], found["seconds_in_state"]) == (4, {"firing": 0.0, "inactive": 120.0})


def test_once_opens_once_for_each_asset(report):
    rows = rows_of(101, 99, 101) + rows_of(99, 101, 99, 101, symbol="B").split("\n", 1)[1]
    found = report(ABOVE.replace("[A]", "[A, B]") + "trigger: once\n", rows)

    assert opened(found) == [("A", 0, 0), ("B", 1, 1)]
    assert found["messages"] == 4


def test_an_opening_within_the_cooldown_is_suppressed(report):
    found = report(ABOVE + "cooldown: 3m\n", rows_of(101, 99, 101, 99, 101))

    assert opened(found) == [("A", 0, 1), ("A", 4, None)]
    assert (found["suppressed"], found["messages"]) == (1, 3)


def test_each_distinct_time_is_a_clock_also_where_only_what_is_not_watched_has_a_row(report):
    rule = "assets: [A]\ncondition: {kind: stale, after: 2m}\n"
    rows = rows_of(100) + rows_of(5, 5, 5, 5, symbol="B").split("\n", 1)[1]
    found = report(rule, rows)

    assert opened(found) == [("A", 2, None)]
    assert (found["quotes"], found["evaluated"], found["assets"]) == (5, 1, ["A"])
    assert found["seconds_in_state"] == {"firing": 60.0, "inactive": 120.0}


def test_by_a_calendar_a_silence_is_one_of_trading(report):
    rule = "assets: [A]\ncondition: {kind: stale, after: 1h}\n"
    # Friday half an hour before the close, Saturday, and Monday half an hour after the opening.
    times = ("2026-11-20T20:30:00Z", "2026-11-21T12:00:00Z", "2026-11-23T15:00:00Z")
    rows = f"time,symbol,price\n{times[0]},A,1\n{times[1]},B,1\n{times[2]},B,1\n"

    opened_at = {code: [one["opened_at"] for one in report(rule, rows, *code)["openings"]] for code in CALENDARS}

    assert opened_at == {CALENDARS[0]: [times[1]], CALENDARS[1]: [times[2]]}


@pytest.mark.parametrize("options", [["--calendar", "XXXX"], ["--rule", "1", "--calendar", "XNYS"]])
def test_a_calendar_that_is_not_there_or_goes_with_no_file_is_refused(options, capsys):
    files = [] if "--rule" in options else ["rule.yaml", "quotes.csv"]
    ran = subprocess.run(
        [sys.executable, "manage.py", "backtest", *files, *options], cwd=ROOT, capture_output=True, text=True
    )

    assert (ran.returncode, ran.stdout) == (2, "")
    assert "calendar" in ran.stderr


def test_a_rule_expires_at_the_time_of_what_it_does_not_watch(report):
    rows = rows_of(101) + rows_of(5, 5, 5, 5, symbol="B").split("\n", 1)[1]
    found = report(ABOVE + "expires_at: 2026-01-01T00:01:30Z\n", rows)

    assert opened(found) == [("A", 0, 2)]
    assert found["openings"][0]["resolved_because"] == "expired"


def test_an_event_is_evaluated_at_the_rows_of_its_asset_only(report):
    rule = "assets: [A]\ncondition: {any: [{kind: crosses_up, level: 100}, {kind: above, level: 100}]}\n"
    rows = rows_of(99, 101) + rows_of(5, 5, 5, 5, 5, 5, symbol="B").split("\n", 1)[1]
    found = report(rule + "expires_at: 2030-01-01T00:00:00Z\n", rows)

    assert opened(found) == [("A", 1, 1)]


def test_the_text_for_people_says_the_same(tried):
    rows = rows_of(99, 101, 100, 100) + "2026-01-01T00:03:00Z,A,100\n2026-01-01T00:04:00Z,A,\n"
    status, out, _ = tried(ABOVE, rows)

    assert status == 0
    assert out.splitlines() == [
        "A is above 100",
        "4 quotes; 1 repeated, 1 rejected (1 missing)",
        "1 opening, 2 messages to each channel, 0 kept silent",
        "  2026-01-01T00:01:00Z → 2026-01-01T00:02:00Z  A is above 100: 101 at 00:01:00 UTC",
        "  2026-01-01: 1",
    ]


def test_a_file_without_the_rules_assets_says_so(tried):
    status, out, _ = tried(ABOVE, rows_of(101, 102, symbol="B"))

    assert (status, out.splitlines()[1]) == (0, "2 quotes; none of them is of an asset of this rule")


# Other thresholds.


def test_the_sweep_of_a_small_file_worked_out_by_hand(report):
    rule = "assets: [A]\ncondition: {kind: rises, percent: 10, window: 1m}\n"
    # Each window sees two quotes: rises of 12 %, 0 %, 10 % and 5 %, with a fall between them.
    rows = rows_of(100, 112, 112, 100, 110, 100, 105)
    swept = report(rule, rows, "--sweep")["sweep"]

    assert [(one["threshold"], one["openings"], one["messages"]) for one in swept] == [
        ("5", 3, 5),
        ("6", 2, 4),
        ("7", 2, 4),
        ("8", 2, 4),
        ("9", 2, 4),
        ("10", 2, 4),
        ("11", 1, 2),
        ("12.5", 0, 0),
        ("15", 0, 0),
        ("20", 0, 0),
    ]


def test_in_a_sweep_the_recovery_stays_the_weaker_one(report):
    rule = "assets: [A]\ncondition: {kind: above, level: 100, recovery: 97}\n"
    swept = report(rule, rows_of(101, 96, 101, 98, 101), "--sweep")["sweep"]

    # Above 95 and 90 the recovery would be the stronger one: it is the level itself. At 95 nothing resolves.
    assert {one["threshold"]: (one["openings"], one["messages"]) for one in swept} == {
        **{"90": (1, 1), "95": (1, 1), "98": (2, 3), "99": (2, 3), "100": (2, 3)},
        **{"101": (0, 0), "102": (0, 0), "105": (0, 0), "110": (0, 0)},
    }


def test_a_percent_of_0_is_swept_upward(report):
    rule = "assets: [A]\ncondition: {kind: below_average, percent: 0, window: 2m}\n"
    swept = report(rule, rows_of(100, 100, 98), "--sweep")["sweep"]

    assert [(one["threshold"], one["openings"]) for one in swept] == [
        *(("0", 1), ("0.25", 1), ("0.5", 1), ("1", 1), ("2", 0), ("3", 0), ("5", 0)),
    ]


def test_a_rule_without_a_threshold_has_an_empty_sweep(report):
    assert report("assets: [A]\ncondition: {kind: stale, after: 1m}\n", rows_of(1), "--sweep")["sweep"] == []


# How it runs.


def test_it_needs_no_database(tmp_path):
    (tmp_path / "rule.yaml").write_text(ABOVE)
    (tmp_path / "quotes.csv").write_text(rows_of(99, 101))
    run = [sys.executable, "manage.py", "backtest", tmp_path / "rule.yaml", tmp_path / "quotes.csv", "--json"]
    ended = subprocess.run(run, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=60)

    assert (ended.returncode, ended.stderr) == (0, "")
    assert json.loads(ended.stdout)["openings"][0]["price"] == "101"


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_reader_that_has_had_enough_gets_no_traceback(tmp_path, options):
    (tmp_path / "rule.yaml").write_text(ABOVE)
    # Openings enough that the report does not fit into a pipe.
    rows = "".join(f"{1_767_225_600 + second},A,{99 + 2 * (second % 2)}\n" for second in range(2_000))
    (tmp_path / "quotes.csv").write_text("time,symbol,price\n" + rows)
    run = [sys.executable, "manage.py", "backtest", tmp_path / "rule.yaml", tmp_path / "quotes.csv", *options]
    with subprocess.Popen(run, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        errors = process.stderr.read()

    assert errors == b""


def test_an_interrupt_ends_it_with_one_line(tried, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "try_on_file", interrupted)

    assert tried(ABOVE, rows_of(99)) == (130, "", "backtest: stopped\n")


def test_a_long_run_prints_its_progress_on_standard_error(tried, monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr(time, "monotonic", lambda: float(next(ticks)))
    monkeypatch.setattr(backtests, "ROWS_BETWEEN_PROGRESS", 2)
    status, out, errors = tried(ABOVE, rows_of(*[99] * 7), "--json")

    assert (status, json.loads(out)["quotes"]) == (0, 7)
    # The clock is asked at its start and every two rows, and again for each line of progress; 2 s lie between.
    assert errors == "backtest: 4 rows read after 3 s\n"


def test_a_short_run_prints_no_progress(tried, monkeypatch):
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    monkeypatch.setattr(backtests, "ROWS_BETWEEN_PROGRESS", 1)

    assert tried(ABOVE, rows_of(99, 99, 99), "--json")[2] == ""


# Against the oracle, on the day on which USDC fell.


@pytest.fixture(scope="module")
def recorded():
    """Return the rows of ten hours of one symbol: header, rows, and their quotes as the oracle takes them."""
    with gzip.open(RECORDING, "rt", encoding="utf-8") as file:
        header, *lines = file.read().splitlines()
    rows = [line for line in lines if "2023-03-11T02" <= line < "2023-03-11T12" and ",BTC-USDC," in line]
    entries = []
    for seq, (at, _, price, _) in enumerate(csv.reader(rows), start=2):
        moment = oracle_conditions.microseconds_at(read_time(at).isoformat())
        units = price_units(admit_price(price))
        entries.append(oracle.QuotesEntry(seq, moment, ((1, moment, units),)))
    return "\n".join([header, *rows]) + "\n", entries


@pytest.mark.parametrize(
    "rule",
    [
        "condition: {kind: falls, percent: 1, window: 5m}",
        "condition: {kind: rises, percent: 2, window: 1h, ref: window_start, recovery: 1}\nkeep_firing: 5m",
        "condition: {kind: below_average, percent: 1, window: 2h, recovery: 0}\nfor: 3m",
        "condition: {kind: zscore, n: '2.5', window: 1h}\ncooldown: 30m",
        "condition: {kind: crosses, level: 22000}",
        "condition: {all: [{kind: falls, percent: 1, window: 10m}, {not: {kind: inside, low: 21000, high: 22000}}]}",
    ],
)
def test_on_the_recorded_day_the_openings_are_those_of_the_oracle(report, recorded, rule):
    rows, entries = recorded
    rule = "assets: [BTC-USDC]\n" + rule
    document = RuleSpec.read(yaml.safe_load(rule)).document()
    change = oracle.RulesEntry(1, 0, (oracle.Change(1, 1, document, (1,)),))
    expected, suppressed = [], 0
    for step in oracle.expected_transitions([change, *entries]):
        is_open = step.from_state in (oracle.FIRING, "recovering")
        begins, ends = step.to_state == oracle.FIRING and not is_open, is_open and step.to_state == oracle.INACTIVE
        suppressed += begins and step.suppressed
        expected += [[step.moment, None]] if begins and not step.suppressed else []
        expected[-1:] = [[expected[-1][0], step.moment]] if ends and not step.suppressed else expected[-1:]
    found = report(rule, rows)

    assert len(expected) > 1
    assert [[_moment(one["opened_at"]), _moment(one["resolved_at"])] for one in found["openings"]] == expected
    assert found["suppressed"] == suppressed


def _moment(text):
    return None if text is None else oracle_conditions.microseconds_at(text)
