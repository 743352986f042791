"""Times and dates in pages, by the reader's zone and locale. Times show UTC on hover."""

from datetime import date, datetime

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from apps.reader import TO_MINUTES, TO_SECONDS, active_reader, show_day, show_time, write_time, zone_name

register = template.Library()
register.simple_tag(zone_name)


@register.simple_tag
def reader_attributes() -> SafeString:
    """Return the attributes by which site/reader.js writes numbers and times for the reader."""
    locale = active_reader().locale
    return format_html(
        'data-zone="{}" data-decimal-mark="{}" data-group-mark="{}" data-date="{}" data-clock="{}"',
        *(zone_name(), locale.decimal_mark, locale.group_mark, locale.date, locale.clock),
    )


@register.filter
def moment(at: datetime) -> SafeString:
    """Return a time to the second, with the name of the zone."""
    return show_time(at)


@register.filter
def minute(at: datetime) -> SafeString:
    """Return a time to the minute, with the name of the zone."""
    return show_time(at, TO_MINUTES)


@register.filter
def minute_text(at: datetime) -> str:
    """Return the same without an element, for an attribute."""
    return write_time(at, TO_MINUTES)


@register.filter
def in_column(at: datetime) -> SafeString:
    """Return a time to the second; the page says elsewhere of which zone its times are."""
    return show_time(at, TO_SECONDS, with_zone=False)


@register.filter
def minute_in_column(at: datetime) -> str:
    """Return a time to the minute, on a page whose times are in UTC for everybody."""
    return write_time(at, TO_MINUTES, with_zone=False)


@register.filter
def day(at: date) -> str:
    """Return a date, or that of a datetime in UTC."""
    return show_day(at)
