"""What is wrong in a file of rule tests is refused with its place."""

import pytest

from apps.backtests.rule_tests import read_tests
from apps.yaml_files import FileInvalid
from tests.backtests.rule_testing import PASSING, RISES, file_of, said, written

WRONG = {
    "no tests": ("tests: []", "tests.yaml: tests: must be a list of at least one test"),
    "no list": ("tests: {a: 1}", "tests.yaml: tests: must be a list of at least one test"),
    "empty": ("", "tests.yaml: tests: is missing"),
    "a list": ("[1]", "tests.yaml: tests: is missing"),
    "no YAML": ("tests: [", "tests.yaml, line 1: "),
    "unknown on top": ("group_eval_order: []\n" + PASSING, "tests.yaml: group_eval_order: is not known here"),
    "unknown in a test": (
        file_of(more=", input_series: []"),
        "tests.yaml, test 1 (one): input_series: is not known here",
    ),
    "unknown in an opening": (file_of("[{asset: A, at: 1m, labels: 1}]"), "openings[0].labels: is not known here"),
    "unknown in a state": (
        file_of(more=", states: [{asset: A, at: 0, is: firing}]"),
        "states[0].is: is not known here",
    ),
    "unknown in a rule": (file_of(rule="{assets: [A], If: 1}"), "test 1 (one): rule: If: is not known here"),
    "test is text": ("tests: [one]", "tests.yaml, test 1: test: must be a mapping"),
    "no name": (PASSING.replace("name: one, ", ""), "tests.yaml, test 1: name: must be a text"),
    "name is no text": (PASSING.replace("name: one", "name: true"), "tests.yaml, test 1: name: must be a text"),
    "no openings": (PASSING.replace("openings", "states"), "test 1 (one): openings: is missing; [] says"),
    "openings no list": (file_of("{}"), "openings: must be a list"),
    "opening is text": (file_of("[1m]"), "openings[0]: must be a mapping"),
    "no asset": (file_of("[{at: 1m}]"), "openings[0].asset: must be a symbol"),
    "another asset": (file_of("[{asset: B, at: 1m}]"), "openings[0].asset: is no symbol that has a series"),
    "asset not watched": (
        file_of("[{asset: B, at: 1m}]", series="100, B: 100 110"),
        "openings[0].asset: is no symbol that has a series and is watched",
    ),
    "no at": (file_of("[{asset: A}]"), "openings[0].at: is not a duration"),
    "at is a number": (file_of("[{asset: A, at: 60}]"), "openings[0].at: is not a duration"),
    "at behind the end": (
        file_of("[{asset: A, at: 61s}]"),
        "openings[0].at: is behind the last step of the series, 1m",
    ),
    "state behind the end": (
        file_of(more=", states: [{asset: A, at: 2m, state: firing}]"),
        "states[0].at: is behind the last",
    ),
    "no such state": (
        file_of(more=", states: [{asset: A, at: 1m, state: on}]"),
        "states[0].state: must be one of inactive,",
    ),
    "resolved before at": (file_of("[{asset: A, at: 1m, resolved: 0}]"), "openings[0].resolved: is before at"),
    "resolved is text": (file_of("[{asset: A, at: 1m, resolved: soon}]"), "openings[0].resolved: is not a duration"),
    "because of never": (
        file_of("[{asset: A, at: 1m, resolved: never, because: once}]"),
        "openings[0].because: must be why it resolved",
    ),
    "price is text": (file_of("[{asset: A, at: 1m, price: high}]"), "openings[0].price: is not a number"),
    "suppressed below 0": (file_of(more=", suppressed: -1"), "suppressed: must be a count"),
    "suppressed true": (file_of(more=", suppressed: true"), "suppressed: must be a count"),
    "no series": (PASSING.replace("series: {A: 100 110}, ", ""), "series: must be a mapping"),
    "series empty": (file_of(series="''"), "series.A: has no sample"),
    "series a list": (file_of(series="[100, 110]"), "series.A: must be a text like"),
    "series a bool": (file_of(series="true"), "series.A: must be a text like"),
    "series bad": (file_of(series="100 1+1 5"), "tests.yaml, test 1 (one): series.A: '1+1' is not understood"),
    "symbol is no text": (PASSING.replace("{A:", "{true:"), "line 2: a key must be a text; true, false and null are"),
    "symbol blank": (PASSING.replace("{A:", "{'':"), "series.: is not a symbol"),
    "series leading zero": (file_of(series="0100 110"), "series.A: '0100' is not understood"),
    "suppressed leading zero": (file_of(more=", suppressed: 00"), "suppressed: must be a count"),
    "level leading zero": (
        file_of(rule="{assets: [A], condition: {kind: above, level: 010}}"),
        "rule: condition.level: is not a number",
    ),
    "level of minutes": (
        file_of(rule="{assets: [A], condition: {kind: above, level: 1:30}}"),
        "rule: condition.level: is not a number",
    ),
    "key twice": (file_of() + "tests: []\n", "tests.yaml, line "),
    "nothing watched": (PASSING.replace("{A: 100", "{B: 100"), "series: has none of what the rule watches: A"),
    "no rule": (PASSING.replace(f"rule: {RISES}, ", ""), "rule: is missing, or stands beside rule_file"),
    "two rules": (file_of(more=", rule_file: a.yaml"), "rule: is missing, or stands beside rule_file"),
    "no such rule": (file_of(rule="other"), "rule: there is no 'other' among the rules of this file"),
    "a bad rule": (
        file_of(rule="{assets: [A], condition: {kind: above, level: x}}"),
        "rule: condition.level: is not a number",
    ),
    "no rule file": (
        file_of().replace(f"rule: {RISES}", "rule_file: gone.yaml"),
        "rule_file: gone.yaml cannot be read: ",
    ),
    "rule file no path": (
        file_of().replace(f"rule: {RISES}", "rule_file: [a]"),
        "rule_file: must be the path of a file",
    ),
    "rules no list": ("rules: {}\n" + PASSING, "tests.yaml: rules: must be a list"),
    "a bad shared rule": (
        "rules: [{name: a, assets: []}]\n" + PASSING,
        "tests.yaml: rules[0]: assets: must be a list",
    ),
    "shared without name": (f"rules: [{RISES}]\n" + PASSING, "tests.yaml: rules[0].name: is missing"),
    "shared twice": (
        f"rules: [{{name: a, {RISES[1:]}, {{name: a, {RISES[1:]}]\n" + PASSING,
        "tests.yaml: rules[1].name: is the name of an earlier rule too",
    ),
    "interval 0": (file_of(more=", interval: 0"), "interval: must be from 1s"),
    "interval of the file": (
        "evaluation_interval: soon\n" + PASSING,
        "tests.yaml: evaluation_interval: is not a duration",
    ),
    "start a word": (file_of(more=", start: today"), "start: is not a time"),
    "start a number": (file_of(more=", start: 5"), "start: is not a time"),
    "start without zone": (file_of(more=", start: 2026-01-01T00:00:00"), "start: has no time zone"),
    "start before 1970": (file_of(more=", start: 1969-12-31T23:59:59Z"), "start: must be in 1970 or later"),
    "start out of range": (file_of(more=", start: '0001-01-01T00:00:00+10:00'"), "start: is not a time"),
    "end out of range": (file_of(series="100x99999", more=", interval: 400d"), "interval: leads behind the year 9999"),
    "alias": ("a: &x [1]\nb: *x\n", "tests.yaml, line 2: aliases are not read here"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_file_is_exit_2_with_one_line_that_names_the_place(tmp_path, capsys, wrong):
    content, why = WRONG[wrong]
    status, text = said(written(tmp_path, content))

    errors = capsys.readouterr().err
    assert (status, text) == (2, "")
    assert errors.startswith("testrules: tests.yaml")
    assert why in errors
    assert errors.count("\n") == 1


def test_nothing_is_tried_where_one_of_the_files_is_wrong(tmp_path, capsys):
    assert said(written(tmp_path, PASSING), tmp_path / "gone.yaml") == (2, "")
    assert capsys.readouterr().err == "testrules: gone.yaml cannot be read: No such file or directory\n"


def test_a_test_is_named_in_what_is_wrong_with_it(tmp_path):
    with pytest.raises(FileInvalid, match=r"^tests\.yaml, test 2 \(two\): interval: is not a duration"):
        read_tests(written(tmp_path, PASSING + PASSING.split("\n")[1].replace("one", "two")[:-1] + ", interval: x}\n"))
