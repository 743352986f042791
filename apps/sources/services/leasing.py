"""The lease under which one slot of a feed is fetched, and the head of the log saved at its end.

Each slot of each feed runs these statements. They are written by hand, since Django needs more time to build such a
statement than PostgreSQL needs to run it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any

from django.db import connection

from apps.leases import lease_time, take_lease_sql
from apps.market.models import Feed, FeedHead
from apps.sources.models import FeedSource

# Longer than a provider call may take (10 s). A worker that outlives its lease is fenced off, so a short one costs no
# safety, and a fetcher that was killed holds up its feed no longer than this.
FETCH_LEASE = timedelta(seconds=30)

_TAKE = take_lease_sql(
    "market_feedhead",
    where="feed_id = (SELECT id FROM market_feed WHERE id = %s AND id > 0 AND is_enabled) AND next_slot <= %s",
    columns=", ".join(field.column for field in FeedHead._meta.concrete_fields),
)
# Heads whose lock somebody holds are left out, so that the others need not wait.
_TAKE_FREE = take_lease_sql(
    "market_feedhead",
    where="""feed_id IN (
        SELECT head.feed_id FROM unnest(%s::bigint[], %s::timestamptz[]) AS due (feed_id, slot)
        JOIN market_feedhead head ON head.feed_id = due.feed_id JOIN market_feed feed ON feed.id = head.feed_id
        WHERE feed.id > 0 AND feed.is_enabled AND head.next_slot <= due.slot
        ORDER BY head.feed_id FOR NO KEY UPDATE OF head SKIP LOCKED
    )""",
    columns=", ".join(field.column for field in FeedHead._meta.concrete_fields),
)
_FEEDS_AND_SOURCES = f"""
    SELECT {", ".join(f"feed.{field.column}" for field in Feed._meta.concrete_fields)},
        source.id AS source_id, position, provider, options
    FROM market_feed feed LEFT JOIN sources_feedsource source ON source.feed_id = feed.id
    WHERE feed.id IN ({{marks}}) ORDER BY position"""  # noqa: S608 (constants)
# Columns of the head that a fetch changes.
_FETCHED = [
    FeedHead._meta.get_field(name)
    for name in (
        *("seq", "as_of", "began_at", "last_slot", "next_slot", "turn", "failures", "totals"),
        *("lease_until", "redispatch_at"),
    )
]
_SAVE = f"""
    UPDATE market_feedhead SET {", ".join(f"{field.column} = %({field.attname})s" for field in _FETCHED)}
    WHERE feed_id = %(feed)s
      AND %(interval)s = (SELECT interval_seconds FROM market_feed WHERE id = %(feed)s)"""  # noqa: S608 (constants)


@dataclass(frozen=True, slots=True)
class FetchLease:
    """The right to fetch one slot of one feed, until another takes it over; `fence` tells the two apart. sources: in
    the order in which they are asked."""

    feed: Feed
    slot: datetime
    fence: int
    head: FeedHead
    sources: list[FeedSource]


def take_fetch_lease(*, feed_id: int, slot: datetime) -> FetchLease | None:
    """Return the lease to fetch `slot`, or None where it is answered already, or somebody is fetching, or the feed is
    paused."""
    until = connection.ops.adapt_datetimefield_value(slot)
    facts = [lease_time(FETCH_LEASE), feed_id, until]
    heads = list(FeedHead.objects.raw(_TAKE[connection.vendor], facts))
    return next(iter(_leases(heads, {feed_id: slot})), None)


def take_fetch_leases(slots: Mapping[int, datetime]) -> list[FetchLease]:
    """Take the lease of each feed's slot, as take_fetch_lease does, but for feeds whose head is locked at this moment,
    and return them in order of feed. Two statements, on PostgreSQL alone."""
    facts = [lease_time(FETCH_LEASE), list(slots), list(slots.values())]
    return _leases(list(FeedHead.objects.raw(_TAKE_FREE["postgresql"], facts)), slots)


def _leases(heads: Sequence[FeedHead], slots: Mapping[int, datetime]) -> list[FetchLease]:
    """Return the leases that were taken on these heads, with their feeds and sources; one statement."""
    if not heads:
        return []
    rows_of: dict[int, list[Any]] = {}
    statement = _FEEDS_AND_SOURCES.format(marks=", ".join(["%s"] * len(heads)))
    for row in Feed.objects.raw(statement, [head.feed_id for head in heads]):
        rows_of.setdefault(row.pk, []).append(row)
    leases = []
    for head in sorted(heads, key=attrgetter("feed_id")):
        rows = rows_of[head.feed_id]
        head.feed = feed = rows[0]
        sources = [
            FeedSource(
                pk=row.source_id,
                feed=feed,
                position=row.position,
                provider=row.provider,
                options=json.loads(row.options),
            )
            for row in rows
            if row.source_id is not None
        ]
        leases.append(FetchLease(feed=feed, slot=slots[feed.pk], fence=head.fence, head=head, sources=sources))
    return leases


def save_fetched(head: FeedHead, *, interval_seconds: int) -> bool:
    """Save the head of a log at the end of a fetch, under its lock, if the feed's interval is still this one, and tell
    whether it is."""
    written = {field.attname: field.get_db_prep_save(getattr(head, field.attname), connection) for field in _FETCHED}
    with connection.cursor() as cursor:
        cursor.execute(_SAVE, written | {"feed": head.feed_id, "interval": interval_seconds})
        return cursor.rowcount > 0
