"""Corrections of stored quotes, piece by piece: each is a transaction and an entry of the feed's log."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime

from django.db import connection, transaction

from apps.market import domain, partitions, placing
from apps.market import services as market
from apps.market.domain import Admission, RawQuote
from apps.market.models import Asset, EvaluationCursor, Feed
from apps.market.queries import every_asset, signed_assets
from apps.market.services.log import retention, still_here
from apps.rules import services as rules
from apps.sources.services import clock_of_past

# One entry of a correction by a file. Its transaction holds the head's lock, so that long a fetch may have to wait.
QUOTES_AT_ONCE = 10_000


@dataclass(slots=True)
class Corrected:
    """The counts of a correction, done or previewed.

    replaced, deleted: stored quotes; added: quotes of times at which none was stored; repeated: quotes that were there
    already; rejected: reason -> quotes; days: (asset id, day) of days that are kept as candles alone and were replaced
    or deleted as a whole; entries: of the log.
    """

    replaced: int = 0
    deleted: int = 0
    added: int = 0
    repeated: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    days: set[tuple[int, date]] = field(default_factory=set)
    entries: int = 0

    def __bool__(self) -> bool:
        return bool(self.replaced or self.deleted or self.added or self.days)

    def count(self, found: market.Difference) -> None:
        """Take what one piece changes."""
        self.replaced += len(found.changed)
        self.deleted += found.removed - len(found.changed)
        self.added += len(found.added)
        self.repeated += found.repeated
        self.rejected += Counter(found.rejected)
        self.days |= found.days


def describe(corrected: Corrected) -> str:
    """Return what a correction changes, in words: "2 quotes replaced, 1 quote added"."""
    counts = {"replaced": corrected.replaced, "added": corrected.added, "deleted": corrected.deleted}
    said = [f"{count} quote{'' if count == 1 else 's'} {what}" for what, count in counts.items() if count]
    if corrected.days:
        days = len(corrected.days)
        said.append(f"the candles of {days} whole day{'' if days == 1 else 's'} whose quotes are kept no more")
    return ", ".join(said) or "nothing"


def admit_file(feed: Feed, quotes: Iterable[RawQuote], *, now: datetime) -> Admission:
    """Return the quotes of a file that may be stored in a feed, by the symbols of its assets: all of them by time,
    equal times set apart."""
    as_of = clock_of_past(feed, now=now)
    asset_ids = dict(every_asset().filter(feed=feed).values_list("symbol", "pk"))
    signed = signed_assets(feed.pk)
    admitted = domain.admit(quotes, asset_ids=asset_ids, as_of=as_of, assumed_at=as_of, signed=signed)
    apart = placing.spread(admitted.quotes, stored={}, newest=None)
    apart.repeated += admitted.repeated
    apart.rejected += admitted.rejected
    return apart


def preview_replacement(quotes: Admission) -> Corrected:
    """Return what `replace_quotes` would do now."""
    corrected = Corrected()
    for piece in _pieces(quotes):
        corrected.count(market.difference(piece))
    return corrected


def replace_quotes(
    feed: Feed,
    quotes: Admission,
    *,
    now: datetime,
    trace_id: str,
    progress: Callable[[int], None] = lambda quotes: None,
) -> Corrected:
    """Put quotes, as `admit_file` gave them, in place of those that are stored at their times. After an
    interruption call it again: quotes that are replaced already are counted and left. progress is given the number of
    quotes that are done."""
    market.make_cursor(feed.pk)
    corrected = Corrected()
    done = 0
    for piece in _pieces(quotes):
        oldest_kept = (clock_of_past(feed, now=now) - retention()).date()
        partitions.ensure({quote.at.date() for quote in piece.quotes}, months_before=oldest_kept)
        # COPY's errors come as the driver's own; commands look for Django's.
        with connection.wrap_database_errors, transaction.atomic():
            cursor, head = market.lock_for_correction(feed.pk)
            found = market.difference(still_here(head, piece))
            if found:
                _keep_what_is_evaluated(cursor, found)
                market.replace_quotes(head, found, now=now, trace_id=trace_id)
        corrected.count(found)
        if found:
            corrected.entries += 1
            market.forget_cached({quote.asset_id for quote in piece.quotes})
        done += len(piece.quotes)
        progress(done)
    return corrected


def preview_deletion(asset: Asset, *, since: datetime, until: datetime) -> Corrected:
    """Return what `delete_quotes` would do now. Raises CorrectionRefused."""
    if since >= until:
        raise market.CorrectionRefused("the range ends before it begins")
    if asset.feed_id is None:
        raise market.CorrectionRefused(f"{asset} is in no feed, so there is no log to enter the correction in")
    corrected = Corrected()
    corrected.count(market.deletion(asset_id=asset.pk, since=since, until=until))
    return corrected


def delete_quotes(
    asset: Asset,
    *,
    since: datetime,
    until: datetime,
    now: datetime,
    trace_id: str,
    progress: Callable[[int], None] = lambda quotes: None,
) -> Corrected:
    """Delete the quotes of an asset in [since, until), also those that are kept as candles alone. After an
    interruption call it again. progress is given the number of quotes that are gone. Raises CorrectionRefused."""
    preview_deletion(asset, since=since, until=until)
    corrected = Corrected()
    begin = since
    while begin < until:
        feed_id = every_asset().values_list("feed_id", flat=True).get(pk=asset.pk)
        if feed_id is None:
            raise market.CorrectionRefused(f"{asset} was taken out of its feed at this moment")
        market.make_cursor(feed_id)
        with transaction.atomic():
            cursor, head = market.lock_for_correction(feed_id)
            if not every_asset().filter(pk=asset.pk, feed=feed_id).exists():
                raise market.CorrectionRefused(f"{asset} was moved to another feed at this moment; try again")
            end = market.end_of_piece(asset.pk, since=begin, until=until)
            found = market.deletion(asset_id=asset.pk, since=begin, until=end)
            if found:
                _keep_what_is_evaluated(cursor, found)
                market.delete_quotes(head, found, asset_id=asset.pk, since=begin, until=end, now=now, trace_id=trace_id)
        begin = end
        corrected.count(found)
        if found:
            corrected.entries += 1
            market.forget_cached([asset.pk])
        progress(corrected.deleted)
    return corrected


def _keep_what_is_evaluated(cursor: EvaluationCursor, found: market.Difference) -> None:
    """Keep a checkpoint where candles are replaced: windows were filled from the old ones."""
    if found.days:
        rules.keep_checkpoint(feed_id=cursor.feed_id, seq=cursor.seq)


def _pieces(quotes: Admission) -> Iterator[Admission]:
    """Give the quotes in parts; what was rejected, and repeated, is counted with the first."""
    for begin in range(0, len(quotes.quotes) or 1, QUOTES_AT_ONCE):
        piece = Admission(quotes.quotes[begin : begin + QUOTES_AT_ONCE])
        if not begin:
            piece.repeated, piece.rejected = quotes.repeated, quotes.rejected
        yield piece
