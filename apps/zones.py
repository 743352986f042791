"""Times in the reader's zone: that of their profile, else UTC.

The middleware of the site activates a signed-in reader's zone while a page is made. Answers to programs are in UTC.
Workers write the texts of messages in the zone of the channel's owner, which they name: `apps.wording.format_moment`.
"""

from datetime import UTC, datetime

from django.utils import timezone
from django.utils.functional import lazy
from django.utils.html import format_html
from django.utils.safestring import SafeString

from apps.wording import TO_SECONDS, format_moment

TO_MINUTES = "%Y-%m-%d %H:%M"


def zone_name() -> str:
    """Return the name of the reader's zone: "UTC", "Europe/Kyiv"."""
    return timezone.get_current_timezone_name()


def in_zone(text: str) -> str:
    """Return a heading with the zone of its times, "at (UTC)". It is lazy: the zone is that of whoever is shown it."""
    return _with_zone(text)


_with_zone = lazy(lambda text: f"{text} ({zone_name()})", str)


def write_time(moment: datetime, form: str = TO_SECONDS, *, with_zone: bool = True) -> str:
    """Return an aware time in the reader's zone, with the abbreviation of the zone: "2026-07-02 14:00:00 CEST"."""
    zone = timezone.get_current_timezone()
    return format_moment(moment, form, zone=zone) if with_zone else f"{moment.astimezone(zone):{form}}"


def show_time(moment: datetime, form: str = TO_SECONDS, *, with_zone: bool = True) -> SafeString:
    """Return the text of `write_time` as an HTML element that shows the time in UTC on hover."""
    utc = moment.astimezone(UTC)
    return format_html(
        '<time datetime="{}" title="{} UTC">{}</time>',
        f"{utc:%Y-%m-%dT%H:%M:%SZ}",
        f"{utc:{TO_SECONDS}}",
        write_time(moment, form, with_zone=with_zone),
    )
