"""The spans of the chain, each made once it is over, from what the rows say: fetch or push, evaluate, deliver."""

from collections.abc import Sequence
from datetime import datetime

from celery.signals import worker_process_shutdown
from django.utils import timezone

from apps import spans
from apps.alerts.models import AlertEvent
from apps.market.models import FeedEntry
from apps.notify.models import Attempt, Message, Notification
from apps.owned_ids import label_of


def trace_fetch(entry: FeedEntry | None, *, began_at: datetime) -> None:
    """Record that a slot was fetched, as the first span of its trace; None: another worker has fetched it."""
    if entry is None or not spans.is_on():
        return
    spans.record(
        "fetch",
        trace_id=entry.trace_id,
        span=spans.span_id(entry.trace_id),
        parent=None,
        began_at=began_at,
        ended_at=timezone.now(),
        attributes=_facts_of(entry) | {"slot": entry.slot.isoformat() if entry.slot else None},
        error=entry.failure,
    )


def trace_evaluation(entry: FeedEntry, events: Sequence[AlertEvent], *, began_at: datetime) -> None:
    """Record that an entry was evaluated: a child of its fetch. Of pushed quotes, the wait since their receipt is the
    first span; an entry of another kind has none before it."""
    if not spans.is_on():
        return
    is_quotes = entry.kind == FeedEntry.Kind.QUOTES
    first = spans.span_id(entry.trace_id) if is_quotes else None
    if first is not None and entry.slot is None:
        spans.record(
            "push",
            trace_id=entry.trace_id,
            span=first,
            parent=None,
            began_at=entry.received_at,
            ended_at=began_at,
            attributes=_facts_of(entry),
        )
    opened = sum(event.kind == AlertEvent.Kind.OPENED for event in events)
    spans.record(
        "evaluate",
        trace_id=entry.trace_id,
        span=_evaluation(entry.trace_id, entry.feed_id, entry.seq),
        parent=first,
        began_at=began_at,
        ended_at=timezone.now(),
        attributes=_facts_of(entry) | {"events": len(events), "opened": opened},
    )


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
        span=spans.span_id(trace_id, "deliver", message.pk, attempt.number),
        parent=_evaluation(trace_id, feed_id, seq),
        began_at=attempt.started_at,
        ended_at=attempt.finished_at or attempt.started_at,
        attributes={
            "message": str(message.pk),
            "transport": message.channel.kind,
            "attempt": attempt.number,
            "redelivered": attempt.number > 1,
            "outcome": attempt.outcome,
        },
        links=[(one[0], _evaluation(*one)) for one in others],
        error="" if attempt.outcome == Attempt.Outcome.DELIVERED else attempt.reason,
    )


def _last_attempt(channel_id: int) -> Attempt | None:
    ended = Attempt.objects.filter(message__channel=channel_id).exclude(outcome="")
    return ended.select_related("message__channel").order_by("-started_at", "-pk").first()


def _entries_of(message: Message) -> list[tuple[str, int, int]]:
    """Return (trace id, feed id, seq) of the entries that made the events of a message, the first event's first."""
    members = Notification.objects.filter(message=message, event__entry__isnull=False).order_by("event")
    rows = members.values_list("event__entry__trace_id", "event__entry__feed", "event__entry__seq")
    return list(dict.fromkeys(rows))


def _evaluation(trace_id: str, feed_id: int, seq: int) -> int:
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
