"""The reader of a page, for whose time zone and locale numbers and times are written.

The middleware of the site activates what a signed-in reader has chosen while a page is made. Answers to programs are in
UTC and in the default locale. Workers write the texts of messages for the channel's owner, whom they name.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, date, datetime
from decimal import Decimal

from django.utils import timezone
from django.utils.functional import lazy
from django.utils.html import format_html
from django.utils.safestring import SafeString

from apps.locales import STANDARD, Locale, Reader
from apps.wording import (
    TO_SECONDS,
    format_day,
    format_moment,
    format_number,
    format_percent,
    format_prices,
    format_span,
)

TO_MINUTES = "%x %R"
_locale: ContextVar[Locale] = ContextVar("locale", default=STANDARD.locale)


def active_reader() -> Reader:
    """Return for whom the page is made. Django's own `timezone` has the zone, by which forms read times."""
    return Reader(timezone.get_current_timezone(), _locale.get())


@contextmanager
def nobody_in_particular() -> Iterator[None]:
    """Write for the standard reader; whatever is activated within ends with it."""
    before = _locale.set(STANDARD.locale)
    try:
        with timezone.override(None):
            yield
    finally:
        _locale.reset(before)


def activate(reader: Reader) -> None:
    """Write for this reader from here on. The caller is within `nobody_in_particular`."""
    _locale.set(reader.locale)
    timezone.activate(reader.zone)


def zone_name() -> str:
    """Return the name of the reader's zone: "UTC", "Europe/Kyiv"."""
    return timezone.get_current_timezone_name()


def in_zone(text: str) -> str:
    """Return a heading with the zone of its times, "at (UTC)". It is lazy: the zone is that of whoever is shown it."""
    return _with_zone(text)


def in_own_zone(text: str) -> str:
    """Return a sentence that ends with the zone of the reader's profile, as lazy as `in_zone`: "{text} in the time zone
    of your profile, Europe/Kyiv."."""
    return _with_own_zone(text)


_with_zone = lazy(lambda text: f"{text} ({zone_name()})", str)
_with_own_zone = lazy(lambda text: f"{text} in the time zone of your profile, {zone_name()}.", str)


def write_time(moment: datetime, form: str = TO_SECONDS, *, with_zone: bool = True) -> str:
    """Return an aware time in the reader's zone, with the abbreviation of the zone: "2026-07-02 14:00:00 CEST".

    form: as `format_moment` has it.
    """
    reader = active_reader()
    if with_zone:
        return format_moment(moment, form, reader=reader)
    return f"{moment.astimezone(reader.zone):{reader.locale.form(form)}}"


def show_time(moment: datetime, form: str = TO_SECONDS, *, with_zone: bool = True) -> SafeString:
    """Return the text of `write_time` as an HTML element that shows the time in UTC on hover."""
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        format_moment(moment, reader=Reader(UTC, active_reader().locale)),
        write_time(moment, form, with_zone=with_zone),
    )


def show_day(day: date) -> str:
    """Return a date, or that of a datetime as it is, as the reader writes it."""
    return format_day(day, reader=active_reader())


def show_number(number: str | int | Decimal, *, decimals: int = 0) -> str:
    """Return a number as `format_number` does, for the reader."""
    return format_number(number, decimals=decimals, reader=active_reader())


def show_prices(prices: Sequence[str | Decimal]) -> list[str]:
    """Return prices as `format_prices` does, for the reader."""
    return format_prices(prices, reader=active_reader())


def show_percent(percent: str | Decimal) -> str:
    """Return a percent as `format_percent` does, for the reader."""
    return format_percent(percent, reader=active_reader())


def show_span(seconds: float) -> str:
    """Return a span as `format_span` does, for the reader."""
    return format_span(seconds, reader=active_reader())
