"""The reader of Ghostfolio's files: its JSON, and CSV with the headers that its import takes. Pure."""

import csv
import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, NamedTuple

from apps.notation import WIDE, write_number
from apps.portfolios.domain.transactions import Kind
from apps.strict_json import NotJson, read_json

BYTES_LARGEST = 5_000_000
ROWS_MOST = 50_000
_LAST_DECIMAL = Decimal("1e-18")
_NUMBER = re.compile(r"-?\d{1,30}(?:\.\d{1,30})?(?:[eE][+-]?\d{1,2})?", re.ASCII)
# NUL, and half a character: JSON may write both.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
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
_DATES = ("%d-%m-%Y", "%d/%m/%Y", "%d.%m.%Y")


class FileRefused(Exception):
    """The file cannot be read at all; the text says why, for people."""


class RowError(NamedTuple):
    """An error in one row. row: its number in the file, from 1 on, without the header."""

    row: int
    message: str


class Activity(NamedTuple):
    """One row as a transaction. symbol: "" where its kind needs no asset; columns: those of the transaction but for the
    asset."""

    row: int
    account: str
    symbol: str
    columns: dict[str, Any]


class Activities(NamedTuple):
    """The rows of a file, what is wrong with others, and whose form the file has."""

    rows: list[Activity]
    errors: list[RowError]
    source: str


def read_activities(content: bytes) -> Activities:
    """Return the rows of a file. Raises FileRefused.

    Two equal rows are two transactions: the external id of a row is a hash of what it says with its occurrence.
    """
    if len(content) > BYTES_LARGEST:
        raise FileRefused(f"The file has more than {BYTES_LARGEST // 1_000_000} MB; split it.")
    is_wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = content.decode("utf-16" if is_wide else "utf-8-sig")
    except ValueError:
        raise FileRefused("The file is neither UTF-8 nor UTF-16; save it as UTF-8.") from None
    if "\0" in text:
        raise FileRefused("The file has NUL characters, so it is no text.")
    given = _json_rows(text) if text.lstrip().startswith(("{", "[")) else _csv_rows(text)
    rows: list[Activity] = []
    errors: list[RowError] = []
    seen: Counter[str] = Counter()
    for number, row in enumerate(given, start=1):
        if number > ROWS_MOST:
            raise FileRefused(f"The file has more than {ROWS_MOST} rows; split it.")
        try:
            activity = _read(number, row)
        except ValueError as error:
            errors.append(RowError(number, str(error)))
            continue
        said = json.dumps([activity.account, activity.symbol, activity.columns], default=_plain, sort_keys=True)
        digest = hashlib.sha256(said.encode()).hexdigest()[:40]
        seen[digest] += 1
        activity.columns["external_id"] = f"ghostfolio-{digest}-{seen[digest]}"
        rows.append(activity)
    return Activities(rows, errors, "Ghostfolio")


def _plain(value: Any) -> str:
    return write_number(value) if isinstance(value, Decimal) else value.isoformat()


def _json_rows(text: str) -> Iterable[Mapping[str, Any]]:
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


def _csv_rows(text: str) -> Iterator[Mapping[str, Any]]:
    header = text.partition("\n")[0]
    delimiter = ";" if header.count(";") > header.count(",") else ","
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        names = [one.strip().lower() for one in next(reader, [])]
        places = {}
        for field, aliases in _ALIASES.items():
            if found := [names.index(alias) for alias in aliases if alias in names]:
                places[field] = found[0]
        if missing := [field for field in _REQUIRED if field not in places]:
            raise FileRefused(f"The header lacks {', '.join(missing)}.")
        for row in reader:
            if row:
                given = {field: row[place] for field, place in places.items() if place < len(row)}
                yield {
                    name: value.replace(",", ".")
                    if delimiter == ";" and name in ("unitPrice", "quantity", "fee") and "." not in value
                    else value
                    for name, value in given.items()
                }
    except csv.Error as error:
        raise FileRefused(f"The file is no valid CSV: {error}.") from None


def _read(number: int, row: Mapping[str, Any]) -> Activity:
    """Return one row. Raises ValueError, for people."""
    for name, value in row.items():
        if isinstance(value, str) and _UNSTORABLE.search(value):
            raise ValueError(f"{name}: it has a character that is no text.")
    kind = _KINDS.get(str(row.get("type") or "").strip().upper())
    if kind is None:
        known = ", ".join(_KINDS)
        raise ValueError(f"type: {row.get('type') or 'nothing'} is not known; known are {known}.")
    quantity, price = (_number(row, name) for name in ("quantity", "unitPrice"))
    fee = _number(row, "fee", default=Decimal(0))
    amount = WIDE.multiply(quantity, price).quantize(_LAST_DECIMAL, ROUND_HALF_EVEN, WIDE)
    at, has_time = _moment(row.get("date"))
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


def _number(row: Mapping[str, Any], name: str, *, default: Decimal | None = None) -> Decimal:
    value = row.get(name)
    text = "" if value is None else str(value).strip()
    if not text and default is not None:
        return default
    if isinstance(value, bool) or not _NUMBER.fullmatch(text):
        raise ValueError(f"{name}: {text[:40] or 'nothing'} is not a number; write it like 1234.5.")
    return Decimal(text)


def _moment(value: Any) -> tuple[datetime, bool]:
    """Return a moment in UTC, and whether it has a time. Midnight is how Ghostfolio writes a day."""
    text = str(value or "").strip()
    try:
        found = _date(text)
        moment = found.replace(tzinfo=found.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"date: {text[:40] or 'nothing'} is not a date; write it like 2024-01-31.") from None
    has_time = (moment.hour, moment.minute, moment.second, moment.microsecond) != (0, 0, 0, 0)
    return moment, has_time


def _date(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        for form in _DATES:
            with suppress(ValueError):
                return datetime.strptime(text, form)
        raise
