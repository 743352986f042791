"""Files of transactions as text: encoding, tables, numbers and dates, and what becomes of their rows. Pure."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, NamedTuple

BYTES_LARGEST = 5_000_000
ROWS_MOST = 50_000
ROWS_NAMED = 10
_NUMBER = re.compile(r"-?\d{1,30}(?:\.\d{1,30})?(?:[eE][+-]?\d{1,2})?", re.ASCII)
_IN_GROUPS = re.compile(r"-?\d{1,3}(?:\.\d{3})+(?:,\d{1,30})?", re.ASCII)
_SWAPPED = str.maketrans(",.", ".,")
# NUL, and half a character: JSON may write both.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
# Day 0 of spreadsheets.
_FIRST_DAY = datetime(1899, 12, 30)
# A day, a month and a year, in this order or with the month first.
_DATE = re.compile(r"(\d{1,2})([-/.])(\d{1,2})\2(\d{4})", re.ASCII)


class FileRefused(Exception):
    """The file cannot be read at all; the text says why, for people."""


class DateOrder(StrEnum):
    """Which part of a date like 10/03/2023 comes first."""

    DAY_FIRST = "day_first"
    MONTH_FIRST = "month_first"


class Choices(NamedTuple):
    """What a person says about a file that the file does not. currency, kind: of all rows, where there is no such
    column; date_order: of dates like 10/03/2023, where the file leaves it open; leave_out: numbers of rows."""

    currency: str = ""
    kind: str = ""
    date_order: DateOrder | None = None
    leave_out: frozenset[int] = frozenset()


NO_CHOICES = Choices()


class RowError(NamedTuple):
    """An error in one row. row: its number in the file, from 1 on, without the header."""

    row: int
    message: str


class LeftOut(NamedTuple):
    """A row that is no transaction, or of which the file does not say enough; the message says why, for people."""

    row: int
    message: str


# Further columns that name an asset by its symbol.
ASSET_COLUMNS = ("fee_asset", "to_asset")


class Activity(NamedTuple):
    """One transaction. symbol: "" where its kind needs no asset; columns: those of the transaction but for the
    asset; `fee_asset` and `to_asset` are symbols, `to_portfolio` a name; rate_into: the currency into which its `rate`
    leads, where the file says that: the rate counts in portfolios of that base currency alone; held: how much of the
    asset it was paid on, where the file says that."""

    row: int
    account: str
    symbol: str
    columns: dict[str, Any]
    rate_into: str = ""
    held: Decimal | None = None

    def symbols(self) -> list[str]:
        """Return the symbols of all assets that it names."""
        return [one for one in (self.symbol, *(self.columns.get(name, "") for name in ASSET_COLUMNS)) if one]


class CountedSplit(NamedTuple):
    """A split, or a reverse split, of which a file has a quantity and no ratio. change: shares that came, below 0 that
    went; left: all that there were after it; of these two the file has one."""

    row: int
    account: str
    symbol: str
    name: str
    at: datetime
    is_reverse: bool
    change: Decimal | None
    left: Decimal | None
    external_id: str = ""


# What a reader makes of a row.
Read = Activity | RowError | LeftOut | CountedSplit


class Activities(NamedTuple):
    """The transactions of a file, what is wrong with rows, which rows are left out and why, splits without a ratio,
    whose form the file has, and how many rows it has: several may be one transaction, or one several. asks: the fields
    of Choices that the file leaves open, whether or not they were chosen."""

    rows: list[Activity]
    errors: list[RowError]
    left_out: list[LeftOut]
    splits: list[CountedSplit]
    source: str
    row_count: int = 0
    asks: frozenset[str] = frozenset()

    def accounts(self) -> set[str]:
        """Return the accounts that it names."""
        return {one.account for one in self.rows} | {one.account for one in self.splits}

    def symbols(self) -> set[str]:
        """Return the symbols of all assets that it names."""
        return {symbol for one in self.rows for symbol in one.symbols()} | {one.symbol for one in self.splits}

    def reasons(self) -> list[tuple[str, list[int]]]:
        """Return why rows are left out, each reason once in order, with the numbers of its rows."""
        found: dict[str, list[int]] = {}
        for one in self.left_out:
            found.setdefault(one.message, []).append(one.row)
        return list(found.items())


def list_rows(rows: Sequence[int]) -> str:
    """Return the numbers of rows as text, of many the first."""
    shown, more = ", ".join(str(row) for row in rows[:ROWS_NAMED]), len(rows) - ROWS_NAMED
    return f"{shown} and {more} more" if more > 0 else shown


# Name of a column -> what a row says there
Row = Mapping[str, Any]
# Where a row has what stands behind the last column of the header.
BEHIND = "\0behind"


class Table(NamedTuple):
    """A CSV file or a sheet. names: the header, in small letters; rows: each by these names; has_decimal_comma: as
    where columns are separated by semicolons."""

    names: list[str]
    rows: Iterator[Row]
    has_decimal_comma: bool


def text_of(content: bytes) -> str:
    """Return the text of a file in UTF-8, in UTF-16, or in Windows-1252, which has all characters of Latin-1. Raises
    FileRefused."""
    is_wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    # Windows-1252 is not tried for a file with a byte-order mark, nor for JSON, which is always Unicode.
    is_unicode = is_wide or content.startswith(b"\xef\xbb\xbf") or content.lstrip()[:1] in (b"{", b"[")
    try:
        text = content.decode("utf-16" if is_wide else "utf-8-sig")
    except ValueError:
        try:
            text = content.decode("utf-8" if is_unicode else "cp1252")
        except ValueError:
            raise FileRefused("The file is none of UTF-8, UTF-16 and Windows-1252; save it as UTF-8.") from None
    if "\0" in text:
        raise FileRefused("The file has NUL characters, so it is no text.")
    return text


def table_of(text: str) -> Table:
    """Return a CSV file with commas or semicolons. Raises FileRefused, also while its rows are read."""
    header = text.partition("\n")[0]
    delimiter = ";" if header.count(";") > header.count(",") else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        names = [one.strip().lower() for one in next(reader, [])]
    except csv.Error as error:
        raise _no_csv(error) from None
    return Table(names, _rows(reader, names), delimiter == ";")


def _rows(reader: Any, names: list[str]) -> Iterator[Row]:
    try:
        for row in reader:
            if row:
                # Of two columns of one name the first counts; a row may have fewer than the header, or more.
                said = dict(reversed(list(zip(names, row, strict=False))))
                behind = [cell for cell in row[len(names) :] if cell.strip()]
                yield said | {BEHIND: behind[0]} if behind else said
    except csv.Error as error:
        raise _no_csv(error) from None


def _no_csv(error: csv.Error) -> FileRefused:
    return FileRefused(f"The file is no valid CSV: {error}.")


def refuse_unstorable(row: Row) -> None:
    """Raise ValueError where a text has a character that no database keeps, or the row more cells than the header."""
    if BEHIND in row:
        raise ValueError(
            f"{row[BEHIND][:40]} stands behind the last column; write numbers without commas, or in quotation marks."
        )
    for name, value in row.items():
        if isinstance(value, str) and _UNSTORABLE.search(value):
            raise ValueError(f"{name}: it has a character that is no text.")


def number_in(
    row: Row, name: str, *, default: Decimal | None = None, comma: bool = False, groups: bool = False
) -> Decimal:
    """Return a number of a row. default: where it is empty; comma: the decimal mark is a comma, and groups of
    thousands have points; groups: else they may have commas. Raises ValueError."""
    value = row.get(name)
    text = "" if value is None else str(value).strip()
    if not text and default is not None:
        return default
    plain = text
    # A number of a spreadsheet is no text in somebody's form.
    comma = comma and not isinstance(value, int | float)
    if comma and ("," in text or _IN_GROUPS.fullmatch(text)):
        plain = text.replace(".", "") if _IN_GROUPS.fullmatch(text) else text
        plain = plain.replace(",", ".")
    elif groups and not comma and _IN_GROUPS.fullmatch(text.translate(_SWAPPED)):
        plain = text.replace(",", "")
    if isinstance(value, bool) or not _NUMBER.fullmatch(plain):
        like = "1234,5" if comma else "1234.5"
        raise ValueError(f"{name}: {text[:40] or 'nothing'} is not a number; write it like {like}.")
    return Decimal(plain)


def moment_in(row: Row, name: str, order: DateOrder | None = None) -> tuple[datetime, bool]:
    """Return a moment of a row in UTC, and whether it has a time: midnight is how a day is written. order: of dates
    like 10/03/2023; None refuses those that have two readings. Raises ValueError."""
    value = row.get(name)
    text = str(value or "").strip()
    if order is None and has_two_readings(text):
        day_first, month_first = (_date(text, one).date() for one in DateOrder)
        raise ValueError(
            f"{name}: {text} is {day_first} with the day first, and {month_first} with the month first; choose which "
            "comes first in this file."
        )
    try:
        found = _FIRST_DAY + timedelta(days=float(text)) if _is_serial(value) else _date(text, order)
        moment = found.replace(tzinfo=found.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        what = "a date with the month first" if order is DateOrder.MONTH_FIRST else "a date"
        raise ValueError(f"{name}: {text[:40] or 'nothing'} is not {what}; write it like 2024-01-31.") from None
    has_time = (moment.hour, moment.minute, moment.second, moment.microsecond) != (0, 0, 0, 0)
    return moment, has_time


def _is_serial(value: Any) -> bool:
    """Tell whether a value is a day as spreadsheets count them. (20240131 is more than any.)"""
    return type(value) in (int, float) and 1 <= value < 3_000_000


def _date(text: str, order: DateOrder | None) -> datetime:
    with suppress(ValueError):
        return datetime.fromisoformat(text)
    parts = _parts(text)
    if parts is None:
        raise ValueError(text)
    first, mark, second, year = parts
    if order is None:
        order = _only_order(first, second)
    is_day_first = mark == "." or order is not DateOrder.MONTH_FIRST
    day, month = (first, second) if is_day_first else (second, first)
    return datetime(year, month, day)


def _parts(text: str) -> tuple[int, str, int, int] | None:
    """Return the first number of a date like 10/03/2023, its mark, the second number and the year."""
    match = _DATE.fullmatch(text)
    return None if match is None else (int(match[1]), match[2], int(match[3]), int(match[4]))


def _only_order(first: int, second: int) -> DateOrder | None:
    """Return the one order in which two numbers are a day and a month; None where both are, or none."""
    if first > 12 >= second:
        return DateOrder.DAY_FIRST
    return DateOrder.MONTH_FIRST if second > 12 >= first else None


def has_two_readings(text: str) -> bool:
    """Tell whether a text is one date with the day first and another with the month first. Points stand in dates with
    the day first."""
    parts = _parts(text)
    if parts is None or parts[1] == ".":
        return False
    first, second = parts[0], parts[2]
    return first != second and 1 <= first <= 12 and 1 <= second <= 12


def order_in(texts: Iterable[str]) -> DateOrder | None:
    """Return the order that the dates of a column have, by those that have one reading; None where they contradict each
    other, or where all have two."""
    parts = [found for text in texts if (found := _parts(text)) and found[1] != "."]
    orders = {order for first, _, second, _ in parts if (order := _only_order(first, second))}
    return orders.pop() if len(orders) == 1 else None
