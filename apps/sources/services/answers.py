"""Answers of providers, admitted and appended to a feed's log at the end of a fetch."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from django.db import transaction

from apps.market import domain as market_domain
from apps.market import partitions
from apps.market.domain import Admission
from apps.market.models import Feed, FeedEntry, FeedHead
from apps.market.services.in_step import FEW, InStep, store_in_step
from apps.market.services.log import (
    NotInStep,
    Trial,
    append_entry,
    append_history,
    append_quotes,
    cache_latest,
    lock_head,
    move_clock,
    next_entry,
    not_stored,
    retention,
    seems_in_step,
)
from apps.sources import domain
from apps.sources.providers.protocol import Answer
from apps.sources.services.leasing import FetchLease, save_fetched
from apps.sources.services.refusals import note_refusals


@dataclass(frozen=True, slots=True)
class Part:
    """What one provider gave for one slot, admitted: an entry of the log to be.

    refused: asset id -> (name, reason); answered: ids of assets that were refused before and have a price now.
    """

    provider: str
    as_of: datetime
    quotes: Admission
    history: Admission
    refused: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    answered: Collection[int] = ()


def admit_answer(
    *, lease: FetchLease, provider: str, answer: Answer, asset_ids: Mapping[str, int], signed: Collection[int]
) -> Part:
    """Believe or reject what a provider gave. asset_ids: external id -> asset id; signed: ids of the assets whose price
    may be 0 or less."""
    bounds = {"asset_ids": asset_ids, "as_of": answer.as_of, "oldest_at": answer.as_of - retention(), "signed": signed}
    by_receipt = lease.feed.time_policy == Feed.TimePolicy.RECEIPT and lease.feed.is_live
    return Part(
        provider=provider,
        as_of=answer.as_of,
        quotes=market_domain.admit(
            answer.quotes, assumed_at=min(lease.slot, answer.as_of), by_receipt=by_receipt, **bounds
        ),
        history=market_domain.admit(answer.history, assumed_at=answer.as_of, **bounds),
    )


def record_answers(
    *, lease: FetchLease, parts: Sequence[Part], now: datetime, trace_id: str, least_seconds: int = 0
) -> list[FeedEntry]:
    """Append what the providers gave to the log, all of it or nothing, and return the entries of quotes. None of them
    when the lease was lost meanwhile.

    Each part is an entry, behind one of its history, if there is any. least_seconds: what the limits of those that were
    asked want until the next round.
    """
    make_days_of(parts)
    columns = {"lease": lease, "now": now, "trace_id": trace_id, "least_seconds": least_seconds}
    seems = in_step(part=parts[0], **columns) if len(parts) == 1 else None
    if seems is not None:
        stored = store_in_step([seems])
        if stored:
            cache_in_step([seems], now=now)
            return [*stored.values()]
        return _record(**columns, parts=parts, trial=Trial.NONE)
    try:
        # One answer is nearly always in step: the transaction is the trial itself, which spares two statements.
        return _record(**columns, parts=parts, trial=Trial.TRANSACTION if len(parts) == 1 else Trial.SAVEPOINT)
    except NotInStep:
        return _record(**columns, parts=parts, trial=Trial.NONE)


def make_days_of(parts: Iterable[Part]) -> None:
    """Create the partitions of the days of these quotes where they are missing."""
    admitted = [one for part in parts for one in (part.history, part.quotes)]
    partitions.ensure({day for one in admitted for day in market_domain.days_of(one.quotes)})


def in_step(*, lease: FetchLease, part: Part, now: datetime, trace_id: str, least_seconds: int) -> InStep | None:
    """Return a slot's only answer as it is to be stored if it is in step, with the head that the lease saw; None where
    it cannot be, or has many quotes."""
    quotes = part.quotes.quotes
    if part.history.quotes or part.refused or part.answered or len(quotes) > FEW:
        return None
    if not seems_in_step(quotes, clock=lease.head.as_of):
        return None
    head = copy(lease.head)
    columns = {"slot": _slot_in_log(head, lease), "missed_slots": _missed_slots(head, lease)}
    move_clock(head, as_of=part.as_of)
    entry = next_entry(
        head,
        kind=FeedEntry.Kind.QUOTES,
        provider=part.provider,
        accepted=len(quotes),
        repeated=part.quotes.repeated,
        rejected=dict(part.quotes.rejected),
        first_at=quotes[0].at,
        last_at=quotes[-1].at,
        now=now,
        trace_id=trace_id,
        **columns,
    )
    interval = lease.feed.interval_seconds
    _note_answer(head, lease)
    _set_next_due(head, lease, interval_seconds=interval, least_seconds=least_seconds)
    return InStep(lease.head, head, entry, quotes, lease.feed.jump_percent, interval)


def cache_in_step(answers: Iterable[InStep], *, now: datetime) -> None:
    """Put the quotes of answers that were stored in step into the cache: one call for all feeds of an interval."""
    of_interval: dict[int, list[InStep]] = {}
    for one in answers:
        of_interval.setdefault(one.interval_seconds, []).append(one)
    for interval, those in of_interval.items():
        newest = {quote.asset_id: (quote.at, quote.price) for one in those for quote in one.quotes}
        feed_ids = [one.entry.feed_id for one in those]
        cache_latest(feed_ids=feed_ids, newest=newest, interval_seconds=interval, now=now)


def _record(
    *, lease: FetchLease, parts: Sequence[Part], now: datetime, trace_id: str, least_seconds: int, trial: Trial
) -> list[FeedEntry]:
    entries: list[FeedEntry] = []
    newest: dict[int, tuple[datetime, Decimal]] = {}
    with transaction.atomic():
        head = lock_head(lease.feed.pk)
        if head.fence != lease.fence:
            return []
        missed_slots = _missed_slots(head, lease)
        slot = _slot_in_log(head, lease)
        for number, part in enumerate(parts, start=1):
            columns = {"provider": part.provider, "now": now, "trace_id": trace_id}
            if part.history.quotes:
                move_clock(head, as_of=part.history.quotes[-1].at)
                append_history(head, not_stored(part.history), **columns)
            columns |= {"slot": slot, "part": number, "missed_slots": missed_slots if number == 1 else 0}
            columns |= {"as_of": part.as_of, "jump_percent": lease.feed.jump_percent}
            entry, fresh = append_quotes(head, part.quotes, trial=trial, **columns)
            entries.append(entry)
            note_refusals(
                feed_id=head.feed_id, provider=part.provider, refused=part.refused, answered=part.answered, now=now
            )
            newest |= {quote.asset_id: (quote.at, quote.price) for quote in fresh}
        _note_answer(head, lease)
        interval = _end_lease(head, lease, least_seconds=least_seconds)
    if newest:
        cache_latest(feed_ids=[head.pk], newest=newest, interval_seconds=interval, now=now)
    return entries


def record_failure(
    *,
    lease: FetchLease,
    failure: str,
    retry_after_seconds: int | None,
    now: datetime,
    trace_id: str,
    least_seconds: int = 0,
) -> FeedEntry | None:
    """Append a failed fetch, with its reason, and put the feed off. None when the lease was lost meanwhile.

    A live feed's clock goes on meanwhile; a recording's stands.
    """
    goes_on = lease.feed.is_live
    with transaction.atomic():
        head = lock_head(lease.feed.pk)
        if head.fence != lease.fence:
            return None
        if goes_on:
            move_clock(head, as_of=now)
        slot, missed_slots = _slot_in_log(head, lease), _missed_slots(head, lease)
        columns = {"slot": slot, "failure": failure, "missed_slots": missed_slots}
        entry = append_entry(head, kind=FeedEntry.Kind.QUOTES, now=now, trace_id=trace_id, **columns)
        head.failures += 1
        head.turn += 1
        _end_lease(head, lease, retry_after_seconds=retry_after_seconds, least_seconds=least_seconds)
    return entry


def _end_lease(
    head: FeedHead, lease: FetchLease, *, retry_after_seconds: int | None = None, least_seconds: int = 0
) -> int:
    """Say when the feed is due after the answer for the lease's slot, save its head, and return the interval."""
    interval = lease.feed.interval_seconds
    while True:
        waits = {"retry_after_seconds": retry_after_seconds, "least_seconds": least_seconds}
        _set_next_due(head, lease, interval_seconds=interval, **waits)
        if save_fetched(head, interval_seconds=interval):
            return interval
        # It was changed since the lease was taken.
        interval = Feed.objects.values_list("interval_seconds", flat=True).get(pk=head.feed_id)


def _note_answer(head: FeedHead, lease: FetchLease) -> None:
    head.failures = 0
    head.turn += 1
    head.began_at = head.began_at or lease.slot


def _set_next_due(
    head: FeedHead,
    lease: FetchLease,
    *,
    interval_seconds: int,
    retry_after_seconds: int | None = None,
    least_seconds: int = 0,
) -> None:
    head.last_slot = lease.slot
    head.lease_until = head.redispatch_at = None
    head.next_slot = domain.next_slot_after(
        # Of a fetch out of its turn, the slot that it fell into.
        slot=market_domain.slot_of(at=lease.slot, interval_seconds=interval_seconds),
        interval_seconds=interval_seconds,
        failures=head.failures,
        retry_after_seconds=retry_after_seconds,
        least_seconds=least_seconds,
    )


def _slot_in_log(head: FeedHead, lease: FetchLease) -> datetime:
    """Return the slot as the log has it: since the clock was set back, a slot that comes a second time differs from the
    first by some microseconds."""
    if head.relived_until is None or lease.slot > head.relived_until:
        return lease.slot
    return lease.slot + timedelta(microseconds=1 + head.seq % 999_999)


def _missed_slots(head: FeedHead, lease: FetchLease) -> int:
    """Return how many slots passed without a fetch before this one."""
    if head.began_at is None:
        return 0
    return max((lease.slot - head.next_slot) // timedelta(seconds=lease.feed.interval_seconds), 0)
