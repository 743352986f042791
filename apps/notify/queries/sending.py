"""Queries for sending: channels with due messages, the next message of a channel, and why a channel sends nothing."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db.models import Exists, F, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Now

from apps.canary import CANARY
from apps.leases import IS_LEASED, LEASE_HAS_EXPIRED
from apps.notify.decision import Decision, refuse
from apps.notify.models import Channel, Message, Notification
from apps.notify.queries.planning import CHANNELS_AT_ONCE
from apps.rules.models import Rule


def next_message(channel_id: int) -> Message | None:
    """Return the message to send next on a channel: it is due, or its sender's lease has expired, and no earlier one
    about the same alert is unsent. None while a sender holds a lease on the channel.

    With its trace_id: that of the entry which made its first event; None where no entry did.
    """
    under_way = Message.objects.filter(_is_under_way(), channel=channel_id)
    # By the notifications' own order: the clocks of those who write messages may differ.
    earlier = Notification.objects.filter(
        channel=channel_id,
        message__status__in=Message.UNSENT,
        event__alert__events__notifications__message=OuterRef("pk"),
        event__alert__events__notifications__pk__gt=F("pk"),
    ).exclude(message=OuterRef("pk"))
    due = Message.objects.filter(_is_due(), ~Exists(under_way), ~Exists(earlier), channel=channel_id)
    # By the index's order alone: what is sent again is due at one moment, and would be sorted anew for each message.
    return due.annotate(trace_id=_first_trace_id()).order_by("next_attempt_at").first()


def _first_trace_id() -> Subquery:
    members = Notification.objects.filter(message=OuterRef("pk"), event__entry__isnull=False)
    return Subquery(members.order_by("event").values("event__entry__trace_id")[:1])


def may_be_notified(channel: Channel) -> bool:
    """Tell whether the channel's owner is active; the canary's never is."""
    return channel.pk == CANARY or channel.owner.is_active


def refusal_of(channel: Channel) -> Decision | None:
    """Return why a channel sends nothing now, None where it may send. Reads its owner."""
    return refuse(is_enabled=channel.is_enabled, may_be_notified=may_be_notified(channel))


def is_refused_like_others(channel: Channel) -> bool:
    """Tell whether other channels of its kind are refused too, and nothing has got through on any since this one was:
    then the server that they share is to blame."""
    others = Channel.objects.filter(kind=channel.kind, is_enabled=True).exclude(pk=channel.pk)
    if not others.filter(refused_since__isnull=False).exists():
        return False
    delivered = Message.objects.filter(channel__in=others, delivered_at__gte=channel.refused_since)
    return not delivered.exists()


def given_up_with(channel: Channel) -> QuerySet[Message]:
    """Return the unsent messages of a channel that is disabled, but for one that is being sent."""
    return channel.messages.filter(~_is_under_way(), status__in=Message.UNSENT)


def due_in_quiet_hours(channel: Channel) -> QuerySet[Message]:
    """Return the due messages of a channel that its quiet hours defer: those about alerts, but for critical ones where
    the channel allows them."""
    due = channel.messages.filter(_is_due(), kind=Message.Kind.ALERT)
    if not channel.quiet_allow_critical:
        return due
    critical = Notification.objects.filter(message=OuterRef("pk"), event__alert__severity=Rule.Severity.CRITICAL)
    return due.exclude(Exists(critical))


def _is_under_way() -> Q:
    return Q(status=Message.Status.SENDING, next_attempt_at__lte=Now()) & IS_LEASED


def _is_due() -> Q:
    # A message that is being sent has been due, too. The condition on next_attempt_at is for both statuses, so that the
    # index passes over messages that wait for a later attempt.
    is_free = Q(status=Message.Status.PENDING) | (Q(status=Message.Status.SENDING) & LEASE_HAS_EXPIRED)
    return Q(is_free, next_attempt_at__lte=Now())


class DueChannel(NamedTuple):
    """A channel with a due message. is_failing: its last attempt failed."""

    channel_id: int
    is_failing: bool


def due_channels(*, behind: timedelta, now: datetime) -> list[DueChannel]:
    """Return the channels with a due message for which a task is to be dispatched: the message became due after the
    last dispatch, or that was longer ago than `behind`."""
    due = Message.objects.filter(_is_due()).order_by()
    is_forgotten = Q(dispatched_at=None) | Q(dispatched_at__lte=now - behind) | Q(dispatched_at__gt=now + behind)
    is_fresh = Exists(due.filter(channel=OuterRef("pk"), next_attempt_at__gt=OuterRef("dispatched_at")))
    may_resume = Q(resume_at=None) | Q(resume_at__lte=now)
    # From what is due to its channels, so that those without anything due are not read.
    rows = Channel.objects.filter(is_forgotten | is_fresh, may_resume, pk__in=due.values("channel"))
    # The longest ago dispatched comes first, so that slow channels never keep others waiting for ever.
    rows = rows.order_by(F("dispatched_at").asc(nulls_first=True), "pk")
    found = rows.values_list("pk", "failing_since")[:CHANNELS_AT_ONCE]
    return [DueChannel(pk, failing_since is not None) for pk, failing_since in found]


def failing_of(channel_ids: Iterable[int]) -> set[int]:
    """Return the ids of those channels whose last attempt failed."""
    failing = Channel.objects.filter(pk__in=channel_ids, failing_since__isnull=False)
    return set(failing.values_list("pk", flat=True))
