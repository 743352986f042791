"""Feeds made, paused, claimed when they are due, dispatched when they are behind."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from django.db import transaction

from apps.leases import may_dispatch
from apps.market import queries
from apps.market.models import EvaluationCursor, Feed

EVALUATION_REDISPATCH_AFTER = timedelta(seconds=30)


def pause_feeds(feed_ids: Iterable[int]) -> int:
    """Fetch these feeds no more, and return how many that stopped. What is stored is still evaluated."""
    return Feed.objects.filter(pk__in=list(feed_ids), is_enabled=True).update(is_enabled=False)


def resume_feeds(feed_ids: Iterable[int]) -> int:
    """Fetch these feeds again, and return how many that started. Slots that passed meanwhile are counted as missed."""
    return Feed.objects.filter(pk__in=list(feed_ids), is_enabled=False).update(is_enabled=True)


def claim_feeds_behind(*, before: datetime, now: datetime) -> list[int]:
    """Return the feeds with an entry from before `before` that nobody has evaluated, and mark them as dispatched.

    What is being evaluated at this moment, or was dispatched lately, is passed over: a queue that nobody reads does not
    fill up.
    """
    return _claim(queries.feeds_behind(before=before, now=now), now=now)


def claim_feeds_pushed_to(*, now: datetime) -> list[int]:
    """Return the feeds with pushed quotes that nobody has evaluated, and mark them as dispatched.

    Who pushes by HTTP sends no message to the analyzer. Passed over is the same as where feeds are behind.
    """
    return _claim(queries.feeds_pushed_to(), now=now)


def _claim(feed_ids: Sequence[int], *, now: datetime) -> list[int]:
    if not feed_ids:
        return []
    with transaction.atomic():
        cursors = EvaluationCursor.objects.select_for_update(skip_locked=True, no_key=True)
        claimed = list(
            cursors.filter(may_dispatch(now=now, again_after=EVALUATION_REDISPATCH_AFTER), pk__in=feed_ids)
            .order_by("pk")
            .values_list("pk", flat=True)
        )
        EvaluationCursor.objects.filter(pk__in=claimed).update(redispatch_at=now + EVALUATION_REDISPATCH_AFTER)
    return claimed
