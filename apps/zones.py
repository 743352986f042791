"""Times in the zone of whoever reads a page: UTC where nobody has said otherwise.

The middleware of the site activates a signed-in reader's zone while a page is made; what is made for programs, and by
workers, is in UTC.
"""

from datetime import UTC, datetime

from django.utils import timezone
from django.utils.functional import lazy
from django.utils.html import format_html
from django.utils.safestring import SafeString

TO_SECONDS = "%Y-%m-%d %H:%M:%S"
TO_MINUTES = "%Y-%m-%d %H:%M"


def zone_name() -> str:
    """Return the name of the reader's zone: "UTC", "Europe/Kyiv"."""
    return timezone.get_current_timezone_name()


def in_zone(text: str) -> str:
    """Return a heading with the zone of its times, "at (UTC)", as a text that is made when a page shows it."""
    return _with_zone(text)


_with_zone = lazy(lambda text: f"{text} ({zone_name()})", str)


def write_time(moment: datetime, form: str = TO_SECONDS, *, with_zone: bool = True) -> str:
    """Return an aware time in the reader's zone, with what the zone is called then: "2026-07-02 14:00:00 CEST"."""
    local = timezone.localtime(moment)
    called = local.tzname() or ""
    # Zones without a name of their own are called by how far they are ahead: +03.
    named = f" {'UTC' if called[:1] in ('+', '-') else ''}{called}" if with_zone else ""
    return f"{local:{form}}{named}"


def show_time(moment: datetime, form: str = TO_SECONDS, *, with_zone: bool = True) -> SafeString:
    """Return the same as an element of a page, with the time in UTC on hover."""
    utc = moment.astimezone(UTC)
    return format_html(
        '<time datetime="{}" title="{} UTC">{}</time>',
        f"{utc:%Y-%m-%dT%H:%M:%SZ}",
        f"{utc:{TO_SECONDS}}",
        write_time(moment, form, with_zone=with_zone),
    )
