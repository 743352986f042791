"""When things happen, and in what order: the chain from a tick to a delivered message.

Every function may run twice, late, or in two workers at once: it makes rows agree with the rows upstream of it.
Messages carry ids, never rows.
"""

import logging
import math
import random
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from typing import Any

from celery import Signature, chain, signature
from celery.exceptions import SoftTimeLimitExceeded
from django.conf import settings
from django.contrib.sessions.backends.db import SessionStore
from django.db import connection, transaction
from django.utils import timezone
from kombu.exceptions import OperationalError
from structlog.contextvars import bound_contextvars

from apps import spans
from apps.accounts.services import prune_idempotency_keys
from apps.alerts import owned, reconciliation
from apps.alerts.models import AlertEvent
from apps.alerts.reconciliation import open_reconciliations
from apps.alerts.services import record_corrections, record_episodes
from apps.backtests import services as runs
from apps.health import canary
from apps.health import services as health
from apps.market import queries as market_queries
from apps.market import services as market
from apps.market.derived.deriving import claim_feeds_to_derive, derive_next
from apps.market.derived.queries import feeds_made_of
from apps.notify import queries as notify_queries
from apps.notify import services as notify
from apps.notify.decision import Decision
from apps.pipeline.heartbeat import ping_if_due
from apps.pipeline.queues import BACKTESTS, FETCHES, NOTIFICATIONS, RETRIES, analysis_queue, readers
from apps.pipeline.totals import totals_of
from apps.pipeline.traces import span_of_evaluation, trace_delivery, trace_evaluation, trace_run, trace_tick
from apps.portfolios import nights
from apps.portfolios.importing import prune_import_files
from apps.portfolios.models import Portfolio
from apps.portfolios.reconciling import reconciled_portfolios
from apps.portfolios.series import portfolios_behind_splits
from apps.portfolios.services import refresh
from apps.rules import services as rules
from apps.rules.engine.engine import Engine
from apps.rules.engine.instance import Evaluation
from apps.sources import services as sources
from apps.sources.queries import backfills_due, feeds_fetched_together
from apps.sources.services import Due
from apps.totals import added
from apps.tracing import new_trace_id

logger = logging.getLogger(__name__)

# Work that nobody has started after this long has probably lost its message; the sweep sends another.
BEHIND = timedelta(seconds=10)
# Feeds whose slots travel in one message. More save little, and let more feeds wait for each other.
TOGETHER_AT_MOST = 10
EVALUATE_AT_MOST_SECONDS = 20
DERIVE_AT_MOST_SECONDS = 20
ALERTS_LOGGED = 20
DELIVER_AT_MOST_SECONDS = 5
ROLL_UP_AT_MOST_SECONDS = 20
PORTFOLIOS_AT_MOST_SECONDS = 20
PRUNE_AT_MOST_SECONDS = 20
# In one process, backtests compete with evaluation for time; elsewhere the number of workers on their queue limits
# them.
BACKTESTS_AT_MOST = 1 if settings.EMBEDDED else None


def _fetch(due: Due, beside: Sequence[Due]) -> Signature:
    first, *others = ((one.feed_id, one.slot.isoformat(), one.trace_id) for one in (due, *beside))
    return signature("pipeline.fetch_quotes", first, _beside(others), immutable=True, queue=FETCHES)


def _evaluate(feed_id: int, beside: Sequence[int] = ()) -> Signature:
    queue = analysis_queue(feed_id)
    return signature("pipeline.evaluate_rules", (feed_id,), _beside(beside), immutable=True, queue=queue)


def _beside(others: Sequence[Any]) -> dict[str, Any]:
    """Return the named argument of a task that does the same for others. A worker of the last version passes over it,
    and they come again."""
    return {"beside": list(others)} if others else {}


def _derive(feed_id: int) -> Signature:
    return signature("pipeline.derive_quotes", (feed_id,), immutable=True, queue=FETCHES)


def _notify(*channel_ids: list[int]) -> Signature:
    return signature("pipeline.notify_alerts", channel_ids, queue=NOTIFICATIONS)


def _deliver(channel_id: int, *, is_failing: bool) -> Signature:
    # Failing channels have a queue of their own, so that one that hangs delays no channel that works.
    queue = RETRIES if is_failing else NOTIFICATIONS
    return signature("pipeline.deliver", (channel_id, is_failing), immutable=True, queue=queue)


def _backtest(run_id: uuid.UUID) -> Signature:
    return signature("pipeline.run_backtest", (str(run_id),), immutable=True, queue=BACKTESTS)


def _backfill(backfill_id: int) -> Signature:
    return signature("pipeline.backfill", (backfill_id,), immutable=True, queue=FETCHES)


def start_chain(due: Due, *beside: Due) -> None:
    """Dispatch the chain of one feed, or of several of one shard that are fetched and evaluated together: fetch,
    evaluate, notify."""
    others = [one.feed_id for one in beside]
    chain(_fetch(due, beside), _evaluate(due.feed_id, others), _notify()).apply_async()


def start_due() -> None:
    """Dispatch everything that is due: the chains of feeds, the evaluation of quotes pushed by HTTP, the derivation of
    series, notifications, and backtests. Note that it was done."""
    start_due_feeds()
    for feed_id in market.claim_feeds_pushed_to(now=timezone.now()):
        evaluate_soon(feed_id=feed_id)
    for feed_id in claim_feeds_to_derive(now=timezone.now()):
        _dispatch(_derive(feed_id))
    notify_due()
    for run_id in runs.start_due(now=timezone.now(), at_most=BACKTESTS_AT_MOST):
        _dispatch(_backtest(run_id))
    health.note_tick(now=timezone.now())


def start_due_feeds() -> list[int]:
    """Dispatch the chain of every feed that is due, and return the feeds' ids."""
    began_at = timezone.now()
    due = [Due(feed_id, slot, new_trace_id()) for feed_id, slot in sources.claim_due_feeds(now=began_at)]
    for group in _groups(due):
        start_chain(*group)
        for feed_id, slot, trace_id in group:
            trace_tick(trace_id=trace_id, feed_id=feed_id, slot=slot, began_at=began_at)
    return [one.feed_id for one in due]


def _groups(due: Sequence[Due]) -> Iterator[Sequence[Due]]:
    """Give these slots again: those of feeds that may be fetched together in groups of one shard, the others one by
    one."""
    together = feeds_fetched_together(one.feed_id for one in due)
    of_queue: dict[str, list[Due]] = {}
    for one in due:
        if one.feed_id in together:
            of_queue.setdefault(analysis_queue(one.feed_id), []).append(one)
        else:
            yield [one]
    for those in of_queue.values():
        yield from (those[first : first + TOGETHER_AT_MOST] for first in range(0, len(those), TOGETHER_AT_MOST))


def evaluate_soon(*, feed_id: int, beside: Sequence[int] = ()) -> None:
    """Dispatch the evaluation of a feed whose log has grown, and of others of its shard. If the message cannot be sent,
    the next tick or sweep sends it."""
    _dispatch(chain(_evaluate(feed_id, beside), _notify()))


def derive_soon(*feed_ids: int) -> None:
    """Dispatch the derivation of each feed that has one of these among those of its legs. If a message cannot be sent,
    the next tick sends it."""
    for derived_id in feeds_made_of(*feed_ids):
        _dispatch(_derive(derived_id))


def derive_quotes(*, feed_id: int) -> int:
    """Append the quotes of a derived feed up to its legs' watermark, dispatch their evaluation and the feeds that are
    made of it, and return the number of entries. Each is one transaction."""
    until = time.monotonic() + DERIVE_AT_MOST_SECONDS
    entries = 0
    while derive_next(feed_id=feed_id, now=timezone.now(), trace_id=new_trace_id()) is not None:
        entries += 1
        if time.monotonic() > until:
            _dispatch(_derive(feed_id))
            break
    if entries:
        evaluate_soon(feed_id=feed_id)
        derive_soon(feed_id)
    return entries


def evaluate_pending(*, feed_id: int) -> list[int]:
    """Evaluate the pending entries of a feed's log in order, and return the channels with notifications that are due.

    Each entry is one transaction: states, alerts, evidence, notifications and the cursor. A worker that cannot take the
    lock returns; the lock's holder looks for new entries after each commit, so no dispatch is lost.
    """
    began_at, until = timezone.now(), time.monotonic() + EVALUATE_AT_MOST_SECONDS
    events: list[AlertEvent] = []
    entries = 0
    while (is_evaluated := evaluate_next(feed_id=feed_id, recorded=events)) is not None:
        entries += is_evaluated
        if not market_queries.has_pending(feed_id):
            break
        if time.monotonic() > until:
            # A long backlog is evaluated in turns with the other feeds of the shard.
            chain(_evaluate(feed_id), _notify()).apply_async()
            break
    trace_run(feed_ids=[feed_id], entries=entries, began_at=began_at)
    if entries and not events:
        # Most entries change nothing. Older notifications that have become due are looked for by each tick.
        return []
    return notify_queries.channels_to_plan(now=timezone.now(), feed_ids=[feed_id])


def evaluate_next(
    *,
    feed_id: int,
    recorded: list[AlertEvent] | None = None,
    evaluated: tuple[Engine, Evaluation] | None = None,
) -> bool | None:
    """Evaluate the next pending entry in its own transaction. False: nothing is pending. None: another worker holds the
    lock. recorded: the events of alerts are added to it. evaluated: the feed's engine where it has read that entry
    already, with what changed, if the entry is still the next."""
    engine = None
    began_at = timezone.now()
    with transaction.atomic(), ExitStack() as facts:
        pending = market.take_pending(feed_id=feed_id)
        if pending is not None and pending.entry is not None:
            entry = pending.entry
            named = spans.named(entry.trace_id, span_of_evaluation(entry.trace_id, feed_id, entry.seq))
            facts.enter_context(bound_contextvars(feed=feed_id, entry=entry.seq, **named))
            if evaluated is not None and evaluated[0].seq == entry.seq:
                engine, evaluation = evaluated
                rules.record(entry=entry, engine=engine, evaluation=evaluation)
            else:
                engine = rules.take_engine(feed_id=feed_id, seq=pending.seq)
                evaluation = rules.evaluate(entry=entry, engine=engine)
            events = record_episodes(entry=entry, transitions=evaluation.transitions) + record_corrections(entry)
            notify.enqueue(events, now=timezone.now())
            at = timezone.now()
            market.mark_evaluated(entry, at=at, totals=added(pending.totals, totals_of(entry, events, now=at)))
    if engine is None:
        return None if pending is None else False
    rules.keep_engine(feed_id=feed_id, engine=engine)
    if recorded is not None:
        recorded += events
    if events:
        ids = sorted({event.alert_id for event in events})
        with bound_contextvars(feed=feed_id, entry=entry.seq, **named):
            logger.info("alerts changed", extra={"alerts": ids[:ALERTS_LOGGED], "count": len(ids)})
    trace_evaluation(entry, events, began_at=began_at)
    return True


def move_asset(*, asset_id: int, feed_id: int | None, now: datetime) -> None:
    """Move an asset to another feed, or to none, with the rules on it; open alerts about it resolve. Raises
    AssetStays."""
    with transaction.atomic():
        notify.enqueue(owned.move_asset(asset_id=asset_id, feed_id=feed_id, now=now), now=now)


def notify_channels(*, channel_ids: Sequence[int]) -> list[int]:
    """Turn the due notifications of these channels into messages, dispatch their delivery, and return the channels that
    have a new message."""
    now = timezone.now()
    planned = [channel_id for channel_id in channel_ids if _plan(channel_id, now=now)]
    failing = notify_queries.failing_of(planned)
    for channel_id in planned:
        _dispatch(_deliver(channel_id, is_failing=channel_id in failing))
    return planned


def _plan(channel_id: int, *, now: datetime) -> bool:
    """Turn a channel's due notifications into messages, and return whether there is a new one.

    A channel that cannot be planned, for example because a lock is held too long, does not stop the others; the next
    tick tries again.
    """
    with stopping_no_other("channel not planned", channel=channel_id):
        return notify.plan(channel_id=channel_id, now=now) is Decision.SEND
    return False


@contextmanager
def stopping_no_other(text: str, **facts: object) -> Iterator[None]:
    """Log what goes wrong with one of many, so that the others go on. A lost connection or the end of the task's time
    concerns all of them, and is raised."""
    try:
        yield
    except SoftTimeLimitExceeded:
        raise
    except Exception:
        if not connection.is_usable():
            raise
        logger.exception(text, extra=facts)


def notify_due() -> dict[str, int]:
    """Plan notifications that have become due (after a group wait or a silence, or as reminders), dispatch messages
    that are due for another attempt, and return the number of channels of each."""
    now = timezone.now()
    notify.release_silenced(now=now)
    planned = notify_channels(channel_ids=notify_queries.channels_to_plan(now=now))
    due = notify_queries.due_channels(behind=BEHIND, now=now)
    notify.note_dispatched(channel_ids=[one.channel_id for one in due], now=now)
    for one in due:
        _dispatch(_deliver(one.channel_id, is_failing=one.is_failing))
    return {"planned": len(planned), "channels": len(due)}


def deliver(*, channel_id: int, is_failing: bool = False) -> int:
    """Send the messages that are due on a channel, one after the other, and return the number of attempts.

    It stops after the first failed attempt: the rest waits for the next tick, so that a channel that hangs occupies a
    worker for one message only. is_failing: this worker serves channels whose last attempt failed. Any other worker
    enqueues a task on the retry queue instead.
    """
    until = time.monotonic() + DELIVER_AT_MOST_SECONDS
    tries = 0
    while True:
        outcome = notify.deliver_next(channel_id=channel_id, now=timezone.now(), while_failing=is_failing)
        if outcome is None:
            break
        tries += 1
        trace_delivery(channel_id=channel_id)
        if outcome == "transient_failure":
            return tries
        if time.monotonic() > until:
            _deliver(channel_id, is_failing=False).apply_async()
            return tries
    if not is_failing and notify_queries.failing_of([channel_id]):
        # The channel has failed since this task was dispatched.
        _dispatch(_deliver(channel_id, is_failing=True))
    return tries


def sweep() -> dict[str, int]:
    """Dispatch whatever has fallen behind, and return how much that was.

    That is: entries not evaluated, derived feeds behind their legs, backtests whose worker is gone, the next pages of
    backfills that were asked for, cache writes that failed, portfolios with series that do not know a split yet,
    reminders that are due, and rules that follow changed assets. (Each tick looks after notifications.) The database is
    the source of truth and queues only speed things up, so a lost message costs seconds and nothing else.
    """
    now = timezone.now()
    behind = market.claim_feeds_behind(before=now - BEHIND, now=now)
    for feed_id in behind:
        evaluate_soon(feed_id=feed_id)
    deriving = claim_feeds_to_derive(now=now, with_standing=True)
    for feed_id in deriving:
        _dispatch(_derive(feed_id))
    backtests = runs.start_behind(now=now, at_most=BACKTESTS_AT_MOST)
    for run_id in backtests:
        _dispatch(_backtest(run_id))
    backfills = backfills_due(now=now)
    for backfill_id in backfills:
        _dispatch(_backfill(backfill_id))
    rewritten = market.redo_cache_writes(now=now)
    splits = portfolios_behind_splits()
    _for_each_portfolio(splits, _refresh)
    notify.enqueue_reminders(now=now)
    # Last, since it takes locks and its work grows with the number of rules.
    followed = rules.follow_assets(now=now, trace_id=new_trace_id())
    found = {
        "rules": followed,
        "feeds": len(behind),
        "derived": len(deriving),
        "backtests": len(backtests),
        "backfills": len(backfills),
        "caches": rewritten,
        "portfolios": len(splits),
    }
    if any(found.values()):
        logger.info("sweep dispatched", extra=found)
    return found


def _dispatch(work: Signature) -> None:
    """Send a task. A queue that is full or away does not stop the dispatch of other tasks."""
    try:
        work.apply_async()
    except OperationalError as error:
        logger.warning("not sent", extra={"task": work.task, "reason": str(error)})


def check_health() -> None:
    """Check the health of everything, record its problems, and call HEARTBEAT_URL once a minute while work is done;
    then let the canary have its next price, if that is due. The next tick dispatches its evaluation."""
    found = health.check(readers=readers(), now=timezone.now())
    ping_if_due(found, now=timezone.now())
    if settings.CANARY:
        canary.append_if_due(now=timezone.now())


def roll_up() -> None:
    """Roll up the evaluated quotes of every feed into candles, feed by feed in turns, for ROLL_UP_AT_MOST_SECONDS; the
    next run does the rest."""
    until = time.monotonic() + ROLL_UP_AT_MOST_SECONDS
    waiting = market_queries.feeds_to_roll_up()
    while waiting and time.monotonic() < until:
        waiting = [feed_id for feed_id in waiting if time.monotonic() < until and _roll_up(feed_id)]


def _roll_up(feed_id: int) -> bool:
    """Roll up the next piece of a feed, and return whether more is left. A feed that fails does not stop the others."""
    with stopping_no_other("roll-up failed", feed=feed_id):
        return market.roll_up(feed_id=feed_id)
    return False


def record_nights() -> None:
    """Record what each portfolio was worth at the end of the last day, for PORTFOLIOS_AT_MOST_SECONDS; the next run
    does the rest."""
    _for_each_portfolio(nights.portfolios_to_record(now=timezone.now()), nights.record_night)


def reconcile() -> None:
    """Compare each portfolio that has a file of positions with it, for PORTFOLIOS_AT_MOST_SECONDS; alerts about those
    that differ open, about others they resolve."""
    # In another order each time, so that of more than have time none waits for ever.
    waiting = list(reconciled_portfolios() | open_reconciliations())
    _for_each_portfolio(random.sample(waiting, len(waiting)), _reconcile)


def _refresh(*, portfolio_id: int, now: datetime) -> None:
    portfolio = Portfolio.objects.filter(pk=portfolio_id).first()
    if portfolio is not None:
        refresh(portfolio=portfolio)


def _reconcile(*, portfolio_id: int, now: datetime) -> None:
    with transaction.atomic():
        notify.enqueue(reconciliation.reconcile(portfolio_id=portfolio_id, now=now), now=now)


def _for_each_portfolio(portfolio_ids: Iterable[int], work: Callable[..., None]) -> None:
    """Do work on each portfolio until the time is up. One that fails does not stop the others."""
    until = time.monotonic() + PORTFOLIOS_AT_MOST_SECONDS
    for portfolio_id in portfolio_ids:
        if time.monotonic() > until:
            return
        with stopping_no_other("portfolio failed", portfolio=portfolio_id, work=work.__name__):
            work(portfolio_id=portfolio_id, now=timezone.now())


def prune(*, dry_run: bool = False, at_most_seconds: float = math.inf) -> dict[str, Any]:
    """Drop rows past their retention and create the partitions of the next days; return what was dropped.

    dry_run: writes nothing, and returns what would be dropped. at_most_seconds: for messages, of which there may be
    millions.
    """
    now = timezone.now()
    for warning in market_queries.calendar_warnings(now=now):
        logger.warning("calendar ends", extra={"detail": warning})
    if not dry_run:
        SessionStore.clear_expired()
        market.make_days_ahead(now=now)
    days = market.prune_quotes(now=now, dry_run=dry_run)
    found = {
        "days": {day.isoformat(): quotes for day, quotes in days.items()},
        "switches": market.prune_switches(dry_run=dry_run),
        "minute_candles": market.prune_minute_candles(dry_run=dry_run),
        "checkpoints": rules.prune_checkpoints(now=now, dry_run=dry_run),
        "transitions": rules.prune_transitions(now=now, dry_run=dry_run),
        "backtests": runs.prune_backtests(dry_run=dry_run),
        "canary": 0,
        "idempotency_keys": prune_idempotency_keys(now=now, dry_run=dry_run),
        "import_files": prune_import_files(now=now, dry_run=dry_run),
        # Before messages, so that a dry run reports what a run does: silences released by pruned messages are the next
        # run's.
        "silences": notify.prune_silences(now=now, dry_run=dry_run),
        "messages": notify.prune_messages(now=now, dry_run=dry_run, at_most_seconds=at_most_seconds),
    }
    # Last, so that what fails with it keeps nothing else.
    found["canary"] = canary.prune_canary(now=now, dry_run=dry_run)
    if not dry_run:
        logger.info("pruned", extra=found)
    return found
