"""A recorded market: quotes in a CSV file, released row by row as the feed's time goes on."""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from operator import attrgetter
from pathlib import Path
from typing import Any

from apps.market.domain import QuoteRejected, RawQuote, read_time
from apps.market.quote_files import QuoteFileInvalid, in_order, rows_of
from apps.sources.providers import http
from apps.sources.providers.options import Option, read_options
from apps.sources.providers.protocol import (
    ROWS_AT_ONCE,
    Answer,
    PlainProvider,
    ProviderMisconfigured,
    ProviderRejected,
    QuoteRequest,
)

RECORDINGS = Path(__file__).resolve().parent.parent / "recordings"
SPEED_HIGHEST = 86_400

_at = attrgetter("at")


class Recording(PlainProvider):
    """The rows of a CSV or .csv.gz file with the columns time, symbol, price (or close) and perhaps volume, by time.

    A row without a time that can be admitted has no place on its clock, so the file is refused; one without such a
    price is rejected and counted when its time has come.
    Its clock stands at `start` when the feed begins and then runs `speed` times as fast as the feed's slots.
    Event times never change with the speed; shift "ends_now" moves them all by one constant.
    """

    slug = "recording"
    options = (
        Option(
            "path",
            "File",
            "The name of a recording that is here, or the path of a CSV file on this machine.",
            is_required=True,
            must="be the name of a recording, or the path of a CSV file",
        ),
        Option(
            "start",
            "Begin at",
            "Where its clock begins, like 2023-03-11T06:30:00Z. Blank: at the first row.",
            must="be ISO 8601 with a zone, like 2023-03-11T06:30:00Z",
        ),
        Option(
            "shift",
            "Move times",
            "ends_now: all of them by one span, so that the recording ends now.",
            default="none",
            choices=("none", "ends_now"),
        ),
        Option(
            "speed",
            "Speed",
            f"How many times as fast as it happened, at most {SPEED_HIGHEST}.",
            type=float,
            default=1,
            lowest=0.000001,
            highest=SPEED_HIGHEST,
            must=f"be a number above 0, at most {SPEED_HIGHEST}",
        ),
    )

    def validate_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return {"path", "start", "shift", "speed"}; a start of None is the first row.

        Reads the whole file. Raises ProviderMisconfigured, for a broken file with the number of the line.
        """
        complete = read_options(options, self.options, slug=self.slug)
        try:
            recording = _recording(complete["path"])
        except ProviderMisconfigured as error:
            raise ProviderMisconfigured(faults={"path": str(error)}) from None
        if _start(complete["start"], recording=recording) > recording[-1].at:
            text = f"start must not be after the last row, {recording[-1].at.isoformat()}"
            raise ProviderMisconfigured(faults={"start": text})
        return complete

    def fetch(self, request: QuoteRequest) -> Answer:
        """Return the rows after the feed's position up to the recording's clock, and none once the recording is over.

        No more than ROWS_AT_ONCE, but all of one time together. The first answer has what lies before `start` as its
        history. Raises ProviderRejected("broken_recording").
        """
        try:
            recording = _recording(request.options["path"])
            start = _start(request.options["start"], recording=recording)
        except ProviderMisconfigured as error:
            raise ProviderRejected("broken_recording") from error
        shift = timedelta()
        if request.options["shift"] == "ends_now":
            shift = request.began_at.replace(second=0, microsecond=0) - recording[-1].at
        clock = recording[-1].at + shift
        elapsed = (request.slot - request.began_at) * request.options["speed"]
        if elapsed < recording[-1].at - start:
            # Not cut to before the start: what lies there is history, and is given once.
            clock = max((start + shift + elapsed).replace(microsecond=0), start + shift)
        if request.position is None:
            begin = bisect_left(recording, start, key=_at)
        else:
            clock = max(clock, request.position)
            begin = bisect_right(recording, request.position - shift, key=_at)
        end = bisect_right(recording, clock - shift, key=_at)
        if end - begin > ROWS_AT_ONCE:
            clock = recording[begin + ROWS_AT_ONCE - 1].at + shift
            end = bisect_right(recording, clock - shift, key=_at)
        wanted = frozenset(request.external_ids)
        history = recording[:begin] if request.position is None else ()
        return Answer(
            quotes=_released(recording[begin:end], wanted=wanted, shift=shift),
            as_of=clock,
            history=_released(history, wanted=wanted, shift=shift),
        )


def _released(rows: Sequence[RawQuote], *, wanted: frozenset[str], shift: timedelta) -> list[RawQuote]:
    if not shift:
        return [row for row in rows if row.external_id in wanted]
    return [
        RawQuote(row.external_id, row.price, row.at + shift, row.volume) for row in rows if row.external_id in wanted
    ]


def _start(value: Any, *, recording: Sequence[RawQuote]) -> datetime:
    if value is None:
        first: datetime = recording[0].at
        return first
    try:
        return read_time(value)
    except QuoteRejected:
        text = "start must be ISO 8601 with a zone, like 2023-03-11T06:30:00Z"
        raise ProviderMisconfigured(faults={"start": text}) from None


def _recording(name: str) -> Sequence[RawQuote]:
    """Return the rows of a file, oldest first. Raises ProviderMisconfigured."""
    path = RECORDINGS / name if "/" not in name else Path(name)
    if not path.is_file():
        raise ProviderMisconfigured(str(QuoteFileInvalid(path, 1, "is not a file that can be read")))
    status = path.stat()
    return _read(path, status.st_mtime_ns, status.st_size)


# Keyed by time and size too, so that a changed file is read anew.
@lru_cache(maxsize=16)
def _read(path: Path, modified_ns: int, size_bytes: int) -> Sequence[RawQuote]:
    try:
        rows = list(rows_of(path, now=http.now()))
        off_clock = [row for row in rows if row.quote.at is None]
        if off_clock:
            more = f"; so it is on {len(off_clock)} lines in all" if len(off_clock) > 1 else ""
            raise QuoteFileInvalid(path, off_clock[0].line, f"{off_clock[0].why}{more}")
    except QuoteFileInvalid as error:
        raise ProviderMisconfigured(str(error)) from None
    return in_order([row.quote for row in rows])
