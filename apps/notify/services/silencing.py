"""Creates and ends silences."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.db.models import Value
from django.db.models.functions import Greatest

from apps.notify.models import Notification, Silence
from apps.rules.models import Rule


def faults_of_silence(
    *,
    owner: AbstractBaseUser | None,
    rule: Rule | None,
    starts_at: datetime | None,
    ends_at: datetime | None,
    now: datetime,
) -> dict[str, str]:
    """Return what is wrong with a silence that somebody asks for, by column. owner: None is everybody; a time may be
    missing yet."""
    faults = {}
    if ends_at is not None and starts_at is not None and ends_at <= starts_at:
        faults["ends_at"] = "The end must come after the beginning."
    elif ends_at is not None and ends_at <= now:
        faults["ends_at"] = "The end must lie ahead."
    if rule is not None and owner is not None and rule.owner_id != owner.pk:
        faults["rule"] = f"It is a rule of {rule.owner}; the silence would never match."
    return faults


def create_silence(
    *, author: AbstractBaseUser, starts_at: datetime, ends_at: datetime, comment: str, **match: Any
) -> Silence:
    """Return a new silence. match: owner, rule, asset, severity, each of which may be left out. Raises
    ValidationError."""
    silence = Silence(author=author, starts_at=starts_at, ends_at=ends_at, comment=comment, **match)
    silence.full_clean()
    silence.save()
    return silence


@transaction.atomic
def end_silences(*, silences: Iterable[Silence], now: datetime) -> int:
    """End those of the silences that are not over, in one transaction, and return how many those are. What they
    deferred is due at once, and comes in one message a channel."""
    lasting = Silence.objects.filter(pk__in=[one.pk for one in silences], ends_at__gt=now)
    ids = list(lasting.select_for_update(no_key=True).order_by("pk").values_list("pk", flat=True))
    # One that has not begun ends where it would begin.
    Silence.objects.filter(pk__in=ids).update(ends_at=Greatest("starts_at", Value(now)))
    Notification.objects.filter(silence__in=ids, message=None).update(due_at=now)
    return len(ids)


def look_again(*, silence: Silence, now: datetime) -> None:
    """Make due what the silence defers, since its end was changed; it is deferred again where need be."""
    Notification.objects.filter(silence=silence, message=None).update(due_at=now)
