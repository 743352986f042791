"""The reader of Portfolio Performance's CSV in English, German and Brazilian Portuguese. Pure."""

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

from apps.portfolios.domain.tables import Activity, Read, Row, RowError, Table, moment_in, number_in, refuse_unstorable
from apps.portfolios.domain.transactions import Kind

NAME = "Portfolio Performance"
_HEADERS = {
    "date": ("date", "datum", "data"),
    "type": ("type", "typ", "tipo"),
    "value": ("value", "wert", "valor"),
    "currency": ("transaction currency", "buchungswährung", "moeda da transação"),
    "fees": ("fees", "gebühren", "taxas"),
    "taxes": ("taxes", "steuern", "impostos"),
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


def fits(names: list[str]) -> bool:
    """Tell whether a header is one of its."""
    return _places(names).keys() >= _REQUIRED


def _places(names: list[str]) -> dict[str, str]:
    found = {field: [one for one in headers if one in names] for field, headers in _HEADERS.items()}
    return {field: names[0] for field, names in found.items() if names}


def read(table: Table, rows: Iterable[Row]) -> Iterator[Read]:
    """Give each row as a transaction, or what is wrong with it."""
    places = _places(table.names)
    for number, row in enumerate(rows, start=1):
        given = {field: row.get(name) for field, name in places.items()}
        try:
            yield _read(number, given, comma=table.has_decimal_comma)
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


def _read(number: int, row: Row, *, comma: bool) -> Activity:
    refuse_unstorable(row)
    kind = _kind(row)
    form: dict[str, Any] = {"comma": comma, "groups": True}
    # What was booked in all; debits carry a minus.
    booked = abs(number_in(row, "value", **form))
    fee, tax = (abs(number_in(row, name, default=Decimal(0), **form)) for name in ("fees", "taxes"))
    at, has_time = moment_in(row, "date")
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
        return Activity(number, "", "", columns)
    if not symbol:
        raise ValueError("ticker symbol: it is missing, and so are ISIN and name.")
    if kind is not Kind.DIVIDEND:
        columns["quantity"] = abs(number_in(row, "shares", **form))
    if kind is Kind.DELIVERY_OUT:
        del columns["amount"]
    return Activity(number, "", symbol, columns)
