"""Recorded quotes in a CSV file, plain or gzipped: read line by line, in the order of the file."""

import csv
import gzip
import sys
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from apps.market.domain import QuoteRejected, RawQuote, from_epoch_microseconds, parse_number


class QuoteFileInvalid(ValueError):
    """The file is no recording. The text names the file and the line and says why."""

    def __init__(self, path: Path, line: int, why: str) -> None:
        super().__init__(f"{path.name}, line {line}: {why}")


def rows_of(path: Path) -> Iterator[RawQuote]:
    """Give the rows of a file with the columns time, symbol, price (or close) and perhaps volume; further ones are
    passed over.

    `at` is aware and UTC, the price a number, perhaps not a finite one, or None where the cell is empty; the volume is
    a number or None.
    Raises QuoteFileInvalid at the first row that is none.
    """
    if not path.is_file():
        raise QuoteFileInvalid(path, 1, "is not a file that can be read")
    reader = csv.reader(_lines(path))
    try:
        yield from _rows(reader)
    except (_BrokenRow, csv.Error) as error:
        raise QuoteFileInvalid(path, max(reader.line_num, 1), str(error)) from None


def event_time(text: str) -> datetime:
    """Return ISO 8601 with a zone, or epoch seconds, as an aware UTC datetime. Raises ValueError, OverflowError."""
    if text.isascii() and text.replace(".", "", 1).isdecimal():
        return from_epoch_microseconds(int(Decimal(text) * 1_000_000))
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError
    return at.astimezone(UTC)


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


def _rows(reader: Iterator[list[str]]) -> Iterator[RawQuote]:
    """Yield the rows in the file's order. Raises _BrokenRow."""
    header = [name.strip() for name in next(reader, [])]
    price_name = "price" if "price" in header else "close"
    for name in ("time", "symbol", price_name):
        if name not in header:
            raise _BrokenRow(f"the header has no column {name}" if header else "is empty")
    time_column, symbol_column, price_column = (header.index(name) for name in ("time", "symbol", price_name))
    volume_column = header.index("volume") if "volume" in header else None
    time, at, is_empty = "", datetime.min, True
    for cells in reader:
        if not cells:
            continue
        if len(cells) < len(header):
            raise _BrokenRow(f"has {len(cells)} of {len(header)} columns")
        if cells[time_column] != time:
            time = cells[time_column]
            at = _time(time)
        symbol = cells[symbol_column].strip()
        if not symbol:
            raise _BrokenRow("has no symbol")
        volume = _volume(cells[volume_column]) if volume_column is not None else None
        is_empty = False
        yield RawQuote(sys.intern(symbol), _number(cells[price_column]), at, volume)
    if is_empty:
        raise _BrokenRow("has no rows")


def _time(text: str) -> datetime:
    try:
        return event_time(text.strip())
    except (ValueError, OverflowError):
        raise _BrokenRow(f"time {text[:40]!r} is neither ISO 8601 with a zone nor epoch seconds") from None


def _number(text: str) -> Decimal | None:
    text = text.strip()
    try:
        return parse_number(text) if text else None
    except QuoteRejected:
        raise _BrokenRow(f"{text[:40]!r} is not a number") from None


def _volume(text: str) -> Decimal | None:
    """Return the number, or None: a volume is an ornament, a bad one does not cost the quote."""
    try:
        return _number(text)
    except _BrokenRow:
        return None


class _BrokenRow(Exception):
    """A row that is no quote; the text says why."""
