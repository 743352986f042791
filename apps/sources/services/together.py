"""Slots of several small feeds fetched together: the same reads and one statement that stores, for all of them.

Each feed has a lease of its own. Only for feeds that `feeds_fetched_together` allows: a provider that keeps one
waiting would keep all of them waiting.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import NamedTuple

from django.db import DatabaseError, connection
from structlog.contextvars import bound_contextvars

from apps.market import queries as market_queries
from apps.market.models import FeedEntry
from apps.market.services.in_step import store_in_step
from apps.sources import queries
from apps.sources.services.answers import cache_in_step, make_days_of
from apps.sources.services.fetching import Round
from apps.sources.services.leasing import take_fetch_leases

logger = logging.getLogger(__name__)


class Due(NamedTuple):
    """A slot of a feed that is due."""

    feed_id: int
    slot: datetime
    trace_id: str


def ask_together(
    due: Sequence[Due], *, now: datetime, guard: Callable[..., AbstractContextManager[None]]
) -> dict[int, Round]:
    """Take the leases of these slots and ask their providers; return feed id -> what has come of it.

    Left out are feeds whose slot is answered already or under way, or whose head is locked at this moment; `fetch`
    decides about each of them. One that fails otherwise than by its provider is asked again when its lease has ended.

    guard: (text, **facts) -> what each feed is asked within. It logs what fails, and raises what concerns all feeds.
    """
    leases = take_fetch_leases({one.feed_id: one.slot for one in due})
    if not leases:
        return {}
    assets = queries.asset_ids_of_feeds([lease.feed.pk for lease in leases])
    newest = market_queries.newest_stored([asset_id for names in assets.values() for asset_id in names.asset_ids])
    traces = {one.feed_id: one.trace_id for one in due}
    rounds = {}
    for lease in leases:
        feed_id = lease.feed.pk
        with bound_contextvars(feed=feed_id, trace_id=traces[feed_id]), guard("feed not fetched", feed=feed_id):
            one = Round(lease, now=now, assets=assets[feed_id], newest=newest)
            one.ask_all()
            rounds[feed_id] = one
    return rounds


def record_together(due: Iterable[Due], rounds: Mapping[int, Round], *, now: datetime) -> dict[int, FeedEntry]:
    """Append those of these answers that are in step to their logs, by one statement, and return feed id -> entry of
    those. The others are to be recorded by themselves."""
    seem = [
        seems
        for one in due
        if one.feed_id in rounds and (seems := rounds[one.feed_id].in_step(trace_id=one.trace_id)) is not None
    ]
    if not seem:
        return {}
    make_days_of(part for one in rounds.values() for part in one.parts)
    try:
        stored = store_in_step(seem)
    except DatabaseError:
        if not connection.is_usable():
            raise
        logger.exception("answers not stored together", extra={"feeds": [one.entry.feed_id for one in seem]})
        return {}
    cache_in_step([one for one in seem if one.entry.feed_id in stored], now=now)
    return stored
