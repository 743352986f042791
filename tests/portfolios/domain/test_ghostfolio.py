"""Files of Ghostfolio, as values."""

import json
from decimal import Decimal

import pytest

from apps.portfolios.domain.files import read_activities
from apps.portfolios.domain.tables import BYTES_LARGEST, ROWS_MOST, FileRefused

ROW = {
    **{"accountId": "a1", "comment": "first", "currency": "USD", "date": "2024-01-02T00:00:00.000Z", "fee": 1.55},
    **{"quantity": 2, "symbol": "ACME", "type": "BUY", "unitPrice": 142.9},
}
HEADER = "Date,Code,Currency,Price,Quantity,Action,Fee,Note\n"


def in_json(*rows):
    return json.dumps({"meta": {}, "accounts": [{"id": "a1", "name": "Broker"}], "activities": rows}).encode()


def meaning(content):
    """Return the columns of each row but for the external id."""
    read = read_activities(content)
    assert read.errors == []
    return [{key: value for key, value in one.columns.items() if key != "external_id"} for one in read.rows]


def test_a_purchase():
    [one] = read_activities(in_json(ROW)).rows
    assert (one.row, one.account, one.symbol) == (1, "Broker", "ACME")
    assert one.columns["at"].isoformat() == "2024-01-02T00:00:00+00:00"
    assert {name: one.columns[name] for name in ("kind", "has_time", "quantity", "amount", "fee", "notes")} == {
        **{"kind": "buy", "has_time": False, "quantity": 2, "amount": Decimal("285.8"), "fee": Decimal("1.55")},
        "notes": "first",
    }


@pytest.mark.parametrize(
    "content",
    [
        (HEADER + "2024-01-02,ACME,USD,142.9,2,BUY,1.55,first\n").encode(),
        (HEADER + '"02.01.2024","ACME","usd","142.90","2.0","buy","1.55","first"\r\n').encode("utf-8-sig"),
        (HEADER + "20240102,ACME,USD,142.9,2,BUY,1.55,first\n").encode("utf-16"),
        (HEADER.replace(",", ";") + "2024-01-02;ACME;USD;142,9;2;BUY;1,55;first\n\n").encode(),
        b"commission;note;tradedate;ticker;ccy;tradeprice;qty;type\n1,55;first;02.01.2024;ACME;USD;142,9;2;Buy",
    ],
)
def test_csv_says_the_same_in_every_form(content):
    assert meaning(content) == meaning(in_json(ROW))


def test_other_kinds():
    rows = [ROW | {"type": kind} for kind in ("SELL", "DIVIDEND", "INTEREST", "FEE")]
    rows.append(ROW | {"type": "FEE", "quantity": 0})
    found = read_activities(in_json(*rows)).rows
    assert [(one.columns["kind"], one.symbol, one.columns["amount"]) for one in found] == [
        ("sell", "ACME", Decimal("285.8")),
        ("dividend", "ACME", Decimal("285.8")),
        ("interest", "", Decimal("285.8")),
        ("fee", "", Decimal("285.8")),
        ("fee", "", Decimal("1.55")),
    ]
    assert ["quantity" in one.columns for one in found] == [True, False, False, False, False]


def test_a_time_with_a_zone_is_that_time_in_utc():
    [columns] = meaning(in_json(ROW | {"date": "2024-01-02T01:30:00+02:00"}))
    assert (columns["at"].isoformat(), columns["has_time"]) == ("2024-01-01T23:30:00+00:00", True)


def test_two_equal_rows_are_two_and_each_file_gives_the_same_ids():
    first, second = (
        [one.columns["external_id"] for one in read_activities(content).rows]
        for content in (in_json(ROW, ROW), in_json(ROW, ROW, ROW | {"quantity": 3}))
    )
    assert len(set(first)) == 2
    assert second[:2] == first


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"type": "LOAN"}, "type: LOAN is not known; known are BUY, SELL, DIVIDEND, INTEREST, FEE."),
        ({"quantity": "1.601,00"}, "quantity: 1.601,00 is not a number; write it like 1234.5."),
        ({"quantity": True}, "quantity: True is not a number; write it like 1234.5."),
        ({"unitPrice": None}, "unitPrice: nothing is not a number; write it like 1234.5."),
        ({"date": "31-31-2024"}, "date: 31-31-2024 is not a date; write it like 2024-01-31."),
        (
            {"date": "0001-01-01T00:00:00+14:00"},
            "date: 0001-01-01T00:00:00+14:00 is not a date; write it like 2024-01-31.",
        ),
        ({"symbol": ""}, "symbol: it is missing."),
        ({"symbol": "A\0"}, "symbol: it has a character that is no text."),
        ({"comment": "\ud800"}, "comment: it has a character that is no text."),
    ],
)
def test_a_wrong_row_is_named(fields, message):
    read = read_activities(in_json(ROW, ROW | fields))
    assert read.errors == [(2, message)]
    assert len(read.rows) == 1


def test_what_ghostfolio_states_without_a_transaction_is_left_out_with_why():
    mortgage = ROW | {"type": "LIABILITY", "symbol": "Mortgage", "quantity": 1, "unitPrice": 250000}
    read = read_activities(in_json(mortgage, ROW, mortgage, ROW | {"type": "ITEM"}))
    assert (len(read.rows), read.errors, read.row_count) == (1, [], 4)
    assert [(reason[:9], rows) for reason, rows in read.reasons()] == [("LIABILITY", [1, 3]), ("ITEM: a v", [4])]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "The header lacks date, symbol, unitPrice, quantity."),
        (b"Date,Code\n", "The header lacks unitPrice, quantity."),
        (b"{", "The file is no valid JSON."),
        (b"[]", "The file has no list of activities; export it from Ghostfolio as JSON."),
        (b"\x81,\n", "The file is none of UTF-8, UTF-16 and Windows-1252; save it as UTF-8."),
        (b'{"a": "\xe9"}', "The file is none of UTF-8, UTF-16 and Windows-1252; save it as UTF-8."),
        (b"\xef\xbb\xbf\xe9", "The file is none of UTF-8, UTF-16 and Windows-1252; save it as UTF-8."),
        (b"Date\0", "The file has NUL characters, so it is no text."),
        (b"PK\x03\x04\xff", "The file is no spreadsheet that can be read; save it as XLSX or CSV."),
        (HEADER.encode() + b'"', "The file is no valid CSV: unexpected end of data."),
        (b" " * (BYTES_LARGEST + 1), "The file has more than 5 MB; split it."),
        (HEADER.encode() + b",\n" * (ROWS_MOST + 1), "The file has more than 50000 rows; split it."),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_why(content, message):
    with pytest.raises(FileRefused) as error:
        read_activities(content)
    assert str(error.value) == message
