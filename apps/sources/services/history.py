"""The past of a feed's assets, appended to its log: windows see it, and rules do not."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from django.db import connection, transaction

from apps.market import domain as market_domain
from apps.market import partitions
from apps.market import queries as market_queries
from apps.market.domain import Admission, RawQuote
from apps.market.models import Feed, FeedHead
from apps.market.services.log import (
    append_history,
    cache_latest,
    lock_head,
    move_clock,
    not_stored,
    retention,
    still_here,
)
from apps.market.services.switching import IMPORTED

# One entry of an import, and the rest of its last time. Its transaction holds the head's lock, so that long a fetch of
# the feed may have to wait.
IMPORT_ROWS = 10_000


@dataclass(slots=True)
class Imported:
    """What an import came to: quotes stored, quotes that were there, quotes rejected by reason, entries of the log."""

    accepted: int = 0
    repeated: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    entries: int = 0


def clock_of_past(feed: Feed, *, now: datetime) -> datetime:
    """Return what quotes of the past may not be ahead of: a live feed may have stood still, a recording's clock is the
    recording's."""
    clock = FeedHead.objects.values_list("as_of", flat=True).get(feed_id=feed.pk)
    return max(clock or now, now) if feed.is_live else clock or now


def import_history(
    *,
    feed_id: int,
    quotes: Iterable[RawQuote],
    now: datetime,
    trace_id: str,
    progress: Callable[[int], None] = lambda rows: None,
) -> Imported:
    """Append quotes by the symbols of the feed's assets to its log as history: windows see them and rules do not.

    quotes: by time. Each piece of IMPORT_ROWS is a transaction and an entry, and what stands there already is counted
    and left: whoever was stopped begins again. progress is told the rows read so far.
    """
    feed = Feed.objects.get(pk=feed_id)
    asset_ids = {symbol: pk for pk, symbol in feed.assets.values_list("pk", "symbol")}
    imported = Imported()
    read = 0
    for piece in _pieces(quotes):
        past = append_past(
            feed, piece, asset_ids=asset_ids, provider=IMPORTED, now=now, trace_id=trace_id, beside=lambda past: True
        )
        imported.entries += bool(past.quotes)
        imported.accepted += len(past.quotes)
        imported.repeated += past.repeated
        imported.rejected += past.rejected
        read += len(piece)
        progress(read)
    return imported


def _pieces(quotes: Iterable[RawQuote]) -> Iterator[list[RawQuote]]:
    """Give quotes in pieces of IMPORT_ROWS. Those of one time are never in two: they are set apart together."""
    piece: list[RawQuote] = []
    for quote in quotes:
        if len(piece) >= IMPORT_ROWS and quote.at != piece[-1].at:
            yield piece
            piece = []
        piece.append(quote)
    if piece:
        yield piece


def append_past(
    feed: Feed,
    quotes: Iterable[RawQuote],
    *,
    asset_ids: Mapping[str, int],
    provider: str,
    now: datetime,
    trace_id: str,
    beside: Callable[[Admission], bool],
) -> Admission:
    """Append quotes of the past to a feed's log as one entry of history, or none where nothing is new, and return what
    became of them.

    asset_ids: external id -> asset id. beside: called in the transaction, under the head's lock, with what is about to
    be stored; what it writes stands or falls with it, and where it says False nothing is written. What is older than
    quotes are kept is taken: candles are made of it first.
    """
    as_of = clock_of_past(feed, now=now)
    signed = market_queries.signed_assets(feed.pk)
    past = market_domain.admit(quotes, asset_ids=asset_ids, as_of=as_of, assumed_at=as_of, signed=signed)
    partitions.ensure(market_domain.days_of(past.quotes), months_before=(as_of - retention()).date())
    # COPY's errors come as the driver's own; commands look for Django's.
    with connection.wrap_database_errors, transaction.atomic():
        head = lock_head(feed.pk)
        past = not_stored(still_here(head, past))
        if not beside(past):
            return Admission()
        if past.quotes:
            move_clock(head, as_of=past.quotes[-1].at)
            append_history(head, past, provider=provider, now=now, trace_id=trace_id)
            head.save(update_fields=[*head.APPENDED, "as_of"])
    if past.quotes:
        # What is stored as the newest, which these quotes of the past seldom are.
        newest = market_queries.newest_stored(sorted({quote.asset_id for quote in past.quotes}))
        cache_latest(feed_ids=[head.pk], newest=newest, interval_seconds=feed.interval_seconds, now=now)
    return past
