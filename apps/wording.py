"""Numbers, durations and times as people read them. Pure; apps compose their sentences of these."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from apps.notation import SECOND, WIDE, write_duration, write_number

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = {"s": "second", "m": "minute", "h": "hour", "d": "day"}


def count_and_unit(duration: int) -> tuple[int, str]:
    """Return microseconds as a number of whole units: (5, "minutes")."""
    written = write_duration(duration)
    count, unit = int(written[:-1]), _UNITS[written[-1]]
    return count, unit if count == 1 else f"{unit}s"


def format_duration(duration: int) -> str:
    """Return microseconds like "5 minutes"."""
    count, unit = count_and_unit(duration)
    return f"{count} {unit}"


def format_time(moment: int) -> str:
    """Return microseconds since 1970 like "2026-03-05 12:03:10 UTC"."""
    return f"{_EPOCH + timedelta(microseconds=moment):%Y-%m-%d %H:%M:%S} UTC"


def format_number(number: str | Decimal) -> str:
    """Return a number with thin groups of thousands: 61230.5 is "61 230.5"."""
    number = Decimal(number)
    whole, _, part = write_number(number.copy_abs()).partition(".")
    sign = "-" if number < 0 else ""
    return f"{sign}{int(whole):,}".replace(",", " ") + (f".{part}" if part else "")


def format_percent(percent: str | Decimal) -> str:
    """Return a percent without its sign, with two decimals at most, or two digits where these would be 0."""
    return f"{write_number(round_number(abs(Decimal(percent)), decimals=2))} %"


def round_number(number: Decimal, *, decimals: int) -> Decimal:
    """Return a number rounded to so many decimals, or to two significant digits where that would be 0."""
    rounded = number.quantize(Decimal(1).scaleb(-decimals), context=WIDE)
    if rounded or not number:
        return rounded
    return number.quantize(Decimal(1).scaleb(number.adjusted() - 1), context=WIDE)


def format_age(age: int) -> str:
    """Return microseconds in whole days, hours, minutes or seconds, so that it is 2 or more: "65 h"."""
    seconds = age // SECOND
    for size, least, unit in ((86_400, 10, "d"), (3_600, 2, "h"), (60, 2, "min")):
        if seconds >= least * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def format_plain(number: Decimal) -> str:
    """Return a number without exponent and without trailing zeros."""
    return f"{number.normalize(WIDE):f}"


def format_span(seconds: float) -> str:
    """Return a span in the largest unit in which it is at least 2: "60 s", "58 min", "6 h"."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def as_cell(text: str) -> str:
    """Return a text for a CSV file that a spreadsheet does not take for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
