"""Feeds made, paused, claimed when they are due, hurried when they are behind."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Max, Q
from django.db.models.functions import Now

from apps.market import domain, queries
from apps.market.models import Batch, Feed, FeedHead, FeedSource, JudgePosition
from apps.market.services.log import lock_head

# Between claiming a due feed and taking its lease: a wake-up that is lost is sent again after this.
HURRY = timedelta(seconds=10)
JUDGE_HURRY = timedelta(seconds=30)


class FetchRefused(ValueError):
    """A feed cannot be asked out of its turn; the text is for people."""


def create_feed(
    *, name: str, interval_seconds: int, sources: Sequence[tuple[str, Mapping[str, Any]]], now: datetime, **columns: Any
) -> Feed:
    """Return a new feed with its head and judge's position, due at once.

    sources: (provider, options) in the order in which they are asked; columns: time_policy, jump_percent. Raises
    ValidationError.
    """
    feed = Feed(name=name, interval_seconds=interval_seconds, **columns)
    feed.full_clean()
    with transaction.atomic():
        feed.save()
        FeedHead.objects.create(feed=feed, next_slot=domain.slot_of(at=now, interval_seconds=interval_seconds))
        JudgePosition.objects.create(feed=feed)
        for position, (provider, options) in enumerate(sources, start=1):
            source = FeedSource(feed=feed, position=position, provider=provider, options=options)
            source.full_clean()
            source.save()
    return feed


def claim_due_feeds(*, now: datetime) -> list[tuple[int, datetime]]:
    """Mark the feeds that are due as hurried and return (feed id, slot) for each; who runs beside it gets the
    others."""
    due = Q(feed__is_enabled=True, next_slot__lte=now) & (Q(hurried_until=None) | Q(hurried_until__lt=now))
    with transaction.atomic():
        heads = FeedHead.objects.select_for_update(skip_locked=True, no_key=True, of=("self",)).select_related("feed")
        claimed = list(heads.filter(due).order_by("feed_id"))
        FeedHead.objects.filter(pk__in=[head.pk for head in claimed]).update(hurried_until=now + HURRY)
    return [(head.feed_id, _due_slot(head, now=now)) for head in claimed]


def _due_slot(head: FeedHead, *, now: datetime) -> datetime:
    # A feed that was asked for out of its turn is due between two slots, and the time it is due is its slot.
    return max(domain.slot_of(at=now, interval_seconds=head.feed.interval_seconds), head.next_slot)


def fetch_now(*, feed_id: int, now: datetime) -> datetime:
    """Make a feed due at once, out of its turn, and return since when it is: the next tick starts its fetch.

    The time itself becomes the slot; afterwards the feed is due at its usual slots again. Asked for twice, it is due
    once. Raises FetchRefused: paused, under way, asked this second.
    """
    wanted = now.replace(microsecond=0)
    with transaction.atomic():
        head = lock_head(feed_id)
        feed = Feed.objects.get(pk=feed_id)
        if not feed.is_enabled:
            raise FetchRefused(f"{feed} is paused. Resume it first.")
        # The lease is measured by the database's clock, as where it is taken.
        if FeedHead.objects.filter(pk=feed_id, lease_until__gt=Now()).exists():
            raise FetchRefused(f"{feed} is being fetched at this moment.")
        if head.next_slot <= wanted:
            # Perhaps it is put off, since its last call ended with its worker.
            FeedHead.objects.filter(pk=feed_id, hurried_until__gt=now + HURRY).update(hurried_until=None)
            return head.next_slot
        if Batch.objects.filter(feed=feed_id, slot__gte=wanted).exists():
            raise FetchRefused(f"{feed} was fetched this second, or its log is ahead of this machine's clock.")
        FeedHead.objects.filter(pk=feed_id).update(next_slot=wanted, hurried_until=None)
    return wanted


def pause_feeds(feed_ids: Iterable[int]) -> int:
    """Fetch these feeds no more, and return how many that stopped. What is stored is still judged."""
    return Feed.objects.filter(pk__in=list(feed_ids), is_enabled=True).update(is_enabled=False)


def resume_feeds(feed_ids: Iterable[int]) -> int:
    """Fetch these feeds again, and return how many that started. Slots that passed meanwhile are counted as missed."""
    return Feed.objects.filter(pk__in=list(feed_ids), is_enabled=False).update(is_enabled=True)


def change_interval(*, feed_id: int, interval_seconds: int, now: datetime) -> None:
    """Ask a feed at another interval from now on, not only after the slot that was next. Raises ValidationError.

    A feed that is due stays due. One that fails keeps the wait that it has, where that is the longer.
    """
    with transaction.atomic():
        head = lock_head(feed_id)
        feed = Feed.objects.get(pk=feed_id)
        feed.interval_seconds = interval_seconds
        feed.full_clean()
        feed.save(update_fields=["interval_seconds"])
        if head.next_slot <= now:
            return
        due = domain.slot_of(at=now, interval_seconds=interval_seconds)
        newest = Batch.objects.filter(feed=feed_id).aggregate(slot=Max("slot"))["slot"]
        if newest is not None:
            asked = feed.sources.values_list("provider", flat=True)[:1]
            next_due = domain.next_slot_after(
                slot=domain.slot_of(at=newest, interval_seconds=interval_seconds),
                interval_seconds=interval_seconds,
                failures=0,
                least_seconds=queries.seconds_between_rounds(asked),
            )
            due = max(due, next_due)
        head.next_slot = max(due, head.next_slot) if head.failures else due
        head.save(update_fields=["next_slot"])


def claim_feeds_behind(*, before: datetime, now: datetime) -> list[int]:
    """Return the feeds with an entry from before `before` that nobody has judged, and mark them as hurried.

    What is being judged at this moment, or was hurried lately, is passed over: a queue that nobody reads does not
    fill up.
    """
    return _hurried(queries.feeds_behind(before=before), now=now)


def claim_feeds_pushed_to(*, now: datetime) -> list[int]:
    """Return the feeds with pushed quotes that nobody has judged, and mark them as hurried.

    Who pushes by HTTP sends no message to the judge. Passed over is the same as where feeds are behind.
    """
    return _hurried(queries.feeds_pushed_to(), now=now)


def _hurried(feed_ids: Sequence[int], *, now: datetime) -> list[int]:
    if not feed_ids:
        return []
    idle = Q(hurried_until=None) | Q(hurried_until__lt=now)
    with transaction.atomic():
        positions = JudgePosition.objects.select_for_update(skip_locked=True, no_key=True)
        claimed = list(positions.filter(idle, pk__in=feed_ids).order_by("pk").values_list("pk", flat=True))
        JudgePosition.objects.filter(pk__in=claimed).update(hurried_until=now + JUDGE_HURRY)
    return claimed
