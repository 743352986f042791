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


# The sums over a cell: the last price of each of its candles was in force up to the first of the next.
_SUMS = f""",
                sum(price_time) + coalesce(sum(close_before * gap), 0) * {UNITS_PER_ONE} AS price_time,
                sum(square_time) + coalesce(sum(close_before * close_before * gap), 0) * {UNITS_PER_ONE**2}::numeric
                    AS square_time"""
_BEFORE_EACH = """, price_time, square_time, lag(close) OVER in_order AS close_before,
                    extract(epoch FROM first_at - lag(last_at) OVER in_order) * 1000000 AS gap"""
# Windows without sums see the lowest and the highest prices alone: a cell shows only until a later one is as extreme in
# both. Its last price was in force until the next cell, which is given too.
_SHOWING = """
        SELECT cell.*, coalesce(lag(shows) OVER (ORDER BY binned), true) AS ends_one
        FROM (
            SELECT cell.*, coalesce(low < min(low) OVER later OR high > max(high) OVER later, true) AS shows
            FROM ({cells}) cell
            WINDOW later AS (ORDER BY binned DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
        ) cell"""


def _grouped(*, with_sums: bool) -> str:
    """Return the statement that gives the candles of each part, those of one cell of the grid as one."""
    cells = f"""
            SELECT binned, min(first_at) AS first_at, max(open) FILTER (WHERE at = first) AS open,
                max(low_at) FILTER (WHERE low = lowest) AS low_at, min(low) AS low,
                max(high_at) FILTER (WHERE high = highest) AS high_at, max(high) AS high,
                max(last_at) AS last_at, max(close) FILTER (WHERE at = last) AS close{_SUMS if with_sums else ""}
            FROM (
                SELECT binned, at, open, low, high, close, first_at, low_at, high_at, last_at,
                    min(low) OVER whole AS lowest, max(high) OVER whole AS highest,
                    min(at) OVER whole AS first, max(at) OVER whole AS last{_BEFORE_EACH if with_sums else ""}
                FROM market_candle,
                    LATERAL (SELECT date_bin(part.grid * interval '1 microsecond', at, {_EPOCH}) AS binned) bin
                WHERE asset_id = part.asset_id AND resolution = part.resolution
                    AND at >= {_time("part.since")} AND at < {_time("part.until")}
                WINDOW in_order AS (PARTITION BY binned ORDER BY at), whole AS (PARTITION BY binned)
            ) known
            GROUP BY binned"""  # noqa: S608 (names of our own)
    sums = ", price_time::numeric(80, 0)::text, square_time::numeric(120, 0)::text"
    return f"""
    SELECT part.asset_id, part.grid, {_microseconds("first_at")}, {_units("open")}, {_microseconds("low_at")},
        {_units("low")}, {_microseconds("high_at")}, {_units("high")}, {_microseconds("last_at")},
        {_units("close")}{sums if with_sums else ""}
    FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[])
        AS part (asset_id, resolution, grid, since, until)
    CROSS JOIN LATERAL ({cells if with_sums else _SHOWING.format(cells=cells)}) cell
    {"" if with_sums else "WHERE shows OR ends_one"}
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


def grouped_paths(
    needs: Mapping[int, Needs], *, with_sums: bool, feed_id: int, up_to_entry: int
) -> dict[int, list[Point | PathCandle]]:
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
    for asset_id, grid, *row in _rows(_grouped(with_sums=with_sums), _columns(parts)):
        first_at, opened, low_at, low, high_at, high, last_at, close, *sums = map(int, row)
        given = Given(opened, low, high, close)
        price_time, square_time = sums or (0, 0)
        candle = (first_at, opened, low_at, low, high_at, high, last_at, close, price_time, square_time, given)
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
