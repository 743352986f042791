"""Queries of messages: who may see them, and what they are about."""

import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db.models import Exists, F, OuterRef, Q, QuerySet

from apps.accounts.queries import profile_of
from apps.canary import is_not_canary
from apps.notify import domain
from apps.notify.models import Attempt, Message, Notification
from apps.notify.queries.channels import HEALTH_SPAN, channels_seen_by


def inbox_of(user: AbstractBaseUser) -> QuerySet[Message]:
    """Return the messages in the user's inboxes, newest first."""
    mine = Message.objects.filter(channel__owner=user, channel__kind="inbox", status=Message.Status.DELIVERED)
    return mine.select_related("channel").order_by("-delivered_at")


def unread_in_inbox(user: AbstractBaseUser) -> int:
    """Return how many messages came to the user's inboxes since they last looked, domain.UNREAD_COUNTED at most."""
    seen_at = profile_of(user).inbox_seen_at
    messages = inbox_of(user)
    if seen_at is not None:
        # The first condition is for the index: a message is delivered within a day after it is made.
        messages = messages.filter(created_at__gt=seen_at - HEALTH_SPAN, delivered_at__gt=seen_at)
    return len(messages.order_by().values_list("pk")[: domain.UNREAD_COUNTED])


def messages_seen_by(user: AbstractBaseUser | AnonymousUser, *, inbox_only: bool = False) -> QuerySet[Message]:
    """Return the messages that `user` may see, with their channels: those to their own channels, all for a superuser,
    none for a stranger. inbox_only: only those in an inbox."""
    rows = Message.objects.select_related("channel")
    if inbox_only:
        rows = rows.filter(channel__kind="inbox", status=Message.Status.DELIVERED)
    if not user.is_authenticated:
        return rows.none()
    is_superuser = getattr(user, "is_superuser", False)
    return rows.filter(is_not_canary("channel") if is_superuser else Q(channel__owner=user))


def messages_about(user: AbstractBaseUser | AnonymousUser, alert_ids: Iterable[int]) -> QuerySet[Message]:
    """Return those messages about these alerts that `user` may see, each once for each of them, with its `alert_id`."""
    rows = messages_seen_by(user).filter(members__event__alert__in=alert_ids)
    rows = rows.annotate(alert_id=F("members__event__alert"), member=F("members__pk"))
    # By the first of its members about an alert, and not by DISTINCT, which looks at rows after they are numbered.
    before = Notification.objects.filter(
        message=OuterRef("pk"), event__alert=OuterRef("alert_id"), pk__lt=OuterRef("member")
    )
    return rows.exclude(Exists(before))


def notifications_about(user: AbstractBaseUser | AnonymousUser, alert_ids: Iterable[int]) -> QuerySet[Notification]:
    """Return the notifications of these alerts on the channels that `user` may see, each with its `alert_id`."""
    rows = Notification.objects.filter(event__alert__in=alert_ids, channel__in=channels_seen_by(user))
    return rows.select_related("event", "channel", "message__channel").annotate(alert_id=F("event__alert"))


def attempts_of(message_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, list[Attempt]]:
    """Return message id -> its attempts in their order. Whose they are is the caller's business."""
    found: dict[uuid.UUID, list[Attempt]] = {}
    for attempt in Attempt.objects.filter(message__in=list(message_ids)).order_by("message", "number"):
        found.setdefault(attempt.message_id, []).append(attempt)
    return found


def alert_ids_of(message_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, list[int]]:
    """Return message id -> the ids of its alerts, in the order in which the message lists them."""
    found: dict[uuid.UUID, list[int]] = {}
    members = Notification.objects.filter(message__in=message_ids).order_by("pk")
    for message_id, alert_id in members.values_list("message", "event__alert"):
        alert_ids = found.setdefault(message_id, [])
        if alert_id not in alert_ids:
            alert_ids.append(alert_id)
    return found


class MessageCounts(NamedTuple):
    """How many messages wait to be sent, and how many have failed."""

    waiting: int
    failed: int


def message_counts_of(user: AbstractBaseUser | AnonymousUser, *, since: datetime) -> MessageCounts:
    """Return how many messages that `user` may see are not sent yet, and how many made from `since` on have failed; two
    statements."""
    seen = messages_seen_by(user)
    # Excluded and not chosen, so that the database sees that the index of what is due has them all.
    waiting = seen.exclude(status__in=Message.SETTLED).count()
    return MessageCounts(waiting, seen.filter(status=Message.Status.FAILED, created_at__gte=since).count())
