"""Ghostfolio's files: its JSON, read and written, and CSV with the headers that its import takes. Pure."""

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from apps.notation import WIDE, write_number
from apps.portfolios.domain.tables import (
    BEHIND,
    NO_CHOICES,
    Activity,
    Choices,
    DateOrder,
    FileRefused,
    LeftOut,
    Read,
    Row,
    RowError,
    Table,
    moment_in,
    number_in,
    refuse_unstorable,
)
from apps.portfolios.domain.transactions import Kind
from apps.strict_json import NotJson, read_json

NAME = "Ghostfolio"
_LAST_DECIMAL = Decimal("1e-18")
_PRICE_DECIMAL = Decimal("1e-30")
_ALIASES = {
    "date": ("date", "tradedate"),
    "symbol": ("symbol", "code", "ticker", "asset"),
    "currency": ("currency", "ccy", "currencyprimary"),
    "unitPrice": ("unitprice", "price", "tradeprice", "value"),
    "quantity": ("quantity", "qty", "shares", "units"),
    "type": ("type", "action", "kind"),
    "fee": ("fee", "commission", "ibcommission"),
    "account": ("account", "accountid"),
    "comment": ("comment", "note"),
}
_REQUIRED = ("date", "symbol", "unitPrice", "quantity")
# Columns that a file may lack -> the field of Choices whose value all its rows take then.
_CHOSEN = {"currency": "currency", "type": "kind"}
_KINDS = {
    "BUY": Kind.BUY,
    "SELL": Kind.SELL,
    "DIVIDEND": Kind.DIVIDEND,
    "INTEREST": Kind.INTEREST,
    "FEE": Kind.FEE,
}
_NO_TRANSACTIONS = {
    "LIABILITY": "a debt that is stated, not paid; portfolios have assets and cash, and no debts.",
    "ITEM": "a valuable with what it is worth, not what it cost. Record its purchase by hand, as a manual asset.",
}


def read(rows: Iterable[Row], order: DateOrder | None) -> Iterator[Read]:
    """Give each row as a transaction, or what is wrong with it, or why it is left out."""
    for number, row in enumerate(rows, start=1):
        try:
            yield _read(number, row, order)
        except ValueError as error:
            yield RowError(number, str(error))


def rows_of_json(text: str) -> Iterator[Row]:
    """Give the rows of its JSON. Raises FileRefused."""
    try:
        document = read_json(text.encode(), exact=True)
    except NotJson:
        raise FileRefused("The file is no valid JSON.") from None
    activities = document.get("activities") if isinstance(document, dict) else None
    if not isinstance(activities, list):
        raise FileRefused("The file has no list of activities; export it from Ghostfolio as JSON.")
    accounts = document.get("accounts") if isinstance(document.get("accounts"), list) else []
    names = {str(one.get("id")): str(one.get("name")) for one in accounts if isinstance(one, dict)}
    for one in activities:
        given = one if isinstance(one, dict) else {}
        account = str(given.get("accountId") or "")
        yield given | {"account": names.get(account, account)}


def asked_of(table: Table) -> frozenset[str]:
    """Return the fields of Choices for which its CSV has no column."""
    return frozenset(chosen for field, chosen in _CHOSEN.items() if not set(_ALIASES[field]) & set(table.names))


def rows_of_table(table: Table, choices: Choices = NO_CHOICES) -> Iterator[Row]:
    """Give the rows of its CSV by the names that JSON has. Raises FileRefused."""
    names = {}
    for field, aliases in _ALIASES.items():
        if found := [alias for alias in aliases if alias in table.names]:
            names[field] = found[0]
    chosen = {field: getattr(choices, name) for field, name in _CHOSEN.items() if field not in names}
    if missing := [field for field in _REQUIRED if field not in names]:
        raise FileRefused(f"The header lacks {', '.join(missing)}.")
    for row in table.rows:
        given = {field: row[name] for field, name in (names | {BEHIND: BEHIND}).items() if name in row}
        yield chosen | {
            name: value.replace(",", ".")
            if table.has_decimal_comma and name in ("unitPrice", "quantity", "fee") and "." not in value
            else value
            for name, value in given.items()
        }


def _read(number: int, row: Row, order: DateOrder | None) -> Read:
    """Return one row. Raises ValueError, for people."""
    refuse_unstorable(row)
    said = str(row.get("type") or "").strip().upper()
    if said in _NO_TRANSACTIONS:
        return LeftOut(number, f"{said}: {_NO_TRANSACTIONS[said]}")
    if not said:
        raise ValueError("type: it is missing; where the file has no such column, choose one for all rows.")
    kind = _KINDS.get(said)
    if kind is None:
        known = ", ".join(_KINDS)
        raise ValueError(f"type: {row.get('type')} is not known; known are {known}.")
    currency = str(row.get("currency") or "").strip().upper()
    if not currency:
        raise ValueError("currency: it is missing; where the file has no such column, choose one for all rows.")
    quantity, price = (number_in(row, name) for name in ("quantity", "unitPrice"))
    fee = number_in(row, "fee", default=Decimal(0))
    amount = WIDE.multiply(quantity, price).quantize(_LAST_DECIMAL, ROUND_HALF_EVEN, WIDE)
    at, has_time = moment_in(row, "date", order)
    columns: dict[str, Any] = {"kind": kind.value, "at": at, "has_time": has_time, "amount": amount}
    columns["currency"] = currency
    columns["notes"] = str(row.get("comment") or "").strip()
    if kind is Kind.FEE:
        # Ghostfolio has it in one of the two.
        columns["amount"] = amount or fee
    else:
        columns["fee"] = fee
    if kind in (Kind.BUY, Kind.SELL):
        columns["quantity"] = quantity
    symbol = "" if kind in (Kind.INTEREST, Kind.FEE) else str(row.get("symbol") or "").strip()
    if not symbol and kind not in (Kind.INTEREST, Kind.FEE):
        raise ValueError("symbol: it is missing.")
    return Activity(number, str(row.get("account") or "").strip(), symbol, columns)


def document_of(rows: Iterable[Activity], *, name: str, currency: str, now: datetime) -> tuple[str, int]:
    """Return transactions of one account as Ghostfolio's JSON, and how many it has no form for: other kinds, and fees
    or taxes in another currency than the amount. It has no tax, so taxes are in the fee; rates are not in it."""
    written, left_out = [], 0
    for one in rows:
        activity = _activity(one)
        left_out += activity is None
        written += [activity] if activity is not None else []
    account = {"balance": 0, "comment": None, "currency": currency, "id": "1", "isExcluded": False, "name": name}
    head = {"meta": {"date": now.isoformat(), "version": "dev"}, "accounts": [account | {"platformId": None}]}
    activities = ",\n".join(written)
    return f'{json.dumps(head)[:-1]}, "activities": [\n{activities}\n]}}\n', left_out


def _activity(one: Activity) -> str | None:
    """Return one transaction as JSON, numbers to the last digit, or None."""
    columns = one.columns
    kind, currency = next((text for text, kind in _KINDS.items() if kind == columns["kind"]), None), columns["currency"]
    both = ((columns[name], columns[f"{name}_currency"] or currency) for name in ("fee", "tax"))
    costs = [(amount, code) for amount, code in both if amount]
    if kind is None or any(code != currency for _, code in costs):
        return None
    quantity = columns["quantity"] if columns["quantity"] is not None else Decimal(1)
    # The product with the quantity has the digits of the amount again.
    price = WIDE.divide(columns["amount"], quantity).quantize(_PRICE_DECIMAL, ROUND_HALF_EVEN, WIDE)
    at = columns["at"] if columns["has_time"] else columns["at"].replace(hour=0, minute=0, second=0, microsecond=0)
    texts = {"accountId": "1", "comment": columns["notes"] or None, "currency": currency, "date": at.isoformat()}
    numbers = {"fee": sum((amount for amount, _ in costs), Decimal(0)), "quantity": quantity, "unitPrice": price}
    exact = ", ".join(f'"{key}": {write_number(number)}' for key, number in numbers.items())
    return f"{json.dumps(texts | {'symbol': one.symbol or kind, 'type': kind})[:-1]}, {exact}}}"
