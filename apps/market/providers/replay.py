"""A recorded market: a film of quotes in a CSV file, released row by row as the feed's time goes on."""

import csv
import gzip
import sys
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from operator import attrgetter
from pathlib import Path
from typing import Any

from apps.market.domain import QuoteRejected, RawQuote, from_epoch_microseconds, parse_number
from apps.market.providers.protocol import (
    ROWS_AT_ONCE,
    Answer,
    ProviderMisconfigured,
    ProviderRejected,
    QuoteRequest,
)

RECORDINGS = Path(__file__).resolve().parent.parent / "recordings"
SPEED_HIGHEST = 86_400
OPTIONS: dict[str, Any] = {"path": None, "start": None, "shift": "none", "speed": 1}

_at = attrgetter("at")


class Replay:
    """The rows of a CSV or .csv.gz file with the columns time, symbol, price (or close) and perhaps volume.

    Its clock stands at `start` when the feed begins and then runs `speed` times as fast as the feed's slots.
    Event times never change with the speed; shift "ends_now" moves them all by one constant.
    """

    slug = "replay"
    is_live = False

    def validate_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return {"path", "start", "shift", "speed"}; a start of None is the first row.

        Reads the whole file. Raises ProviderMisconfigured, for a broken file with the number of the line.
        """
        unknown = sorted(options.keys() - OPTIONS.keys())
        if unknown:
            raise ProviderMisconfigured(f"replay knows no option {unknown[0]!r}; it knows {', '.join(OPTIONS)}")
        complete = {**OPTIONS, **options}
        if not isinstance(complete["path"], str) or not complete["path"]:
            raise ProviderMisconfigured("path must be the name of a recording, or the path of a CSV file")
        if complete["shift"] not in ("none", "ends_now"):
            raise ProviderMisconfigured("shift must be none or ends_now")
        speed = complete["speed"]
        if isinstance(speed, bool) or not isinstance(speed, int | float) or not 0 < speed <= SPEED_HIGHEST:
            raise ProviderMisconfigured(f"speed must be a number above 0, at most {SPEED_HIGHEST}")
        film = _film(complete["path"])
        if _start(complete["start"], film=film) > film[-1].at:
            raise ProviderMisconfigured(f"start must not be after the last row, {film[-1].at.isoformat()}")
        return complete

    def fetch(self, request: QuoteRequest) -> Answer:
        """Return the rows after the feed's position up to the film's clock, and none once the film is over.

        No more than ROWS_AT_ONCE, but all of one time together. The first answer has what lies before `start` as its
        history. Raises ProviderRejected("broken_recording").
        """
        try:
            film = _film(request.options["path"])
            start = _start(request.options["start"], film=film)
        except ProviderMisconfigured as error:
            raise ProviderRejected("broken_recording") from error
        shift = timedelta()
        if request.options["shift"] == "ends_now":
            shift = request.began_at.replace(second=0, microsecond=0) - film[-1].at
        clock = film[-1].at + shift
        elapsed = (request.slot - request.began_at) * request.options["speed"]
        if elapsed < film[-1].at - start:
            # Not cut to before the start: what lies there is history, and is given once.
            clock = max((start + shift + elapsed).replace(microsecond=0), start + shift)
        if request.position is None:
            begin = bisect_left(film, start, key=_at)
        else:
            clock = max(clock, request.position)
            begin = bisect_right(film, request.position - shift, key=_at)
        end = bisect_right(film, clock - shift, key=_at)
        if end - begin > ROWS_AT_ONCE:
            clock = film[begin + ROWS_AT_ONCE - 1].at + shift
            end = bisect_right(film, clock - shift, key=_at)
        wanted = frozenset(request.external_ids)
        history = film[:begin] if request.position is None else ()
        return Answer(
            quotes=_released(film[begin:end], wanted=wanted, shift=shift),
            as_of=clock,
            history=_released(history, wanted=wanted, shift=shift),
        )


def _released(rows: Sequence[RawQuote], *, wanted: frozenset[str], shift: timedelta) -> list[RawQuote]:
    if not shift:
        return [row for row in rows if row.external_id in wanted]
    return [
        RawQuote(row.external_id, row.price, row.at + shift, row.volume) for row in rows if row.external_id in wanted
    ]


def _start(value: Any, *, film: Sequence[RawQuote]) -> datetime:
    if value is None:
        first: datetime = film[0].at
        return first
    try:
        return _event_time(value)
    except (ValueError, TypeError, AttributeError, OverflowError):
        raise ProviderMisconfigured("start must be ISO 8601 with a zone, like 2023-03-11T06:30:00Z") from None


def _film(name: str) -> Sequence[RawQuote]:
    """Return the rows of a file, oldest first. Raises ProviderMisconfigured."""
    path = RECORDINGS / name if "/" not in name else Path(name)
    if not path.is_file():
        raise _broken(path, line=1, why="is not a file that can be read")
    status = path.stat()
    return _read(path, status.st_mtime_ns, status.st_size)


# Keyed by time and size too, so that a changed file is read anew.
@lru_cache(maxsize=16)
def _read(path: Path, modified_ns: int, size_bytes: int) -> Sequence[RawQuote]:
    reader = csv.reader(_lines(path))
    try:
        film = list(_rows(reader))
    except (_BrokenRow, csv.Error) as error:
        raise _broken(path, line=max(reader.line_num, 1), why=str(error)) from None
    film.sort(key=_at)
    return film


def _lines(path: Path) -> Iterator[str]:
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            # Decoded line by line, because a text file decodes ahead and could not tell which line broke.
            for number, line in enumerate(file, start=1):
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError:
        raise _broken(path, line=number, why="is not UTF-8") from None
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise _broken(path, line=number + 1, why="is not gzip, or not the whole of it") from None
    except OSError:
        raise _broken(path, line=number + 1, why="cannot be read") from None


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
        volume = cells[volume_column] if volume_column is not None else ""
        is_empty = False
        yield RawQuote(
            sys.intern(symbol), _number(cells[price_column]), at, _number(volume) if volume.strip() else None
        )
    if is_empty:
        raise _BrokenRow("has no rows")


def _time(text: str) -> datetime:
    try:
        return _event_time(text.strip())
    except (ValueError, OverflowError):
        raise _BrokenRow(f"time {text[:40]!r} is neither ISO 8601 with a zone nor epoch seconds") from None


def _event_time(text: str) -> datetime:
    if text.isascii() and text.replace(".", "", 1).isdecimal():
        return from_epoch_microseconds(int(Decimal(text) * 1_000_000))
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError
    return at.astimezone(UTC)


def _number(text: str) -> Decimal:
    try:
        number = parse_number(text.strip())
    except QuoteRejected:
        number = Decimal("nan")
    if not number.is_finite():
        raise _BrokenRow(f"{text[:40]!r} is not a number")
    return number


class _BrokenRow(Exception):
    """A row that is no quote; the text says why."""


def _broken(path: Path, *, line: int, why: str) -> ProviderMisconfigured:
    return ProviderMisconfigured(f"{path.name}, line {line}: {why}")
