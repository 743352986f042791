"""Times in pages: in the reader's zone, with the time in UTC on hover."""

from datetime import datetime

from django import template
from django.utils.safestring import SafeString

from apps.zones import TO_MINUTES, TO_SECONDS, show_time, zone_name

register = template.Library()
register.simple_tag(zone_name)


@register.filter
def moment(at: datetime) -> SafeString:
    """Return a time to the second, with the name of the zone."""
    return show_time(at)


@register.filter
def minute(at: datetime) -> SafeString:
    """Return a time to the minute, with the name of the zone."""
    return show_time(at, TO_MINUTES)


@register.filter
def in_column(at: datetime) -> SafeString:
    """Return a time to the second; the page says elsewhere of which zone its times are."""
    return show_time(at, TO_SECONDS, with_zone=False)
