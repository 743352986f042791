"""When things happen, and in what order: the chain, written once.

Every function may run twice, late or beside itself: it makes rows agree with the rows upstream of it. Ids travel,
never rows.
"""

import logging
import math
import time
import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from celery import Signature, chain, signature
from celery.exceptions import SoftTimeLimitExceeded
from django.conf import settings
from django.contrib.sessions.backends.db import SessionStore
from django.db import connection, transaction
from django.utils import timezone
from kombu.exceptions import OperationalError

from apps.alerts.services import end_episodes, record_episodes
from apps.backtests import services as runs
from apps.market import queries as market_queries
from apps.market import services as market
from apps.market.models import EvaluationCursor
from apps.notify import queries as notify_queries
from apps.notify import services as notify
from apps.pipeline.queues import BACKTESTS, FETCHES, NOTIFICATIONS, RETRIES, analysis_queue
from apps.rules import services as rules
from apps.sources import services as sources
from apps.tracing import new_trace_id

logger = logging.getLogger(__name__)

# What nobody has touched for this long has lost its message; sweep sends another.
BEHIND = timedelta(seconds=10)
EVALUATE_AT_MOST_SECONDS = 20
DELIVER_AT_MOST_SECONDS = 5
ROLL_UP_AT_MOST_SECONDS = 20
PRUNE_AT_MOST_SECONDS = 20
# In one process they would take their time from the evaluating of prices; elsewhere the queue's workers set the limit.
BACKTESTS_AT_MOST = 1 if settings.EMBEDDED else None


def _fetch(feed_id: int, slot: datetime, trace_id: str) -> Signature:
    return signature("pipeline.fetch_quotes", (feed_id, slot.isoformat(), trace_id), immutable=True, queue=FETCHES)


def _evaluate(feed_id: int) -> Signature:
    return signature("pipeline.evaluate_rules", (feed_id,), immutable=True, queue=analysis_queue(feed_id))


def _notify(*channel_ids: list[int]) -> Signature:
    return signature("pipeline.notify_alerts", channel_ids, queue=NOTIFICATIONS)


def _deliver(channel_id: int, *, is_failing: bool) -> Signature:
    # On a queue of their own, those that hang hold up each other, and nobody whose channel works.
    queue = RETRIES if is_failing else NOTIFICATIONS
    return signature("pipeline.deliver", (channel_id, is_failing), immutable=True, queue=queue)


def _backtest(run_id: uuid.UUID) -> Signature:
    return signature("pipeline.run_backtest", (str(run_id),), immutable=True, queue=BACKTESTS)


def start_chain(*, feed_id: int, slot: datetime, trace_id: str) -> None:
    """Send one feed on its way: fetch, then evaluate, then tell."""
    chain(_fetch(feed_id, slot, trace_id), _evaluate(feed_id), _notify()).apply_async()


def start_due() -> None:
    """Start the chain of every feed that is due, send for the analyzers of what was pushed by HTTP and for the senders
    of what is due, then start the backtests that were asked for."""
    start_due_feeds()
    for feed_id in market.claim_feeds_pushed_to(now=timezone.now()):
        evaluate_soon(feed_id=feed_id)
    notify_due()
    for run_id in runs.start_due(now=timezone.now(), at_most=BACKTESTS_AT_MOST):
        _dispatch(_backtest(run_id))


def start_due_feeds() -> list[int]:
    """Start the chain of every feed that is due, and return their ids."""
    due = sources.claim_due_feeds(now=timezone.now())
    for feed_id, slot in due:
        start_chain(feed_id=feed_id, slot=slot, trace_id=new_trace_id())
    return [feed_id for feed_id, _ in due]


def evaluate_soon(*, feed_id: int) -> None:
    """Send for the analyzer of a feed whose log has grown. Where no message can be sent, tick or sweep does it
    again."""
    _dispatch(chain(_evaluate(feed_id), _notify()))


def evaluate_pending(*, feed_id: int) -> list[int]:
    """Evaluate the pending entries of the feed's log in order, and return the channels that are owed a message now.

    One entry, one transaction: states, alerts, evidence, what is owed, the mark on the entry. Who does not get the
    evaluation lock goes home; its holder looks once more after each commit, so no wake-up is lost.
    """
    until = time.monotonic() + EVALUATE_AT_MOST_SECONDS
    while evaluate_next(feed_id=feed_id) is not None and market_queries.has_pending(feed_id):
        if time.monotonic() > until:
            # A backlog is worked off in turns, so that the other feeds of the shard have theirs.
            chain(_evaluate(feed_id), _notify()).apply_async()
            break
    return notify_queries.channels_to_plan(now=timezone.now(), feed_id=feed_id)


def evaluate_next(*, feed_id: int) -> bool | None:
    """Evaluate the next pending entry, in its own transaction. False: there is none. None: somebody else is
    evaluating."""
    engine = None
    with transaction.atomic():
        position = EvaluationCursor.objects.select_for_update(skip_locked=True, no_key=True).filter(pk=feed_id).first()
        entry = market_queries.pending_entry(feed_id=feed_id, after_seq=position.seq) if position else None
        if position is not None and entry is not None:
            engine = rules.take_engine(feed_id=feed_id, seq=position.seq)
            evaluation = rules.evaluate(entry=entry, engine=engine)
            notify.enqueue(record_episodes(entry=entry, transitions=evaluation.transitions), now=timezone.now())
            position.seq = entry.seq
            # Whoever was sent for has come: what is pushed from now on may send for the next at once.
            position.redispatch_at = None
            position.save(update_fields=["seq", "redispatch_at"])
            entry.evaluated_at = timezone.now()
            entry.save(update_fields=["evaluated_at"])
    if engine is None:
        return None if position is None else False
    rules.keep_engine(feed_id=feed_id, engine=engine)
    return True


def move_asset(*, asset_id: int, feed_id: int | None, now: datetime) -> None:
    """Move an asset to another feed, or to none, together with the rules on it: at one place in each of the two logs
    the one ends to evaluate it and the other begins, and open alerts end. Raises AssetStays.
    """
    trace_id = new_trace_id()
    with transaction.atomic():
        watching = rules.lock_rules_on(asset_id)
        left_feed_id = market.move_asset(asset_id=asset_id, feed_id=feed_id)
        ended = rules.follow_moved_asset(
            asset_id=asset_id, rules=watching, left_feed_id=left_feed_id, now=now, trace_id=trace_id
        )
        notify.enqueue(end_episodes(asset_id=asset_id, ended=ended), now=now)
    logger.info("asset moved", extra={"asset": asset_id, "from": left_feed_id, "to": feed_id, "rules": len(watching)})


def notify_channels(*, channel_ids: Sequence[int]) -> list[int]:
    """Plan what these channels are owed, send for who sends it, and return those that have something new to be sent."""
    now = timezone.now()
    planned = [channel_id for channel_id in channel_ids if _plan(channel_id, now=now)]
    failing = notify_queries.failing_of(planned)
    for channel_id in planned:
        _dispatch(_deliver(channel_id, is_failing=channel_id in failing))
    return planned


def _plan(channel_id: int, *, now: datetime) -> bool:
    """Plan what a channel is owed, and return whether there is something new to be sent. One that cannot be planned, be
    it for a lock that somebody holds too long, keeps no other from being told; the next tick tries again."""
    try:
        return notify.plan(channel_id=channel_id, now=now)
    except SoftTimeLimitExceeded:
        raise
    except Exception:
        if not connection.is_usable():
            raise
        logger.exception("channel not planned", extra={"channel": channel_id})
        return False


def notify_due() -> dict[str, int]:
    """Plan what has become due (a group's wait is over, a silence has ended, a reminder), and have sent what is due
    again; return how many channels each."""
    now = timezone.now()
    planned = notify_channels(channel_ids=notify_queries.channels_to_plan(now=now))
    due = notify_queries.due_channels(behind=BEHIND, now=now)
    notify.note_dispatched(channel_ids=[one.channel_id for one in due], now=now)
    for one in due:
        _dispatch(_deliver(one.channel_id, is_failing=one.is_failing))
    return {"planned": len(planned), "channels": len(due)}


def deliver(*, channel_id: int, is_failing: bool = False) -> int:
    """Send what is due on a channel, one message after the other, and return how many tries that took.

    A try that fails ends it: what comes after waits for the next tick, so that a channel that hangs holds a worker for
    one message and no longer. is_failing: this worker is there for those whose last try failed. Another one does not
    try them: it sends for that one.
    """
    until = time.monotonic() + DELIVER_AT_MOST_SECONDS
    tries = 0
    while True:
        outcome = notify.deliver_next(channel_id=channel_id, now=timezone.now(), while_failing=is_failing)
        if outcome is None:
            break
        tries += 1
        if outcome == "transient_failure":
            return tries
        if time.monotonic() > until:
            _deliver(channel_id, is_failing=False).apply_async()
            return tries
    if not is_failing and notify_queries.failing_of([channel_id]):
        # It has failed since somebody was sent for.
        _dispatch(_deliver(channel_id, is_failing=True))
    return tries


def sweep() -> dict[str, int]:
    """Hurry whatever has stayed behind: entries not evaluated, backtests whose worker is gone, writes to the cache that
    failed; and owe reminders. (What is to be told is looked at by each tick.)

    Queues are the hurry and rows are the truth: this is what makes a lost message cost seconds and nothing else.
    """
    now = timezone.now()
    behind = market.claim_feeds_behind(before=now - BEHIND, now=now)
    for feed_id in behind:
        evaluate_soon(feed_id=feed_id)
    backtests = runs.start_behind(now=now, at_most=BACKTESTS_AT_MOST)
    for run_id in backtests:
        _dispatch(_backtest(run_id))
    rewritten = market.redo_cache_writes(now=now)
    # Not each second, since it looks at every alert that is open: a reminder has its minutes.
    notify.enqueue_reminders(now=now)
    # Last, since it takes locks and grows with the rules.
    followed = rules.follow_assets(now=now, trace_id=new_trace_id())
    found = {
        "rules": followed,
        "feeds": len(behind),
        "backtests": len(backtests),
        "caches": rewritten,
    }
    if any(found.values()):
        logger.info("sweep dispatched", extra=found)
    return found


def _dispatch(work: Signature) -> None:
    """Send what can be sent: a queue that takes no more must not keep the others from being dispatched."""
    try:
        work.apply_async()
    except OperationalError as error:
        logger.warning("not sent", extra={"task": work.task, "reason": str(error)})


def roll_up() -> None:
    """Roll the evaluated quotes of every feed up into candles, feed by feed and piece by piece, for some seconds at
    most; what is left then is the next run's."""
    until = time.monotonic() + ROLL_UP_AT_MOST_SECONDS
    waiting = market_queries.feeds_to_roll_up()
    # In turns, so that the long past of one keeps no other waiting.
    while waiting and time.monotonic() < until:
        waiting = [feed_id for feed_id in waiting if time.monotonic() < until and market.roll_up(feed_id=feed_id)]


def prune(*, dry_run: bool = False, at_most_seconds: float = math.inf) -> dict[str, Any]:
    """Drop what is older than it is kept for, and return what that was; make the partitions of the next days.

    dry_run: nothing is written; returns what would be dropped. at_most_seconds: for the messages, of which there may be
    millions.
    """
    now = timezone.now()
    if not dry_run:
        SessionStore.clear_expired()
        market.make_days_ahead()
    days = market.prune_quotes(now=now, dry_run=dry_run)
    found = {
        "days": {day.isoformat(): quotes for day, quotes in days.items()},
        "minute_candles": market.prune_minute_candles(dry_run=dry_run),
        "checkpoints": rules.prune_checkpoints(dry_run=dry_run),
        "transitions": rules.prune_transitions(now=now, dry_run=dry_run),
        "backtests": runs.prune_backtests(dry_run=dry_run),
        # Silences first: those that the messages let go are the next run's, so that a dry run says what this one does.
        "silences": notify.prune_silences(now=now, dry_run=dry_run),
        "messages": notify.prune_messages(now=now, dry_run=dry_run, at_most_seconds=at_most_seconds),
    }
    if not dry_run:
        logger.info("pruned", extra=found)
    return found
