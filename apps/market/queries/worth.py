"""The worth of quantities of many assets by day, summed in SQL: to read every close takes several times as long."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from operator import attrgetter
from typing import NamedTuple

from django.db import connection

from apps.market.models import Candle


class Held(NamedTuple):
    """A quantity of an asset that was held from one day to the day before another one; group: what it is summed
    with."""

    group: str
    asset_id: int
    since: date
    until: date
    quantity: Decimal


class DayWorth(NamedTuple):
    """Of a group on a day: worth: of its assets with a close of that day; change: by how much its other worth is more
    than on the day before; unknown: how many more of its assets have no known price."""

    group: str
    day: date
    worth: Decimal
    change: Decimal
    unknown: int


_DAY = f"resolution = {Candle.Resolution.DAY:d}"
# The closes of days are read in one pass, in the order of the disk, and summed by hashing: so the planner chooses where
# it does not know the ids, and knows the times. What is in force on days without a close is found by the times of
# closes, mostly from the index alone.
_WORTH = f"""
    WITH held AS (
        SELECT * FROM unnest(%s::text[], %s::bigint[], %s::timestamptz[], %s::timestamptz[], %s::numeric[],
                %s::timestamptz[], %s::numeric[])
            AS held ("group", asset_id, since, until, quantity, newest_at, newest)
    ), asset AS (
        SELECT "group", asset_id, array_agg(since ORDER BY since) AS since, array_agg(until ORDER BY since) AS until,
            array_agg(quantity ORDER BY since) AS quantity
        FROM held GROUP BY 1, 2
    ), change AS (
        -- A close that is in force on days without one of their own: until the next one.
        SELECT "group", edge.day, edge.sign * quantity * close AS worth, 0 AS unknown
        FROM held
        CROSS JOIN LATERAL (
            SELECT at, greatest(at + interval '24 hours', since) AS begins,
                coalesce(lead(at) OVER (ORDER BY at), until) AS ends
            FROM (
                (SELECT at FROM market_candle
                    WHERE asset_id = held.asset_id AND {_DAY} AND at < since ORDER BY at DESC LIMIT 1)
                UNION ALL SELECT at FROM market_candle
                    WHERE asset_id = held.asset_id AND {_DAY} AND at >= since AND at < until
            ) known
        ) gap
        CROSS JOIN LATERAL (
            SELECT close FROM market_candle WHERE asset_id = held.asset_id AND {_DAY} AND at = gap.at
        ) candle
        CROSS JOIN LATERAL (VALUES (begins, 1), (ends, -1)) edge (day, sign)
        WHERE begins < ends
        -- The newest price, in place of the close before it: until the next close.
        UNION ALL SELECT "group", edge.day, edge.sign * quantity * (newest - coalesce((
            SELECT close FROM market_candle
            WHERE asset_id = held.asset_id AND {_DAY} AND at <= newest_at ORDER BY at DESC LIMIT 1
        ), 0)), 0
        FROM held
        CROSS JOIN LATERAL (
            SELECT greatest(date_trunc('day', newest_at, 'UTC'), since) AS begins, least((
                SELECT at FROM market_candle
                WHERE asset_id = held.asset_id AND {_DAY} AND at > newest_at ORDER BY at LIMIT 1
            ), until) AS ends
        ) newer
        CROSS JOIN LATERAL (VALUES (begins, 1), (ends, -1)) edge (day, sign)
        WHERE newest_at < until AND begins < ends
        -- Days before the first price.
        UNION ALL SELECT "group", edge.day, 0, edge.sign
        FROM held
        CROSS JOIN LATERAL (
            SELECT least(date_trunc('day', newest_at, 'UTC'), (
                SELECT at FROM market_candle WHERE asset_id = held.asset_id AND {_DAY} ORDER BY at LIMIT 1
            ), until) AS begins
        ) first
        CROSS JOIN LATERAL (VALUES (since, 1), (begins, -1)) edge (day, sign)
        WHERE since < begins
    )
    SELECT "group", at AT TIME ZONE 'UTC', sum(quantity[place] * close)::text, '0', 0
    FROM (SELECT * FROM market_candle JOIN asset USING (asset_id)) valued
    CROSS JOIN LATERAL (SELECT width_bucket(at, since) AS place) one
    WHERE {_DAY} AND asset_id = ANY (ARRAY(SELECT asset_id FROM held))
        AND at >= %s::timestamptz AND at < %s::timestamptz AND place > 0 AND at < until[place]
    GROUP BY 1, 2
    UNION ALL
    SELECT "group", day AT TIME ZONE 'UTC', '0', sum(worth)::text, sum(unknown) FROM change GROUP BY 1, 2"""  # noqa: S608 (names of our own)


def worth_by_day(held: Sequence[Held], *, newest: Mapping[int, tuple[datetime, Decimal]]) -> list[DayWorth]:
    """Return what these quantities are worth on days, at the closes of days, each of which is in force until the next
    one; oldest first, up to the end of each stretch. A day of a group may come twice: the rows are to be added. One
    statement. PostgreSQL only.

    newest: asset id -> (time, price) that is in force from then on. No asset has a split.
    """
    if not held:
        return []
    rows = [(*one, *newest.get(one.asset_id, (None, None))) for one in held]
    with connection.cursor() as cursor:
        columns = [list(column) for column in zip(*rows, strict=True)]
        first, last = min(one.since for one in held), max(one.until for one in held)
        cursor.execute(_WORTH, [*columns, first, last])
        found = [
            DayWorth(group, at.date(), Decimal(worth), Decimal(change), unknown)
            for group, at, worth, change, unknown in cursor.fetchall()
        ]
    return sorted(found, key=attrgetter("day"))
