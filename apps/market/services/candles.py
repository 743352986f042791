"""Candles, rolled up from the quotes of a feed's evaluated entries: a copy that is kept for longer than they are."""

import logging
from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import groupby, islice, pairwise
from operator import attrgetter
from typing import Any, NamedTuple

from django.db import OperationalError, connection, transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.db.models.expressions import RawSQL
from django.db.models.functions import TruncDay
from psycopg.errors import QueryCanceled

from apps.market import domain, queries
from apps.market.domain import ONE, Switch, epoch_microseconds, from_epoch_microseconds, price_units, scaled, slot_of
from apps.market.models import Candle, EvaluationCursor, FeedEntry, Quote, RollupCursor

logger = logging.getLogger(__name__)

# One transaction: so long may a prune or a second roll-up have to wait, and so much may a crash cost.
ENTRIES_AT_ONCE, QUOTES_AT_ONCE = 5_000, 50_000
MINUTE, HOUR, DAY = Candle.Resolution
_MINUTE = MINUTE * 1_000_000
# Resolution -> that of the candles it is made of; minutes are made of quotes. Days are not made of minutes, which are
# not kept for ever.
_PARTS: Mapping[int, int] = {HOUR: MINUTE, DAY: HOUR}


class Span(NamedTuple):
    """The quotes of one asset in a span that begins at `at`; a quote is the smallest one. Fields as in `Candle`, times
    in microseconds: PostgreSQL's driver takes ten times as long for a time as for an integer."""

    asset_id: int
    at: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    count: int
    first_at: int
    last_at: int
    low_at: int
    high_at: int
    volume: Decimal | None
    price_time: int
    square_time: int
    seen: Sequence[int] | None = None


_TIMES = ("at", "first_at", "last_at", "low_at", "high_at")
_KEY = ("asset_id", "resolution", "at")
_VALUES = Span._fields[2:]
_UPSERT = """
    INSERT INTO market_candle (resolution, {columns})
    SELECT %s, {values} FROM unnest({arrays}) AS made ({columns})
    ON CONFLICT (asset_id, resolution, at) DO UPDATE SET {changes}
""".format(  # noqa: S608 (names of our own)
    columns=", ".join(Span._fields),
    values=", ".join(
        f"'epoch'::timestamptz + {name} * interval '1 microsecond'" if name in _TIMES else name for name in Span._fields
    ),
    arrays=", ".join(
        f"%s::{'bigint' if name in (*_TIMES, 'asset_id', 'count') else 'jsonb' if name == 'seen' else 'numeric'}[]"
        for name in Span._fields
    ),
    changes=", ".join(f"{name} = excluded.{name}" for name in _VALUES),
)
# A candle that counts more than can be found now stands: quotes that are kept no more make no candle smaller.
_UNLESS_SMALLER = "WHERE excluded.count >= market_candle.count"
_KEYS_AT_ONCE = 500
# COPY's text of a null; rows that are written at once.
_NULL = r"\N"
_ROWS_AT_ONCE = 1_000


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
        _store(added, resolution=MINUTE)
        for resolution in _PARTS:
            added = [_merged(parts, at=at) for (_, at), parts in _by_span(added, resolution)]
            _store(_with_stored(added, resolution=resolution), resolution=resolution)


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
    known = {(one.asset_id, one.at): one for one in map(Span._make, _rows(stored.order_by(), *Span._fields))}
    made: list[Span] = []
    touched = set()
    for one in added:
        wider = known.get((one.asset_id, one.at))
        if wider is None:
            made.append(one)
        elif wider.last_at < one.first_at - one.first_at % _MINUTE:
            made.append(_merged((wider, one), at=one.at))
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
    _store(made, resolution=resolution, unless_smaller=False)


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
    for asset_id, at, price, volume, entry_id in _rows(quotes, "asset_id", "at", "price", "volume", "entry_id"):
        if at - begins >= _MINUTE or asset_id != asset:
            if is_wanted:
                made.append(_merged(minute, at=begins))
            minute, asset, begins, is_wanted = [], asset_id, at - at % _MINUTE, False
        seen = _seen_at(at, price, switches[asset_id]) if asset_id in switches else None
        minute.append(Span(asset_id, begins, price, price, price, price, 1, at, at, at, at, volume, 0, 0, seen))
        is_wanted = is_wanted or entry_id in entry_ids or (asset_id, begins) in touched
    if is_wanted:
        made.append(_merged(minute, at=begins))
    return made


def _by_span(parts: Iterable[Span], resolution: int) -> Iterable[tuple[tuple[int, int], list[Span]]]:
    """Group parts, sorted by asset and time, by asset and the beginning of the candle that they fall into.

    One group at a time: with tens of thousands of lists the garbage collector takes a third of the time.
    """
    span = resolution * 1_000_000
    for key, group in groupby(parts, lambda one: (one.asset_id, one.at - one.at % span)):
        yield key, list(group)


def _seen_at(at: int, price: Decimal, switches: Sequence[Switch]) -> Sequence[int] | None:
    """Return what windows see of a quote, where that is not its price."""
    place = bisect_right(switches, at, key=attrgetter("at"))
    factor = switches[place - 1].factor if place else ONE
    if factor == ONE:
        return None
    seen = scaled(price_units(price), *factor)
    return (seen, at, seen, at, seen, seen, 0, 0)


def _candles(resolution: int, touched: set[tuple[int, int]]) -> list[Span]:
    """Return the candles with these assets and beginnings, made of the stored ones that they consist of."""
    beginnings = {at for _, at in touched}
    stored = Candle.objects.filter(
        asset__in={asset_id for asset_id, _ in touched},
        resolution=_PARTS[resolution],
        at__gte=from_epoch_microseconds(min(beginnings)),
        at__lt=from_epoch_microseconds(max(beginnings) + resolution * 1_000_000),
    )
    parts = map(Span._make, _rows(stored.order_by("asset_id", "at"), *Span._fields))
    return [_merged(some, at=key[1]) for key, some in _by_span(parts, resolution) if key in touched]


def _rows(stored: QuerySet[Any], *names: str) -> Iterable[Sequence[Any]]:
    """Return these columns of rows, times in microseconds."""
    if connection.vendor == "postgresql":
        times = {name: f"{name}_microseconds" for name in names if name in _TIMES}
        stored = stored.annotate(**{alias: _microseconds(name) for name, alias in times.items()})
        return stored.values_list(*(times.get(name, name) for name in names))
    return (
        [epoch_microseconds(value) if name in _TIMES else value for name, value in zip(names, row, strict=True)]
        for row in stored.values_list(*names)
    )


def _microseconds(name: str) -> RawSQL:
    return RawSQL(f"(extract(epoch FROM {name}) * 1000000)::bigint", [])  # noqa: S611 (names of our own)


def _merged(parts: Sequence[Span], *, at: int) -> Span:
    """Return the span that is made of these of one asset, oldest first."""
    first, last = parts[0], parts[-1]
    if len(parts) == 1:
        return first if first.at == at else first._replace(at=at)
    low = high = first
    for part in parts:
        if part.low <= low.low:
            low = part
        if part.high >= high.high:
            high = part
    price_time, square_time = sum(part.price_time for part in parts), sum(part.square_time for part in parts)
    # From one part's last quote to the next part's first its closing price was in force.
    for before, after in pairwise(parts):
        units = price_units(before.close)
        weighted = units * (after.first_at - before.last_at)
        price_time += weighted
        square_time += units * weighted
    volumes = [part.volume for part in parts if part.volume is not None]
    return Span(
        asset_id=first.asset_id,
        at=at,
        open=first.open,
        high=high.high,
        low=low.low,
        close=last.close,
        count=sum(part.count for part in parts),
        first_at=first.first_at,
        last_at=last.last_at,
        low_at=low.low_at,
        high_at=high.high_at,
        volume=min(sum(volumes, Decimal(0)), domain.VOLUME_HIGHEST) if volumes else None,
        price_time=price_time,
        square_time=square_time,
        seen=_seen_in(parts) if any(part.seen is not None for part in parts) else None,
    )


def _seen_in(parts: Sequence[Span]) -> Sequence[int]:
    """Return what windows see of these parts together, as `Candle.seen` has it."""
    views = [one.seen or _as_given(one) for one in parts]
    low_at, low = views[0][1:3]
    high_at, high = views[0][3:5]
    price_time = square_time = 0
    for part, after, view in zip(parts, [*parts[1:], None], views, strict=True):
        if view[2] <= low:
            low_at, low = view[1:3]
        if view[4] >= high:
            high_at, high = view[3:5]
        # From its last quote to the next part's first its closing price was in force.
        weighted = view[5] * (after.first_at - part.last_at) if after is not None else 0
        price_time += view[6] + weighted
        square_time += view[7] + view[5] * weighted
    return (views[0][0], low_at, low, high_at, high, views[-1][5], price_time, square_time)


def _as_given(one: Span) -> Sequence[int]:
    opened, low, high, closed = (price_units(price) for price in (one.open, one.low, one.high, one.close))
    return (opened, one.low_at, low, one.high_at, high, closed, one.price_time, one.square_time)


def _store(made: Sequence[Span], *, resolution: int, unless_smaller: bool = True) -> None:
    """Store candles in place of those that count no more quotes, or of any."""
    if not made:
        return
    if connection.vendor == "postgresql":
        if _is_stored_between(made, resolution=resolution):
            statement = f"{_UPSERT} {_UNLESS_SMALLER}" if unless_smaller else _UPSERT
            with connection.cursor() as cursor:
                cursor.execute(statement, [int(resolution), *map(_array, zip(*made, strict=True))])
        else:
            _copy(made, resolution=resolution)
        return
    times = [from_epoch_microseconds(one.at) for one in made]
    known = Candle.objects.filter(resolution=resolution, at__gte=min(times), at__lte=max(times))
    counts = {
        (asset_id, epoch_microseconds(at)): count
        for asset_id, at, count in known.values_list("asset_id", "at", "count")
    }
    if not unless_smaller:
        counts = {}
    rows = (one._asdict() for one in made if one.count >= counts.get((one.asset_id, one.at), 0))
    Candle.objects.bulk_create(
        (
            Candle(resolution=resolution, **row | {name: from_epoch_microseconds(row[name]) for name in _TIMES})
            for row in rows
        ),
        batch_size=200,
        update_conflicts=True,
        unique_fields=_KEY,
        update_fields=_VALUES,
    )


def _is_stored_between(made: Sequence[Span], *, resolution: int) -> bool:
    """Tell whether one of these assets has a candle between the first and the last of these: by a step into the index
    for each asset."""
    stored = Candle.objects.filter(asset=OuterRef("pk"), resolution=resolution, at__range=_bounds(made))
    return (
        queries.every_asset().filter(pk__in={one.asset_id for one in made}).filter(Exists(stored)).order_by().exists()
    )


def _bounds(made: Sequence[Span]) -> tuple[datetime, datetime]:
    """Return the beginnings of the first and the last of these."""
    times = [one.at for one in made]
    return from_epoch_microseconds(min(times)), from_epoch_microseconds(max(times))


def _copy(made: Sequence[Span], *, resolution: int) -> None:
    """Store candles of which none is there, by COPY: for minutes, of which most are new, in a third of the time.

    If another process made one meanwhile, the primary key refuses the COPY, and the next run upserts.
    """
    columns = f"resolution, {', '.join(Span._fields)}"
    written = _Written()
    rows = (f"{int(resolution)}\t{_copy_row(one, written)}" for one in made)
    with connection.cursor() as cursor, cursor.copy(f"COPY market_candle ({columns}) FROM STDIN") as copy:
        # In pieces, so that PostgreSQL stores one while the next is written.
        while piece := "".join(islice(rows, _ROWS_AT_ONCE)):
            copy.write(piece)


class _Written(dict[int, str]):
    """Microseconds -> the time as COPY reads it; most times are equal."""

    def __missing__(self, at: int) -> str:
        text = self[at] = str(from_epoch_microseconds(at))
        return text


def _copy_row(one: Span, written: _Written) -> str:
    # Unpacked, since a name of a tuple takes longer to look up than a local one, and there are many.
    asset_id, at, opened, high, low, close, count, first_at, last_at, low_at, high_at, volume, *sums, seen = one
    # Of one quote the four prices are one object, which is written once. str() takes a third of the time of a format.
    price = str(opened)
    return (
        f"{asset_id}\t{written[at]}\t{price}\t{price if high is opened else str(high)}\t"
        f"{price if low is opened else str(low)}\t{price if close is opened else str(close)}\t{count}\t"
        f"{written[first_at]}\t{written[last_at]}\t{written[low_at]}\t{written[high_at]}\t"
        f"{_NULL if volume is None else volume}\t{sums[0]}\t{sums[1]}\t{_NULL if seen is None else list(seen)}\n"
    )


def _array(values: Iterable[object]) -> str:
    """Return PostgreSQL's text of an array of numbers, times or lists of them: a driver's array takes five times as
    long."""
    return "{" + ",".join(["NULL" if one is None else _text(one) for one in values]) + "}"


def _text(value: object) -> str:
    return f'"{list(value)}"' if isinstance(value, Sequence) else str(value)
