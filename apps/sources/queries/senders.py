"""Reads of senders' clocks."""

from datetime import datetime, timedelta

from django.db.models import Q

from apps.market.models import Feed
from apps.sources.models import SenderClock

SHOWN_FOR = timedelta(hours=24)


def senders_ahead(feed: Feed, *, now: datetime) -> list[SenderClock]:
    """Return the clocks of a feed's senders that were ahead in the last day, by sender."""
    lately = Q(ahead_at__gt=now - SHOWN_FOR) | Q(refused_at__gt=now - SHOWN_FOR)
    return list(SenderClock.objects.filter(lately, feed=feed).order_by("sender"))
