"""What is asked of messages and of what is owed."""

import uuid
from datetime import datetime, timedelta

from django.contrib.auth.models import AbstractBaseUser
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.db.models.functions import Now

from apps.notify.models import Message, Owed

PLANNED_AT_ONCE = 1_000


def inbox_of(user: AbstractBaseUser) -> QuerySet[Message]:
    """Return the messages in the user's inboxes, newest first."""
    mine = Message.objects.filter(channel__owner=user, channel__kind="inbox", status=Message.Status.DELIVERED)
    return mine.select_related("channel").order_by("-delivered_at")


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
