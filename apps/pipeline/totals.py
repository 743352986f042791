"""The counts that the evaluation of an entry adds to the totals of its feed's evaluation cursor."""

from collections.abc import Sequence
from datetime import datetime

from apps.alerts.models import AlertEvent
from apps.alerts.owned import totals_of_events
from apps.market.models import FeedEntry
from apps.totals import Totals, added, of_duration


def totals_of(entry: FeedEntry, events: Sequence[AlertEvent], *, now: datetime) -> Totals:
    """Return the totals of one evaluated entry with its events: how long its accepted quotes waited from their receipt
    to `now`, each counted once, and how long each alert took that it opened."""
    seconds = (now - entry.received_at).total_seconds()
    quotes = entry.accepted if entry.kind == FeedEntry.Kind.QUOTES else 0
    opened = sum(event.kind == AlertEvent.Kind.OPENED for event in events)
    return added(
        {f"evaluated:{entry.kind}": 1},
        of_duration("quote_seconds", seconds, count=quotes),
        of_duration("alert_seconds", seconds, count=opened),
        totals_of_events(events),
    )
