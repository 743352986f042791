"""What is owed becomes messages, and messages are sent: claim, commit, send, commit."""

import itertools
import logging
import random
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now
from django.urls import reverse

from apps.alerts.models import Alert, AlertEvent
from apps.notify import domain, queries
from apps.notify.models import Attempt, Channel, Message, Owed, RuleChannel
from apps.notify.transports.protocol import Letter, TransportRejected, TransportUnavailable
from apps.notify.transports.registry import transport_named
from apps.rules.models import Rule

logger = logging.getLogger(__name__)

# Longer than a task may run (60 s), so no two senders hold one message.
SEND_LEASE = timedelta(seconds=90)
# Whoever may press the button could otherwise fill a stranger's mailbox.
TEST_PAUSE = timedelta(minutes=1)


class TestRefused(ValueError):
    """A channel is not tried now; the text is for people."""

    __test__ = False  # It is no test class, whatever its name looks like.


def create_channel(*, owner: AbstractBaseUser, name: str, kind: str, config: Mapping[str, Any]) -> Channel:
    """Return a new channel. Raises ValidationError."""
    channel = Channel(owner=owner, name=name, kind=kind, config=dict(config))
    channel.full_clean()
    channel.save()
    return channel


def send_test(*, channel: Channel, asked_by: str, now: datetime) -> Message:
    """Return a message that only tries this channel. It goes the way of all others: the next sweep has it sent.

    Raises TestRefused: switched off, or tried less than a minute ago.
    """
    with transaction.atomic():
        # Two presses at once are one after the other.
        channel = Channel.objects.select_for_update(no_key=True).get(pk=channel.pk)
        if not channel.is_enabled:
            raise TestRefused(f"{channel.name} is switched off. Switch it on first.")
        if channel.messages.filter(kind=Message.Kind.TEST, created_at__gt=now - TEST_PAUSE).exists():
            raise TestRefused(
                f"{channel.name} was tried less than a minute ago. Look into Messages for what came of it."
            )
        url = settings.SITE_URL + reverse("admin:notify_channel_change", args=[channel.pk])
        subject, text = domain.compose_test(channel=channel.name, asked_by=asked_by, at=now, url=url)
        message = Message(kind=Message.Kind.TEST, channel=channel, subject=subject, text=text, next_attempt_at=now)
        # Nobody has been asked to send it since it became due: so sweep does not wait before it asks.
        message.hurried_at = now - timedelta(microseconds=1)
        message.save()
    return message


def set_channels(*, rule: Rule, channels: Sequence[Channel]) -> None:
    """Tell the rule's alerts on these channels from now on, and on no others. They must be the rule's owner's."""
    if any(channel.owner_id != rule.owner_id for channel in channels):
        raise ValueError("a rule is told on its owner's channels only")
    with transaction.atomic():
        RuleChannel.objects.filter(rule=rule).exclude(channel__in=channels).delete()
        RuleChannel.objects.bulk_create(
            [RuleChannel(rule=rule, channel=channel) for channel in channels], ignore_conflicts=True
        )


def owe(events: Sequence[AlertEvent]) -> int:
    """Note what these events owe to which channels, in the caller's transaction, and return how many debts that made.

    An opening is owed to the rule's channels; a resolution to those of them that were owed the opening and want it;
    a judging error to the owner's inbox where the rule has no channel.
    """
    if not events:
        return 0
    opened = [one for one in events if one.kind == AlertEvent.Kind.OPENED]
    resolved = [one for one in events if one.kind == AlertEvent.Kind.RESOLVED]
    channels: dict[int, list[Channel]] = {}
    links = RuleChannel.objects.filter(rule__in={one.alert.rule_id for one in opened}, channel__is_enabled=True)
    for link in links.select_related("channel").order_by("channel_id"):
        channels.setdefault(link.rule_id, []).append(link.channel)
    debts = []
    for event in opened:
        told = channels.get(event.alert.rule_id, [])
        if not told and event.alert.kind == Alert.Kind.ERROR:
            told = [_inbox_of(event.alert.rule.owner)]
        debts += [Owed(event=event, channel=channel) for channel in told]
    Owed.objects.bulk_create(debts, ignore_conflicts=True, batch_size=1_000)
    count = len(debts)
    if resolved:
        told_openings = Owed.objects.filter(
            event__alert__in=[one.alert_id for one in resolved],
            event__kind=AlertEvent.Kind.OPENED,
            channel__is_enabled=True,
            channel__wants_resolved=True,
        ).values_list("event__alert_id", "channel_id")
        event_of = {one.alert_id: one for one in resolved}
        over = [Owed(event=event_of[alert_id], channel_id=channel_id) for alert_id, channel_id in told_openings]
        Owed.objects.bulk_create(over, ignore_conflicts=True, batch_size=1_000)
        count += len(over)
    return count


def _inbox_of(owner: AbstractBaseUser) -> Channel:
    inbox = Channel.objects.filter(owner=owner, kind="inbox", is_enabled=True).order_by("pk").first()
    if inbox is None:
        taken = set(Channel.objects.filter(owner=owner).values_list("name", flat=True))
        names = ("Inbox for errors" + (f" {number}" if number > 1 else "") for number in itertools.count(1))
        name = next(name for name in names if name not in taken)
        inbox = Channel.objects.create(owner=owner, name=name, kind="inbox")
    return inbox


def plan_messages(*, owed_ids: Sequence[int], now: datetime) -> list[uuid.UUID]:
    """Make the messages that pay these debts and return those to be sent, whoever planned them.

    One message per (event, channel); where the opening of an episode that is over was never tried, its message
    tells both.
    """
    with transaction.atomic():
        unpaid = Owed.objects.filter(pk__in=owed_ids, message=None)
        # One planner per channel at a time, and what is read is read after the lock: the debts of one alert, shared out
        # between two planners, would become two messages whose order nothing holds.
        list(Channel.objects.select_for_update(no_key=True).filter(pk__in=unpaid.values("channel")).order_by("pk"))
        debts = list(unpaid.select_related("event__alert__rule", "event__alert__asset").order_by("pk"))
        messages: dict[tuple[int, int], Message] = {}
        told: dict[uuid.UUID, list[domain.Told]] = {}
        made: set[uuid.UUID] = set()
        for debt in debts:
            key = (debt.event.alert_id, debt.channel_id)
            message = messages.get(key) or _untried_message(debt)
            if message is None:
                message = Message(channel_id=debt.channel_id, next_attempt_at=now, hurried_at=now, created_at=now)
                made.add(message.pk)
            messages[key] = message
            if message.pk not in told:
                earlier = message.members.select_related("event__alert__rule", "event__alert__asset").order_by("pk")
                told[message.pk] = [] if message.pk in made else [_told(one.event) for one in earlier]
            told[message.pk].append(_told(debt.event))
            debt.message = message
        for message in messages.values():
            message.subject, message.text = domain.compose(told[message.pk])
        Message.objects.bulk_create([one for one in messages.values() if one.pk in made], batch_size=1_000)
        merged = [one for one in messages.values() if one.pk not in made]
        Message.objects.bulk_update(merged, ["subject", "text"], batch_size=1_000)
        Owed.objects.bulk_update(debts, ["message"], batch_size=1_000)
    paid = Message.objects.filter(members__in=owed_ids, status=Message.Status.PENDING, next_attempt_at__lte=now)
    return list(paid.order_by("created_at").distinct().values_list("pk", flat=True))


def _untried_message(debt: Owed) -> Message | None:
    """Return the message that tells the opening on this channel, locked, if nobody has begun to send it."""
    if debt.event.kind != AlertEvent.Kind.RESOLVED:
        return None
    untried = Message.objects.select_for_update(skip_locked=True, no_key=True, of=("self",)).filter(
        channel_id=debt.channel_id, status=Message.Status.PENDING, attempts=0
    )
    return untried.filter(members__event__alert_id=debt.event.alert_id).first()


def _told(event: AlertEvent) -> domain.Told:
    alert = event.alert
    return domain.Told(
        kind=event.kind,
        at=event.at,
        reason=event.reason,
        rule=alert.rule.name,
        symbol=alert.asset.symbol,
        severity=alert.severity,
        words=alert.words,
        url=settings.SITE_URL + reverse("admin:alerts_alert_change", args=[alert.pk]),
    )


def deliver(*, message_id: uuid.UUID, now: datetime) -> bool:
    """Try to send one message, if it is due and nobody else is at it; return whether it was delivered by this call.

    What comes after a crash between the answer and the second commit is one repeat, with the same id.
    """
    attempt = _claim(message_id, now=now)
    if attempt is None:
        return False
    message = attempt.message
    outcome, reason, detail = Attempt.Outcome.DELIVERED, "", ""
    try:
        letter = Letter(id=str(message.pk), subject=message.subject, text=message.text)
        detail = transport_named(message.channel.kind).send(letter, message.channel.config)
    except TransportUnavailable as error:
        outcome, reason, detail = Attempt.Outcome.FAILED, error.reason, error.detail
    except TransportRejected as error:
        outcome, reason, detail = Attempt.Outcome.REJECTED, error.reason, error.detail
    except Exception:
        # A transport is the world's edge: what it did not foresee is a failed attempt, with the traceback in the log.
        logger.exception("transport raised", extra={"message_id": str(message.pk)})
        outcome, reason = Attempt.Outcome.FAILED, "crashed"
    logger.info(
        "message tried",
        extra={"message_id": str(message.pk), "attempt": attempt.number, "outcome": str(outcome), "reason": reason},
    )
    _finish(attempt, outcome=outcome, reason=reason, detail=detail)
    return outcome == Attempt.Outcome.DELIVERED


def _claim(message_id: uuid.UUID, *, now: datetime) -> Attempt | None:
    """Take the message for one attempt; the row decides who wins, and its count of attempts fences off who was late."""
    with transaction.atomic():
        known = queries.claimable().filter(pk=message_id).values_list("attempts", flat=True).first()
        if known is None:
            return None
        if known > len(domain.RETRY_AFTER_SECONDS):
            # Its last sender died over it, like those before: it kills whoever sends it, or the last answer was lost.
            queries.claimable().filter(pk=message_id, attempts=known).update(
                status=Message.Status.DEAD, lease_until=None
            )
            return None
        won = (
            queries.claimable()
            .filter(pk=message_id, attempts=known)
            .update(attempts=F("attempts") + 1, status=Message.Status.SENDING, lease_until=Now() + SEND_LEASE)
        )
        if not won:
            return None
        message = Message.objects.select_related("channel").get(pk=message_id)
        return Attempt.objects.create(message=message, number=known + 1, started_at=now)


def _finish(attempt: Attempt, *, outcome: Attempt.Outcome, reason: str, detail: str) -> None:
    """Record what came of the attempt; a newer attempt's word on the message stands over ours."""
    with transaction.atomic():
        attempt.outcome, attempt.reason, attempt.detail = outcome, reason[:64], detail[:2048]
        Attempt.objects.filter(pk=attempt.pk).update(
            outcome=outcome, reason=attempt.reason, detail=attempt.detail, finished_at=Now()
        )
        ours = Message.objects.filter(pk=attempt.message_id, attempts=attempt.number, status=Message.Status.SENDING)
        delay = domain.retry_delay(attempts=attempt.number, uniform=random.uniform)
        if outcome == Attempt.Outcome.DELIVERED:
            ours.update(status=Message.Status.DELIVERED, delivered_at=Now(), lease_until=None)
        elif outcome == Attempt.Outcome.REJECTED or delay is None:
            ours.update(status=Message.Status.DEAD, lease_until=None)
        else:
            ours.update(status=Message.Status.PENDING, next_attempt_at=Now() + delay, lease_until=None)


def note_hurried(*, message_ids: Sequence[uuid.UUID], now: datetime) -> None:
    """Remember that a worker has been asked to send these."""
    Message.objects.filter(pk__in=message_ids).update(hurried_at=now)
