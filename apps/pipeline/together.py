"""Several small feeds of one shard in one message: fetched by the same statements, and evaluated in one transaction.

What one of them needs beyond that is done for it alone, after the others: so none keeps the others waiting, and none
loses more than time. Each feed keeps its log, its lease and its evaluation cursor.
"""

import time
from collections.abc import Sequence
from datetime import datetime

from django.db import transaction
from django.utils import timezone
from structlog.contextvars import bound_contextvars

from apps import spans
from apps.alerts.models import AlertEvent
from apps.market import queries as market_queries
from apps.market import services as market
from apps.market.models import FeedEntry
from apps.notify import queries as notify_queries
from apps.pipeline import flow
from apps.pipeline.totals import totals_of
from apps.pipeline.traces import span_of_fetch, trace_evaluation, trace_fetch, trace_run
from apps.rules import services as rules
from apps.sources import services as sources
from apps.sources.services import Due
from apps.totals import added


def fetch_together(due: Sequence[Due], *, now: datetime, redelivered: bool = False) -> None:
    """Fetch these slots and append them to their feeds' logs. redelivered: the message came again."""
    # Each feed's span gets the steps that all of them share.
    sampled = next((one.trace_id for one in due if spans.is_sampled(one.trace_id)), due[0].trace_id)
    with spans.collected(sampled) as steps:
        rounds = sources.ask_together(due, now=now, guard=flow.stopping_no_other)
        entries: dict[int, FeedEntry | None] = {**sources.record_together(due, rounds, now=now)}
    for one in due:
        if one.feed_id in entries:
            trace_fetch(entries[one.feed_id], **one._asdict(), began_at=now, steps=steps, redelivered=redelivered)
    left = [one for one in due if one.feed_id not in entries]
    if left and entries:
        # Those that are stored need not wait for the others.
        first, *others = entries
        flow.evaluate_soon(feed_id=first, beside=others)
    for one in left:
        _fetch_alone(one, rounds.get(one.feed_id), now=now, redelivered=redelivered)
    flow.derive_soon(*(one.feed_id for one in due))


def _fetch_alone(one: Due, asked: sources.Round | None, *, now: datetime, redelivered: bool) -> None:
    """Append what the providers of one feed gave in transactions of its own. asked: None where they were not asked."""
    named = spans.named(one.trace_id, span_of_fetch(one.trace_id))
    with flow.stopping_no_other("feed not fetched", feed=one.feed_id), bound_contextvars(feed=one.feed_id, **named):
        with spans.collected(one.trace_id) as steps:
            if asked is not None:
                entry = asked.record(trace_id=one.trace_id)
            else:
                entry = sources.fetch(**one._asdict(), now=now)
        trace_fetch(entry, **one._asdict(), began_at=now, steps=steps, redelivered=redelivered)


def evaluate_together(feed_ids: Sequence[int]) -> list[int]:
    """Evaluate the pending entries of these feeds in rounds, of each feed the next one, those that change nothing in
    one transaction; return the channels with notifications that are due.

    A feed whose next entry has many quotes, is a change of rules, or needs an engine that must be rebuilt is evaluated
    by a message of its own, and so are those that are left when the time is up.
    """
    began_at, until = timezone.now(), time.monotonic() + flow.EVALUATE_AT_MOST_SECONDS
    # feed id -> the events of its entries, for those of which an entry was evaluated.
    events: dict[int, list[AlertEvent]] = {}
    alone: set[int] = set()
    waiting, entries = list(feed_ids), 0
    while waiting:
        evaluated: dict[int, list[AlertEvent]] = {}
        locked = set(waiting)
        with flow.stopping_no_other("feeds not evaluated together", feeds=waiting):
            locked = _evaluate_few(waiting, evaluated)
        for feed_id, made in evaluated.items():
            events.setdefault(feed_id, []).extend(made)
        entries += len(evaluated)
        pending = market_queries.feeds_with_pending(locked)
        waiting = [feed_id for feed_id in pending if feed_id in evaluated and time.monotonic() < until]
        alone.update(pending)
        alone.difference_update(waiting)
    for feed_id in sorted(alone):
        flow.evaluate_soon(feed_id=feed_id)
    trace_run(feed_ids=feed_ids, entries=entries, began_at=began_at)
    # As for one feed: of those of which nothing was pending, the message may have come again.
    looked_at = [feed_id for feed_id in feed_ids if events.get(feed_id, True)]
    return notify_queries.channels_to_plan(now=timezone.now(), feed_ids=looked_at) if looked_at else []


def _evaluate_few(feed_ids: Sequence[int], evaluated: dict[int, list[AlertEvent]]) -> set[int]:
    """Evaluate the next pending entries of few quotes, note their events, and return the feeds whose lock was free."""
    began_at = timezone.now()
    with transaction.atomic():
        pending = market.take_pending_of(feed_ids)
        few = rules.evaluate_few([one.entry for one in pending.values() if one.entry is not None])
        quiet = [one for one in few if rules.is_quiet(one[2])]
        at = timezone.now()
        for entry, engine, evaluation in quiet:
            rules.record(entry=entry, engine=engine, evaluation=evaluation)
        totals = [added(pending[entry.feed_id].totals, totals_of(entry, [], now=at)) for entry, _, _ in quiet]
        market.mark_all_evaluated(list(zip((entry for entry, _, _ in quiet), totals, strict=True)), at=at)
    for entry, engine, _ in quiet:
        rules.keep_engine(feed_id=entry.feed_id, engine=engine)
        evaluated[entry.feed_id] = []
        trace_evaluation(entry, [], began_at=began_at)
    for entry, engine, evaluation in few:
        if not rules.is_quiet(evaluation):
            # In a transaction of its own: alerts are locked in one order, which those of several feeds are not in.
            with flow.stopping_no_other("feed not evaluated", feed=entry.feed_id):
                events: list[AlertEvent] = []
                if flow.evaluate_next(feed_id=entry.feed_id, recorded=events, evaluated=(engine, evaluation)):
                    evaluated[entry.feed_id] = events
    return set(pending)
