"""The Celery tasks. Each calls one function of flow.py or of a service."""

import uuid
from collections.abc import Sequence
from datetime import datetime

from celery import Task, shared_task
from django.utils import timezone
from structlog.contextvars import bound_contextvars

from apps import spans
from apps.backtests import services as runs
from apps.pipeline import flow, together
from apps.pipeline.traces import span_of_fetch, trace_fetch
from apps.sources import services as sources
from apps.sources.services import Due
from apps.tracing import new_trace_id


@shared_task(name="pipeline.tick")
def tick() -> None:
    """Dispatch what is due: chains of feeds, evaluations of pushed quotes, notifications, backtests."""
    flow.start_due()


@shared_task(name="pipeline.fetch_quotes", bind=True)
def fetch_quotes(
    self: Task, feed_id: int, slot: str, trace_id: str, beside: Sequence[tuple[int, str, str]] = ()
) -> None:
    """Fetch one slot of one feed and append it to the feed's log. beside: (feed id, slot, trace id) of others that are
    fetched with it."""
    now = timezone.now()
    redelivered = bool((self.request.delivery_info or {}).get("redelivered"))
    if beside:
        slots = ((feed_id, slot, trace_id), *beside)
        due = [Due(one_id, datetime.fromisoformat(at), trace) for one_id, at, trace in slots]
        together.fetch_together(due, now=now, redelivered=redelivered)
        return
    which = {"feed_id": feed_id, "slot": datetime.fromisoformat(slot), "trace_id": trace_id}
    named = spans.named(trace_id, span_of_fetch(trace_id))
    with bound_contextvars(feed=feed_id, **named), spans.collected(trace_id) as steps:
        entry = sources.fetch(**which, now=now)
    trace_fetch(entry, **which, began_at=now, steps=steps, redelivered=redelivered)
    flow.derive_soon(feed_id)


@shared_task(name="pipeline.derive_quotes")
def derive_quotes(feed_id: int) -> None:
    """Append the quotes of a derived feed up to its legs' watermark."""
    with bound_contextvars(feed=feed_id):
        flow.derive_quotes(feed_id=feed_id)


# No soft limit: its exception would be raised inside the engine, which takes it for an error of the rule that is being
# evaluated. The hard limit covers the rebuild of a large feed; evaluating itself stops after some seconds.
@shared_task(name="pipeline.evaluate_rules", bind=True, soft_time_limit=0, time_limit=600)
def evaluate_rules(self: Task, feed_id: int, beside: Sequence[int] = ()) -> list[int]:
    """Evaluate the pending entries of the feed's log, and return the channels with due notifications. beside: other
    feeds that are evaluated with it."""
    channel_ids = together.evaluate_together([feed_id, *beside]) if beside else flow.evaluate_pending(feed_id=feed_id)
    # Without due notifications the chain ends here: most entries change nothing.
    self.request.chain = self.request.chain if channel_ids else None
    return channel_ids


@shared_task(name="pipeline.notify_alerts")
def notify_alerts(channel_ids: list[int]) -> None:
    """Plan the due notifications of these channels, and dispatch their delivery."""
    flow.notify_channels(channel_ids=channel_ids)


# It begins no message after 5 s, and one takes 10 s at most; the lease of a message is longer than these limits.
@shared_task(name="pipeline.deliver", soft_time_limit=20, time_limit=25)
def deliver(channel_id: int, is_failing: bool = False) -> None:
    """Send the due messages of a channel."""
    flow.deliver(channel_id=channel_id, is_failing=is_failing)


# Acknowledged at its start: it may run longer than the broker lets a message stay unacknowledged, and after a crash the
# row says that it is to be run again. It stops by itself before the hard limit; no soft limit, as for evaluate_rules.
@shared_task(name="pipeline.run_backtest", acks_late=False, soft_time_limit=0, time_limit=1_700)
def run_backtest(run_id: str) -> None:
    """Run one backtest."""
    runs.run_backtest(run_id=uuid.UUID(run_id))


@shared_task(name="pipeline.backfill")
def backfill(backfill_id: int) -> None:
    """Ask for the next page of the past of an asset."""
    sources.go_on_with_backfill(backfill_id=backfill_id, now=timezone.now(), trace_id=new_trace_id())


@shared_task(name="pipeline.sweep")
def sweep() -> None:
    """Dispatch whatever has fallen behind."""
    flow.sweep()


@shared_task(name="pipeline.check_health")
def check_health() -> None:
    """Check the health of everything, and record its problems."""
    flow.check_health()


@shared_task(name="pipeline.rollup")
def rollup() -> None:
    """Roll evaluated quotes up into candles."""
    flow.roll_up()


@shared_task(name="pipeline.reconcile")
def reconcile() -> None:
    """Compare portfolios with their files of positions."""
    flow.reconcile()


@shared_task(name="pipeline.record_nights")
def record_nights() -> None:
    """Record what portfolios were worth at the end of the last day."""
    flow.record_nights()


@shared_task(name="pipeline.mark_alive")
def mark_alive(queue: str) -> None:
    """Do nothing: a worker marks after each task that it works, and this one comes where no other does."""


@shared_task(name="pipeline.prune")
def prune() -> None:
    """Drop rows past their retention."""
    flow.prune(at_most_seconds=flow.PRUNE_AT_MOST_SECONDS)
