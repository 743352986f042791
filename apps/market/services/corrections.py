"""Stored quotes replaced or deleted, as an entry of their feed's log: readers of the log before it see the old ones."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.db.models import F, OuterRef, Q, Subquery

from apps.market import cache, queries
from apps.market.domain import Admission, AdmittedQuote
from apps.market.models import (
    Candle,
    Correction,
    EvaluationCursor,
    FeedEntry,
    FeedHead,
    LatestQuote,
    ProviderSwitch,
    Quote,
    SupersededQuote,
)
from apps.market.services.candles import forget_between, lock_cursor, make_anew
from apps.market.services.log import append_entry, lock_head, move_clock, store_quotes
from apps.market.services.switching import IMPORTED

_DAY = timedelta(days=1)
_TIMES_AT_ONCE = 500
# One entry of a deletion. Its transaction holds the head's lock, so that long a fetch of the feed may have to wait.
QUOTES_AT_ONCE = 10_000


class CorrectionRefused(ValueError):
    """Quotes cannot be corrected so; the text is for people."""


@dataclass(slots=True)
class Difference:
    """The changes that a correction makes.

    added: quotes of times at which none is stored, or of a day in `days`; changed: quotes that take the place of a
    stored one with another price; removed: stored quotes that are deleted, or whose place is taken; repeated, rejected:
    what changes nothing; days: (asset id, day) whose candles are replaced or deleted, since their quotes are kept no
    more.
    """

    added: list[AdmittedQuote] = field(default_factory=list)
    changed: list[AdmittedQuote] = field(default_factory=list)
    removed: int = 0
    repeated: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    days: set[tuple[int, date]] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed or self.days)


def difference(quotes: Admission) -> Difference:
    """Return what it changes that these quotes take the place of what is stored at their times. Binding under the locks
    of `lock_for_correction`; before, it is a good guess."""
    found = Difference(repeated=quotes.repeated, rejected=dict(quotes.rejected))
    if not quotes.quotes:
        return found
    stored = queries.stored_prices(quotes.quotes)
    assets = {quote.asset_id for quote in quotes.quotes}
    days = queries.lost_days(assets, since=quotes.quotes[0].at, until=quotes.quotes[-1].at + timedelta(microseconds=1))
    for quote in quotes.quotes:
        price = stored.get((quote.asset_id, quote.at))
        if (quote.asset_id, quote.at.date()) in days:
            found.days.add((quote.asset_id, quote.at.date()))
            found.added.append(quote)
        elif price is None:
            found.added.append(quote)
        elif price == quote.price:
            found.repeated += 1
        else:
            found.changed.append(quote)
    left_over = sum(Quote.objects.filter(asset=asset_id, **_within(day)).count() for asset_id, day in found.days)
    found.removed = len(found.changed) + left_over
    return found


def deletion(*, asset_id: int, since: datetime, until: datetime) -> Difference:
    """Return what it changes that the quotes of an asset in [since, until) are deleted. Raises CorrectionRefused where
    the range holds only a part of a day whose quotes are kept no more."""
    days = queries.lost_days([asset_id], since=since, until=until)
    for _, day in sorted(days):
        begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
        if begin < since or until < begin + _DAY:
            raise CorrectionRefused(
                f"of {day} only candles are kept, so the whole day is deleted or none of it; "
                f"write the range from {day}T00:00:00Z or to {day + _DAY}T00:00:00Z"
            )
    removed = Quote.objects.filter(asset=asset_id, at__gte=since, at__lt=until).count()
    return Difference(removed=removed, days=days)


def lock_for_correction(feed_id: int) -> tuple[EvaluationCursor, FeedHead]:
    """Return the feed's evaluation cursor and head, locked until the caller's transaction ends, and its roll-up cursor
    too: no evaluation and no roll-up reads quotes while they are corrected."""
    lock_cursor(feed_id)
    cursor = EvaluationCursor.objects.select_for_update(no_key=True).get(pk=feed_id)
    return cursor, lock_head(feed_id)


def replace_quotes(head: FeedHead, found: Difference, *, now: datetime, trace_id: str) -> FeedEntry:
    """Append a correction that puts these quotes in place of what is stored, in the caller's transaction, under the
    locks of `lock_for_correction`. Their partitions are there."""
    quotes = sorted([*found.added, *found.changed], key=lambda quote: (quote.at, quote.asset_id))
    move_clock(head, as_of=quotes[-1].at)
    wholly = {(quote.asset_id, quote.at) for quote in found.added}
    times: dict[int, list[datetime]] = {}
    for quote in found.changed:
        times.setdefault(quote.asset_id, []).append(quote.at)
    rows = [row for asset_id, some in times.items() for row in _stored_at(asset_id, some)]
    for asset_id, day in sorted(found.days):
        rows += Quote.objects.filter(asset=asset_id, **_within(day))
    # Late quotes stay late: a correction changes prices, and not what was evaluated.
    were_late = {(row.asset_id, row.at) for row in rows if row.late} - wholly
    late = [quote for quote in quotes if (quote.asset_id, quote.at) in were_late]
    known = [quote for quote in quotes if (quote.asset_id, quote.at) not in were_late]
    entry = append_entry(
        head,
        kind=FeedEntry.Kind.CORRECTION,
        now=now,
        trace_id=trace_id,
        provider=IMPORTED,
        accepted=len(known),
        late=len(late),
        repeated=found.repeated,
        rejected=found.rejected,
        first_at=quotes[0].at,
        last_at=quotes[-1].at,
    )
    _supersede(rows, entry=entry)
    store_quotes(entry=entry, quotes=known)
    store_quotes(entry=entry, quotes=late, late=True)
    for asset_id, day in found.days:
        forget_between(asset_id, **_bounds(day))
    _complete(head, entry, found, removed=len(rows), touched=[(quote.asset_id, quote.at) for quote in known])
    return entry


def delete_quotes(
    head: FeedHead,
    found: Difference,
    *,
    asset_id: int,
    since: datetime,
    until: datetime,
    now: datetime,
    trace_id: str,
) -> FeedEntry:
    """Append a correction that deletes the quotes of an asset in [since, until), in the caller's transaction, under the
    locks of `lock_for_correction`. found: what `deletion` returned there."""
    rows = list(Quote.objects.filter(asset=asset_id, at__gte=since, at__lt=until))
    last_at = until - timedelta(microseconds=1)
    entry = append_entry(
        head, kind=FeedEntry.Kind.CORRECTION, now=now, trace_id=trace_id, first_at=since, last_at=last_at
    )
    _supersede(rows, entry=entry)
    forget_between(asset_id, since=since, until=until)
    _complete(head, entry, found, removed=len(rows), touched=[(asset_id, since), (asset_id, last_at)])
    return entry


def end_of_piece(asset_id: int, *, since: datetime, until: datetime) -> datetime:
    """Return where a piece of a deletion from `since` on ends, which has QUOTES_AT_ONCE quotes at most. A day whose
    quotes are kept no more is not cut."""
    rest = Quote.objects.filter(asset=asset_id, at__gte=since, at__lt=until).order_by("at")
    edge = rest.values_list("at", flat=True)[QUOTES_AT_ONCE : QUOTES_AT_ONCE + 1].first()
    if edge is None:
        return until
    cut = [day for _, day in queries.lost_days([asset_id], since=edge, until=edge + timedelta(microseconds=1))]
    return min(_bounds(cut[0])["until"], until) if cut else edge


def forget_cached(asset_ids: Collection[int]) -> None:
    """Let the newest prices of assets be read from their rows, after the commit. Where the cache is away, or another
    process has one of its own, `sweep` does it again."""
    cache.forget_latest(sorted(asset_ids))


def _bounds(day: date) -> dict[str, datetime]:
    begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return {"since": begin, "until": begin + _DAY}


def _within(day: date) -> dict[str, datetime]:
    return {"at__gte": _bounds(day)["since"], "at__lt": _bounds(day)["until"]}


def _stored_at(asset_id: int, times: Sequence[datetime]) -> Iterable[Quote]:
    for begin in range(0, len(times), _TIMES_AT_ONCE):
        some = times[begin : begin + _TIMES_AT_ONCE]
        # The bounds prune partitions.
        yield from Quote.objects.filter(asset=asset_id, at__gte=min(some), at__lte=max(some), at__in=some)


def _supersede(rows: Sequence[Quote], *, entry: FeedEntry) -> None:
    """Move stored quotes to those that the log before this entry has."""
    columns = ("asset_id", "at", "price", "volume", "entry_id", "late")
    SupersededQuote.objects.bulk_create(
        (SupersededQuote(until_entry=entry, **{name: getattr(row, name) for name in columns}) for row in rows),
        batch_size=1_000,
    )
    FeedEntry.objects.filter(pk__in={row.entry_id for row in rows}).update(is_superseded=True)
    times: dict[int, list[datetime]] = {}
    for row in rows:
        times.setdefault(row.asset_id, []).append(row.at)
    for asset_id, moments in times.items():
        for begin in range(0, len(moments), _TIMES_AT_ONCE):
            some = moments[begin : begin + _TIMES_AT_ONCE]
            Quote.objects.filter(asset=asset_id, at__gte=min(some), at__lte=max(some), at__in=some).delete()


def _complete(
    head: FeedHead, entry: FeedEntry, found: Difference, *, removed: int, touched: Iterable[tuple[int, datetime]]
) -> None:
    """Make everything agree that follows from the quotes: candles, newest prices, and in a moment the cache."""
    touched = list(touched)
    assets = sorted({asset_id for asset_id, _ in touched} | {quote.asset_id for quote in found.changed})
    days = sorted([asset_id, day.isoformat()] for asset_id, day in found.days)
    Correction.objects.create(entry=entry, asset_ids=assets, removed=removed, days=days)
    _set_latest(assets)
    _end_switches(assets, entry=entry)
    make_anew(touched, clock=entry.as_of)
    head.is_cache_stale = True
    head.save(update_fields=[*head.APPENDED, "as_of", "is_cache_stale"])


def _end_switches(asset_ids: Sequence[int], *, entry: FeedEntry) -> None:
    """End the changes of provider behind the newest price that is left of an asset: the provider before is in force."""
    switches = ProviderSwitch.objects.filter(asset__in=asset_ids, until_entry=None)
    gone = switches.filter(Q(asset__latest=None) | Q(at__gt=F("asset__latest__at")))
    ProviderSwitch.objects.filter(pk__in=list(gone.values_list("pk", flat=True))).update(until_entry=entry)


def _set_latest(asset_ids: Sequence[int]) -> None:
    """Set the newest quote of each asset to what is stored now, be it older, or none, its price as it counts now."""
    quotes = Quote.objects.filter(asset=OuterRef("pk"), late=False).order_by("-at")
    days = Candle.objects.filter(asset=OuterRef("pk"), resolution=Candle.Resolution.DAY).order_by("-at")
    rows = queries.every_asset().filter(pk__in=asset_ids).order_by()
    rows = rows.annotate(
        quoted_at=Subquery(quotes.values("at")[:1]),
        price=Subquery(quotes.values("price")[:1]),
        provider=Subquery(quotes.annotate(provider=F("entry__provider")).values("provider")[:1]),
        # Of a day whose quotes are kept no more.
        closed_at=Subquery(days.values("last_at")[:1]),
        close=Subquery(days.values("close")[:1]),
    )
    known = LatestQuote.objects.in_bulk(asset_ids)
    splits = queries.splits_of(asset_ids)
    newest: list[LatestQuote] = []
    for row in rows.values("pk", "quoted_at", "price", "provider", "closed_at", "close"):
        if row["closed_at"] is not None and (row["quoted_at"] is None or row["closed_at"] > row["quoted_at"]):
            before = known.get(row["pk"])
            provider = before.provider if before is not None and before.at == row["closed_at"] else ""
            one: dict[str, Any] = {"at": row["closed_at"], "price": row["close"], "provider": provider}
        elif row["quoted_at"] is not None:
            one = {"at": row["quoted_at"], "price": row["price"], "provider": row["provider"]}
        else:
            continue
        price = splits.price(row["pk"], one["at"], one["price"])
        newest.append(LatestQuote(asset_id=row["pk"], **one | {"price": price}))
    LatestQuote.objects.filter(asset__in=set(asset_ids) - {one.asset_id for one in newest}).delete()
    LatestQuote.objects.bulk_create(
        newest,
        update_conflicts=True,
        unique_fields=["asset"],
        update_fields=["at", "price", "provider"],
        batch_size=1_000,
    )
