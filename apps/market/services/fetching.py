"""Providers asked for one slot of a feed, under a fenced lease, and their answers appended to its log."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.db import transaction
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils.functional import SimpleLazyObject

from apps.market import domain, partitions, queries
from apps.market.models import Batch, Feed, FeedHead, FeedSource
from apps.market.providers.protocol import (
    Answer,
    Limits,
    ProviderMisconfigured,
    ProviderRejected,
    ProviderUnavailable,
    QuoteRequest,
)
from apps.market.providers.registry import provider_named
from apps.market.services.log import (
    append_entry,
    append_history,
    append_quotes,
    cache_latest,
    is_live,
    lock_head,
    move_clock,
    not_stored,
    retention,
)

logger = logging.getLogger(__name__)

# Longer than a provider call may take (10 s). Who is slower than his lease is fenced off, so a short one costs no
# safety, and a fetcher that was killed holds up its feed no longer than this.
FETCH_LEASE = timedelta(seconds=30)
FETCH_AT_MOST_SECONDS = 15  # No further provider is asked after that: its answer might come after the lease.


@dataclass(frozen=True, slots=True)
class FetchLease:
    """The right to fetch one slot of one feed, until another takes it over; `fence` tells the two apart."""

    feed: Feed
    slot: datetime
    fence: int
    head: FeedHead


def take_fetch_lease(*, feed_id: int, slot: datetime) -> FetchLease | None:
    """Return the lease to fetch `slot`, or None where it is answered already, or somebody is fetching."""
    free = Q(lease_until=None) | Q(lease_until__lt=Now())
    taken = FeedHead.objects.filter(free, feed_id=feed_id, next_slot__lte=slot).update(
        fence=F("fence") + 1, lease_until=Now() + FETCH_LEASE
    )
    if not taken:
        return None
    head = FeedHead.objects.select_related("feed").get(feed_id=feed_id)
    return FetchLease(feed=head.feed, slot=slot, fence=head.fence, head=head)


def fetch(*, feed_id: int, slot: datetime, now: datetime, trace_id: str) -> Batch | None:
    """Ask the feed's providers for `slot` and append what they give to its log. None: answered already, or under way.

    A failure is an entry too, with its reason; the feed is due again later the longer it fails.
    """
    lease = take_fetch_lease(feed_id=feed_id, slot=slot)
    if lease is None:
        return None
    failure, retry_after = "no_provider", None
    assets = queries.asset_ids_by_external_id(lease.feed)
    asked: list[str] = []
    until = time.monotonic() + FETCH_AT_MOST_SECONDS
    for source in lease.feed.sources.all():
        if time.monotonic() > until:
            break
        asset_ids = assets[source.provider]
        asked.append(source.provider)
        try:
            provider = provider_named(source.provider)
            answer = provider.fetch(_request(lease, source, asset_ids, limits=provider.limits))
        except (ProviderUnavailable, ProviderRejected) as error:
            failure = error.reason
            retry_after = getattr(error, "retry_after_seconds", None)
        except ProviderMisconfigured:
            failure = "misconfigured"
        except Exception:
            # A provider is the world's edge: a fault in one must be counted and put off like any other failure of it.
            logger.exception("provider raised", extra={"feed": feed_id, "provider": source.provider})
            failure = "crashed"
        else:
            return record_answer(
                lease=lease,
                answer=answer,
                asset_ids=asset_ids,
                provider=source.provider,
                now=now,
                trace_id=trace_id,
                least_seconds=queries.seconds_between_rounds(asked),
            )
        logger.warning("provider failed", extra={"feed": feed_id, "provider": source.provider, "reason": failure})
    return record_failure(
        lease=lease,
        failure=failure,
        retry_after_seconds=retry_after,
        now=now,
        trace_id=trace_id,
        least_seconds=queries.seconds_between_rounds(asked),
    )


def _request(
    lease: FetchLease, source: FeedSource, asset_ids: Mapping[str, int], *, limits: Limits | None
) -> QuoteRequest:
    external_ids = sorted(asset_ids)
    if limits is not None:
        # Each entry of the log is a turn.
        external_ids = list(limits.round_of(external_ids, turn=lease.head.seq))

    def latest() -> dict[str, tuple[datetime, Decimal]]:
        known = queries.newest_stored(list(asset_ids.values()))
        return {external_id: known[asset_id] for external_id, asset_id in asset_ids.items() if asset_id in known}

    return QuoteRequest(
        external_ids=external_ids,
        slot=lease.slot,
        began_at=lease.head.began_at or lease.slot,
        position=lease.head.as_of if lease.head.began_at else None,
        # Few providers want it, and it is a row per asset.
        latest=SimpleLazyObject(latest),
        interval_seconds=lease.feed.interval_seconds,
        options=source.options,
    )


def record_answer(
    *,
    lease: FetchLease,
    answer: Answer,
    asset_ids: Mapping[str, int],
    provider: str,
    now: datetime,
    trace_id: str,
    least_seconds: int = 0,
) -> Batch | None:
    """Append an answer to the log: its history, if any, then its quotes. None when the lease was lost meanwhile.

    least_seconds: what the limits of those that were asked want until the next round.
    """
    bounds = {"asset_ids": asset_ids, "as_of": answer.as_of, "oldest_at": answer.as_of - retention()}
    admitted = domain.admit(answer.quotes, assumed_at=min(lease.slot, answer.as_of), **bounds)
    past = domain.admit(answer.history, assumed_at=answer.as_of, **bounds)
    partitions.ensure({quote.at.date() for quotes in (past.quotes, admitted.quotes) for quote in quotes})
    with transaction.atomic():
        head = lock_head(lease.feed.pk)
        if head.fence != lease.fence:
            return None
        columns = {"provider": provider, "now": now, "trace_id": trace_id}
        if past.quotes:
            move_clock(head, as_of=past.quotes[-1].at)
            fresh, rejected = not_stored(past)
            append_history(head, fresh, rejected=rejected, **columns)
        move_clock(head, as_of=answer.as_of)
        columns |= {"slot": lease.slot, "missed_slots": _missed_slots(head, lease)}
        batch, fresh = append_quotes(head, admitted, **columns)
        head.failures = 0
        head.began_at = head.began_at or lease.slot
        interval = _set_next_slot(head, slot=lease.slot, least_seconds=least_seconds)
        head.lease_until = head.hurried_until = None
        head.save()
    newest = {quote.asset_id: (quote.at, quote.price) for quote in fresh}
    if newest:
        cache_latest(head=head, newest=newest, interval_seconds=interval, now=now)
    return batch


def record_failure(
    *,
    lease: FetchLease,
    failure: str,
    retry_after_seconds: int | None,
    now: datetime,
    trace_id: str,
    least_seconds: int = 0,
) -> Batch | None:
    """Append a failed fetch, with its reason, and put the feed off. None when the lease was lost meanwhile.

    A live feed's clock goes on meanwhile; a recording's stands.
    """
    goes_on = is_live(lease.feed)
    with transaction.atomic():
        head = lock_head(lease.feed.pk)
        if head.fence != lease.fence:
            return None
        if goes_on:
            move_clock(head, as_of=now)
        columns = {"slot": lease.slot, "failure": failure, "missed_slots": _missed_slots(head, lease)}
        batch = append_entry(head, kind=Batch.Kind.QUOTES, now=now, trace_id=trace_id, **columns)
        head.failures += 1
        _set_next_slot(head, slot=lease.slot, retry_after_seconds=retry_after_seconds, least_seconds=least_seconds)
        head.lease_until = head.hurried_until = None
        head.save()
    return batch


def _set_next_slot(
    head: FeedHead, *, slot: datetime, retry_after_seconds: int | None = None, least_seconds: int = 0
) -> int:
    """Say when the feed is due after the answer for `slot`, and return the interval."""
    # As it is now, under the head's lock: it may have been changed since the lease was taken.
    interval = Feed.objects.values_list("interval_seconds", flat=True).get(pk=head.feed_id)
    head.next_slot = domain.next_slot_after(
        # Of a fetch out of its turn, the slot that it fell into.
        slot=domain.slot_of(at=slot, interval_seconds=interval),
        interval_seconds=interval,
        failures=head.failures,
        retry_after_seconds=retry_after_seconds,
        least_seconds=least_seconds,
    )
    return interval


def _missed_slots(head: FeedHead, lease: FetchLease) -> int:
    """Return how many slots passed without a fetch before this one."""
    if head.began_at is None:
        return 0
    return max((lease.slot - head.next_slot) // timedelta(seconds=lease.feed.interval_seconds), 0)
