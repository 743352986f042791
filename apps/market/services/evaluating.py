"""The pending entry of a feed's log, taken under the lock of its evaluation cursor, and marked once it is evaluated.

Each slot of each feed runs these statements. They are written by hand, since Django needs more time to build such a
statement than PostgreSQL needs to run it.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from django.db import connection

from apps.market.models import FeedEntry
from apps.totals import Totals

_COLUMNS = ", ".join(f"entry.{field.column}" for field in FeedEntry._meta.concrete_fields)
_TAKE = f"""
    SELECT {_COLUMNS}, evaluated.feed_id AS evaluated_feed_id, evaluated.seq AS evaluated_seq,
        evaluated.totals AS evaluated_totals
    FROM market_evaluationcursor evaluated
    LEFT JOIN market_feedentry entry ON entry.feed_id = evaluated.feed_id AND entry.seq = evaluated.seq + 1
    WHERE evaluated.feed_id IN ({{marks}})"""  # noqa: S608 (constants)
_LOCKED = {"postgresql": " FOR NO KEY UPDATE OF evaluated SKIP LOCKED", "sqlite": ""}
_MARK_ENTRY = "UPDATE market_feedentry SET evaluated_at = %(at)s WHERE id = %(entry)s"
# The dispatched evaluation has run, so quotes that are pushed from now on may dispatch the next one.
_MOVE_CURSOR = """
    UPDATE market_evaluationcursor SET seq = %(seq)s, redispatch_at = NULL, totals = %(totals)s
    WHERE feed_id = %(feed)s"""
_MARK = {
    "postgresql": [f"WITH marked AS ({_MARK_ENTRY}) {_MOVE_CURSOR}"],
    "sqlite": [_MARK_ENTRY, _MOVE_CURSOR],
}
_MARK_ALL = """
    WITH done AS (
        SELECT * FROM unnest(%(entries)s::bigint[], %(feeds)s::bigint[], %(seqs)s::bigint[], %(totals)s::jsonb[])
            AS done (entry_id, feed_id, seq, totals)
    ), marked AS (
        UPDATE market_feedentry SET evaluated_at = %(at)s FROM done WHERE id = done.entry_id
    )
    UPDATE market_evaluationcursor evaluated SET seq = done.seq, redispatch_at = NULL, totals = done.totals
    FROM done WHERE evaluated.feed_id = done.feed_id"""


class Pending(NamedTuple):
    """A feed whose evaluation cursor is locked. entry: the next one of its log, None where all are evaluated; seq,
    totals: the cursor's."""

    entry: FeedEntry | None
    seq: int
    totals: Totals


def take_pending(*, feed_id: int) -> Pending | None:
    """Lock a feed's evaluation cursor until the caller's transaction ends, and return the entry behind it; None where
    another worker holds the lock. One statement.

    Where the cursor is moved on and released at this very moment, no entry is found, though there may be one.
    """
    return take_pending_of([feed_id]).get(feed_id)


def take_pending_of(feed_ids: Sequence[int]) -> dict[int, Pending]:
    """Do the same for several feeds, by one statement, and return feed id -> what is pending, without those whose lock
    another worker holds."""
    statement = _TAKE.format(marks=", ".join(["%s"] * len(feed_ids))) + _LOCKED[connection.vendor]
    return {
        row.evaluated_feed_id: Pending(
            row if row.pk is not None else None, row.evaluated_seq, json.loads(row.evaluated_totals)
        )
        for row in FeedEntry.objects.raw(statement, list(feed_ids))
    }


def mark_evaluated(entry: FeedEntry, *, at: datetime, totals: Totals) -> None:
    """Note that an entry is evaluated, and move its feed's cursor behind it, whose lock the caller holds. totals: the
    cursor's from now on. One statement on PostgreSQL."""
    entry.evaluated_at = at
    written = {
        "at": connection.ops.adapt_datetimefield_value(at),
        "entry": entry.pk,
        "seq": entry.seq,
        "totals": json.dumps(totals),
        "feed": entry.feed_id,
    }
    with connection.cursor() as cursor:
        for statement in _MARK[connection.vendor]:
            cursor.execute(statement, written)


def mark_all_evaluated(evaluated: Sequence[tuple[FeedEntry, Totals]], *, at: datetime) -> None:
    """Do the same for entries of several feeds, each with the totals of its feed's cursor from now on: one statement,
    on PostgreSQL alone."""
    if not evaluated:
        return
    for entry, _ in evaluated:
        entry.evaluated_at = at
    entries, totals = zip(*evaluated, strict=True)
    written = {
        "at": at,
        "entries": [entry.pk for entry in entries],
        "feeds": [entry.feed_id for entry in entries],
        "seqs": [entry.seq for entry in entries],
        "totals": [json.dumps(one) for one in totals],
    }
    with connection.cursor() as cursor:
        cursor.execute(_MARK_ALL, written)
