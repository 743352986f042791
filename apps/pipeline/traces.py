"""The spans of the chain, each made once it is over, from what the rows say: tick, fetch, evaluate, deliver."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from celery.signals import worker_process_shutdown
from django.utils import timezone
from structlog.contextvars import get_contextvars

from apps import spans
from apps.alerts.models import AlertEvent
from apps.market.models import FeedEntry
from apps.notify.domain import span_of_delivery
from apps.notify.models import Attempt, Message, Notification
from apps.owned_ids import label_of

_IS_TRACE_ID = re.compile(r"[0-9a-f]{32}\Z").match


def trace_tick(*, trace_id: str, feed_id: int, slot: datetime, began_at: datetime) -> None:
    """Record that a tick dispatched the chain of a slot, as the first span of its trace."""
    if spans.is_on():
        _record_tick(trace_id, feed_id, slot, began_at=began_at, ended_at=timezone.now())


def _record_tick(trace_id: str, feed_id: int, slot: datetime, **columns: Any) -> None:
    facts = {"feed": feed_id, "slot": slot.isoformat()}
    spans.record("tick", trace_id=trace_id, span=spans.span_id(trace_id), parent=None, attributes=facts, **columns)


def trace_fetch(
    entry: FeedEntry | None,
    *,
    feed_id: int,
    slot: datetime,
    trace_id: str,
    began_at: datetime,
    steps: Sequence[spans.Step] = (),
    redelivered: bool = False,
) -> None:
    """Record one run of a slot's fetch: a child of its tick. entry: what it appended first; None: nothing.

    One that did nothing, since another run has, is no span, unless its message came again: then it is a sibling of the
    other's; or it makes the other's from the row that it left, since its process may have died with it.
    """
    if not spans.is_on() or (entry is None and not steps and not redelivered):
        return
    facts: dict[str, Any] = {"feed": feed_id, "slot": slot.isoformat(), "redelivered": redelivered}
    left = _left_by_another_run(feed_id, slot, trace_id) if entry is None and redelivered else None
    if left is not None:
        facts["reconstructed"] = True
        began_at = left.received_at
    appended = entry or left
    spans.record(
        "fetch",
        trace_id=trace_id,
        span=span_of_fetch(trace_id) if appended is not None else spans.new_span_id(),
        parent=spans.span_id(trace_id),
        began_at=began_at,
        ended_at=timezone.now(),
        attributes=facts | (_facts_of(appended) if appended is not None else {}),
        error=appended.failure if appended is not None else "",
        steps=steps,
    )


def _left_by_another_run(feed_id: int, slot: datetime, trace_id: str) -> FeedEntry | None:
    return FeedEntry.objects.filter(feed=feed_id, slot=slot, part=1, trace_id=trace_id).first()


def trace_evaluation(entry: FeedEntry, events: Sequence[AlertEvent], *, began_at: datetime) -> None:
    """Record that an entry was evaluated: a child of its fetch, linked to the run of the task that did it. Of pushed
    quotes, the wait since their receipt is the first span; an entry of another kind has none before it, unless it came
    with a slot's quotes.

    Where the trace is not sampled, nothing is recorded, but of an entry with events all that led to them.
    """
    is_sampled = spans.is_sampled(entry.trace_id)
    if not is_sampled and not (events and spans.is_on()):
        return
    trace_id, marks = entry.trace_id, {"reconstructed": not is_sampled}
    is_fetched = entry.slot is not None or _came_with_a_slot(entry)
    is_pushed = entry.kind == FeedEntry.Kind.QUOTES and not is_fetched
    if is_pushed:
        spans.record(
            "push",
            trace_id=trace_id,
            span=spans.span_id(trace_id),
            parent=None,
            began_at=entry.received_at,
            ended_at=began_at,
            attributes=_facts_of(entry),
            **marks,
        )
    if is_fetched and not is_sampled and not _has_earlier_events(entry):
        slot = entry.slot or entry.received_at
        # The rows say when a fetch began, and not when it was over.
        _record_tick(trace_id, entry.feed_id, slot, began_at=slot, ended_at=entry.received_at, **marks)
        spans.record(
            "fetch",
            trace_id=trace_id,
            span=span_of_fetch(trace_id),
            parent=spans.span_id(trace_id),
            began_at=entry.received_at,
            ended_at=began_at,
            attributes=_facts_of(entry),
            **marks,
        )
    opened = sum(event.kind == AlertEvent.Kind.OPENED for event in events)
    spans.record(
        "evaluate",
        trace_id=trace_id,
        span=span_of_evaluation(trace_id, entry.feed_id, entry.seq),
        parent=span_of_fetch(trace_id) if is_fetched else spans.span_id(trace_id) if is_pushed else None,
        began_at=began_at,
        ended_at=timezone.now(),
        attributes=_facts_of(entry) | {"events": len(events), "opened": opened},
        links=[run] if (run := _run_of_task()) is not None else [],
        **marks,
    )


def trace_run(*, feed_ids: Sequence[int], entries: int, began_at: datetime) -> None:
    """Record that the task under way has evaluated so many pending entries, whichever it was dispatched for: a trace of
    its own, to which their evaluations are linked. One that evaluated nothing is no span."""
    run = _run_of_task() if entries else None
    if run is None:
        return
    trace_id, span = run
    spans.record(
        "evaluate pending",
        trace_id=trace_id,
        span=span,
        parent=None,
        began_at=began_at,
        ended_at=timezone.now(),
        attributes=({"feed": label_of(*feed_ids)} if len(feed_ids) == 1 else {"feeds": len(feed_ids)})
        | {"entries": entries},
    )


def _run_of_task() -> tuple[str, int] | None:
    """Return (trace id, span id) of the task under way, whose id is the trace's; None where none is, or it is not
    sampled."""
    trace_id = str(get_contextvars().get("task_id", "")).replace("-", "")
    return (trace_id, spans.span_id(trace_id)) if _IS_TRACE_ID(trace_id) and spans.is_sampled(trace_id) else None


def _came_with_a_slot(entry: FeedEntry) -> bool:
    """Tell whether an entry of the past was given by a fetch: the slot's quotes stand behind it."""
    if entry.kind != FeedEntry.Kind.HISTORY:
        return False
    quotes = FeedEntry.objects.filter(feed=entry.feed_id, seq=entry.seq + 1, slot__isnull=False)
    return quotes.filter(trace_id=entry.trace_id).exists()


def _has_earlier_events(entry: FeedEntry) -> bool:
    """Tell whether an earlier entry of the same slot has events: then it has had the spans before it made."""
    of_slot = AlertEvent.objects.filter(entry__feed=entry.feed_id, entry__trace_id=entry.trace_id)
    return of_slot.filter(entry__seq__lt=entry.seq, entry__seq__gte=entry.seq - 2 * entry.part).exists()


def trace_delivery(*, channel_id: int) -> None:
    """Record the channel's last attempt: a child of the evaluation that made its first event, linked to the others'. A
    further attempt is a sibling. A message about no entry, like a test, is in no trace."""
    attempt = _last_attempt(channel_id) if spans.is_on() else None
    entries = _entries_of(attempt.message) if attempt is not None else []
    if attempt is None or not entries:
        return
    (trace_id, feed_id, seq), *others = entries
    message = attempt.message
    spans.record(
        "deliver",
        trace_id=trace_id,
        span=span_of_delivery(trace_id, message.pk, attempt.number),
        parent=span_of_evaluation(trace_id, feed_id, seq),
        began_at=attempt.started_at,
        ended_at=attempt.finished_at or attempt.started_at,
        attributes={
            "message": str(message.pk),
            "transport": message.channel.kind,
            "attempt": attempt.number,
            "redelivered": attempt.number > 1,
            "outcome": attempt.outcome,
        },
        links=[(one[0], span_of_evaluation(*one)) for one in others],
        error="" if attempt.outcome == Attempt.Outcome.DELIVERED else attempt.reason,
        reconstructed=not spans.is_sampled(trace_id),
    )


def _last_attempt(channel_id: int) -> Attempt | None:
    ended = Attempt.objects.filter(message__channel=channel_id).exclude(outcome="")
    return ended.select_related("message__channel").order_by("-started_at", "-pk").first()


def _entries_of(message: Message) -> list[tuple[str, int, int]]:
    """Return (trace id, feed id, seq) of the entries that made the events of a message, the first event's first."""
    members = Notification.objects.filter(message=message, event__entry__isnull=False).order_by("event")
    rows = members.values_list("event__entry__trace_id", "event__entry__feed", "event__entry__seq")
    return list(dict.fromkeys(rows))


def span_of_fetch(trace_id: str) -> int:
    """Return the id of the span of a slot's fetch."""
    return spans.span_id(trace_id, "fetch")


def span_of_evaluation(trace_id: str, feed_id: int, seq: int) -> int:
    """Return the id of the span of an entry's evaluation."""
    # With the feed: a change of rules is in several logs, under one trace id.
    return spans.span_id(trace_id, "evaluate", feed_id, seq)


def _facts_of(entry: FeedEntry) -> dict[str, str | int]:
    return {
        "feed": label_of(entry.feed_id),
        "entry": entry.seq,
        "kind": str(entry.kind),
        "provider": entry.provider,
        "accepted": entry.accepted,
    }


@worker_process_shutdown.connect
def send_what_waits(**_: object) -> None:
    """Send the spans of a child that ends, which a replaced one would take with it."""
    spans.flush()
