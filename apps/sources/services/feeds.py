"""Feeds created, claimed when they are due, and fetched out of turn."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Max, Q

from apps.leases import CLOCKS_DIFFER_AT_MOST, IS_LEASED, may_dispatch
from apps.market import domain as market_domain
from apps.market.derived.models import DerivedFeed
from apps.market.models import EvaluationCursor, Feed, FeedEntry, FeedHead
from apps.market.services.log import lock_head
from apps.sources import domain, queries
from apps.sources.models import Circuit, FeedSource
from apps.sources.providers.registry import PROVIDERS
from apps.sources.services.circuits import let_through

# Between claiming a due feed and taking its lease: a wake-up that is lost is sent again after this.
REDISPATCH_AFTER = timedelta(seconds=10)


class FetchRefused(ValueError):
    """A feed cannot be asked out of its turn; the text is for people."""


def create_feed(
    *, name: str, interval_seconds: int, sources: Sequence[tuple[str, Mapping[str, Any]]], now: datetime, **columns: Any
) -> Feed:
    """Return a new feed with its head and evaluation cursor, due at once.

    sources: (provider, options) in the order in which they are asked; columns: time_policy, jump_percent,
    switch_step_percent, silent_after_seconds. Raises ValidationError.
    """
    feed = Feed(name=name, interval_seconds=interval_seconds, **columns)
    feed.full_clean()
    with transaction.atomic():
        feed.save()
        FeedHead.objects.create(feed=feed, next_slot=market_domain.slot_of(at=now, interval_seconds=interval_seconds))
        EvaluationCursor.objects.create(feed=feed)
        for position, (provider, options) in enumerate(sources, start=1):
            source = FeedSource(feed=feed, position=position, provider=provider, options=options)
            source.full_clean()
            source.save()
        set_is_live(feed)
    return feed


def set_is_live(feed: Feed) -> None:
    """Note whether the clock of a feed is that of this machine. Call it in the transaction that changes its sources."""
    known = [PROVIDERS[source.provider] for source in feed.sources.all() if source.provider in PROVIDERS]
    feed.is_live = bool(known) and all(provider.is_live for provider in known)
    Feed.objects.filter(pk=feed.pk).update(is_live=feed.is_live)


def claim_due_feeds(*, now: datetime) -> list[tuple[int, datetime]]:
    """Mark the feeds that are due as dispatched and return (feed id, slot) for each; who runs beside it gets the
    others. Feeds that were fetched before the clock was set back keep the rest of their wait."""
    is_ahead = Q(last_slot__gt=now + CLOCKS_DIFFER_AT_MOST)
    due = Q(next_slot__lte=now) & may_dispatch(now=now)
    with transaction.atomic():
        heads = FeedHead.objects.select_for_update(skip_locked=True, no_key=True, of=("self",)).select_related("feed")
        claimed = list(heads.filter(due | is_ahead, feed__is_enabled=True).order_by("feed_id"))
        for head in claimed:
            if head.last_slot is not None and head.last_slot > now + CLOCKS_DIFFER_AT_MOST:
                _set_back(head, now=now)
        claimed = [head for head in claimed if head.next_slot <= now]
        FeedHead.objects.filter(pk__in=[head.pk for head in claimed]).update(redispatch_at=now + REDISPATCH_AFTER)
    return [(head.feed_id, _due_slot(head, now=now)) for head in claimed]


def _set_back(head: FeedHead, *, now: datetime) -> None:
    """Set the feed's schedule back with the clock. What the log has stays."""
    slot = market_domain.slot_of(at=now, interval_seconds=head.feed.interval_seconds)
    ahead = head.last_slot - slot
    head.relived_until = max(head.last_slot, head.relived_until or head.last_slot)
    head.last_slot, head.next_slot, head.redispatch_at = slot, head.next_slot - ahead, None
    # A recording goes on where it was.
    head.began_at = head.began_at - ahead if head.began_at else None
    head.save(update_fields=["relived_until", "last_slot", "next_slot", "redispatch_at", "began_at"])


def _due_slot(head: FeedHead, *, now: datetime) -> datetime:
    # A feed that was asked for out of its turn is due between two slots, and the time it is due is its slot.
    return max(market_domain.slot_of(at=now, interval_seconds=head.feed.interval_seconds), head.next_slot)


def fetch_now(*, feed_id: int, now: datetime, is_sure: bool = False) -> datetime:
    """Make a feed due at once, out of its turn, and return since when it is: the next tick starts its fetch.

    The time itself becomes the slot; afterwards the feed is due at its usual slots again. Asked for twice, it is due
    once. is_sure: also where all of its providers are left alone; then the first of them is asked once. Raises
    FetchRefused: paused, under way, asked this second, left alone.
    """
    wanted = now.replace(microsecond=0)
    with transaction.atomic():
        head = lock_head(feed_id)
        feed = Feed.objects.get(pk=feed_id)
        if DerivedFeed.objects.filter(pk=feed_id).exists():
            raise FetchRefused(f"{feed} is made of other feeds. Fetch these instead.")
        if not feed.is_enabled:
            raise FetchRefused(f"{feed} is paused. Resume it first.")
        circuits = queries.left_alone(feed, now=now)
        if queries.is_all_left_alone(feed, circuits):
            if not is_sure:
                raise FetchRefused(f"{feed} was not asked: {describe_left_alone(circuits)}.")
            let_through(feed=feed, circuit=circuits[0])
        # The lease is measured by the database's clock, as where it is taken.
        if FeedHead.objects.filter(IS_LEASED, pk=feed_id).exists():
            raise FetchRefused(f"{feed} is being fetched at this moment.")
        if head.next_slot <= wanted:
            # Perhaps it is put off, since its last call ended with its worker.
            FeedHead.objects.filter(pk=feed_id, redispatch_at__gt=now + REDISPATCH_AFTER).update(redispatch_at=None)
            return head.next_slot
        if FeedEntry.objects.filter(feed=feed_id, slot__gte=wanted).exists():
            raise FetchRefused(f"{feed} was fetched this second, or its log is ahead of this machine's clock.")
        FeedHead.objects.filter(pk=feed_id).update(next_slot=wanted, redispatch_at=None)
    return wanted


def describe_left_alone(circuits: Iterable[Circuit]) -> str:
    """Return until when open circuits keep their providers from being asked, and why."""
    said = [
        f"{one.provider} is left alone until {one.open_until:%Y-%m-%d %H:%M:%S} UTC ({one.reason})" for one in circuits
    ]
    return ", ".join(said)


def change_interval(*, feed_id: int, interval_seconds: int, now: datetime, **columns: Any) -> None:
    """Ask a feed at another interval from now on, not only after the slot that was next. Raises ValidationError.

    columns: those that are set with it, since they have to fit.
    A feed that is due stays due. One that fails keeps the wait that it has, where that is the longer.
    """
    with transaction.atomic():
        head = lock_head(feed_id)
        feed = Feed.objects.get(pk=feed_id)
        columns["interval_seconds"] = interval_seconds
        if interval_seconds != feed.interval_seconds:
            columns["interval_changed_at"] = now
        for name, value in columns.items():
            setattr(feed, name, value)
        feed.full_clean()
        feed.save(update_fields=list(columns))
        if head.next_slot <= now:
            return
        due = market_domain.slot_of(at=now, interval_seconds=interval_seconds)
        newest = FeedEntry.objects.filter(feed=feed_id, slot__lte=now).aggregate(slot=Max("slot"))["slot"]
        if newest is not None:
            asked = feed.sources.values_list("provider", flat=True)[:1]
            next_due = domain.next_slot_after(
                slot=market_domain.slot_of(at=newest, interval_seconds=interval_seconds),
                interval_seconds=interval_seconds,
                failures=0,
                least_seconds=queries.seconds_between_rounds(asked),
            )
            due = max(due, next_due)
        head.next_slot = max(due, head.next_slot) if head.failures else due
        head.save(update_fields=["next_slot"])
