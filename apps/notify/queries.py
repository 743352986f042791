"""What is asked of messages and of what is owed."""

import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Now

from apps.notify.models import Message, Owed

PLANNED_AT_ONCE = 1_000


def inbox_of(user: AbstractBaseUser) -> QuerySet[Message]:
    """Return the messages in the user's inboxes, newest first."""
    mine = Message.objects.filter(channel__owner=user, channel__kind="inbox", status=Message.Status.DELIVERED)
    return mine.select_related("channel").order_by("-delivered_at")


def messages_seen_by(user: AbstractBaseUser | AnonymousUser, *, inbox_only: bool = False) -> QuerySet[Message]:
    """Return the messages that `user` may see, with their channels: those to their own channels, all for a superuser,
    none for a stranger. inbox_only: only what an inbox holds."""
    rows = Message.objects.select_related("channel")
    if inbox_only:
        rows = rows.filter(channel__kind="inbox", status=Message.Status.DELIVERED)
    if not user.is_authenticated:
        return rows.none()
    return rows if getattr(user, "is_superuser", False) else rows.filter(channel__owner=user)


def messages_about(user: AbstractBaseUser | AnonymousUser, alert_ids: Iterable[int]) -> QuerySet[Message]:
    """Return those messages about these alerts that `user` may see, each with its `alert_id`."""
    members = Owed.objects.filter(event__alert__in=alert_ids, message__isnull=False)
    alert_id = Owed.objects.filter(message=OuterRef("pk")).values("event__alert")[:1]
    return messages_seen_by(user).filter(pk__in=members.values("message")).annotate(alert_id=Subquery(alert_id))


def alert_ids_of(message_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, int]:
    """Return message id -> the alert that it tells of: all that one message pays is of one alert."""
    return dict(Owed.objects.filter(message__in=message_ids).values_list("message", "event__alert"))


def unplanned_owed_ids(*, before: datetime | None = None, feed_id: int | None = None) -> list[int]:
    """Return the debts that no message pays yet, oldest first, a page at a time; `before`: only those made before
    it."""
    unplanned = Owed.objects.filter(message=None)
    if feed_id is not None:
        unplanned = unplanned.filter(event__batch__feed=feed_id)
    if before is not None:
        unplanned = unplanned.filter(created_at__lt=before)
    return list(unplanned.order_by("pk").values_list("pk", flat=True)[:PLANNED_AT_ONCE])


def claimable() -> QuerySet[Message]:
    """Return the messages that may be tried now: due, or left by a dead sender, and no earlier one about the same
    alert unsent."""
    due = Q(status=Message.Status.PENDING, next_attempt_at__lte=Now())
    abandoned = Q(status=Message.Status.SENDING, lease_until__lt=Now())
    earlier = Owed.objects.filter(
        channel=OuterRef("channel"),
        event__alert__events__owed__message=OuterRef("pk"),
        message__status__in=Message.UNSENT,
        message__created_at__lt=OuterRef("created_at"),
    )
    return Message.objects.filter(due | abandoned).exclude(Exists(earlier))


def due_message_ids(*, behind: timedelta, now: datetime, limit: int = 500) -> list[uuid.UUID]:
    """Return messages that may be tried: due again since somebody was last asked to send them, or asked `behind`
    ago."""
    is_forgotten = Q(hurried_at__lte=now - behind) | Q(next_attempt_at__gt=F("hurried_at"))
    rows = claimable().filter(is_forgotten).order_by("next_attempt_at")
    return list(rows.values_list("pk", flat=True)[:limit])


class MessageCounts(NamedTuple):
    """Messages on their way, and those that were given up."""

    waiting: int
    dead: int


def message_counts_of(user: AbstractBaseUser | AnonymousUser, *, since: datetime) -> MessageCounts:
    """Return how many messages that `user` may see are not sent yet, and how many made from `since` on are dead; two
    statements."""
    seen = messages_seen_by(user)
    # Excluded and not chosen, so that the database sees that the index of what is due has them all.
    waiting = seen.exclude(status__in=["delivered", "dead"]).count()
    return MessageCounts(waiting, seen.filter(status=Message.Status.DEAD, created_at__gte=since).count())
