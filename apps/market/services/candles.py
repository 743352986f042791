"""Candles, rolled up from the quotes of a feed's evaluated entries: a copy that is kept for longer than they are."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import groupby, pairwise

from django.db import connection, transaction

from apps.market import domain
from apps.market.domain import epoch_microseconds, price_units, slot_of
from apps.market.models import Candle, EvaluationCursor, FeedEntry, Quote, RollupCursor

# One transaction: so long may a prune or a second roll-up have to wait, and so much may a crash cost.
ENTRIES_AT_ONCE, QUOTES_AT_ONCE = 5_000, 50_000
# Resolution -> that of the candles it is made of; minutes are made of quotes.
_PARTS: Mapping[int, int | None] = {
    Candle.Resolution.MINUTE: None,
    Candle.Resolution.HOUR: Candle.Resolution.MINUTE,
    # Not of minutes, which are not kept for ever.
    Candle.Resolution.DAY: Candle.Resolution.HOUR,
}
_KEY = ("asset_id", "resolution", "at")
_VALUES = (
    *("open", "high", "low", "close", "count", "first_at", "last_at", "low_at", "high_at"),
    *("volume", "price_time", "square_time"),
)
# A quote is the smallest candle there is.
_QUOTES = """
    SELECT asset_id, at, price AS open, price AS high, price AS low, price AS close, 1 AS count, at AS first_at,
        at AS last_at, at AS low_at, at AS high_at, volume, 0::numeric AS price_time, 0::numeric AS square_time
    FROM market_quote WHERE NOT late"""
_CANDLES = "SELECT * FROM market_candle WHERE resolution = %(parts)s"
# From one part's last quote to the next part's first its closing price was in force.
_ROLL_UP = """
    WITH touched AS (
        SELECT DISTINCT asset_id, date_bin(%(span)s, at, 'epoch') AS begins FROM market_quote
        WHERE entry_id = ANY(%(entries)s) AND NOT late AND at BETWEEN %(first)s AND %(last)s
    ), path AS (
        SELECT part.*, begins, close * 10000000000 AS units, extract(epoch FROM
            lead(first_at) OVER (PARTITION BY asset_id, begins ORDER BY part.at) - last_at) * 1000000 AS lasts
        FROM touched JOIN ({parts}) AS part USING (asset_id)
        WHERE part.at >= begins AND part.at < begins + %(span)s AND part.at >= %(since)s AND part.at < %(until)s
    )
    INSERT INTO market_candle ({columns})
    SELECT asset_id, %(resolution)s, begins,
        (array_agg(open ORDER BY at))[1], max(high), min(low), (array_agg(close ORDER BY at DESC))[1],
        sum(count), min(first_at), max(last_at),
        (array_agg(low_at ORDER BY low, low_at DESC))[1], (array_agg(high_at ORDER BY high DESC, high_at DESC))[1],
        CASE WHEN count(volume) > 0 THEN least(sum(volume), %(volume_highest)s) END,
        sum(price_time + coalesce(units * lasts, 0)), sum(square_time + coalesce(units * units * lasts, 0))
    FROM path GROUP BY asset_id, begins
    ON CONFLICT (asset_id, resolution, at) DO UPDATE SET {changes}
    WHERE excluded.count >= market_candle.count"""


def roll_up(*, feed_id: int) -> bool:
    """Roll up the next evaluated entries of a feed's log, in a transaction of its own, and move the position on.

    An entry is passed once each minute in it is over by the feed's clock. What it touches is made anew of what is
    stored, so it may run twice. False: there is nothing more for now, or somebody else is at it.
    """
    if not RollupCursor.objects.filter(pk=feed_id).exists():
        RollupCursor.objects.get_or_create(feed_id=feed_id)
    with transaction.atomic():
        position = RollupCursor.objects.select_for_update(skip_locked=True, no_key=True).filter(pk=feed_id).first()
        piece = _next_piece(feed_id, after_seq=position.seq) if position else []
        if position is None or not piece:
            return False
        quoted = [entry for entry in piece if entry.accepted]
        if quoted:
            first, last = min(entry.first_at for entry in quoted), max(entry.last_at for entry in quoted)
            for resolution in _PARTS:
                _roll_up_to(resolution, [entry.pk for entry in quoted], first=first, last=last)
        position.seq = piece[-1].seq
        position.save(update_fields=["seq"])
    return True


def _next_piece(feed_id: int, *, after_seq: int) -> list[FeedEntry]:
    """Return the entries after this one that can be passed, in order."""
    evaluated = EvaluationCursor.objects.values_list("seq", flat=True).get(pk=feed_id)
    log = FeedEntry.objects.filter(feed=feed_id, seq__lte=evaluated)
    # A change of rules before the first answer carries the wall clock, which for a recording is not the log's.
    clock = log.exclude(kind=FeedEntry.Kind.RULES).order_by("-seq").values_list("as_of", flat=True).first()
    piece: list[FeedEntry] = []
    quotes = 0
    for entry in log.filter(seq__gt=after_seq).order_by("seq")[:ENTRIES_AT_ONCE]:
        quotes += entry.accepted
        if piece and quotes > QUOTES_AT_ONCE:
            break
        if entry.accepted and _after(entry.last_at, Candle.Resolution.MINUTE) > clock:
            break
        piece.append(entry)
    return piece


def _after(at: datetime, resolution: int) -> datetime:
    """Return the end of the candle that `at` falls into."""
    return slot_of(at=at, interval_seconds=resolution) + timedelta(seconds=resolution)


def _roll_up_to(resolution: int, entry_ids: Sequence[int], *, first: datetime, last: datetime) -> None:
    """Make the candles of one resolution anew that quotes of these entries fall into; they lie in [first, last].

    Quotes that are kept no more make no candle smaller: one that counts more than can be found now stands.
    """
    since, until = slot_of(at=first, interval_seconds=resolution), _after(last, resolution)
    parts = _PARTS[resolution]
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(
                _ROLL_UP.format(
                    parts=_QUOTES if parts is None else _CANDLES,
                    columns=", ".join((*_KEY, *_VALUES)),
                    changes=", ".join(f"{name} = excluded.{name}" for name in _VALUES),
                ),
                {
                    "entries": list(entry_ids),
                    "span": timedelta(seconds=resolution),
                    "resolution": int(resolution),
                    "parts": parts,
                    "volume_highest": domain.VOLUME_HIGHEST,
                    **{"first": first, "last": last, "since": since, "until": until},
                },
            )
        return
    quotes = Quote.objects.filter(entry__in=entry_ids, late=False, at__gte=first, at__lte=last)
    touched = {
        (asset_id, slot_of(at=at, interval_seconds=resolution)) for asset_id, at in quotes.values_list("asset_id", "at")
    }
    known = Candle.objects.filter(resolution=resolution, at__gte=since, at__lt=until)
    counts = {(asset_id, at): count for asset_id, at, count in known.values_list("asset_id", "at", "count")}
    made = []
    for asset_id in sorted({asset_id for asset_id, _ in touched}):
        path = _parts_of(asset_id, parts=parts, since=since, until=until)
        for begins, group in groupby(path, key=lambda part: slot_of(at=part.at, interval_seconds=resolution)):
            if (asset_id, begins) in touched:
                made.append(_merged(list(group), resolution=resolution, at=begins))
    Candle.objects.bulk_create(
        [one for one in made if one.count >= counts.get((one.asset_id, one.at), 0)],
        batch_size=200,
        update_conflicts=True,
        unique_fields=_KEY,
        update_fields=_VALUES,
    )


def _parts_of(asset_id: int, *, parts: int | None, since: datetime, until: datetime) -> Iterable[Candle]:
    """Return what the candles of an asset in [since, until) are made of, oldest first."""
    if parts is not None:
        return Candle.objects.filter(asset=asset_id, resolution=parts, at__gte=since, at__lt=until).order_by("at")
    quotes = Quote.objects.filter(asset=asset_id, late=False, at__gte=since, at__lt=until).order_by("at")
    return [
        Candle(
            **{"asset_id": asset_id, "at": at, "open": price, "high": price, "low": price, "close": price, "count": 1},
            **{"first_at": at, "last_at": at, "low_at": at, "high_at": at, "volume": volume},
            **{"price_time": 0, "square_time": 0},
        )
        for at, price, volume in quotes.values_list("at", "price", "volume")
    ]


def _merged(parts: Sequence[Candle], *, resolution: int, at: datetime) -> Candle:
    """Return the candle that is made of these, oldest first: as SQL does above."""
    low = min(parts, key=lambda part: (part.low, -epoch_microseconds(part.low_at)))
    high = max(parts, key=lambda part: (part.high, part.high_at))
    price_time, square_time = sum(part.price_time for part in parts), sum(part.square_time for part in parts)
    for before, after in pairwise(parts):
        units = price_units(before.close)
        lasts = epoch_microseconds(after.first_at) - epoch_microseconds(before.last_at)
        price_time += units * lasts
        square_time += units * units * lasts
    volumes = [part.volume for part in parts if part.volume is not None]
    return Candle(
        asset_id=parts[0].asset_id,
        resolution=resolution,
        at=at,
        open=parts[0].open,
        high=high.high,
        low=low.low,
        close=parts[-1].close,
        count=sum(part.count for part in parts),
        first_at=parts[0].first_at,
        last_at=parts[-1].last_at,
        low_at=low.low_at,
        high_at=high.high_at,
        volume=min(sum(volumes, Decimal(0)), domain.VOLUME_HIGHEST) if volumes else None,
        price_time=price_time,
        square_time=square_time,
    )
