"""Spans read from candles and quotes, and stored as candles."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

from django.db import connection
from django.db.models import Exists, OuterRef, QuerySet
from django.db.models.expressions import RawSQL

from apps.market import queries
from apps.market.domain import epoch_microseconds, from_epoch_microseconds
from apps.market.merging import Span
from apps.market.models import Candle

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
# COPY's text of a null; rows that are written at once.
_NULL = r"\N"
_ROWS_AT_ONCE = 1_000


def rows_of(stored: QuerySet[Any], *names: str) -> Iterable[Sequence[Any]]:
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


def store(made: Sequence[Span], *, resolution: int, unless_smaller: bool = True) -> None:
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
