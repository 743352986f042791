"""The worth of quantities of many assets by day, summed in SQL: to read every close takes several times as long."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
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


class WorthChange(NamedTuple):
    """By how much a group is worth more at the end of a day than at that of the day before, by its assets with a
    known price; unknown: how many more of its assets have no known price."""

    group: str
    day: date
    worth: Decimal
    unknown: int


_DAY = f"resolution = {Candle.Resolution.DAY:d}"
# Each stretch of one quantity: its worth at its first day's price, the changes of its price, and the end of its worth.
_CHANGES = f"""
    SELECT "group", (day AT TIME ZONE 'UTC')::date, coalesce(sum(worth), 0)::text, coalesce(sum(unknown), 0)
    FROM unnest(%s::text[], %s::bigint[], %s::timestamptz[], %s::timestamptz[], %s::numeric[], %s::timestamptz[],
            %s::numeric[])
        AS held ("group", asset_id, since, until, quantity, newest_at, newest)
    CROSS JOIN LATERAL (
        SELECT greatest(date_trunc('day', at, 'UTC'), since) AS day,
            quantity * (price - lag(price, 1, 0::numeric) OVER (ORDER BY at, is_newest)) AS worth, 0 AS unknown
        FROM (
            (SELECT at, close AS price, false AS is_newest FROM market_candle
                WHERE asset_id = held.asset_id AND {_DAY} AND at <= since ORDER BY at DESC LIMIT 1)
            UNION ALL SELECT at, close, false FROM market_candle
                WHERE asset_id = held.asset_id AND {_DAY} AND at > since AND at < until
            UNION ALL SELECT newest_at, newest, true WHERE newest_at < until
        ) known
        UNION ALL SELECT until, -quantity * (
            SELECT price FROM (
                (SELECT at, close AS price, false AS is_newest FROM market_candle
                    WHERE asset_id = held.asset_id AND {_DAY} AND at < until ORDER BY at DESC LIMIT 1)
                UNION ALL SELECT newest_at, newest, true WHERE newest_at < until
            ) last ORDER BY at DESC, is_newest DESC LIMIT 1
        ), 0
        UNION ALL SELECT day, 0, change
        FROM (
            SELECT least(date_trunc('day', newest_at, 'UTC'), (
                SELECT at FROM market_candle WHERE asset_id = held.asset_id AND {_DAY} ORDER BY at LIMIT 1
            ), until) AS begins
        ) first, LATERAL (VALUES (since, 1), (least(coalesce(begins, until), until), -1)) edge (day, change)
        WHERE coalesce(begins, until) > since
    ) change
    GROUP BY 1, 2
    ORDER BY 2, 1"""  # noqa: S608 (names of our own)


def worth_changes(held: Sequence[Held], *, newest: Mapping[int, tuple[datetime, Decimal]]) -> list[WorthChange]:
    """Return by how much the worth of these quantities changes from day to day, at the closes of days, which are in
    force until the next one; oldest first, and the end of each stretch too. One statement. PostgreSQL only.

    newest: asset id -> (time, price) that is in force from then on. No asset has a split.
    """
    if not held:
        return []
    rows = [(*one, *newest.get(one.asset_id, (None, None))) for one in held]
    with connection.cursor() as cursor:
        cursor.execute(_CHANGES, [list(column) for column in zip(*rows, strict=True)])
        return [WorthChange(group, day, Decimal(worth), unknown) for group, day, worth, unknown in cursor.fetchall()]
