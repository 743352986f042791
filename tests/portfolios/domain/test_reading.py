"""What a file of transactions leaves open, and what a person chooses for it."""

import pytest

from apps.portfolios.domain.files import read_activities
from apps.portfolios.domain.tables import Choices, DateOrder
from tests.portfolios.domain.test_files import LEDGER_10, MOVEMENTS, PP_BR, PP_DE, PP_EN, TRADES, read
from tests.portfolios.domain.test_ghostfolio import HEADER

DAY_FIRST, MONTH_FIRST = DateOrder
SHORT = "date,symbol,price,quantity\n"


def days(*written, order=None, mark="/"):
    """Return the day of each row of a file with these dates, or what is wrong with it; and what the file asks."""
    lines = [f"{one.replace('/', mark)},ACME,USD,1,{n},BUY,0,\n" for n, one in enumerate(written, start=1)]
    read = read_activities((HEADER + "".join(lines)).encode(), Choices(date_order=order))
    found = {one.row: f"{one.columns['at']:%Y-%m-%d}" for one in read.rows} | dict(read.errors)
    return [found[row] for row in sorted(found)], read.asks


@pytest.mark.parametrize("mark", ["/", "-"])
@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (("10/03/2023", "25/03/2023"), ["2023-03-10", "2023-03-25"]),
        (("10/03/2023", "03/25/2023"), ["2023-10-03", "2023-03-25"]),
        (("2023-03-25", "10/10/2023"), ["2023-03-25", "2023-10-10"]),
        (("13/13/2023", "01/25/2023", "1/2/2023"), [None, "2023-01-25", "2023-01-02"]),
    ],
)
def test_the_other_rows_of_the_column_say_which_part_of_a_date_comes_first(written, meant, mark):
    found, asks = days(*written, mark=mark)
    assert [one if wish else None for one, wish in zip(found, meant, strict=True)] == meant
    assert asks == frozenset()


def test_a_date_with_two_readings_is_refused_until_one_is_chosen():
    written = ("10/03/2023", "02/02/2023")
    found, asks = days(*written)
    assert found == [
        "date: 10/03/2023 is 2023-03-10 with the day first, and 2023-10-03 with the month first; choose which comes "
        "first in this file.",
        "2023-02-02",
    ]
    assert asks == {"date_order"}
    assert days(*written, order=DAY_FIRST) == (["2023-03-10", "2023-02-02"], asks)
    assert days(*written, order=MONTH_FIRST) == (["2023-10-03", "2023-02-02"], asks)


def test_dates_that_contradict_each_other_decide_nothing():
    written = ("10/03/2023", "25/03/2023", "03/25/2023")
    found, asks = days(*written)
    assert found[0].startswith("date: 10/03/2023 is 2023-03-10 with the day first, and 2023-10-03")
    assert (found[1:], asks) == (["2023-03-25", "2023-03-25"], {"date_order"})
    wrong = "date: 25/03/2023 is not a date with the month first; write it like 2024-01-31."
    assert days(*written, order=MONTH_FIRST)[0] == ["2023-10-03", wrong, "2023-03-25"]


@pytest.mark.parametrize(
    ("header", "line", "day"),
    [
        (PP_DE, "10/03/2023;Kauf;-10;EUR;;;;0;0;1;;;ACME;;", "2023-03-10"),
        (PP_BR, "10/03/2023;Comprar;-10;EUR;;;;0;0;1;;;ACME;;", "2023-03-10"),
        (PP_EN, "10/03/2023,Buy,-10,EUR,,,,0,0,1,,,ACME,,", None),
        (TRADES, "10/03/2023,Compra,Vista,-,XP,ACME3,1,10,10", "2023-03-10"),
        (MOVEMENTS, "Credito,10/03/2023,Rendimento,ACME3 - Acme,XP,1,10,10", "2023-03-10"),
        (LEDGER_10, "L1,R1,10/03/2023,deposit,,currency,ZEUR,10,0,10", None),
        ("kind,at,has_time,asset,amount,external_id", "fee,10/03/2023,False,,1,x", None),
    ],
)
def test_programs_that_always_write_one_order_are_not_asked(header, line, day):
    found = read(header, line)
    assert [f"{one.columns['at']:%Y-%m-%d}" for one in found.rows] == ([day] if day else [])
    assert (len(found.errors), found.asks) == ((0, frozenset()) if day else (1, {"date_order"}))
    [row] = read_activities(f"{header}\n{line}".encode(), Choices(date_order=MONTH_FIRST)).rows
    assert f"{row.columns['at']:%Y-%m-%d}" == (day or "2023-10-03")


def test_a_file_without_currency_and_kind_takes_those_that_are_chosen():
    content = f"{SHORT}2023-03-10,ACME,5,2\n".encode()
    found = read_activities(content)
    assert (found.rows, found.asks) == ([], {"currency", "kind"})
    assert "type: it is missing" in found.errors[0].message
    assert "currency: it is missing" in read_activities(content, Choices(kind="buy")).errors[0].message
    [row] = read_activities(content, Choices(currency="eur", kind="sell")).rows
    assert (row.columns["kind"], row.columns["currency"], row.columns["amount"]) == ("sell", "EUR", 10)


def test_what_is_chosen_is_no_default_for_a_column_that_is_there():
    content = (HEADER + "2024-01-02,ACME,USD,1,1,BUY,0,\n2024-01-02,ACME,,1,1,,0,\n").encode()
    found = read_activities(content, Choices(currency="EUR", kind="sell"))
    assert [(one.columns["kind"], one.columns["currency"]) for one in found.rows] == [("buy", "USD")]
    assert ([one.row for one in found.errors], found.asks) == ([2], frozenset())


def test_rows_that_are_left_out_are_named_and_the_ids_of_the_others_stay():
    content = (HEADER + "2024-01-02,ACME,USD,1,1,BUY,0,\n" * 2 + "soon,ACME,USD,1,1,BUY,0,\n").encode()
    whole = read_activities(content)
    found = read_activities(content, Choices(leave_out=frozenset({1, 3, 9})))
    assert [one.columns["external_id"] for one in found.rows] == [whole.rows[1].columns["external_id"]]
    assert (found.errors, found.row_count) == ([], 3)
    assert found.reasons() == [
        ("You left it out.", [1]),
        ("You left it out: date: soon is not a date; write it like 2024-01-31.", [3]),
    ]


def test_a_trade_of_kraken_of_which_a_row_is_wrong_is_left_out_whole():
    lines = [
        *(
            "L1,T1,2024-01-02 10:00:00,trade,,currency,ZEUR,-800,2,198",
            "L2,T1,2024-01-02 10:00:00,trade,,currency,XXBT,1,0,1",
        ),
        "L3,T1,2024-01-02 10:00:00,trade,,currency,XXBT,x,0,1",
    ]
    found = read_activities("\n".join([LEDGER_10, *lines]).encode(), Choices(leave_out=frozenset({3})))
    assert (found.rows, found.errors, {one.row for one in found.left_out}) == ([], [], {1, 2, 3})
