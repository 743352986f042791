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
        ("Time,SYMBOL,Close\n2026-01-01T00:00:00Z,A,101\n", 1),
        ("time,symbol,price,,\n2026-01-01T00:00:00Z,A,101\n", 1),
        ("time,symbol,price\n2026-01-01T00:00:00Z,A,101,, ,\n,,\n", 1),
        ('time,symbol,price,note,note\n2026-01-01T00:00:00Z,A,101,"a, b",c\n', 1),
        ("time,symbol,price,volume\n2026-01-01T00:00:00Z,A,101,1,\n2026-01-01T00:01:00Z,A,102,,\n", 1),
        (" time , symbol , price \n 2026-01-01T00:00:00Z , A , 101 \n\n", 1),
        ('"time","symbol","price"\n"2026-01-01T00:00:00Z","A","101"', 1),
        ("time,symbol,price\n1767225600,A,101\n", 1),
        ("time,symbol,price\n1767225600000,A,101\n", 1),
        ("time,symbol,price\n1767225600000000,A,101\n", 1),
        ("time,symbol,price\n1767225600000000000,A,101\n", 1),
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


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]], ids=["oldest", "newest", "mixed"])
def test_rows_are_evaluated_by_time_whatever_their_order_in_the_file(report, order):
    header, *lines = rows_of(99, 101, 101, 99).splitlines()
    found = report(ABOVE, "\n".join([header, *(lines[place] for place in order)]))

    assert (found["quotes"], found["evaluated"], found["rejected"]) == (4, 4, 0)
    assert opened(found) == [("A", 1, 3)]


def test_a_file_with_the_newest_first_is_read_from_its_end(report):
    rows = [(0, "A", 99), (1, "A", 99), (1, "A", 101), (1, "B", 5), (2, "A", 99), (2, "B", 5)]
    lines = [f"2026-01-01T00:0{minute}:00Z,{symbol},{price}" for minute, symbol, price in rows]
    in_order = report(ABOVE, "\n".join(["time,symbol,price", *lines]))

    assert [one["opened_at"] for one in in_order["openings"]] == ["2026-01-01T00:01:00.000001Z"]
    assert (in_order["quotes"], in_order["rejected_by_reason"]) == (6, {})
    assert report(ABOVE, "\n".join(["time,symbol,price", *reversed(lines)])) == in_order
    # Symbol by symbol, each with its newest first.
    by_symbol = sorted(reversed(lines), key=lambda line: line.split(",")[1])
    assert report(ABOVE, "\n".join(["time,symbol,price", *by_symbol])) == in_order


def test_a_second_row_of_one_time_is_repeated_or_follows_the_first(report):
    again = "2026-01-01T00:01:00Z,A,{}\n"
    between = "2026-01-01T00:00:30Z,A,{}\n"
    rows = rows_of(99, 101) + "".join(
        [
            again.format(101),
            again.format("101.0"),
            between.format(98),
            between.format(98),
            between.format(97),
        ]
    )
    found = report(ABOVE, rows)

    assert (found["quotes"], found["repeated"], found["rejected"], found["wrong"]) == (4, 3, 0, 0)
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
        ("1e-16", "out_of_range"),
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


@pytest.mark.parametrize(
    ("moment", "reason"),
    [
        *((early, "time_out_of_range") for early in ("0", "631151999", "1989-12-31T23:59:59Z", "20260101")),
        *((late, "time_in_future") for late in ("2226-01-01T00:00:00Z", "9999-12-31T23:59:59-10:00", "9" * 20)),
        *((off, "time_out_of_range") for off in ("2026-01-01T24:00:00Z", "2016-12-31T23:59:60Z", "20260101T235960Z")),
    ],
)
def test_a_time_that_no_clock_shows_or_that_is_too_early_or_ahead_is_listed_and_counted(report, moment, reason):
    found = report(ABOVE, rows_of(99) + f"{moment},A,101\n")

    assert (found["quotes"], found["rejected_by_reason"], found["wrong"]) == (1, {reason: 1}, 1)
    assert found["wrong_lines"][0].startswith(f"line 3: the time {moment!r} is ")


def test_of_many_rows_that_are_wrong_the_first_are_listed(report):
    found = report(ABOVE, rows_of(99, *[0] * 30, "", 101))

    assert (found["quotes"], found["rejected_by_reason"]) == (2, {"out_of_range": 30, "missing": 1})
    assert (found["wrong"], len(found["wrong_lines"])) == (30, 21)
    assert (
        found["wrong_lines"][0]
        == "line 3: the price '0' is not from 1e-15 to 1e12; that of a signed asset may be 0 or negative too"
    )
    assert found["wrong_lines"][-1] == "10 more rows are wrong"


def test_rows_that_cannot_be_read_are_left_out_where_that_is_asked_for(report):
    rows = rows_of(99) + "2026-01-01T00:01:00Z,A,1,0951\nnever,A,1\nnever,A,2\n,,\n2026-01-01T00:02:00Z,A,101\n"
    found = report(ABOVE, rows, "--skip-invalid")

    assert opened(found) == [("A", 2, None)]
    assert (found["quotes"], found["rejected_by_reason"], found["wrong"]) == (2, {"invalid": 3}, 3)
    assert [line.partition(":")[0] for line in found["wrong_lines"]] == ["line 3", "line 4", "line 5"]


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
        ("time,symbol,price,Price\n1,A,1,2\n", "line 1: the header has the column price twice"),
        ("time,symbol,TIME,price\n1,A,1,2\n", "line 1: the header has the column time twice"),
        (
            rows_of(99) + "2026-01-01T00:01:00Z,A,20,951.20\n",
            "line 3: has 4 cells, and the header has 3; write numbers",
        ),
        (rows_of(99) + "2026-01-01T00:01:00Z,A,1,0951\n", "line 3: has 4 cells, and the header has 3; write numbers"),
        (rows_of(99) + "2026-01-01T00:01:00Z,A,1,,0\n", "line 3: has 5 cells, and the header has 3; write numbers"),
        (rows_of(99, '"1,0951"'), "line 3: '1,0951' is not a number"),
        (rows_of(99, "0951"), "line 3: '0951' is not a number"),
        (rows_of(99, "-00.5"), "line 3: '-00.5' is not a number"),
        (rows_of(99, "1.5.2"), "line 3: '1.5.2' is not a number"),
        (rows_of(99, '"20"5'), "line 3: has a quotation mark that is not closed, or stands within a cell"),
        (rows_of(99, '"20') + rows_of(99), "line 5: has a quotation mark that is not closed, or stands within a cell"),
        (rows_of(99, 101).replace("\n", "\r"), "line 1: ends with a carriage return (CR) alone; save the file with LF"),
        (rows_of(99) + "01767225600,A,1\n", "line 3: time '01767225600' is neither"),
        (rows_of(99) + "2026-01-01T25:00:00Z,A,1\n", "line 3: time '2026-01-01T25:00:00Z' is neither"),
        (rows_of(99, "high"), "line 3: 'high' is not a number"),
        (rows_of(99, "1_000"), "line 3: '1_000' is not a number"),
        (rows_of(99, "0x10"), "line 3: '0x10' is not a number"),
        (rows_of(99) + "yesterday,A,1\n", "line 3: time 'yesterday' is neither ISO 8601 with a zone nor an epoch"),
        (rows_of(99) + "2026-01-01T00:00:00,A,1\n", "line 3: time '2026-01-01T00:00:00' is neither"),
        (rows_of(99) + "2026-02-30T00:00:00Z,A,1\n", "line 3: time '2026-02-30T00:00:00Z' is neither"),
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
