"""Rules tested by data: the project's own files, the notation, and the error of a wrong file."""

import json
import os
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from apps.backtests.management.commands import testrules as command
from apps.backtests.rule_tests import SAMPLES_MOST, read_series, read_tests, try_test
from apps.rules.engine.conditions import KINDS, leaves_of
from apps.rules.engine.engine import Engine
from tests.backtests.rule_testing import PASSING, RISES, file_of, said, written

DATA = Path(__file__).parent / "data"
FILES = sorted(DATA.glob("*.yaml"))
ROOT = Path(__file__).resolve().parents[2]
NOWHERE = "postgres://nobody:nothing@127.0.0.1:1/none"


def differences(tmp_path, text):
    """Return (expected, got) of each difference of the first test of a file."""
    return list(try_test(read_tests(written(tmp_path, text))[0]).differences)


def run(*arguments, **options):
    environment = os.environ | {"DATABASE_URL": NOWHERE, "DJANGO_SECRET_KEY": "k" * 40, "CELERY_BROKER_URL": ""}
    run = [sys.executable, "manage.py", "testrules", *map(str, arguments)]
    return subprocess.run(run, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, **options)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_rule_tests_of_the_project_pass(path):
    status, text = said(path)

    assert [line for line in text.splitlines() if not line.startswith("ok")] == [
        f"{text.count('ok   ')} passed, 0 failed"
    ]
    assert status == 0


def test_every_kind_of_condition_is_tested_with_an_opening_and_without_one():
    fired, silent = set(), set()
    for test in (test for path in FILES for test in read_tests(path)):
        kinds = {leaf.kind for leaf in leaves_of(test.spec.condition)}
        (fired if test.openings else silent).update(kinds)

    assert fired == set(KINDS)
    assert silent == set(KINDS)


def test_the_file_that_the_documents_show_passes(tmp_path):
    (shown,) = re.findall(r"^```yml\n(.*?)^```", (ROOT / "docs/rules.md").read_text("utf-8"), re.DOTALL | re.MULTILINE)

    assert said(written(tmp_path, shown)) == (0, "ok   a rise of exactly 10 % counts\n1 passed, 0 failed\n")


def test_the_command_needs_no_database():
    ended = run(*FILES)

    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.endswith(" passed, 0 failed\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("100", ["100"]),
        ("100 101 99.5", ["100", "101", "99.5"]),
        ("5x3", ["5", "5", "5", "5"]),
        ("5x0", ["5"]),
        ("1+2x3", ["1", "3", "5", "7"]),
        ("10-3x3", ["10", "7", "4", "1"]),
        ("0.1+0.1x2", ["0.1", "0.2", "0.3"]),
        ("1+0.0000000001x1", ["1", "1.0000000001"]),
        ("0.00000000144 0.00000000151", ["0.00000000144", "0.00000000151"]),
        ("_ 1 _", [None, "1", None]),
        ("1 _x3 2", ["1", None, None, None, "2"]),
        ("1 stale 2", ["1", None, "2"]),
        ("  1\n\t2  ", ["1", "2"]),
        ("0.000000000000001 1000000000000", ["0.000000000000001", "1000000000000"]),
        ("0.3-0.1x2", ["0.3", "0.2", "0.1"]),
    ],
)
def test_the_notation_is_read_exactly(text, expected):
    assert read_series(text) == [None if one is None else int(Decimal(one) * 10**18) for one in expected]


@pytest.mark.parametrize(
    ("token", "why"),
    [
        ("1+1", "is not understood"),
        ("1-1", "is not understood"),
        ("1+x5", "is not understood"),
        ("+1x5", "is not understood"),
        ("-1", "no price"),
        ("--1", "is not understood"),
        ("1x", "is not understood"),
        ("1x-3", "is not understood"),
        ("1x1.5", "is not understood"),
        ("1*3", "is not understood"),
        ("1e3", "is not understood"),
        (".5", "is not understood"),
        ("1.", "is not understood"),
        ("1,5", "is not understood"),
        ("NaN", "is not understood"),
        ("Stale", "is not understood"),
        ("stalex3", "is not understood"),
        ("__", "is not understood"),
        ("_x", "is not understood"),
        ("_5", "is not understood"),
        ("١", "is not understood"),
        ("{{schema:1}}", "is not understood"),
        ("0", "no price"),
        ("0x3", "no price"),
        ("10-1x10", "no price"),
        ("1000000000000.1", "no price"),
        ("999999999999+1x2", "no price"),
        ("99999999999999999999", "no price"),
        ("1.0000000000000000001", "more than 18 decimals"),
        ("1+0.0000000000000000001x2", "more than 18 decimals"),
        ("123456.7890123456", "more digits than a price keeps"),
        ("99999.9999999998+0.00000000001x3", "more digits than a price keeps"),
    ],
)
def test_a_bad_token_is_named(token, why):
    with pytest.raises(ValueError, match=why) as caught:
        read_series(f"1 {token} 2")

    assert repr(token) in str(caught.value)


def test_a_series_without_a_sample_is_refused():
    with pytest.raises(ValueError, match="has no sample"):
        read_series("  ")


def test_a_series_has_at_most_a_million_samples():
    assert len(read_series(f"1 _x{SAMPLES_MOST - 1}")) == SAMPLES_MOST


@pytest.mark.parametrize(
    "text", ["1 _x1000000", "1x1000000", "1x999999 1", "_x999999999999999999999", "1x" + "9" * 5000]
)
def test_more_samples_are_refused_before_they_are_made(text):
    with pytest.raises(ValueError, match="at most 1000000 samples"):
        read_series(text)


def test_an_opening_at_another_time_differs_as_one_missing_and_one_too_many(tmp_path):
    assert differences(tmp_path, file_of("[{asset: A, at: 0}]")) == [
        ("A opens at 0s", "no opening"),
        (
            "no opening",
            "A opens at 1m at a price of 110, still open (A rose 10 % in 5 minutes: 100 at 00:00:00 "
            "UTC → 110 at 00:01:00 UTC)",
        ),
    ]


@pytest.mark.parametrize(
    ("opening", "expected"),
    [
        ("price: 111", "A opens at 1m at a price of 111"),
        ("resolved: never", "A opens at 1m, still open"),
        ("resolved: 3m", "A opens at 1m, resolved at 3m"),
        ("because: expired", "A opens at 1m because expired"),
        (
            "resolved: 2m, because: expired, price: 110",
            "A opens at 1m at a price of 110, resolved at 2m because expired",
        ),
    ],
)
def test_what_is_said_of_an_opening_is_looked_at(tmp_path, opening, expected):
    found = differences(tmp_path, file_of(f"[{{asset: A, at: 1m, {opening}}}]", series="100 110 100"))

    assert [wanted for wanted, _ in found] == [expected]
    assert found[0][1].startswith("A opens at 1m at a price of 110, resolved at 2m because recovered (")


def test_what_is_not_said_of_an_opening_is_not_looked_at(tmp_path):
    assert differences(tmp_path, file_of("[{asset: A, at: 1m}]", series="100 110 100")) == []


def test_a_resolution_that_is_missing_differs(tmp_path):
    ((expected, got),) = differences(tmp_path, file_of("[{asset: A, at: 1m, resolved: 1m}]"))

    assert expected == "A opens at 1m, resolved at 1m"
    assert got.startswith("A opens at 1m at a price of 110, still open (")


def test_an_opening_that_is_written_twice_is_expected_twice(tmp_path):
    opening = "{asset: A, at: 1m}"

    assert differences(tmp_path, file_of(f"[{opening}, {opening}]")) == [("A opens at 1m", "no opening")]


def test_the_order_of_writing_does_not_matter(tmp_path):
    rule = "{assets: {tag: any}, condition: {kind: above, level: 100}}"
    text = file_of("[{asset: B, at: 0}, {asset: A, at: 0}]", series="101, B: 101", rule=rule)

    assert differences(tmp_path, text) == []


def test_the_count_of_suppressed_openings_is_looked_at(tmp_path):
    text = file_of("[{asset: A, at: 1m}]", more=", suppressed: 1")

    assert differences(tmp_path, text) == [("1 suppressed", "0 suppressed")]


def test_a_state_is_that_which_the_last_step_up_to_it_has_left(tmp_path):
    rule = "{assets: [A], condition: {kind: above, level: 100}, for: 5m}"
    states = (
        "[{asset: A, at: 1m, state: pending}, {asset: A, at: 59s, state: pending}, {asset: A, at: 2m, state: firing}]"
    )

    assert differences(tmp_path, file_of(series="99 101 101", rule=rule, more=f", states: {states}")) == [
        ("A at 59s is pending", "A at 59s is inactive"),
        ("A at 2m is firing", "A at 2m is pending"),
    ]


def test_a_state_that_is_unknown_says_why(tmp_path):
    text = file_of(series="100", more=", states: [{asset: A, at: 0, state: firing}]")

    assert differences(tmp_path, text) == [("A at 0s is firing", "A at 0s is inactive, UNKNOWN: no earlier price")]


def test_a_state_that_is_known_is_not_unknown(tmp_path):
    text = file_of("[{asset: A, at: 1m}]", more=", states: [{asset: A, at: 1m, state: unknown}]")

    assert differences(tmp_path, text) == [("A at 1m is unknown", "A at 1m is firing")]


def test_what_raises_while_it_is_evaluated_fails_the_test(tmp_path, monkeypatch):
    monkeypatch.setattr(Engine, "_step", lambda *_: 1 / 0)

    assert differences(tmp_path, file_of(series="100 100")) == [
        ("no error", "error: ZeroDivisionError: division by zero")
    ]


def test_a_series_that_ends_first_has_no_more_samples_while_the_clock_goes_on(tmp_path):
    rule = "{assets: [A], condition: {kind: stale, after: 3m}}"

    assert differences(tmp_path, file_of("[{asset: A, at: 3m}]", series="100, B: 5x3", rule=rule)) == []


def test_a_rule_watches_only_its_own_assets(tmp_path):
    rule = "{assets: [A], condition: {kind: above, level: 100}}"

    assert differences(tmp_path, file_of(series="99, B: 101", rule=rule)) == []


def test_a_rule_may_stand_in_a_file_of_its_own(tmp_path):
    (tmp_path / "sub").mkdir()
    written(
        tmp_path / "sub",
        f"name: rises\n{RISES[1:-1].replace(', condition', chr(10) + 'condition')}\n",
        name="rule.yaml",
    )
    path = written(tmp_path, file_of("[{asset: A, at: 1m}]").replace(f"rule: {RISES}", "rule_file: sub/rule.yaml"))

    assert said(path) == (0, "ok   one\n1 passed, 0 failed\n")


def test_a_rule_may_be_shared_by_its_name(tmp_path):
    shared = f"rules:\n  - {{name: rises, {RISES[1:]}\n"

    assert differences(tmp_path, shared + file_of("[{asset: A, at: 1m}]", rule="rises")) == []


def test_the_interval_of_a_test_goes_before_that_of_the_file(tmp_path):
    of_the_file = "evaluation_interval: 10s\n"

    assert differences(tmp_path, of_the_file + file_of("[{asset: A, at: 10s}]")) == []
    assert differences(tmp_path, of_the_file + file_of("[{asset: A, at: 30s}]", more=", interval: 30s")) == []


def test_a_test_begins_where_it_says(tmp_path):
    rule = "{assets: [A], condition: {kind: above, level: 100}, expires_at: 2027-01-01T00:01:00Z}"
    text = file_of("[{asset: A, at: 0, resolved: 1m, because: expired}]", series="101x2", rule=rule)

    assert differences(tmp_path, text[:-2] + ", start: 2027-01-01T01:00:00+01:00}\n") == []


def test_a_wrong_expectation_fails_with_both_sides_described(tmp_path):
    path = written(tmp_path, file_of("[{asset: A, at: 1m, price: 111}]"))

    assert said(path) == (
        1,
        "FAIL one (tests.yaml: A rises 10 % or more within 5 minutes)\n"
        "     expected  A opens at 1m at a price of 111\n"
        "     got       A opens at 1m at a price of 110, still open"
        " (A rose 10 % in 5 minutes: 100 at 00:00:00 UTC → 110 at 00:01:00 UTC)\n"
        "0 passed, 1 failed\n",
    )


def test_one_failure_among_several_files_is_exit_1(tmp_path):
    good, bad = written(tmp_path, PASSING), written(tmp_path, file_of(), name="bad.yaml")
    status, text = said(good, bad)

    assert status == 1
    assert text.splitlines()[0] == "ok   one"
    assert text.splitlines()[-1] == "1 passed, 1 failed"


def test_json_says_the_same(tmp_path):
    good, bad = (
        written(tmp_path, PASSING),
        written(tmp_path, file_of("[{asset: A, at: 1m}, {asset: A, at: 0}]"), name="b.yaml"),
    )
    status, text = said(good, bad, as_json=True)

    rule = "A rises 10 % or more within 5 minutes"
    assert status == 1
    assert json.loads(text) == {
        "passed": 1,
        "failed": 1,
        "tests": [
            {"file": "tests.yaml", "name": "one", "rule": rule, "passed": True, "differences": []},
            {
                "file": "b.yaml",
                "name": "one",
                "rule": rule,
                "passed": False,
                "differences": [{"expected": "A opens at 0s", "got": "no opening"}],
            },
        ],
    }


def test_a_failure_and_a_wrong_file_have_different_exit_statuses(tmp_path):
    failing, wrong = run(written(tmp_path, file_of())), run(written(tmp_path, "tests: []"))

    assert (failing.returncode, failing.stderr) == (1, "")
    assert (wrong.returncode, wrong.stdout) == (2, "")


def test_an_interrupt_ends_it_with_one_line(tmp_path, capsys, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "try_test", interrupted)

    assert said(written(tmp_path, PASSING)) == (130, "")
    assert capsys.readouterr().err == "testrules: stopped\n"


def test_a_reader_that_has_had_enough_gets_no_traceback(tmp_path):
    run = [sys.executable, "manage.py", "testrules", str(written(tmp_path, PASSING))]
    with subprocess.Popen(run, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        errors = process.stderr.read()

    assert (process.returncode, errors) == (1, b"")
