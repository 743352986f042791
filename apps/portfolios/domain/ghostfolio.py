"""The reader of Ghostfolio's files: its JSON, and CSV with the headers that its import takes. Pure."""

from collections.abc import Iterable, Iterator
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from apps.notation import WIDE
from apps.portfolios.domain.tables import (
    Activity,
    FileRefused,
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
_ALIASES = {
    "date": ("date", "tradedate"),
    "symbol": ("symbol", "code", "ticker"),
    "currency": ("currency", "ccy", "currencyprimary"),
    "unitPrice": ("unitprice", "price", "tradeprice", "value"),
    "quantity": ("quantity", "qty", "shares", "units"),
    "type": ("type", "action"),
    "fee": ("fee", "commission", "ibcommission"),
    "account": ("account", "accountid"),
    "comment": ("comment", "note"),
}
_REQUIRED = ("date", "symbol", "currency", "unitPrice", "quantity", "type")
_KINDS = {
    "BUY": Kind.BUY,
    "SELL": Kind.SELL,
    "DIVIDEND": Kind.DIVIDEND,
    "INTEREST": Kind.INTEREST,
    "FEE": Kind.FEE,
}


def read(rows: Iterable[Row]) -> Iterator[Read]:
    """Give each row as a transaction, or what is wrong with it."""
    for number, row in enumerate(rows, start=1):
        try:
            yield _read(number, row)
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


def rows_of_table(table: Table) -> Iterator[Row]:
    """Give the rows of its CSV by the names that JSON has. Raises FileRefused."""
    names = {}
    for field, aliases in _ALIASES.items():
        if found := [alias for alias in aliases if alias in table.names]:
            names[field] = found[0]
    if missing := [field for field in _REQUIRED if field not in names]:
        raise FileRefused(f"The header lacks {', '.join(missing)}.")
    for row in table.rows:
        given = {field: row[name] for field, name in names.items() if name in row}
        yield {
            name: value.replace(",", ".")
            if table.has_decimal_comma and name in ("unitPrice", "quantity", "fee") and "." not in value
            else value
            for name, value in given.items()
        }


def _read(number: int, row: Row) -> Activity:
    """Return one row. Raises ValueError, for people."""
    refuse_unstorable(row)
    kind = _KINDS.get(str(row.get("type") or "").strip().upper())
    if kind is None:
        known = ", ".join(_KINDS)
        raise ValueError(f"type: {row.get('type') or 'nothing'} is not known; known are {known}.")
    quantity, price = (number_in(row, name) for name in ("quantity", "unitPrice"))
    fee = number_in(row, "fee", default=Decimal(0))
    amount = WIDE.multiply(quantity, price).quantize(_LAST_DECIMAL, ROUND_HALF_EVEN, WIDE)
    at, has_time = moment_in(row, "date")
    columns: dict[str, Any] = {"kind": kind.value, "at": at, "has_time": has_time, "amount": amount}
    columns["currency"] = str(row.get("currency") or "").strip().upper()
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
