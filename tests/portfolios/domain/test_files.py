"""Files of Portfolio Performance, B3 and Kraken, as values."""

import gzip
import io
import zipfile
from datetime import datetime
from decimal import Decimal

import pytest
from openpyxl import Workbook

from apps.portfolios.domain.files import read_activities
from apps.portfolios.domain.tables import FileRefused

PP_EN = (
    "Date,Type,Value,Transaction Currency,Gross Amount,Currency Gross Amount,Exchange Rate,Fees,Taxes,Shares,ISIN,WKN,"
)
PP_EN += "Ticker Symbol,Security Name,Note"
PP_DE = "Datum;Typ;Wert;Buchungswährung;Bruttobetrag;Währung Bruttobetrag;Wechselkurs;Gebühren;Steuern;Stück;ISIN;WKN;"
PP_DE += "Ticker-Symbol;Wertpapiername;Notiz"
PP_BR = "Data;Tipo;Valor;Moeda da transação;Valor bruto;Valor Bruto em Moeda;Taxa de Câmbio;Taxas;Impostos;Quantidade;"
PP_BR += "ISIN;WKN;Símbolo do Ativo;Nome do Ativo;Nota"
TRADES = "Data do Negócio,Tipo de Movimentação,Mercado,Prazo/Vencimento,Instituição,Código de Negociação,Quantidade,"
TRADES += "Preço,Valor"
MOVEMENTS = "Entrada/Saída,Data,Movimentação,Produto,Instituição,Quantidade,Preço unitário,Valor da Operação"
LEDGER_10 = "txid,refid,time,type,subtype,aclass,asset,amount,fee,balance"
LEDGER_16 = "txid,refid,time,type,subtype,aclass,subclass,asset,wallet,amount,fee,balance,"
LEDGER_16 += "amountusd,feeusd,balanceusd,feecurrency"


def read(header, *lines):
    return read_activities("\r\n".join([header, *lines]).encode())


def said(one, *names):
    """Return the symbol and columns of a transaction, numbers as texts."""
    values = (one.columns.get(name) for name in names)
    return (one.symbol, *(f"{value.normalize():f}" if isinstance(value, Decimal) else value for value in values))


@pytest.mark.parametrize(
    ("header", "line"),
    [
        (PP_EN, '2024-01-02T00:00,Buy,"-1,010.50",EUR,,,,10.00,0.50,1.5,DE0001,,ACME,Acme AG,first'),
        (PP_DE, "02.01.2024;Kauf;-1.010,50;EUR;;;;10,00;0,50;1,5;DE0001;;ACME;Acme AG;first"),
        (PP_BR, "2024-01-02;Comprar;-1.010,50;EUR;;;;10,00;0,50;1,5;DE0001;;ACME;Acme AG;first"),
    ],
)
def test_portfolio_performance_says_the_same_in_each_language(header, line):
    found = read(header, line)
    assert (found.source, found.errors, found.left_out) == ("Portfolio Performance", [], [])
    [one] = found.rows
    assert said(one, "kind", "quantity", "amount", "currency", "fee", "tax", "notes", "has_time") == (
        *("ACME", "buy", "1.5", "1000", "EUR", "10", "0.5", "first", False),
    )
    assert one.columns["at"].isoformat() == "2024-01-02T00:00:00+00:00"


def test_kinds_of_portfolio_performance():
    lines = [
        f"2024-01-02;{kind};{value};EUR;;;;1,00;2,00;{shares};{isin};;;;"
        for kind, value, shares, isin in (
            *(("Verkauf", "97", "4", "DE0001"), ("Dividende", "97", "4", "DE0001"), ("Zinsen", "97", "", "")),
            *(("Zinsbelastung", "-97", "", ""), ("Steuern", "-97", "", ""), ("Einlage", "97", "", "")),
            *(
                ("Entnahme", "-97", "", ""),
                ("Einlieferung", "97", "4", "DE0001"),
                ("Auslieferung", "97", "4", "DE0001"),
            ),
            *(("Umbuchung (Eingang)", "97", "", ""), ("Steuerrückerstattung", "97", "", "")),
        )
    ]
    found = read(PP_DE, *lines)
    assert found.errors == []
    assert [said(one, "kind", "quantity", "amount", "fee", "tax") for one in found.rows] == [
        ("DE0001", "sell", "4", "100", "1", "2"),
        ("DE0001", "dividend", None, "100", "1", "2"),
        ("", "interest", None, "100", "1", "2"),
        ("", "fee", None, "97", "0", "0"),
        ("", "tax", None, "97", "0", "0"),
        ("", "deposit", None, "100", "1", "2"),
        ("", "withdrawal", None, "94", "1", "2"),
        ("DE0001", "delivery_in", "4", "94", "1", "2"),
        ("DE0001", "delivery_out", "4", None, "1", "2"),
        ("", "deposit", None, "100", "1", "2"),
        ("", "interest", None, "100", "1", "2"),
    ]


@pytest.mark.parametrize(
    ("header", "line"),
    [
        (PP_EN, '2024-01-02T00:00,Buy,"-912.00",EUR,"1,000.00",USD,0.9,10.00,2.00,5,,,ACME,Acme Inc,n'),
        (PP_DE, "2024-01-02T00:00;Kauf;-912,00;EUR;1.000,00;USD;0,9;10,00;2,00;5;;;ACME;Acme Inc;n"),
        (PP_BR, "2024-01-02T00:00;Comprar;-912,00;EUR;1.000,00;USD;0,9;10,00;2,00;5;;;ACME;Acme Inc;n"),
    ],
)
def test_a_purchase_in_another_currency_than_the_accounts_has_the_exchange_rate_of_portfolio_performance(header, line):
    found = read(header, line)
    assert found.errors == []
    names = ("kind", "amount", "currency", "rate", "fee", "fee_currency", "tax", "tax_currency", "notes")
    assert [(*said(one, *names), one.rate_into) for one in found.rows] == [
        ("", "conversion", "900", "EUR", None, None, None, None, None, "n", ""),
        ("ACME", "buy", "1000", "USD", "0.9", "10", "EUR", "2", "EUR", "n", "EUR"),
    ]
    assert said(found.rows[0], "counter_amount", "counter_currency") == ("", "1000", "USD")


def test_what_comes_in_in_another_currency_is_converted_afterwards_and_a_delivery_never():
    found = read(
        PP_EN,
        "2024-01-02T00:00,Sell,889.00,EUR,1000.00,USD,0.9,10.00,1.00,5,,,ACME,,",
        "2024-01-03T00:00,Dividend,70.00,EUR,100.00,USD,0.9,,20.00,5,,,ACME,,",
        "2024-01-04T00:00,Delivery (Inbound),90.00,EUR,100.00,USD,0.9,,,5,,,ACME,,",
        # One currency, no rate, nothing: as it was booked.
        "2024-01-05T00:00,Buy,-90.00,EUR,90.00,EUR,1,,,5,,,ACME,,",
        "2024-01-05T00:00,Buy,-90.00,EUR,100.00,USD,,,,5,,,ACME,,",
        "2024-01-06T00:00,Buy,-90.00,EUR,100.00,USD,1.11,,,5,,,ACME,,",
    )
    names = ("kind", "amount", "currency", "rate", "counter_amount", "counter_currency")
    assert [said(one, *names) for one in found.rows] == [
        ("ACME", "sell", "1000", "USD", "0.9", None, None),
        ("", "conversion", "1000", "USD", "0.9", "900", "EUR"),
        ("ACME", "dividend", "100", "USD", "0.9", None, None),
        ("", "conversion", "100", "USD", "0.9", "90", "EUR"),
        ("ACME", "delivery_in", "100", "USD", "0.9", None, None),
        ("ACME", "buy", "90", "EUR", None, None, None),
        ("ACME", "buy", "90", "EUR", None, None, None),
    ]
    said_wrong = "exchange rate: 100 USD at 1.11 are not the 90 EUR that were booked besides fees and taxes."
    assert found.errors == [(6, said_wrong)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2024-01-02;Aktiensplit;1;EUR;;;;;;;;;;;", "type: Aktiensplit is not known."),
        ("2024-01-02;Kauf;1.2;EUR;;;;;;1;;;A;;", None),
        ("2024-01-02;Kauf;x;EUR;;;;;;1;;;A;;", "value: x is not a number; write it like 1234,5."),
        ("2024-01-02;Kauf;5;EUR;;;;6;;1;;;A;;", "value: it is less than fees and taxes."),
        ("2024-01-02;Kauf;5;EUR;;;;;;1;;;;;", "ticker symbol: it is missing, and so are ISIN and name."),
        ("2024-01-02;Kauf", "value: nothing is not a number; write it like 1234,5."),
    ],
)
def test_a_wrong_row_of_portfolio_performance_is_named(line, message):
    assert read(PP_DE, line).errors == ([(1, message)] if message else [])


@pytest.mark.parametrize(
    ("header", "more", "end"),
    [
        (LEDGER_10, "", ""),
        ("txid,refid,time,type,subtype,aclass,asset,wallet,amount,fee,balance", "", ""),
        ("txid,refid,time,type,subtype,aclass,subclass,asset,wallet,amount,fee,balance", "", ""),
        (LEDGER_16, "", ",,,,"),
    ],
)
def test_each_ledger_of_kraken_says_the_same(header, more, end):
    subclass, wallet = ("fiat," if "subclass" in header else ""), (",spot / main" if "wallet" in header else "")
    found = read(
        header,
        *(
            f"L{number},T1,2024-03-10 12:00:0{number},trade,,currency,{subclass}{asset}{wallet},{amount},{fee},0{end}"
            for number, (asset, amount, fee) in enumerate(
                (("ZEUR", "-60", "0.1"), ("XXBT", "0.001", "0"), ("ZEUR", "-40", "0.2"), ("XXBT", "0.002", "0.0001"))
            )
        ),
    )
    assert (found.source, found.errors, found.left_out) == ("Kraken", [], [])
    [one] = found.rows
    assert said(one, "kind", "quantity", "amount", "currency", "fee", "external_id") == (
        *("BTC", "buy", "0.0029", "100", "EUR", "0.3", "kraken-T1"),
    )
    assert (one.columns["at"].isoformat(), one.columns["has_time"]) == ("2024-03-10T12:00:00+00:00", True)


def test_bookings_of_kraken():
    lines = [
        f"{txid},{refid},2024-03-10 12:00:00,{kind},{subtype},currency,,{asset},spot / main,{amount},{fee},0,{usd},,,"
        for txid, refid, kind, subtype, asset, amount, fee, usd in (
            ("", "D1", "deposit", "", "ZUSD", "1000", "0", ""),
            ("L1", "D1", "deposit", "", "ZUSD", "1000", "0", "1000"),
            ("L2", "W1", "withdrawal", "", "XXBT", "-0.5", "0.001", "-20000"),
            ("L3", "D2", "deposit", "", "XETH", "2", "0", "5000"),
            ("L4", "S1", "staking", "", "DOT.S", "2.5", "0.5", "10"),
            ("L5", "S2", "staking", "", "DOT.S", "2.5", "0", ""),
            ("L6", "E1", "earn", "allocation", "DOT.F", "-2.5", "0", "-10"),
            ("L7", "C1", "trade", "", "ETH", "-1", "0", "-2500"),
            ("L8", "C1", "trade", "", "DOT", "500", "1", "2490"),
            ("L9", "X1", "trade", "", "ZUSD", "-110", "0.1", "-110"),
            ("L10", "X1", "trade", "", "ZEUR", "100", "0", "110"),
            ("L11", "M1", "rollover", "", "ZUSD", "0", "0.1", ""),
            ("L12", "B1", "trade", "", "ZUSD", "-5", "0", ""),
        )
    ]
    found = read(LEDGER_16, *lines)
    names = ("kind", "quantity", "amount", "currency", "external_id")
    assert [said(one, *names) for one in found.rows] == [
        ("", "deposit", None, "1000", "USD", "kraken-L1"),
        ("BTC", "delivery_out", "0.501", None, None, "kraken-L2"),
        ("ETH", "delivery_in", "2", "5000", "USD", "kraken-L3"),
        ("DOT", "dividend", None, "10", "USD", "kraken-L4-income"),
        ("DOT", "buy", "2", "10", "USD", "kraken-L4-buy"),
        ("ETH", "sell", "1", "2500", "USD", "kraken-C1-sell"),
        ("DOT", "buy", "499", "2500", "USD", "kraken-C1-buy"),
        ("", "conversion", None, "110", "USD", "kraken-X1"),
    ]
    conversion = found.rows[-1]
    assert said(conversion, "counter_amount", "counter_currency", "fee", "fee_currency") == (
        "",
        "100",
        "EUR",
        "0.1",
        "USD",
    )
    assert [one.row for one in found.left_out] == [1, 6, 7, 12, 13]
    assert found.left_out[-1].message.startswith("trade of USD: its refid has not one asset that was taken for others")
    assert (found.errors, found.row_count) == ([], 13)


def test_a_fee_of_kraken_in_something_else_and_on_both_sides_of_a_conversion_is_a_fee_of_its_own():
    found = read(
        LEDGER_16,
        "L1,T1,2024-03-10 12:00:00,trade,,currency,fiat,ZUSD,main,-100,5,0,,,,KFEE",
        "L2,T1,2024-03-10 12:00:00,trade,,currency,crypto,XXBT,main,0.002,0.3,0,,,,ZEUR",
        "L3,X1,2024-03-10 12:00:00,spend,,currency,fiat,ZUSD,main,-110,0.1,0,,,,ZUSD",
        "L4,X1,2024-03-10 12:00:00,receive,,currency,fiat,ZEUR,main,100,0.2,0,,,,",
    )
    names = ("kind", "quantity", "amount", "currency", "fee", "fee_currency", "external_id")
    assert [said(one, *names) for one in found.rows] == [
        ("", "fee", None, "0.3", "EUR", None, None, "kraken-L2-fee"),
        ("BTC", "buy", "0.002", "100", "USD", "0", None, "kraken-T1"),
        ("", "conversion", None, "110", "USD", "0.2", "EUR", "kraken-X1"),
        ("", "fee", None, "0.1", "USD", None, None, "kraken-X1-fee"),
    ]
    assert [(one.row, one.message) for one in found.left_out] == [(1, "its fee of 5 KFEE: record it by hand.")]


def sweep(*rows):
    """Return what a group of Kraken comes to: a row is an asset, its amount, its fee and what it was worth."""
    lines = [
        f"L{number},D1,2024-03-10 12:00:00,{'spend' if amount.startswith('-') else 'receive'},dustsweeping,currency,,"
        f"{asset},main,{amount},{fee},0,{usd},,,"
        for number, (asset, amount, fee, usd) in enumerate(rows, start=1)
    ]
    return read(LEDGER_16, *lines)


def test_small_balances_that_kraken_sweeps_are_exchanged_by_what_each_was_worth():
    names = ("kind", "quantity", "amount", "currency", "fee", "counter_amount", "external_id")
    found = sweep(
        ("ZCAD", "1.00", "0.03", "0.75"),
        ("XXBT", "-0.00001", "0", "-0.5"),
        ("XETH", "-0.0001", "0.00001", "-0.25"),
        ("ZEUR", "-0.01", "0", "-0.05"),
    )
    assert (found.errors, found.left_out, found.row_count) == ([], [], 4)
    assert [said(one, *names) for one in found.rows] == [
        ("BTC", "sell", "0.00001", "0.625", "CAD", "0.01875", None, "kraken-D1-BTC"),
        ("ETH", "sell", "0.00011", "0.3125", "CAD", "0.009375", None, "kraken-D1-ETH"),
        ("", "conversion", None, "0.01", "EUR", "0.001875", "0.0625", "kraken-D1-EUR"),
    ]
    found = sweep(("XXBT", "0.00003", "0", "1.5"), ("SOL", "-1", "0", "-1"), ("BNB", "-2", "0", "-0.5"))
    assert [said(one, *names[:4]) for one in found.rows] == [
        ("SOL", "sell", "1", "1", "USD"),
        ("BTC", "buy", "0.00002", "1", "USD"),
        ("BNB", "sell", "2", "0.5", "USD"),
        ("BTC", "buy", "0.00001", "0.5", "USD"),
    ]
    # A third has no end, and nothing of it is lost.
    found = sweep(("ZUSD", "1", "0", "1"), *((asset, "-1", "0", "-1") for asset in ("SOL", "BNB", "ADA")))
    assert sum(one.columns["amount"] for one in found.rows) == 1


@pytest.mark.parametrize("usd", ["", "-", "0"])
def test_swept_balances_of_which_kraken_does_not_say_what_they_were_worth_are_left_out_row_by_row(usd):
    found = sweep(("ZEUR", "1", "0", "1"), ("SOL", "-1", "0", usd), ("BNB", "-2", "0", usd))
    assert (found.rows, found.errors) == ([], [])
    [(reason, rows)] = found.reasons()
    assert (reason.partition(":")[0], rows) == ("trade of SOL, BNB for EUR", [1, 2, 3])


def test_a_row_keeps_its_id_in_a_longer_file():
    line = "02/01/2026,Compra,Mercado à Vista,-,XP,PETR4,100,38.5,3850"
    first, second = read(TRADES, line, line), read(TRADES, line, line, line)
    ids = [one.columns["external_id"] for one in second.rows]
    assert len(set(ids)) == 3
    assert [one.columns["external_id"] for one in first.rows] == ids[:2]


def sheet(*rows):
    """Return a spreadsheet of these rows."""
    book, packed = Workbook(), io.BytesIO()
    for row in rows:
        book.active.append(row)
    book.save(packed)
    return packed.getvalue()


def test_a_spreadsheet_of_b3_says_what_its_csv_says():
    rows = [
        ["02/01/2026", "Compra", "Mercado à Vista", "-", "XP", "PETR4", 100, 1.601, 160.1],
        # A date as a number, and as a date.
        [46024, "Compra", "Mercado Fracionário", "-", "XP", "PETR4F", 5, "38,50", "192,50"],
        [datetime(2026, 1, 2), "Venda", "Mercado à Vista", "-", "XP", "HGLG11", 10, "R$ 160,10", "1.601,00"],
        [],
    ]
    found = read_activities(sheet(TRADES.split(","), *rows))
    assert (found.source, found.errors, len(found.rows)) == ("B3", [], 3)
    assert [said(one, "kind", "quantity", "amount") for one in found.rows] == [
        ("PETR4", "buy", "100", "160.1"),
        ("PETR4", "buy", "5", "192.5"),
        ("HGLG11", "sell", "10", "1601"),
    ]
    assert {one.columns["at"].isoformat() for one in found.rows} == {"2026-01-02T00:00:00+00:00"}


def test_a_spreadsheet_that_unpacks_to_very_much_or_has_entities_is_refused():
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("xl/worksheets/sheet1.xml", b" " * 100_000_001)
    with pytest.raises(FileRefused, match="unpacks to more than 100 MB"):
        read_activities(packed.getvalue())
    entities, whole = io.BytesIO(), zipfile.ZipFile(io.BytesIO(sheet(TRADES.split(","), ["02/01/2026"])))
    with zipfile.ZipFile(entities, "w") as file:
        for name in whole.namelist():
            text = whole.read(name)
            if name == "xl/worksheets/sheet1.xml":
                text = b'<!DOCTYPE a [<!ENTITY b "c">]>' + text
            file.writestr(name, text)
    with pytest.raises(FileRefused, match="no spreadsheet that can be read"):
        read_activities(entities.getvalue())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252", "latin-1"])
def test_a_file_is_read_in_each_encoding(encoding):
    header = "Data do Negócio;Tipo de Movimentação;Instituição;Código de Negociação;Quantidade;Preço;Valor"
    content = f"{header}\r\n02/01/2024;Compra;AÇÕES É CIA;PETR4;100;38,50;3.850,00\r\n".encode(encoding)
    [row] = read_activities(content).rows
    assert (row.symbol, row.account, row.columns["amount"]) == ("PETR4", "AÇÕES É CIA", 3850)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (gzip.compress(f"{PP_EN}\n2024-01-02,Fees,1,EUR\n".encode()), "none of UTF-8, UTF-16 and Windows-1252"),
        (f'{PP_EN}\n2024-01-02T00:00,Fees,"{"x" * 1_000_000}",EUR'.encode(), "field larger than field limit"),
        (f'{PP_EN}\n2024-01-02T00:00,"Fees'.encode(), "no valid CSV: unexpected end of data"),
        (b"", "The header lacks date"),
        (b"\0" * 100, "has NUL characters"),
        (b"2024-01-02,Fees,1,EUR\n", "The header lacks date"),
    ],
    ids=["gzip", "a field of 1 MB", "an open quote", "empty", "NUL", "no header"],
)
def test_a_file_that_is_no_table_of_transactions_is_refused(content, said):
    with pytest.raises(FileRefused, match=said):
        read_activities(content)
