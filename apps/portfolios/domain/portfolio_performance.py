"""The reader of Portfolio Performance's CSV in English, German and Brazilian Portuguese. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from apps.notation import WIDE, write_number
from apps.portfolios.domain.tables import (
    Activity,
    DateOrder,
    Read,
    Row,
    RowError,
    Table,
    moment_in,
    number_in,
    refuse_unstorable,
)
from apps.portfolios.domain.transactions import Kind

NAME = "Portfolio Performance"
_HEADERS = {
    "date": ("date", "datum", "data"),
    "type": ("type", "typ", "tipo"),
    "value": ("value", "wert", "valor"),
    "currency": ("transaction currency", "buchungswährung", "moeda da transação"),
    "fees": ("fees", "gebühren", "taxas"),
    "taxes": ("taxes", "steuern", "impostos"),
    "gross": ("gross amount", "bruttobetrag", "valor bruto"),
    "gross_currency": ("currency gross amount", "währung bruttobetrag", "valor bruto em moeda"),
    "rate": ("exchange rate", "wechselkurs", "taxa de câmbio"),
    "shares": ("shares", "stück", "quantidade"),
    "isin": ("isin",),
    "ticker": ("ticker symbol", "ticker-symbol", "símbolo do ativo"),
    "name": ("security name", "wertpapiername", "nome do ativo"),
    "note": ("note", "notiz", "nota", "observação"),
}
_REQUIRED = {"date", "type", "value", "currency", "shares", "fees", "taxes"}
_KINDS = {
    Kind.BUY: ("buy", "kauf", "comprar", "compra"),
    Kind.SELL: ("sell", "verkauf", "vender", "venda"),
    Kind.DIVIDEND: ("dividend", "dividende", "dividendo"),
    Kind.INTEREST: ("interest", "zinsen", "juros"),
    Kind.FEE: ("fees", "gebühren", "taxas", "interest charge", "zinsbelastung", "encargos de juros"),
    Kind.TAX: ("taxes", "steuern", "impostos"),
    Kind.DEPOSIT: ("deposit", "einlage", "depósito"),
    Kind.WITHDRAWAL: ("removal", "entnahme", "saque"),
    Kind.DELIVERY_IN: ("delivery (inbound)", "einlieferung", "bonificação (recebimento)"),
    Kind.DELIVERY_OUT: ("delivery (outbound)", "auslieferung", "bonificação (saída)"),
}
_NAMED = {name: kind for kind, names in _KINDS.items() for name in names}
# Of cash between two accounts, or of shares between two portfolios: each file has one side.
_TRANSFERS_IN = {"transfer (inbound)", "umbuchung (eingang)", "transferência (entrada)"}
_TRANSFERS_OUT = {"transfer (outbound)", "umbuchung (ausgang)", "transferência (saída)"}
# Money that comes back counts as income.
_REFUNDS = {
    *("fees refund", "gebührenerstattung", "reembolso de taxas"),
    *("tax refund", "steuerrückerstattung", "reembolso de impostos"),
}
_OF_ASSETS = {Kind.BUY, Kind.SELL, Kind.DIVIDEND, Kind.DELIVERY_IN, Kind.DELIVERY_OUT}
_ABROAD = {Kind.BUY, Kind.SELL, Kind.DIVIDEND, Kind.DELIVERY_IN}
# By how much the gross amount at the exchange rate may differ from what was booked: both are rounded.
_ROUNDED, _ROUNDED_PART = Decimal("0.05"), Decimal("0.01")


def fits(names: list[str]) -> bool:
    """Tell whether a header is one of its."""
    return _places(names).keys() >= _REQUIRED


def _places(names: list[str]) -> dict[str, str]:
    found = {field: [one for one in headers if one in names] for field, headers in _HEADERS.items()}
    return {field: names[0] for field, names in found.items() if names}


def dates_of(table: Table) -> tuple[str, DateOrder | None]:
    """Return the column of dates, and their order where all its files have one: German and Portuguese ones do."""
    name = next(one for one in _HEADERS["date"] if one in table.names)
    return name, None if name == "date" else DateOrder.DAY_FIRST


def read(table: Table, rows: Iterable[Row], order: DateOrder | None) -> Iterator[Read]:
    """Give each row as a transaction, or what is wrong with it."""
    places = _places(table.names)
    for number, row in enumerate(rows, start=1):
        given = {field: row.get(name) for field, name in places.items()}
        try:
            yield from _read(number, given, order, comma=table.has_decimal_comma)
        except ValueError as error:
            yield RowError(number, str(error))


def _kind(row: Row) -> Kind:
    said = str(row.get("type") or "").strip()
    name, has_shares = said.lower(), bool(str(row.get("shares") or "").strip())
    if name in _TRANSFERS_IN:
        return Kind.DELIVERY_IN if has_shares else Kind.DEPOSIT
    if name in _TRANSFERS_OUT:
        return Kind.DELIVERY_OUT if has_shares else Kind.WITHDRAWAL
    if name in _REFUNDS:
        return Kind.INTEREST
    if name not in _NAMED:
        raise ValueError(f"type: {said[:40] or 'nothing'} is not known.")
    return _NAMED[name]


def _read(number: int, row: Row, order: DateOrder | None, *, comma: bool) -> Iterator[Activity]:
    """Give what a row says. Raises ValueError, for people."""
    refuse_unstorable(row)
    kind = _kind(row)
    form: dict[str, Any] = {"comma": comma, "groups": True}
    # What was booked in all; debits carry a minus.
    booked = abs(number_in(row, "value", **form))
    fee, tax = (abs(number_in(row, name, default=Decimal(0), **form)) for name in ("fees", "taxes"))
    at, has_time = moment_in(row, "date", order)
    columns: dict[str, Any] = {"kind": kind.value, "at": at, "has_time": has_time, "amount": booked}
    columns["currency"] = str(row.get("currency") or "").strip().upper()
    columns["notes"] = str(row.get("note") or "").strip()
    if kind in (Kind.FEE, Kind.TAX):
        # Its own fee or tax is the amount once more, or a part of it.
        fee = tax = Decimal(0)
    columns |= {"fee": fee, "tax": tax}
    paid = kind in (Kind.BUY, Kind.DELIVERY_IN, Kind.WITHDRAWAL)
    columns["amount"] = booked - fee - tax if paid else booked + fee + tax
    if columns["amount"] < 0:
        raise ValueError("value: it is less than fees and taxes.")
    symbol = str(row.get("ticker") or row.get("isin") or row.get("name") or "").strip()
    if kind not in _OF_ASSETS:
        yield Activity(number, "", "", columns)
        return
    if not symbol:
        raise ValueError("ticker symbol: it is missing, and so are ISIN and name.")
    if kind is not Kind.DIVIDEND:
        columns["quantity"] = abs(number_in(row, "shares", **form))
    if kind is Kind.DELIVERY_OUT:
        del columns["amount"]
    abroad = _abroad(row, columns, form) if kind in _ABROAD else {}
    booked_so = Activity(number, "", symbol, columns)
    yield from _with_conversion(booked_so, abroad) if abroad else [booked_so]


def _abroad(row: Row, columns: Mapping[str, Any], form: Mapping[str, Any]) -> dict[str, Any]:
    """Return amount, currency and exchange rate of an asset in another currency than what was booked; nothing where
    the file does not say all three. Raises ValueError, for people."""
    currency = str(row.get("gross_currency") or "").strip().upper()
    amount, rate = (abs(number_in(row, name, default=Decimal(0), **form)) for name in ("gross", "rate"))
    booked = columns["amount"]
    if currency in ("", columns["currency"]) or not amount or not rate:
        return {}
    if abs(WIDE.multiply(amount, rate) - booked) > max(_ROUNDED, booked * _ROUNDED_PART):
        said = f"{write_number(amount)} {currency[:12]} at {write_number(rate)} are not the {write_number(booked)}"
        raise ValueError(f"exchange rate: {said} {columns['currency'][:12]} that were booked besides fees and taxes.")
    return {"amount": amount, "currency": currency, "rate": rate}


def _with_conversion(booked: Activity, abroad: Mapping[str, Any]) -> Iterator[Activity]:
    """Give a transaction in the currency of its asset, with fees and taxes as they were booked, and between it and the
    account, which has another currency, a conversion of cash."""
    columns = booked.columns
    home = {"amount": columns["amount"], "currency": columns["currency"]}
    moment = {name: columns[name] for name in ("at", "has_time", "notes")} | {"kind": Kind.CONVERSION.value}
    there = {"amount": abroad["amount"], "currency": abroad["currency"]}
    if columns["kind"] == Kind.BUY:
        counter = {"counter_amount": there["amount"], "counter_currency": there["currency"]}
        yield Activity(booked.row, booked.account, "", moment | home | counter)
    costs = {"fee_currency": home["currency"], "tax_currency": home["currency"]}
    own = {**columns, **abroad, **costs}
    yield booked._replace(columns=own, rate_into=home["currency"])
    if columns["kind"] in (Kind.SELL, Kind.DIVIDEND):
        counter = {"counter_amount": home["amount"], "counter_currency": home["currency"]}
        conversion = moment | there | counter | {"rate": abroad["rate"]}
        yield Activity(booked.row, booked.account, "", conversion, rate_into=home["currency"])
