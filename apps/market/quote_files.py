"""Quotes in a CSV file, plain or gzipped: the one reader of backtests, imports and recordings. docs/feeds.md has the
form."""

import csv
import gzip
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal
from itertools import pairwise
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from apps.market.domain import QuoteRejected, RawQuote, admit_price, admit_time, parse_number

LINES_LISTED = 20
INVALID, MISSING = "invalid", "missing"
_CELL_SHOWN = 40
_SENTENCES = {
    MISSING: "the price is blank",
    "not_finite": "the price {price!r} is not finite",
    "out_of_range": "the price {price!r} is not from 1e-15 to 1e12; that of a signed asset may be 0 or negative too",
    "time_in_future": "the time {time!r} is ahead of the clock",
    "time_out_of_range": "the time {time!r} is before 1990, or has the hour 24 or the second 60",
    "unknown_asset": "the symbol {symbol!r} is no asset of the feed",
}
_UNREADABLE_TIMES = ("time_malformed", "time_naive")


class QuoteFileInvalid(ValueError):
    """The file is no recording. The text names the file and the line and says why."""

    def __init__(self, path: Path, line: int, why: str) -> None:
        super().__init__(f"{path.name}, line {line}: {why}")


class FileRow(NamedTuple):
    """A row of a file: its quote, or why it is none.

    quote: `at` is aware and UTC, or None where the time cannot be admitted; the price is rounded as it is stored where
    it can be admitted, None where it is blank, and else as it was written. reason: a code, "" where it may be admitted;
    why: the same in words.
    """

    line: int
    quote: RawQuote
    reason: str = ""
    why: str = ""


@dataclass(slots=True)
class LeftOut:
    """The rows of a file that give no quote: how many by reason, and the first of those that are wrong, in words. A row
    with a blank price is counted, and not wrong."""

    by_reason: Counter[str] = field(default_factory=Counter)
    lines: list[str] = field(default_factory=list)

    def quotes_of(self, rows: Iterable[FileRow]) -> Iterator[RawQuote]:
        """Give the quotes of the rows, and note the rows that have none."""
        for row in rows:
            if not row.reason:
                yield row.quote
                continue
            self.by_reason[row.reason] += 1
            if row.reason != MISSING and len(self.lines) < LINES_LISTED:
                self.lines.append(f"line {row.line}: {row.why}")

    @property
    def wrong(self) -> int:
        """Return how many rows are wrong."""
        return self.by_reason.total() - self.by_reason[MISSING]

    def describe(self) -> list[str]:
        """Return a line for each row that is wrong, and one for those that are not listed."""
        more = self.wrong - len(self.lines)
        return self.lines + ([f"{more} more {'row is' if more == 1 else 'rows are'} wrong"] if more else [])


def rows_of(
    path: Path,
    *,
    now: datetime,
    symbols: Collection[str] | None = None,
    skip_invalid: bool = False,
    is_signed: Callable[[str], bool] = lambda symbol: False,
    of: str = "",
) -> Iterator[FileRow]:
    """Give the rows of a file in its order.

    now: what times are compared with; symbols: those that are known, None where all are; skip_invalid: a row that
    cannot be read is given with the reason INVALID; is_signed: which symbols may have prices of 0 or less; of: the
    symbol of every row, for a file about one asset: it needs no column of symbols, and its times may be dates, in a
    column `time` or `date`. Raises QuoteFileInvalid for a file that cannot be read, and at the first row that cannot
    be.
    """
    if not path.is_file():
        raise QuoteFileInvalid(path, 1, "is not a file that can be read")
    reader = csv.reader(_lines(path), strict=True)
    try:
        columns = _Columns.read(next(reader, []), of=of)
        written, admitted, is_empty = "", _Time(), True
        for cells in reader:
            if not any(map(str.strip, cells)):
                continue
            if is_empty:
                columns = columns._replace(width=max(columns.width, len(cells)))
                is_empty = False
            try:
                columns.check(cells)
                if cells[columns.time] != written:
                    admitted = _Time.read(cells[columns.time].strip(), now=now, may_be_date=bool(of))
                    written = cells[columns.time]
                yield _row(reader.line_num, cells, columns, admitted, symbols=symbols, is_signed=is_signed, of=of)
            except _BrokenRow as error:
                if not skip_invalid:
                    raise
                yield FileRow(reader.line_num, RawQuote("", None), INVALID, str(error))
        if is_empty:
            raise _BrokenRow("has no rows")
    except _BrokenRow as error:
        raise QuoteFileInvalid(path, max(reader.line_num, 1), str(error)) from None
    except csv.Error as error:
        raise QuoteFileInvalid(path, max(reader.line_num, 1), _problem_of(error)) from None


def is_in_order(quotes: Iterable[RawQuote]) -> bool:
    """Tell whether times never decrease in a file. It is read to its end."""
    # Not `all`: who reads on to the end finds what is wrong there.
    return not sum(before.at > after.at for before, after in pairwise(quotes))


def is_newest_first(quotes: Iterable[RawQuote]) -> bool:
    """Tell whether a file is written from its end: no symbol's times ever increase in it, and some decrease."""
    newest: dict[str, datetime] = {}
    rises = falls = False
    for symbol, _, at, _ in quotes:
        before = newest.get(symbol, at)
        rises = rises or at > before
        falls = falls or at < before
        newest[symbol] = at
    return falls and not rises


def in_order(quotes: list[RawQuote]) -> list[RawQuote]:
    """Return quotes by time. Those of one time follow each other as in the file, which is read from its end where it is
    written so."""
    if is_newest_first(quotes):
        quotes.reverse()
    quotes.sort(key=attrgetter("at"))
    return quotes


def _lines(path: Path) -> Iterator[str]:
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            # Decoded line by line, because a text file decodes ahead and could not tell which line broke.
            for number, line in enumerate(file, start=1):
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError:
        raise QuoteFileInvalid(path, number, "is not UTF-8") from None
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise QuoteFileInvalid(path, number + 1, "is not gzip, or not the whole of it") from None
    except OSError:
        raise QuoteFileInvalid(path, number + 1, "cannot be read") from None


class _Columns(NamedTuple):
    """The places of the columns in a row, from 0.

    symbol, volume: None where the file has no such column; count: the number of named columns; width: the number of
    cells in the header or in the first row, whichever has more, with the blank cells after the last column.
    """

    time: int
    symbol: int | None
    price: int
    volume: int | None
    count: int
    width: int

    @classmethod
    def read(cls, header: list[str], *, of: str) -> "_Columns":
        """Return the columns of a header. of: see `rows_of`. Raises _BrokenRow."""
        width = len(header)
        names = [name.strip().lower() for name in header]
        while names and not names[-1]:
            names.pop()
        if not names:
            raise _BrokenRow("is empty")
        price = "price" if "price" in names else "close"
        at = "date" if of and "time" not in names and "date" in names else "time"
        for name in (at, price) if of else (at, "symbol", price):
            if name not in names:
                raise _BrokenRow(f"the header has no column {name}")
        for name in (at, "symbol", price, "volume"):
            if names.count(name) > 1:
                raise _BrokenRow(f"the header has the column {name} twice")
        symbol, volume = (names.index(name) if name in names else None for name in ("symbol", "volume"))
        return cls(names.index(at), None if of else symbol, names.index(price), volume, len(names), width)

    def check(self, cells: list[str]) -> None:
        """Raise _BrokenRow for another number of cells; blank ones behind the last column may stay.

        Where columns follow the price, there are no more of them than in the header or the first row: 20,951.20 with a
        blank volume would else be the price 20 with the volume 951.20.
        """
        if len(cells) < self.count:
            raise _BrokenRow(f"has {len(cells)} of {self.count} columns")
        if len(cells) == self.count:
            return
        is_wider = len(cells) > self.width and self.price < self.count - 1
        if is_wider or any(map(str.strip, cells[self.count :])):
            raise _BrokenRow(
                f"has {len(cells)} cells, and the header has {self.count}; write numbers with a point, without commas"
            )


class _Time(NamedTuple):
    """A time as it is written, and what becomes of it: the moment, or the reason why it is not admitted."""

    text: str = ""
    at: datetime | None = None
    reason: str = ""

    @classmethod
    def read(cls, text: str, *, now: datetime, may_be_date: bool) -> "_Time":
        """Return what becomes of a time. may_be_date: a date alone is the end of that day. Raises _BrokenRow where it
        cannot be read."""
        try:
            day = _day(text) if may_be_date else None
            return cls(text, admit_time(text if day is None else end_of_day(day, now=now), as_of=now))
        except QuoteRejected as rejection:
            if rejection.reason in _UNREADABLE_TIMES:
                forms = "ISO 8601 with a zone nor an epoch" + (", nor a date like 2024-01-31" if may_be_date else "")
                raise _BrokenRow(f"time {text[:_CELL_SHOWN]!r} is neither {forms}") from None
            return cls(text, None, rejection.reason)


def end_of_day(day: date, *, now: datetime) -> datetime:
    """Return the last second of a day in UTC; of today, now."""
    end = datetime.combine(day, time(23, 59, 59), UTC)
    return now if day == now.astimezone(UTC).date() else end


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if len(text) == len("2024-01-31") else None
    except ValueError:
        return None


def _row(
    line: int,
    cells: list[str],
    columns: _Columns,
    moment: _Time,
    *,
    symbols: Collection[str] | None,
    is_signed: Callable[[str], bool],
    of: str,
) -> FileRow:
    """Return what becomes of a row. Raises _BrokenRow where it cannot be read."""
    symbol = of if columns.symbol is None else cells[columns.symbol].strip()
    written = cells[columns.price].strip()
    if not symbol:
        raise _BrokenRow("has no symbol")
    reason, price = "", None
    try:
        price = admit_price(written, signed=is_signed(symbol))
    except QuoteRejected as rejection:
        if rejection.reason == "malformed":
            raise _BrokenRow(f"{written[:_CELL_SHOWN]!r} is not a number") from None
        reason = rejection.reason
    if symbols is not None and symbol not in symbols:
        reason = "unknown_asset"
    reason = moment.reason or reason
    volume = _volume(cells[columns.volume].strip()) if columns.volume is not None else None
    if not reason:
        return FileRow(line, RawQuote(sys.intern(symbol), price, moment.at, volume))
    why = _SENTENCES[reason].format(
        price=written[:_CELL_SHOWN], time=moment.text[:_CELL_SHOWN], symbol=symbol[:_CELL_SHOWN]
    )
    as_written = price if price is not None or not written else parse_number(written)
    return FileRow(line, RawQuote(symbol, as_written, moment.at, volume), reason, why)


def _volume(text: str) -> Decimal | None:
    """Return the number, or None: volume is optional, and an invalid one is dropped."""
    try:
        return parse_number(text) if text else None
    except QuoteRejected:
        return None


def _problem_of(error: csv.Error) -> str:
    text = str(error)
    if "new-line" in text:
        return "ends with a carriage return (CR) alone; save the file with LF or CR LF at the ends of lines"
    if "end of data" in text or "expected after" in text:
        return "has a quotation mark that is not closed, or stands within a cell"
    return text


class _BrokenRow(Exception):
    """A row that cannot be read; the text says why."""
