"""Sends messages: claim, commit, send, commit. One at a time on each channel."""

import logging
import random
import time
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from structlog.contextvars import bound_contextvars

from apps import spans
from apps.notify import domain, queries
from apps.notify.domain import span_of_delivery
from apps.notify.encryption import DecryptionError
from apps.notify.models import Attempt, Channel, Message
from apps.notify.services.actions import action_links
from apps.notify.services.channels import switch_off, url_of
from apps.notify.services.counting import count_deliveries
from apps.notify.services.giving_up import again, hand_over, make_smaller
from apps.notify.services.planning import url_of as url_of_message
from apps.notify.services.reminding import schedule_reminders
from apps.notify.transports.protocol import (
    ChannelMoved,
    ChannelRefused,
    Receipt,
    RefusedForNow,
    RenderedMessage,
    TooLarge,
    TransportFailure,
    TransportRejected,
    TransportUnavailable,
)
from apps.notify.transports.registry import transport_named
from apps.totals import Totals, of_duration

logger = logging.getLogger(__name__)

# Longer than a task that sends may run (25 s), so no two senders have one message.
SEND_LEASE = timedelta(seconds=30)
ALERTS_LOGGED = 20
# Reason of an attempt whose process did not say what came of it.
LOST = "lost"
# A channel on which every attempt has failed for so long is disabled.
FAILING_AT_MOST = timedelta(hours=72)


def deliver_next(*, channel_id: int, now: datetime, while_failing: bool = True) -> str | None:
    """Try to send the next message of a channel, and return the attempt's outcome; None where none is due, or another
    sender is at work, who will look once more. while_failing: also where the last attempt failed.

    After a crash between the answer and the second commit, the message is sent once more, with the same id.
    """
    attempt = _claim(channel_id, now=now, while_failing=while_failing)
    if attempt is None:
        return None
    with bound_contextvars(**_log_facts(attempt)):
        return _send(attempt, now=now)


def _log_facts(attempt: Attempt) -> dict[str, Any]:
    """Return what log lines say of an attempt: its message, alerts, and the trace of the entry that made the first."""
    message = attempt.message
    trace_id = message.trace_id  # type: ignore[attr-defined]  # by queries.next_message
    named = spans.named(trace_id, span_of_delivery(trace_id, message.pk, attempt.number)) if trace_id else {}
    alert_ids = sorted({item["alert_id"] for item in message.items})
    return {"message_id": str(message.pk), "attempt": attempt.number, "alerts": alert_ids[:ALERTS_LOGGED], **named}


def _send(attempt: Attempt, *, now: datetime) -> str:
    began = time.monotonic()
    came: Receipt | TransportFailure
    try:
        channel = attempt.message.channel
        came = transport_named(channel.kind).send(render(attempt.message), channel.transport_settings)
    except TransportFailure as failure:
        came = failure
    except DecryptionError as error:
        came = TransportUnavailable("no_key", f"The channel's secrets cannot be decrypted: {error}.")
    except Exception:
        # An error that a transport did not foresee is a failed attempt, with the traceback in the log.
        logger.exception("transport raised")
        came = TransportUnavailable("crashed", "The transport failed; the log says how.")
    attempt.milliseconds = round((time.monotonic() - began) * 1_000)
    try:
        return _finish(attempt, came=came, now=now)
    except (InterfaceError, OperationalError):
        if connection.in_atomic_block or connection.is_usable():
            raise
        # The receiver's answer is known here and nowhere else. Whether the first commit was made, the rows say.
        logger.warning("outcome written on a new connection")
        connection.close()
        return _finish(attempt, came=came, now=now)


def render(message: Message) -> RenderedMessage:
    """Return the message as a transport sends it. Reads its channel with the profile of its owner."""
    items = tuple(map(domain.from_data, message.items))
    is_open = any(one.event != domain.RESOLVED for one in domain.last_states(items))
    return RenderedMessage(
        id=str(message.pk),
        subject=message.subject,
        text=message.text,
        url=url_of(message.channel) if message.kind == Message.Kind.TEST else url_of_message(message),
        severity=domain.highest_severity(items),
        items=items,
        actions=action_links(message_id=message.pk) if is_open else (),
        reader=queries.reader_of_messages(message.channel),
    )


def _claim(channel_id: int, *, now: datetime, while_failing: bool) -> Attempt | None:
    """Claim the channel's next message for one attempt, under the channel's lock. The message's count of attempts is
    the fence against a sender that comes back late."""
    with transaction.atomic():
        rows = Channel.objects.select_for_update(no_key=True, of=("self",)).select_related("owner__profile")
        channel = rows.filter(pk=channel_id).first()
        if channel is None:
            return None
        if queries.refusal_of(channel) is not None:
            _give_up(queries.given_up_with(channel), channel=channel, now=now)
            return None
        if channel.resume_at is not None and channel.resume_at > now:
            return None
        if channel.failing_since is not None and not while_failing:
            return None
        _put_off_in_quiet_hours(channel, now=now)
        message = queries.next_message(channel_id)
        while message is not None and message.attempts - message.attempts_before > len(domain.RETRY_AFTER_SECONDS):
            # The process of its last attempt died too: this message may be what crashes its senders.
            _give_up(Message.objects.filter(pk=message.pk), channel=channel, now=now)
            schedule_reminders(channel=channel, message=message)
            message = queries.next_message(channel_id)
        if message is None:
            return None
        number = message.attempts + 1
        if message.attempts:
            _close_lost(message)
        Message.objects.filter(pk=message.pk).update(
            attempts=number, status=Message.Status.SENDING, lease_until=Now() + SEND_LEASE
        )
        message.channel = channel
        return Attempt.objects.create(message=message, number=number, started_at=now)


def _close_lost(message: Message) -> None:
    """Give the earlier attempts without an outcome one: their processes are gone, or late."""
    message.tries.filter(outcome="").update(
        outcome=Attempt.Outcome.TRANSIENT_FAILURE,
        reason=LOST,
        detail="The process ended before it had noted the answer.",
        finished_at=Now(),
    )


def _put_off_in_quiet_hours(channel: Channel, *, now: datetime) -> None:
    """Postpone the messages that wait for a retry to the end of the channel's quiet hours, where it has them now."""
    quiet = channel.quiet_hours
    until = domain.quiet_until(now=now, quiet=quiet) if quiet is not None else None
    if until is not None:
        queries.due_in_quiet_hours(channel).update(
            status=Message.Status.PENDING, next_attempt_at=until, lease_until=None
        )


def _finish(attempt: Attempt, *, came: Receipt | TransportFailure, now: datetime) -> str:
    """Record the result of the attempt and return its outcome. The message changes only where no newer attempt was
    begun."""
    message, channel = attempt.message, attempt.message.channel
    is_test = message.kind == Message.Kind.TEST
    outcome = _outcome_of(came)
    reason = came.reason if isinstance(came, TransportFailure) else ""
    logger.info("message tried", extra={"outcome": str(outcome), "reason": reason})
    with transaction.atomic():
        # As it is by now: its owner may have changed how often it reminds.
        locked = Channel.objects.select_for_update(no_key=True).filter(pk=channel.pk).first()
        noted = Attempt.objects.filter(Q(outcome="") | Q(reason=LOST), pk=attempt.pk).update(
            outcome=outcome,
            reason=reason[:64],
            detail=came.detail[:2048],
            status=came.status,
            answer=came.answer.replace("\0", "")[:2048],
            milliseconds=attempt.milliseconds,
            finished_at=Now(),
        )
        if not noted:
            return outcome
        ours = Message.objects.filter(pk=message.pk, attempts=attempt.number, status=Message.Status.SENDING)
        if isinstance(came, Receipt):
            won = ours.update(status=Message.Status.DELIVERED, delivered_at=Now(), lease_until=None)
            if won and (channel.failing_since, channel.refused_since, channel.resume_at) != (None, None, None):
                Channel.objects.filter(pk=channel.pk).update(failing_since=None, refused_since=None, resume_at=None)
        elif isinstance(came, ChannelMoved):
            if again(ours):
                channel.put_settings(channel.transport_settings | dict(came.settings))
                channel.save(update_fields=["config", "encrypted"])
        elif isinstance(came, TransportUnavailable) and not (is_test and isinstance(came, RefusedForNow)):
            _put_off(attempt, came=came, now=now)
        elif not (isinstance(came, TooLarge) and make_smaller(message, sent_again=ours, now=now)):
            won = _give_up(ours, channel=channel, now=now)
            # A refused test changes nothing else: its owner is setting the channel up and sees the result.
            if won and not is_test:
                if isinstance(came, ChannelRefused):
                    switch_off(channel=channel, because=came.detail or came.reason, now=now)
                else:
                    _note_failure(channel, came=came, now=now)
        if locked is not None:
            schedule_reminders(channel=locked, message=message)
        _count(attempt, outcome=outcome, now=now)
    return outcome


def _count(attempt: Attempt, *, outcome: Attempt.Outcome, now: datetime) -> None:
    # The canary's deliveries are nobody's.
    if attempt.message.channel.pk < 0:
        return
    kind = attempt.message.channel.kind
    totals: Totals = {f"attempts:{kind}:{outcome}": 1}
    # Sent again at somebody's wish, it has waited for that.
    if outcome == Attempt.Outcome.DELIVERED and not attempt.message.attempts_before:
        took = now - attempt.message.created_at + timedelta(milliseconds=attempt.milliseconds or 0)
        totals |= of_duration(f"seconds:{kind}", took.total_seconds())
    count_deliveries(totals)


def _outcome_of(came: Receipt | TransportFailure) -> Attempt.Outcome:
    if isinstance(came, Receipt):
        return Attempt.Outcome.DELIVERED
    if isinstance(came, TransportRejected):
        return Attempt.Outcome.PERMANENT_FAILURE
    return Attempt.Outcome.TRANSIENT_FAILURE


def _give_up(messages: QuerySet[Message], *, channel: Channel, now: datetime) -> int:
    """Fail these messages of a channel, have another channel notify of what they are about, and return how many they
    are."""
    message_ids = list(messages.values_list("pk", flat=True))
    if message_ids:
        Message.objects.filter(pk__in=message_ids).update(status=Message.Status.FAILED, lease_until=None)
        hand_over(message_ids=message_ids, channel=channel, now=now)
    return len(message_ids)


def _put_off(attempt: Attempt, *, came: TransportUnavailable, now: datetime) -> None:
    """Schedule the next attempt, later where the receiver asked for that; after the last one the message fails."""
    message, channel = attempt.message, attempt.message.channel
    ours = Message.objects.filter(pk=message.pk, attempts=attempt.number, status=Message.Status.SENDING)
    delay = domain.retry_delay(attempts=attempt.number - message.attempts_before, uniform=random.uniform)
    asked = timedelta(seconds=came.retry_after_seconds) if came.retry_after_seconds is not None else None
    if delay is None:
        won = _give_up(ours, channel=channel, now=now)
    else:
        # Never sooner than the schedule: a receiver that asks for 1 s each time would get all attempts in 10 s.
        wait = max(delay, asked or delay)
        won = ours.update(status=Message.Status.PENDING, next_attempt_at=Now() + wait, lease_until=None)
    if not won:
        return
    if asked is not None:
        # Counted from the answer: the attempt may have taken longer than the pause that is asked for.
        Channel.objects.filter(pk=channel.pk).update(resume_at=Now() + asked)
    _note_failure(channel, came=came, now=now)


def _note_failure(channel: Channel, *, came: TransportFailure, now: datetime) -> None:
    """Record since when the channel fails, and disable it after FAILING_AT_MOST, or where it was refused for as long
    as makes a refusal believed."""
    refused_since = (channel.refused_since or now) if isinstance(came, RefusedForNow) else None
    failing_since = channel.failing_since or now
    if (failing_since, refused_since) != (channel.failing_since, channel.refused_since):
        Channel.objects.filter(pk=channel.pk).update(failing_since=failing_since, refused_since=refused_since)
    if isinstance(came, RefusedForNow) and channel.refused_since is not None:
        is_believed = channel.refused_since <= now - came.off_after
        if is_believed and not (came.is_shared and queries.is_refused_like_others(channel)):
            switch_off(channel=channel, because=came.detail or came.reason, now=now)
            return
    if channel.failing_since is not None and channel.failing_since <= now - FAILING_AT_MOST:
        since = domain.moment(channel.failing_since, queries.reader_of_messages(channel))
        detail = f"nothing has got through since {since} ({came.detail or came.reason})"
        switch_off(channel=channel, because=detail, now=now)


def note_dispatched(*, channel_ids: Iterable[int], now: datetime) -> None:
    """Record that a delivery task was sent for each of these channels."""
    Channel.objects.filter(pk__in=channel_ids).update(dispatched_at=now)
