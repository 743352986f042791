"""Candles, rolled up from the quotes of a feed's evaluated entries: a copy that is kept for longer than they are."""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from django.db import OperationalError, transaction
from django.db.models.functions import TruncDay
from psycopg.errors import QueryCanceled

from apps.market import queries
from apps.market.domain import epoch_microseconds, from_epoch_microseconds, slot_of
from apps.market.merging import Span, by_span, merged, seen_at
from apps.market.models import Candle, EvaluationCursor, FeedEntry, Quote, RollupCursor
from apps.market.services.storing import rows_of, store

logger = logging.getLogger(__name__)

# One transaction: so long may a prune or a second roll-up have to wait, and so much may a crash cost.
ENTRIES_AT_ONCE, QUOTES_AT_ONCE = 5_000, 50_000
_KEYS_AT_ONCE = 500
MINUTE, HOUR, DAY = Candle.Resolution
_MINUTE = MINUTE * 1_000_000
# Resolution -> that of the candles it is made of; minutes are made of quotes. Days are not made of minutes, which are
# not kept for ever.
_PARTS: Mapping[int, int] = {HOUR: MINUTE, DAY: HOUR}


def roll_up(*, feed_id: int) -> bool:
    """Roll up the next evaluated entries of a feed's log in one transaction, and move the cursor on.

    An entry is passed once each minute in it is over by the feed's clock. Candles are made anew of the stored quotes,
    so a piece may run twice. A piece that takes longer than a statement may is halved, down to one entry and then by
    time within it; the cursor moves when all of it is done. Return False where nothing is left for now, or another
    worker holds the cursor.
    """
    make_cursor(feed_id)
    at_most = ENTRIES_AT_ONCE
    while True:
        piece: list[FeedEntry] = []
        try:
            with transaction.atomic():
                cursor = _locked(feed_id)
                piece = _next_piece(feed_id, after_seq=cursor.seq, at_most=at_most) if cursor else []
                if cursor is None or not piece:
                    return False
                quoted = [entry for entry in piece if entry.accepted]
                if quoted:
                    first, last = min(entry.first_at for entry in quoted), max(entry.last_at for entry in quoted)
                    _roll_up_between(quoted, first=first, last=last)
                cursor.seq = piece[-1].seq
                cursor.save(update_fields=["seq"])
            return True
        except OperationalError as error:
            if not isinstance(error.__cause__, QueryCanceled) or not piece:
                raise
            logger.warning("roll-up takes too long", extra={"feed": feed_id, "entries": len(piece)})
            if len(piece) == 1:
                return _roll_up_by_time(piece[0])
            at_most = len(piece) // 2


def roll_up_last(feed_id: int) -> bool:
    """Roll up what is stored of a feed and is not in candles yet, its last minute too, in the caller's transaction; the
    cursor stays. Return False, and do nothing, where that is more than QUOTES_AT_ONCE."""
    passed = RollupCursor.objects.filter(pk=feed_id).values_list("seq", flat=True).first() or 0
    left = list(FeedEntry.objects.filter(feed=feed_id, seq__gt=passed, accepted__gt=0))
    if sum(entry.accepted for entry in left) > QUOTES_AT_ONCE:
        return False
    if left:
        first, last = min(entry.first_at for entry in left), max(entry.last_at for entry in left)
        _roll_up_between(left, first=first, last=last)
    return True


def make_cursor(feed_id: int) -> None:
    """Make the feed's cursor where there is none yet. Outside of a transaction, which others would wait for."""
    if not RollupCursor.objects.filter(pk=feed_id).exists():
        RollupCursor.objects.get_or_create(feed_id=feed_id)


def lock_cursor(feed_id: int) -> RollupCursor:
    """Return the feed's cursor, locked until the caller's transaction ends: nobody rolls up meanwhile."""
    return RollupCursor.objects.select_for_update(no_key=True).get(pk=feed_id)


def _locked(feed_id: int) -> RollupCursor | None:
    """Return the feed's cursor, locked until the transaction ends; None while another worker holds it."""
    return RollupCursor.objects.select_for_update(skip_locked=True, no_key=True).filter(pk=feed_id).first()


def _roll_up_by_time(entry: FeedEntry) -> bool:
    """Roll up one entry range by range, each in a transaction of its own, and move the cursor on behind it."""
    # The last range that was added is next, so that no more of them wait than one can be halved.
    waiting = [(entry.first_at, entry.last_at)]
    while waiting:
        first, last = waiting.pop()
        try:
            with transaction.atomic():
                # A correction that makes candles anew holds it too.
                cursor = _locked(entry.feed_id)
                if cursor is None or cursor.seq != entry.seq - 1:
                    return False
                _roll_up_between([entry], first=first, last=last)
        except OperationalError as error:
            middle = slot_of(at=first + (last - first) / 2, interval_seconds=MINUTE)
            if not isinstance(error.__cause__, QueryCanceled) or middle <= first:
                raise
            waiting += [(middle, last), (first, middle)]
    with transaction.atomic():
        cursor = _locked(entry.feed_id)
        if cursor is None or cursor.seq != entry.seq - 1:
            return False
        cursor.seq = entry.seq
        cursor.save(update_fields=["seq"])
    return True


def _next_piece(feed_id: int, *, after_seq: int, at_most: int) -> list[FeedEntry]:
    """Return the entries after this one that can be passed, in order."""
    evaluated = EvaluationCursor.objects.values_list("seq", flat=True).get(pk=feed_id)
    log = FeedEntry.objects.filter(feed=feed_id, seq__lte=evaluated)
    # A change of rules before the first answer carries the wall clock, which for a recording is not the log's.
    clock = log.exclude(kind=FeedEntry.Kind.RULES).order_by("-seq").values_list("as_of", flat=True).first()
    piece: list[FeedEntry] = []
    quotes = 0
    for entry in log.filter(seq__gt=after_seq).order_by("seq")[:at_most]:
        quotes += entry.accepted
        if piece and quotes > QUOTES_AT_ONCE:
            break
        if entry.accepted and _end(entry.last_at, MINUTE) > clock:
            break
        piece.append(entry)
    return piece


def _end(at: datetime, resolution: int) -> datetime:
    """Return the end of the candle that `at` falls into."""
    return slot_of(at=at, interval_seconds=resolution) + timedelta(seconds=resolution)


def _roll_up_between(entries: Sequence[FeedEntry], *, first: datetime, last: datetime) -> None:
    """Make the candles anew that quotes of these entries in [first, last] fall into, of all resolutions, day by day:
    a day of quotes is a table of its own."""
    entry_ids = {entry.pk for entry in entries}
    quotes = Quote.objects.filter(entry__in=entry_ids, late=False, at__gte=first, at__lte=last).order_by()
    asset_ids: dict[datetime, list[int]] = {}
    for day, asset_id in quotes.values_list(TruncDay("at", tzinfo=UTC), "asset_id").distinct():
        asset_ids.setdefault(day, []).append(asset_id)
    for day in sorted(asset_ids):
        since = max(day, slot_of(at=first, interval_seconds=MINUTE))
        until = min(day + timedelta(days=1), _end(last, MINUTE))
        added = _minutes(asset_ids[day], entry_ids=entry_ids, since=since, until=until)
        store(added, resolution=MINUTE)
        for resolution in _PARTS:
            added = [merged(parts, at=at) for (_, at), parts in by_span(added, resolution)]
            store(_with_stored(added, resolution=resolution), resolution=resolution)


def _with_stored(added: Sequence[Span], *, resolution: int) -> list[Span]:
    """Return the candles of this resolution that these spans, of just made parts of theirs, belong to.

    A span whose first minute is behind all of its stored candle is added to that; other candles are made anew of their
    stored parts. What is stored of a candle's parts is in it, so without a stored candle the span is the candle.
    """
    stored = Candle.objects.filter(
        asset__in={one.asset_id for one in added},
        resolution=resolution,
        at__in=[from_epoch_microseconds(at) for at in {one.at for one in added}],
    )
    known = {(one.asset_id, one.at): one for one in map(Span._make, rows_of(stored.order_by(), *Span._fields))}
    made: list[Span] = []
    touched = set()
    for one in added:
        wider = known.get((one.asset_id, one.at))
        if wider is None:
            made.append(one)
        elif wider.last_at < one.first_at - one.first_at % _MINUTE:
            made.append(merged((wider, one), at=one.at))
        else:
            touched.add((one.asset_id, one.at))
    return made + _candles(resolution, touched) if touched else made


def make_anew(touched: Iterable[tuple[int, datetime]], *, clock: datetime) -> None:
    """Make the candles anew that these (asset id, time) fall into, whatever they say now: where no quote is left, there
    is none. In the caller's transaction, which holds the feed's roll-up cursor. Minutes that are not over by the clock
    are left to the roll-up.
    """
    by_day: dict[datetime, set[tuple[int, int]]] = {}
    for asset_id, at in touched:
        minute = slot_of(at=at, interval_seconds=MINUTE)
        by_day.setdefault(slot_of(at=at, interval_seconds=DAY), set()).add((asset_id, epoch_microseconds(minute)))
    for day in sorted(by_day):
        minutes = {key for key in by_day[day] if _end(from_epoch_microseconds(key[1]), MINUTE) <= clock}
        if minutes:
            times = [from_epoch_microseconds(at) for _, at in minutes]
            assets = sorted({asset_id for asset_id, _ in minutes})
            made = _minutes(assets, touched=minutes, since=min(times), until=_end(max(times), MINUTE))
            _put(made, minutes, resolution=MINUTE)
        for resolution in _PARTS:
            span = resolution * 1_000_000
            keys = {(asset_id, at - at % span) for asset_id, at in by_day[day]}
            _put(_candles(resolution, keys), keys, resolution=resolution)


def _put(made: Sequence[Span], keys: set[tuple[int, int]], *, resolution: int) -> None:
    """Store candles in place of those with these (asset id, microseconds), and delete those that are not made again."""
    gone: dict[int, list[datetime]] = {}
    for asset_id, at in keys - {(one.asset_id, one.at) for one in made}:
        gone.setdefault(asset_id, []).append(from_epoch_microseconds(at))
    for asset_id, times in gone.items():
        for begin in range(0, len(times), _KEYS_AT_ONCE):
            some = times[begin : begin + _KEYS_AT_ONCE]
            Candle.objects.filter(asset=asset_id, resolution=resolution, at__in=some).delete()
    store(made, resolution=resolution, unless_smaller=False)


def forget_between(asset_id: int, *, since: datetime, until: datetime) -> None:
    """Delete the candles that hold a moment of [since, until). In the caller's transaction, which makes those at both
    ends anew."""
    for resolution in Candle.Resolution:
        first = slot_of(at=since, interval_seconds=resolution)
        Candle.objects.filter(asset=asset_id, resolution=resolution, at__gte=first, at__lt=until).delete()


def _minutes(
    asset_ids: Sequence[int],
    *,
    since: datetime,
    until: datetime,
    entry_ids: Collection[int] = (),
    touched: Collection[tuple[int, int]] = (),
) -> list[Span]:
    """Return the minutes in [since, until) with a quote of these entries, or of those (asset id, beginning)."""
    quotes = Quote.objects.filter(asset__in=asset_ids, late=False, at__gte=since, at__lt=until).order_by("asset", "at")
    switches = queries.switches_before(until, dict.fromkeys(asset_ids, epoch_microseconds(since)))
    made: list[Span] = []
    # By hand, one minute at a time: where each quote is a minute of its own, groupby() takes as long as all the rest.
    minute: list[Span] = []
    asset, begins, is_wanted = 0, 0, False
    for asset_id, at, price, volume, entry_id in rows_of(quotes, "asset_id", "at", "price", "volume", "entry_id"):
        if at - begins >= _MINUTE or asset_id != asset:
            if is_wanted:
                made.append(merged(minute, at=begins))
            minute, asset, begins, is_wanted = [], asset_id, at - at % _MINUTE, False
        seen = seen_at(at, price, switches[asset_id]) if asset_id in switches else None
        minute.append(Span(asset_id, begins, price, price, price, price, 1, at, at, at, at, volume, 0, 0, seen))
        is_wanted = is_wanted or entry_id in entry_ids or (asset_id, begins) in touched
    if is_wanted:
        made.append(merged(minute, at=begins))
    return made


def _candles(resolution: int, touched: set[tuple[int, int]]) -> list[Span]:
    """Return the candles with these assets and beginnings, made of the stored ones that they consist of."""
    beginnings = {at for _, at in touched}
    stored = Candle.objects.filter(
        asset__in={asset_id for asset_id, _ in touched},
        resolution=_PARTS[resolution],
        at__gte=from_epoch_microseconds(min(beginnings)),
        at__lt=from_epoch_microseconds(max(beginnings) + resolution * 1_000_000),
    )
    parts = map(Span._make, rows_of(stored.order_by("asset_id", "at"), *Span._fields))
    return [merged(some, at=key[1]) for key, some in by_span(parts, resolution) if key in touched]
