"""Changes to the market's rows: feeds made, claimed and answered; entries appended to a feed's log; old quotes
dropped."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Max, Q
from django.db.models.functions import Now
from django.utils.functional import SimpleLazyObject
from psycopg.errors import CheckViolation

from apps.market import cache, domain, partitions, queries
from apps.market.domain import AdmittedQuote, RawQuote
from apps.market.models import Batch, Feed, FeedHead, FeedSource, JudgePosition, Quote
from apps.market.providers.protocol import (
    Answer,
    Limits,
    ProviderMisconfigured,
    ProviderRejected,
    ProviderUnavailable,
    QuoteRequest,
)
from apps.market.providers.registry import PROVIDERS, provider_named

logger = logging.getLogger(__name__)

_NULL = r"\N"  # as COPY's text format writes it
# Between claiming a due feed and taking its lease: a wake-up that is lost is sent again after this.
HURRY = timedelta(seconds=10)
JUDGE_HURRY = timedelta(seconds=30)
# Longer than a provider call may take (10 s). Who is slower than his lease is fenced off, so a short one costs no
# safety, and a fetcher that was killed holds up its feed no longer than this.
FETCH_LEASE = timedelta(seconds=30)
FETCH_AT_MOST_SECONDS = 15  # No further provider is asked after that: its answer might come after the lease.


# One entry of an import. Its transaction holds the head's lock, so that long a fetch of the feed may have to wait.
IMPORT_ROWS = 10_000
IMPORTED = "import"


class FetchRefused(ValueError):
    """A feed cannot be asked out of its turn; the text is for people."""


@dataclass(slots=True)
class Imported:
    """What an import came to: quotes stored, quotes rejected by reason, entries of the log."""

    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    entries: int = 0


@dataclass(frozen=True, slots=True)
class FetchLease:
    """The right to fetch one slot of one feed, until another takes it over; `fence` tells the two apart."""

    feed: Feed
    slot: datetime
    fence: int
    head: FeedHead


def create_feed(
    *, name: str, interval_seconds: int, sources: Sequence[tuple[str, Mapping[str, Any]]], now: datetime
) -> Feed:
    """Return a new feed with its head and judge's position, due at once.

    sources: (provider, options) in the order in which they are asked. Raises ValidationError.
    """
    feed = Feed(name=name, interval_seconds=interval_seconds)
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
        head = _lock_head(feed_id)
        feed = Feed.objects.get(pk=feed_id)
        if not feed.is_enabled:
            raise FetchRefused(f"{feed} is paused. Resume it first.")
        # The lease is measured by the database's clock, as where it is taken.
        if FeedHead.objects.filter(pk=feed_id, lease_until__gt=Now()).exists():
            raise FetchRefused(f"{feed} is being fetched at this moment.")
        if head.next_slot <= wanted:
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
        head = _lock_head(feed_id)
        feed = Feed.objects.get(pk=feed_id)
        feed.interval_seconds = interval_seconds
        feed.full_clean()
        feed.save(update_fields=["interval_seconds"])
        if head.next_slot <= now:
            return
        due = domain.slot_of(at=now, interval_seconds=interval_seconds)
        newest = Batch.objects.filter(feed=feed_id, slot__gte=due).aggregate(slot=Max("slot"))["slot"]
        if newest is not None:
            answered = domain.slot_of(at=newest, interval_seconds=interval_seconds)
            asked = feed.sources.values_list("provider", flat=True)[:1]
            due = domain.next_slot_after(
                slot=answered,
                interval_seconds=interval_seconds,
                failures=0,
                least_seconds=queries.seconds_between_rounds(asked),
            )
        head.next_slot = max(due, head.next_slot) if head.failures else due
        head.save(update_fields=["next_slot"])


def claim_feeds_behind(*, before: datetime, now: datetime) -> list[int]:
    """Return the feeds with an entry from before `before` that nobody has judged, and mark them as hurried.

    What is being judged at this moment, or was hurried lately, is passed over: a queue that nobody reads does not
    fill up.
    """
    behind = queries.feeds_behind(before=before)
    idle = Q(hurried_until=None) | Q(hurried_until__lt=now)
    with transaction.atomic():
        positions = JudgePosition.objects.select_for_update(skip_locked=True, no_key=True).filter(idle, pk__in=behind)
        claimed = list(positions.order_by("pk").values_list("pk", flat=True))
        JudgePosition.objects.filter(pk__in=claimed).update(hurried_until=now + JUDGE_HURRY)
    return claimed


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
    bounds = {"asset_ids": asset_ids, "as_of": answer.as_of, "oldest_at": answer.as_of - _retention()}
    admitted = domain.admit(answer.quotes, assumed_at=min(lease.slot, answer.as_of), **bounds)
    past = domain.admit(answer.history, assumed_at=answer.as_of, **bounds)
    partitions.ensure({quote.at.date() for quotes in (past.quotes, admitted.quotes) for quote in quotes})
    with transaction.atomic():
        head = _lock_head(lease.feed.pk)
        if head.fence != lease.fence:
            return None
        columns = {"provider": provider, "now": now, "trace_id": trace_id}
        if past.quotes:
            _move_clock(head, as_of=past.quotes[-1].at)
            fresh, rejected = _not_stored(past)
            _append_history(head, fresh, rejected=rejected, **columns)
        _move_clock(head, as_of=answer.as_of)
        columns |= {"slot": lease.slot, "missed_slots": _missed_slots(head, lease)}
        batch, fresh = _append_quotes(head, admitted, **columns)
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
    is_live = _is_live(lease.feed)
    with transaction.atomic():
        head = _lock_head(lease.feed.pk)
        if head.fence != lease.fence:
            return None
        if is_live:
            _move_clock(head, as_of=now)
        columns = {"slot": lease.slot, "failure": failure, "missed_slots": _missed_slots(head, lease)}
        batch = _append(head, kind=Batch.Kind.QUOTES, now=now, trace_id=trace_id, **columns)
        head.failures += 1
        _set_next_slot(head, slot=lease.slot, retry_after_seconds=retry_after_seconds, least_seconds=least_seconds)
        head.lease_until = head.hurried_until = None
        head.save()
    return batch


def import_history(
    *,
    feed_id: int,
    quotes: Iterable[RawQuote],
    now: datetime,
    trace_id: str,
    progress: Callable[[int], None] = lambda rows: None,
) -> Imported:
    """Append quotes by the symbols of the feed's assets to its log as history: windows see them and rules do not.

    Each piece of IMPORT_ROWS is a transaction and an entry, and what stands there already is counted and left: whoever
    was stopped begins again. progress is told the rows read so far.
    """
    feed = Feed.objects.get(pk=feed_id)
    asset_ids = {symbol: pk for pk, symbol in feed.assets.values_list("pk", "symbol")}
    imported = Imported()
    rows = iter(quotes)
    read = 0
    while piece := list(islice(rows, IMPORT_ROWS)):
        clock = FeedHead.objects.values_list("as_of", flat=True).get(feed_id=feed_id)
        # A live feed may have stood still; a film's clock is the film's.
        as_of = max(clock or now, now) if _is_live(feed) else clock or now
        bounds = {"asset_ids": asset_ids, "as_of": as_of, "oldest_at": as_of - _retention()}
        past = domain.admit(piece, assumed_at=as_of, **bounds)
        partitions.ensure({quote.at.date() for quote in past.quotes})
        with transaction.atomic():
            head = _lock_head(feed_id)
            fresh, rejected = _not_stored(past)
            if fresh:
                _move_clock(head, as_of=fresh[-1].at)
                _append_history(head, fresh, rejected=rejected, provider=IMPORTED, now=now, trace_id=trace_id)
                head.save(update_fields=["seq", "as_of"])
        if fresh:
            newest = {quote.asset_id: (quote.at, quote.price) for quote in fresh}
            cache_latest(head=head, newest=newest, interval_seconds=feed.interval_seconds, now=now)
        imported.entries += bool(fresh)
        imported.accepted += len(fresh)
        imported.rejected += rejected
        read += len(piece)
        progress(read)
    return imported


def append_rules_entry(*, feed_id: int, now: datetime, trace_id: str) -> Batch:
    """Append the place at which a change of rules takes effect, in the caller's transaction, and return it.

    It does not move the log's clock, which for a recording is the film's time.
    """
    head = _lock_head(feed_id)
    batch = _append(head, kind=Batch.Kind.RULES, now=now, trace_id=trace_id)
    head.save(update_fields=["seq"])
    return batch


def _is_live(feed: Feed) -> bool:
    """Its clock is that of this machine."""
    known = [PROVIDERS[source.provider] for source in feed.sources.all() if source.provider in PROVIDERS]
    return bool(known) and all(provider.is_live for provider in known)


def _lock_head(feed_id: int) -> FeedHead:
    return FeedHead.objects.select_for_update(no_key=True).get(feed_id=feed_id)


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


def _move_clock(head: FeedHead, *, as_of: datetime) -> None:
    """Move the log's clock on; it does not go back, whatever a provider or this machine says."""
    head.as_of = max(as_of, head.as_of) if head.as_of else as_of


def _missed_slots(head: FeedHead, lease: FetchLease) -> int:
    """Return how many slots passed without a fetch before this one."""
    if head.began_at is None:
        return 0
    return max((lease.slot - head.next_slot) // timedelta(seconds=lease.feed.interval_seconds), 0)


def _append(head: FeedHead, *, kind: str, now: datetime, **columns: Any) -> Batch:
    """Number and store one entry; the caller holds the head's lock and saves it."""
    head.seq += 1
    as_of = head.as_of or now
    return Batch.objects.create(feed_id=head.feed_id, seq=head.seq, kind=kind, as_of=as_of, received_at=now, **columns)


def _append_quotes(head: FeedHead, admitted: domain.Admission, **columns: Any) -> tuple[Batch, list[AdmittedQuote]]:
    """Append one answer's quotes, and return the entry with those that are new and not late."""
    placement = domain.place(
        admitted.quotes,
        newest=queries.newest_times(head.feed_id),
        stored_prices=queries.stored_prices,
    )
    batch = _append(
        head,
        kind=Batch.Kind.QUOTES,
        accepted=len(placement.fresh),
        late=len(placement.late),
        rejected=dict(admitted.rejected + placement.rejected),
        first_at=min((quotes[0].at for quotes in (placement.fresh, placement.late) if quotes), default=None),
        last_at=max((quotes[-1].at for quotes in (placement.fresh, placement.late) if quotes), default=None),
        **columns,
    )
    store_quotes(batch=batch, quotes=placement.fresh)
    store_quotes(batch=batch, quotes=placement.late, late=True)
    _advance_latest(batch)
    return batch, placement.fresh


def _not_stored(past: domain.Admission) -> tuple[list[AdmittedQuote], Counter[str]]:
    """Return the quotes that are not stored yet, and the rejected by reason. What is stored already stands."""
    stored = queries.stored_prices(past.quotes)
    fresh, rejected = [], Counter(past.rejected)
    for quote in past.quotes:
        price = stored.get((quote.asset_id, quote.at))
        if price is None:
            fresh.append(quote)
        else:
            rejected["duplicate" if price == quote.price else "conflict"] += 1
    return fresh, rejected


def _append_history(
    head: FeedHead, fresh: Sequence[AdmittedQuote], *, rejected: Mapping[str, int], **columns: Any
) -> None:
    """Append a piece of history: quotes that windows see and nobody judges."""
    batch = _append(
        head,
        kind=Batch.Kind.HISTORY,
        accepted=len(fresh),
        rejected=dict(rejected),
        first_at=fresh[0].at if fresh else None,
        last_at=fresh[-1].at if fresh else None,
        **columns,
    )
    store_quotes(batch=batch, quotes=fresh)
    _advance_latest(batch)


def store_quotes(*, batch: Batch, quotes: Sequence[AdmittedQuote], late: bool = False) -> None:
    """Write quotes that are not stored yet: by COPY on PostgreSQL, in bulk elsewhere. Their partitions are there."""
    if not quotes:
        return
    if connection.vendor != "postgresql":
        rows = (
            Quote(asset_id=one.asset_id, at=one.at, price=one.price, volume=one.volume, batch=batch, late=late)
            for one in quotes
        )
        Quote.objects.bulk_create(rows, batch_size=500)
        return
    columns = "asset_id, at, price, volume, batch_id, late"
    batch_id, flag = batch.pk, "t" if late else "f"
    # Text rows by hand: every value is a number or a time of our own, so nothing needs escaping.
    rows = [
        f"{one.asset_id}\t{one.at}\t{one.price}\t{_NULL if one.volume is None else one.volume}\t{batch_id}\t{flag}\n"
        for one in quotes
    ]
    try:
        with connection.cursor() as cursor, cursor.copy(f"COPY market_quote ({columns}) FROM STDIN") as copy:
            copy.write("".join(rows))
    except CheckViolation:
        # Another process has dropped a day that this one knows to be there; the feed's next attempt makes it anew.
        partitions.forget()
        raise


# SQLite takes the other columns from the row that has the maximum.
_NEWEST_OF_BATCH = {
    "postgresql": "SELECT DISTINCT ON (asset_id) asset_id, at, price, %s {rows} ORDER BY asset_id, at DESC",
    "sqlite": "SELECT asset_id, max(at), price, %s {rows} GROUP BY asset_id",
}


def _advance_latest(batch: Batch) -> None:
    """Move the newest quote of each asset on to what is newer in this batch, without a row leaving the database."""
    rows = "FROM market_quote WHERE batch_id = %s AND NOT late AND at BETWEEN %s AND %s"
    newest = _NEWEST_OF_BATCH[connection.vendor].format(rows=rows)
    # SQLite's driver would write an aware time in another form than Django does, and compare the two as text.
    bounds = [connection.ops.adapt_datetimefield_value(bound) for bound in (batch.first_at, batch.last_at)]
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO market_latestquote (asset_id, at, price, provider) {newest} "
            "ON CONFLICT (asset_id) DO UPDATE SET at = excluded.at, price = excluded.price, "
            "provider = excluded.provider WHERE market_latestquote.at < excluded.at",
            [batch.provider, batch.pk, *bounds],
        )


def cache_latest(
    *, head: FeedHead, newest: Mapping[int, tuple[datetime, Decimal]], interval_seconds: int, now: datetime
) -> None:
    """Put asset id -> (at, price) into the cache; where that fails, leave word for `sweep`."""
    rows = [(asset_id, at, price) for asset_id, (at, price) in newest.items()]
    if not cache.put_latest(rows, seconds_to_live=2 * interval_seconds, now=now):
        FeedHead.objects.filter(pk=head.pk).update(is_cache_stale=True)


def redo_cache_writes(*, now: datetime) -> int:
    """Write again what could not be written to the cache, and return how many feeds that were."""
    heads = list(FeedHead.objects.filter(is_cache_stale=True).select_related("feed"))
    for head in heads:
        # Before the rows are read: what fails from now on leaves word again. A later answer's success does not clear
        # it, for that answer may hold other assets.
        FeedHead.objects.filter(pk=head.pk).update(is_cache_stale=False)
        newest = queries.newest_stored(list(head.feed.assets.values_list("pk", flat=True)))
        cache_latest(head=head, newest=newest, interval_seconds=head.feed.interval_seconds, now=now)
    return len(heads)


def _retention() -> timedelta:
    return timedelta(days=settings.QUOTE_RETENTION_DAYS)


def prune_quotes() -> list[date]:
    """Drop the days of raw quotes that every feed has left behind for longer than they are kept, by its own clock.

    Returns the days. LatestQuote keeps the newest price of each asset.
    """
    kept = _retention()
    clocks = [as_of for as_of in FeedHead.objects.values_list("as_of", flat=True) if as_of is not None]

    def is_over(day: date) -> bool:
        # A feed whose clock is before that day (a replayed film beside a live market) has no quotes in it. One at least
        # has passed it: a day that nobody has reached yet was made for quotes that are about to be stored.
        passed = [clock.date() - kept > day for clock in clocks]
        return any(passed) and all(is_past or clock.date() < day for clock, is_past in zip(clocks, passed, strict=True))

    return partitions.drop([day for day in partitions.days() if is_over(day)])
