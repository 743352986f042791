"""The pending entry of a feed's log, taken under the lock of its evaluation cursor, and marked once it is evaluated.

Each slot of each feed runs these statements. They are written by hand, since Django needs more time to build such a
statement than PostgreSQL needs to run it.
"""

import json
from datetime import datetime
from typing import NamedTuple

from django.db import connection

from apps.market.models import FeedEntry
from apps.totals import Totals

_COLUMNS = ", ".join(f"entry.{field.column}" for field in FeedEntry._meta.concrete_fields)
_TAKE = f"""
    SELECT {_COLUMNS}, evaluated.seq AS evaluated_seq, evaluated.totals AS evaluated_totals
    FROM market_evaluationcursor evaluated
    LEFT JOIN market_feedentry entry ON entry.feed_id = evaluated.feed_id AND entry.seq = evaluated.seq + 1
    WHERE evaluated.feed_id = %s"""  # noqa: S608 (constants)
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
    found = next(iter(FeedEntry.objects.raw(_TAKE + _LOCKED[connection.vendor], [feed_id])), None)
    if found is None:
        return None
    entry = found if found.pk is not None else None
    return Pending(entry, found.evaluated_seq, json.loads(found.evaluated_totals))


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
