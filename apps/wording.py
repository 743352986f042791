"""Numbers, durations and times as people read them. Pure; apps compose their sentences of these.

reader: whose zone and locale a text is written in; without one it is the same for everyone, and in UTC.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from apps.locales import STANDARD, Reader
from apps.notation import SECOND, WIDE, write_duration, write_number

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TO_SECONDS = "%x %X"
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


def format_moment(moment: datetime, form: str = TO_SECONDS, *, reader: Reader = STANDARD) -> str:
    """Return an aware time as the reader's clocks show it, with the zone's abbreviation: "2026-07-02 14:00:00 CEST".

    form: as strftime has it, with %x, %X and %R by the reader's locale.
    """
    local = moment.astimezone(reader.zone)
    called = local.tzname() or ""
    # Zones without an abbreviation have their offset in its place: +03.
    return f"{local:{reader.locale.form(form)}} {'UTC' if called[:1] in ('+', '-') else ''}{called}"


def format_time(moment: int, *, reader: Reader = STANDARD) -> str:
    """Return microseconds since 1970 like "2026-03-05 12:03:10 UTC"."""
    return format_moment(_EPOCH + timedelta(microseconds=moment), reader=reader)


def format_day(day: date, *, reader: Reader = STANDARD) -> str:
    """Return a date, or that of a datetime as it is, like "2026-03-05"."""
    return f"{day:{reader.locale.date}}"


def format_number(number: str | int | Decimal, *, decimals: int = 0, reader: Reader = STANDARD) -> str:
    """Return a number with groups of thousands that stay on one line: 61230.5 is "61 230.5".

    decimals: zeros are added up to so many decimals. No digit is left out.
    """
    number = Decimal(number)
    whole, _, part = write_number(number.copy_abs()).partition(".")
    sign, part = "-" if number < 0 else "", part.ljust(decimals, "0")
    groups = f"{sign}{int(whole):,}".replace(",", reader.locale.group_mark)
    return groups + (f"{reader.locale.decimal_mark}{part}" if part else "")


def decimals_of(prices: Iterable[str | Decimal]) -> int:
    """Return the decimals of that price which has the most, without zeros at its end; 0 where there is no price."""
    return max((_decimals(Decimal(price)) for price in prices), default=0)


def format_prices(prices: Sequence[str | Decimal], *, reader: Reader = STANDARD) -> list[str]:
    """Return prices of one asset with the same number of decimals, so that a column of them aligns."""
    decimals = decimals_of(prices)
    return [format_number(price, decimals=decimals, reader=reader) for price in prices]


def _decimals(price: Decimal) -> int:
    return max(-int(price.normalize(WIDE).as_tuple().exponent), 0)


def format_percent(percent: str | Decimal, *, reader: Reader = STANDARD) -> str:
    """Return a percent without its sign, with two decimals at most, or two digits where these would be 0."""
    return f"{format_number(round_number(abs(Decimal(percent)), decimals=2), reader=reader)} %"


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
    """Return a number for programs, without exponent and without trailing zeros."""
    return f"{number.normalize(WIDE):f}"


def format_span(seconds: float, *, reader: Reader = STANDARD) -> str:
    """Return a span in the largest unit in which it is at least 2: "60 s", "58 min", "6 h"."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{_three_digits(seconds / size, reader)} {unit}"
    return f"{_three_digits(seconds, reader)} s"


def _three_digits(number: float, reader: Reader) -> str:
    return format_number(Decimal(f"{number:.3g}"), reader=reader)


def as_cell(text: str) -> str:
    """Return a text for a CSV file that a spreadsheet does not take for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
