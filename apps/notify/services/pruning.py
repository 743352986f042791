"""Drops messages and silences after their retention, in pieces that each commit."""

import math
import time
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet, Subquery

from apps.notify.models import Channel, Message, Notification, Silence

# One transaction. A message may have a thousand notifications, so it takes some seconds at the worst.
MESSAGES_AT_ONCE = 100
SILENCES_AT_ONCE = 1_000


def kept_since(*, now: datetime) -> datetime:
    """Return the time from which on messages are kept, whatever they are about."""
    return now - timedelta(days=settings.MESSAGE_RETENTION_DAYS)


def prune_messages(*, now: datetime, dry_run: bool = False, at_most_seconds: float = math.inf) -> int:
    """Drop old messages that are settled and about no open alert, with their attempts and their
    notifications, and return how many. dry_run: return how many would be dropped. at_most_seconds: the next run drops
    the rest.

    Messages about an open alert stay: its resolution notifies the channels of its opening, and reminders count from the
    last one. So do two messages of each channel, which show whether it works. A notification without a message gets
    one, also on a channel that is disabled, so those need no pruning.
    """
    dropped = 0
    until = time.monotonic() + at_most_seconds
    kept = _last_of_channels()
    for piece in _pieces(made_before=kept_since(now=now)):
        over = _over().filter(pk__in=[pk for pk in piece if pk not in kept])
        dropped += over.count() if dry_run else _drop(over)
        if time.monotonic() >= until:
            break
    return dropped


def _over() -> QuerySet[Message]:
    """Return the messages that are settled, and are about no open alert."""
    notified_of_open = Notification.objects.filter(message=OuterRef("pk"), event__alert__resolved_at=None)
    return Message.objects.filter(~Exists(notified_of_open), status__in=Message.SETTLED).order_by()


def _last_of_channels() -> set[uuid.UUID]:
    """Return of each channel the newest delivered message, and the newest with a finished attempt."""
    made = Message.objects.filter(channel=OuterRef("pk")).order_by("-created_at")
    delivered = made.filter(status=Message.Status.DELIVERED)
    tried = made.filter(attempts__gt=0).exclude(status=Message.Status.SENDING)
    last = [Subquery(rows.values("pk")[:1]) for rows in (delivered, tried)]
    return {pk for pks in Channel.objects.order_by().values_list(*last) for pk in pks if pk is not None}


def _pieces(*, made_before: datetime) -> Iterator[list[uuid.UUID]]:
    """Return the ids of the messages made before, oldest first, MESSAGES_AT_ONCE at a time. Each piece begins where the
    one before ended, so that messages that stay are read once."""
    old = Message.objects.filter(created_at__lt=made_before).order_by("created_at", "pk")
    rest = old
    while piece := list(rest.values_list("created_at", "pk")[:MESSAGES_AT_ONCE]):
        yield [pk for _, pk in piece]
        created_at, last = piece[-1]
        rest = old.filter(created_at__gte=created_at).exclude(created_at=created_at, pk__lte=last)


def _drop(over: QuerySet[Message]) -> int:
    with transaction.atomic():
        # Locked and read again: one that was redelivered meanwhile stays.
        pks = list(over.select_for_update(skip_locked=True).values_list("pk", flat=True))
        # Without their texts, which may be long.
        Message.objects.filter(pk__in=pks).only("pk").delete()
    return len(pks)


def prune_silences(*, now: datetime, dry_run: bool = False) -> int:
    """Drop the silences that ended longer ago than messages are kept, and return how many; dry_run: how many would be
    dropped.

    A silence stays for as long as a notification that it deferred. One of an alert stays while the alert is open or a
    notification about it is still to be planned, and for as long as messages are kept after it was created.
    """
    since = kept_since(now=now)
    deferred = Notification.objects.filter(silence=OuterRef("pk"))
    unplanned = Notification.objects.filter(event__alert=OuterRef("alert"), message=None)
    # By created_at, since resolved_at is event time, which in a recording may be years ago.
    is_of_old_alert = Q(~Exists(unplanned), ends_at=None, alert__resolved_at__isnull=False, created_at__lt=since)
    over = Silence.objects.filter(Q(ends_at__lt=since) | is_of_old_alert, ~Exists(deferred)).order_by("ends_at", "pk")
    if dry_run:
        return over.count()
    dropped = 0
    while pks := list(over.values_list("pk", flat=True)[:SILENCES_AT_ONCE]):
        dropped += Silence.objects.filter(pk__in=pks).delete()[0]
    return dropped
