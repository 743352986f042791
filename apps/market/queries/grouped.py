"""The price paths that windows of many assets are filled from: of candles, grouped to the windows' grids in SQL. They
give exactly what the quotes would, in a few rows of each asset."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import Min, OuterRef, Subquery

from apps.market.domain import UNITS_PER_ONE, Given, PathCandle, epoch_microseconds
from apps.market.models import FORWARD_KINDS, Asset, Candle, FeedEntry, ProviderSwitch, Quote, RollupCursor, Split
from apps.market.queries.log import asset_ids_of

# The parts of its past that an asset's windows need: (grid, how far back) in microseconds, the finest grid first.
Needs = Sequence[tuple[int, int]]
Point = tuple[int, int]

SECOND = 1_000_000
MINUTE, HOUR, DAY = (int(one) * SECOND for one in Candle.Resolution)
# Where the roll-up is further behind than this, quotes are read one by one.
ROLLED_UP_WITHIN = DAY
_EPOCH = "'epoch'::timestamptz"


def _microseconds(time: str) -> str:
    return f"(extract(epoch FROM {time}) * 1000000)::bigint"


def _units(price: str) -> str:
    return f"({price} * {UNITS_PER_ONE})::numeric(60, 0)::text"


def _time(microseconds: str) -> str:
    return f"{_EPOCH} + {microseconds} * interval '1 microsecond'"


# The candles of each part (of one asset, in [since, until)), those of one cell of the grid as one.
_GROUPED = f"""
    SELECT part.asset_id, part.grid, cell.*
    FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[])
        AS part (asset_id, resolution, grid, since, until)
    CROSS JOIN LATERAL (
        SELECT {_microseconds("min(first_at)")}, {_units("max(open) FILTER (WHERE close_before IS NULL)")},
            {_microseconds("max(low_at) FILTER (WHERE low = lowest)")}, {_units("min(low)")},
            {_microseconds("max(high_at) FILTER (WHERE high = highest)")}, {_units("max(high)")},
            {_microseconds("max(last_at)")}, {_units("max(close) FILTER (WHERE next IS NULL)")},
            (sum(price_time) + coalesce(sum(close_before * gap), 0) * {UNITS_PER_ONE})::numeric(80, 0)::text,
            (sum(square_time) + coalesce(sum(close_before * close_before * gap), 0) * {UNITS_PER_ONE**2}::numeric)
                ::numeric(120, 0)::text
        FROM (
            SELECT *, extract(epoch FROM first_at - last_before) * 1000000 AS gap,
                min(low) OVER (PARTITION BY binned) AS lowest, max(high) OVER (PARTITION BY binned) AS highest
            FROM (
                SELECT candle.*, binned, lag(close) OVER in_order AS close_before,
                    lag(last_at) OVER in_order AS last_before, lead(at) OVER in_order AS next
                FROM market_candle candle,
                    LATERAL (SELECT date_bin(part.grid * interval '1 microsecond', at, {_EPOCH}) AS binned) bin
                WHERE asset_id = part.asset_id AND resolution = part.resolution
                    AND at >= {_time("part.since")} AND at < {_time("part.until")}
                WINDOW in_order AS (PARTITION BY binned ORDER BY at)
            ) joined
        ) known
        GROUP BY binned
    ) cell
    ORDER BY 1, 3"""  # noqa: S608 (names of our own)
# The assets of which minutes are missing that hours tell of: they are not kept for ever.
_WITHOUT_MINUTES = f"""
    SELECT DISTINCT part.asset_id
    FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[]) AS part (asset_id, since, until)
    JOIN market_candle hour ON hour.asset_id = part.asset_id AND hour.resolution = {Candle.Resolution.HOUR:d}
        AND hour.at >= {_time("part.since")} AND hour.at < {_time("part.until")}
    WHERE NOT EXISTS (
        SELECT FROM market_candle minute
        WHERE minute.asset_id = part.asset_id AND minute.resolution = {Candle.Resolution.MINUTE:d}
            AND minute.at = date_bin(interval '1 minute', hour.first_at, {_EPOCH})
    )"""  # noqa: S608
# The last price before each part.
_BEFORE = f"""
    SELECT part.asset_id, {_microseconds("last_at")}, {_units("close")}
    FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[]) AS part (asset_id, resolution, since)
    CROSS JOIN LATERAL (
        SELECT last_at, close FROM market_candle
        WHERE asset_id = part.asset_id AND resolution = part.resolution AND at < {_time("part.since")}
        ORDER BY at DESC LIMIT 1
    ) before"""  # noqa: S608
# The quotes of each asset from `since` on, and so many before.
_QUOTED = f"""
    SELECT part.asset_id, {_microseconds("at")}, {_units("price")}
    FROM unnest(%s::bigint[], %s::bigint[], %s::int[]) AS part (asset_id, since, before)
    CROSS JOIN LATERAL (
        SELECT at, price FROM market_quote
        WHERE asset_id = part.asset_id AND NOT late AND entry_id <= %s AND at >= {_time("part.since")}
        UNION ALL (
            SELECT at, price FROM market_quote
            WHERE asset_id = part.asset_id AND NOT late AND entry_id <= %s AND at < {_time("part.since")}
            ORDER BY at DESC LIMIT part.before
        )
    ) quoted
    ORDER BY 1, 2"""  # noqa: S608


class _Part(NamedTuple):
    """A stretch of an asset's past, told by candles of a resolution, grouped to a grid: [since, until)."""

    asset_id: int
    resolution: int
    grid: int
    since: int
    until: int


def grouped_paths(needs: Mapping[int, Needs], *, feed_id: int, up_to_entry: int) -> dict[int, list[Point | PathCandle]]:
    """Return the paths of those of these assets whose candles say at this place in the log what their quotes would. The
    others are to be read quote by quote, and so are all on SQLite.

    A path is what `stored_path` says, of which windows with these grids see the same. The same few statements for any
    number of assets.
    """
    if connection.vendor != "postgresql" or not needs:
        return {}
    # A window that looks far back without a grid needs each quote.
    with_grid = {one for one, grids in needs.items() if not any(grid < MINUTE and back > HOUR for grid, back in grids)}
    plain = with_grid - _read_by_quote(with_grid, up_to_entry=up_to_entry)
    newest = _newest_quotes(plain, up_to_entry=up_to_entry)
    not_rolled_up = _first_not_rolled_up(plain, feed_id=feed_id, up_to_entry=up_to_entry)
    parts: list[_Part] = []
    quoted_since: dict[int, tuple[int, int]] = {}  # asset id -> since, how many before
    for asset_id, at in newest.items():
        until = min(at, not_rolled_up.get(asset_id, at))
        until -= until % MINUTE
        if at - until > ROLLED_UP_WITHIN:
            continue
        its_parts, since = _parts_of(asset_id, needs[asset_id], newest=at, until=until)
        parts += its_parts
        quoted_since[asset_id] = (since, 0 if its_parts else 2)
    given_by_minutes = (
        (one.asset_id, one.since - one.since % HOUR, one.until) for one in parts if one.resolution * SECOND == MINUTE
    )
    without_minutes = {asset_id for (asset_id,) in _rows(_WITHOUT_MINUTES, _columns(given_by_minutes))}
    parts = [part for part in parts if part.asset_id not in without_minutes]
    for asset_id in without_minutes:
        del quoted_since[asset_id]
    paths: dict[int, list[Point | PathCandle]] = {asset_id: [] for asset_id in quoted_since}
    first_of = {part.asset_id: part for part in sorted(parts, key=lambda part: -part.since)}
    for asset_id, last_at, close in _rows(_BEFORE, _columns((one[0], one[1], one[3]) for one in first_of.values())):
        paths[asset_id].append((last_at, int(close)))
    for asset_id, grid, *row in _rows(_GROUPED, _columns(parts)):
        first_at, opened, low_at, low, high_at, high, last_at, close, *sums = map(int, row)
        given = Given(opened, low, high, close)
        candle = (first_at, opened, low_at, low, high_at, high, last_at, close, *sums, given)
        paths[asset_id].append(PathCandle(grid, *candle))
    counts = _columns((asset_id, *span) for asset_id, span in quoted_since.items())
    for asset_id, at, units in _rows(_QUOTED, [*counts, up_to_entry, up_to_entry] if counts else []):
        paths[asset_id].append((at, int(units)))
    return {
        asset_id: path
        for asset_id, path in paths.items()
        # Where its quotes do not reach back to the price in force, candles may.
        if not needs[asset_id] or quoted_since[asset_id][1] == 0 or (path and _at(path[0]) <= quoted_since[asset_id][0])
    }


def _at(one: Point | PathCandle) -> int:
    return one.first_at if isinstance(one, PathCandle) else one[0]


def _parts_of(asset_id: int, needs: Needs, *, newest: int, until: int) -> tuple[list[_Part], int]:
    """Return the parts of an asset's past that candles tell, and from when on its quotes are to be read.

    until: up to when all its quotes are in candles. Where two parts meet is a multiple of the finer grid, by which no
    window with the coarser one is misled: of a cell it may take several pieces.
    """
    edges = [(grid, newest - back) for grid, back in needs]
    end = quotes_since = min([until, *(edge - edge % MINUTE for grid, edge in edges if grid < MINUTE)])
    parts: list[_Part] = []
    for grid, edge in edges:
        begin = since = min(edge - edge % grid, end)
        for resolution in (DAY, HOUR, MINUTE):
            # Of an hour or a day that goes on, its finer candles.
            last = end - end % resolution
            if grid % resolution == 0 and since < last:
                parts.append(_Part(asset_id, resolution // SECOND, grid, since, last))
                since = last
        if grid >= MINUTE:
            end = begin
    return parts, quotes_since


def _read_by_quote(asset_ids: Iterable[int], *, up_to_entry: int) -> set[int]:
    """Return the assets of which candles do not say what quotes say at this place in the log: their prices are read
    through splits, or windows see them by the factors of providers, or their past was changed after it."""
    later = FeedEntry.objects.filter(pk__gt=up_to_entry).exclude(kind__in=FORWARD_KINDS)
    found = set(Split.objects.filter(asset__in=list(asset_ids)).values_list("asset_id", flat=True))
    found |= set(ProviderSwitch.objects.filter(asset__in=list(asset_ids)).values_list("asset_id", flat=True).distinct())
    return found.union(*asset_ids_of(list(later)).values())


def _newest_quotes(asset_ids: Iterable[int], *, up_to_entry: int) -> dict[int, int]:
    """Return asset id -> the time of its newest quote at this place in the log that is not late, where it is kept."""
    quotes = Quote.objects.filter(asset=OuterRef("pk"), late=False, entry__lte=up_to_entry)
    newest = Subquery(quotes.order_by("-at").values("at")[:1])
    rows = Asset.every.filter(pk__in=list(asset_ids)).order_by().annotate(newest=newest)
    return {pk: epoch_microseconds(at) for pk, at in rows.values_list("pk", "newest") if at is not None}


def _first_not_rolled_up(asset_ids: Iterable[int], *, feed_id: int, up_to_entry: int) -> dict[int, int]:
    """Return asset id -> the time of its oldest quote up to this place in the feed's log that is not in candles yet."""
    rolled_up = RollupCursor.objects.filter(pk=feed_id).values_list("seq", flat=True).first() or 0
    waiting = FeedEntry.objects.filter(feed=feed_id, seq__gt=rolled_up, pk__lte=up_to_entry, accepted__gt=0)
    entries: list[tuple[int, datetime, datetime]] = list(waiting.values_list("pk", "first_at", "last_at"))
    if not entries:
        return {}
    quotes = Quote.objects.filter(
        entry__in=[pk for pk, _, _ in entries],
        asset__in=list(asset_ids),
        late=False,
        at__gte=min(first for _, first, _ in entries),
        at__lte=max(last for _, _, last in entries),
    )
    oldest = quotes.order_by().values_list("asset_id").annotate(oldest=Min("at"))
    return {asset_id: epoch_microseconds(at) for asset_id, at in oldest}


def _columns(rows: Iterable[Sequence[int]]) -> list[list[int]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _rows(statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
    if not parameters:
        return []
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall()
