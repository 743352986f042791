"""`manage.py backtest RULE.yaml QUOTES.csv`: what is read of a file, and what is refused."""

import pytest

from tests.backtests.files import ABOVE, opened, rows_of

# What is read.


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (rows_of(99, 101, header="time,symbol,close"), 1),
        ("close,time,open,symbol\n101,2026-01-01T00:00:00Z,7,A\n", 1),
        # Where there is a price, it is the one.
        ("time,symbol,close,price\n2026-01-01T00:00:00Z,A,101,99\n", 0),
        ("time,symbol,price,close\n2026-01-01T00:00:00Z,A,101,99\n", 1),
        ("time,symbol,price,note,high\n2026-01-01T00:00:00Z,A,101,no number,\n", 1),
        ("\ufefftime,symbol,price\r\n2026-01-01T00:00:00Z,A,101\r\n", 1),
        (" time , symbol , price \n 2026-01-01T00:00:00Z , A , 101 \n\n", 1),
        ('"time","symbol","price"\n"2026-01-01T00:00:00Z","A","101"', 1),
        ("time,symbol,price\n1767225600,A,101\n", 1),
        ("time,symbol,price\n1767225600.000001,A,1.01e2\n", 1),
        ("time,symbol,price\n2026-01-01 00:00:00+00:00,A,101\n", 1),
    ],
)
def test_columns_are_found_by_their_names_and_further_ones_are_passed_over(report, rows, expected):
    assert len(report(ABOVE, rows)["openings"]) == expected


def test_epoch_seconds_are_read_to_the_microsecond(report):
    found = report(ABOVE, "time,symbol,price\n1767225600.000001,A,101\n")

    assert found["openings"][0]["opened_at"] == "2026-01-01T00:00:00.000001Z"


def test_gzip_is_read_as_the_plain_file_is(report):
    rows = rows_of(99, 101, 100)

    assert report(ABOVE, rows, name="quotes.csv.gz") == report(ABOVE, rows)


def test_late_rows_are_counted_and_not_evaluated(report):
    found = report(ABOVE, rows_of(99, 99, 99) + "2026-01-01T00:01:30Z,A,101\n2026-01-01T00:03:00Z,A,99\n")

    assert (found["quotes"], found["evaluated"], found["late"], found["rejected"]) == (4, 4, 1, 0)
    assert found["openings"] == []


def test_a_second_row_of_one_time_is_repeated_or_a_conflict_and_the_first_stands(report):
    again = "2026-01-01T00:01:00Z,A,{}\n"
    late = "2026-01-01T00:00:30Z,A,{}\n"
    rows = rows_of(99, 101) + "".join(
        [again.format(101), again.format("101.0"), again.format(99), late.format(5), late.format(5), late.format(6)]
    )
    found = report(ABOVE, rows)

    assert (found["quotes"], found["late"], found["repeated"], found["rejected"]) == (2, 1, 3, 2)
    assert found["rejected_by_reason"] == {"conflict": 2}
    assert opened(found) == [("A", 1, None)]


def test_one_time_of_two_symbols_is_no_conflict(report):
    rows = "time,symbol,price\n2026-01-01T00:00:00Z,A,101\n2026-01-01T00:00:00Z,B,102\n"

    assert report(ABOVE.replace("[A]", "[A, B]"), rows)["quotes"] == 2


@pytest.mark.parametrize(
    ("price", "reason"),
    [
        ("0", "out_of_range"),
        ("-1", "out_of_range"),
        ("1e400", "out_of_range"),
        ("1e-11", "out_of_range"),
        ("NaN", "not_finite"),
        ("sNaN", "not_finite"),
        ("inf", "not_finite"),
        ("", "missing"),
        ("  ", "missing"),
    ],
)
def test_a_number_that_is_no_price_is_rejected_by_reason_and_the_rest_is_evaluated(report, price, reason):
    found = report(ABOVE, rows_of(99, price, 101))

    assert (found["quotes"], found["rejected"], found["rejected_by_reason"]) == (2, 1, {reason: 1})
    assert opened(found) == [("A", 2, None)]


def test_a_time_before_1990_is_rejected(report):
    found = report(ABOVE, rows_of(99) + "0,A,101\n")

    assert (found["quotes"], found["rejected_by_reason"]) == (1, {"time_out_of_range": 1})


@pytest.mark.parametrize("assets", ["{tag: crypto}", "{feed: spot}"])
def test_a_rule_by_tag_or_feed_watches_every_symbol(report, assets):
    rows = rows_of(101) + rows_of(101, symbol="B").split("\n", 1)[1]
    found = report(f"assets: {assets}\ncondition: {{kind: above, level: 100}}\n", rows)

    assert found["assets"] == ["A", "B"]
    assert opened(found) == [("A", 0, None), ("B", 0, None)]


def test_symbols_that_the_rule_does_not_watch_are_read_and_not_evaluated(report):
    found = report(ABOVE, rows_of(99) + rows_of(101, 102, symbol="B").split("\n", 1)[1])

    assert (found["quotes"], found["evaluated"], found["assets"], found["openings"]) == (3, 1, ["A"], [])


# What is wrong.


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("", "line 1: is empty"),
        ("\n\n", "line 1: is empty"),
        ("time,symbol,price\n", "line 1: has no rows"),
        ("time,price\n1,1\n", "line 1: the header has no column symbol"),
        ("symbol,price\nA,1\n", "line 1: the header has no column time"),
        ("time,symbol,volume\n1,A,1\n", "line 1: the header has no column close"),
        (rows_of(99, "high"), "line 3: 'high' is not a number"),
        (rows_of(99, "1_000"), "line 3: '1_000' is not a number"),
        (rows_of(99, "0x10"), "line 3: '0x10' is not a number"),
        (rows_of(99) + "yesterday,A,1\n", "line 3: time 'yesterday' is neither ISO 8601 with a zone nor epoch seconds"),
        (rows_of(99) + "2026-01-01T00:00:00,A,1\n", "line 3: time '2026-01-01T00:00:00' is neither"),
        (rows_of(99) + "2026-02-30T00:00:00Z,A,1\n", "line 3: time '2026-02-30T00:00:00Z' is neither"),
        (rows_of(99) + "9999-12-31T23:59:59-10:00,A,1\n", "line 3: time '9999-12-31T23:59:59-10:00' is neither"),
        (rows_of(99) + ",A,1\n", "line 3: time '' is neither"),
        (rows_of(99) + "-5,A,1\n", "line 3: time '-5' is neither"),
        (rows_of(99) + "1e9,A,1\n", "line 3: time '1e9' is neither"),
        (rows_of(99) + "9" * 40 + ",A,1\n", "line 3: time '" + "9" * 40 + "' is neither"),
        (rows_of(99) + "2026-01-01T00:01:00Z,,1\n", "line 3: has no symbol"),
        (rows_of(99) + "2026-01-01T00:01:00Z,A\n", "line 3: has 2 of 3 columns"),
        (rows_of(99).encode() + b"\xff\xfe\n", "line 3: is not UTF-8"),
    ],
)
def test_a_wrong_row_is_exit_2_with_one_line_that_names_file_and_line(tried, rows, message):
    status, out, errors = tried(ABOVE, rows, "--json")

    assert (status, out) == (2, "")
    assert errors.startswith(f"backtest: quotes.csv, {message}")
    assert errors.count("\n") == 1


def test_a_file_that_is_not_gzip_says_so(tried, tmp_path):
    (tmp_path / "plain.csv.gz").write_text(rows_of(99))

    assert tried(ABOVE, None, name="plain.csv.gz") == (
        2,
        "",
        "backtest: plain.csv.gz, line 1: is not gzip, or not the whole of it\n",
    )


def test_a_file_that_is_not_there_says_so(tried):
    assert tried(ABOVE, None) == (2, "", "backtest: quotes.csv, line 1: is not a file that can be read\n")


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("assets: [A]\ncondition: {kind: above}\n", "rule.yaml: condition.level: is not a number"),
        ("assets: [A]\ncondition: {kind: above, level: 1, colour: red}\n", "rule.yaml: condition.colour: is not known"),
        ("assets: [\n", "rule.yaml, line 2: "),
        ("", "rule.yaml: rule: must be a mapping"),
        ("rules: []\n", "rule.yaml has 0 rules; one is tried at a time"),
    ],
)
def test_a_wrong_rule_is_exit_2_with_one_line_that_names_the_place(tried, rule, message):
    status, out, errors = tried(rule, rows_of(1))

    assert (status, out) == (2, "")
    assert errors.startswith(f"backtest: {message}")
    assert errors.count("\n") == 1
