"""The table of what happened to an alert: its events, and the silences over it."""

from typing import Any

from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html

from apps.alerts.models import Alert, AlertEvent
from apps.alerts.wording import describe_event_reason
from apps.notify.domain import describe_end
from apps.notify.models import Silence
from apps.notify.queries import silences_about
from apps.panel.kit.pages import Table, page_link
from apps.reader import active_reader, in_zone


def timeline_of(request: HttpRequest, alert: Alert) -> Table:
    """Return the events of an alert and the silences over it that this reader may see, in the order in which they came
    by the wall clock."""
    events = list(alert.events.select_related("entry__feed", "by").order_by("pk"))
    over = [one.created_at for one in events if one.kind == AlertEvent.Kind.RESOLVED]
    silences = silences_about(alert, seen_by=request.user, until=min([timezone.now(), *over]))
    rows = [(one.created_at, _event_cells(request, one)) for one in events]
    rows += [(at, [at, *_silence_cells(request, one, is_end=is_end)]) for at, one, is_end in silences]
    return Table(
        title="What happened",
        headers=[in_zone("at"), "event", "by", "why, or note", "entry of the log"],
        rows=[cells for _, cells in sorted(rows, key=lambda one: one[0])],
        empty="No events.",
    )


def _event_cells(request: HttpRequest, event: AlertEvent) -> list[Any]:
    why = describe_event_reason(event.reason, event.detail, event.correction, reader=active_reader())
    entry = page_link(request, event.entry, str(event.entry)) if event.entry is not None else ""
    return [event.at, event.get_kind_display(), str(event.by or ""), why, entry]


def _silence_cells(request: HttpRequest, silence: Silence, *, is_end: bool) -> list[Any]:
    link = page_link(request, silence, f"the silence “{silence.comment}”")
    if is_end:
        # Who ended it early is not kept.
        return ["silence over", "", link, ""]
    # Its first end is not kept either, where it was moved.
    has_ended = silence.ends_at is not None and silence.ends_at <= timezone.now()
    until = "" if has_ended else describe_end(silence.ends_at, reader=active_reader())
    return ["silenced", str(silence.author or ""), format_html("{}<div>{}</div>", link, until), ""]
