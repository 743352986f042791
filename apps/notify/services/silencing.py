"""Creates and ends silences."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Value
from django.db.models.functions import Greatest

from apps.alerts.models import Alert
from apps.alerts.queries import lock_open_alerts
from apps.notify.models import Notification, Silence
from apps.notify.queries import lasts
from apps.rules.models import Rule


def faults_of_silence(
    *,
    owner: AbstractBaseUser | None,
    rule: Rule | None,
    starts_at: datetime | None,
    ends_at: datetime | None,
    now: datetime,
    alert: Alert | None = None,
) -> dict[str, str]:
    """Return what is wrong with a silence that somebody asks for, by column. owner: None is everybody; a time may be
    missing yet."""
    faults = {}
    if alert is not None and alert.rule_id is None:
        faults["alert"] = "No rule opened it; a silence of its severity defers it, or one in Alertmanager."
    elif alert is not None and (owner is None or alert.owner_id != owner.pk):
        faults["alert"] = f"It is an alert of {alert.owner}; the silence would never match."
    if ends_at is not None and starts_at is not None and ends_at <= starts_at:
        faults["ends_at"] = "The end must come after the beginning."
    elif ends_at is not None and ends_at <= now:
        faults["ends_at"] = "The end must lie ahead."
    if rule is not None and owner is not None and rule.owner_id != owner.pk:
        faults["rule"] = f"It is a rule of {rule.owner}; the silence would never match."
    return faults


@transaction.atomic
def create_silence(
    *,
    author: AbstractBaseUser,
    starts_at: datetime,
    ends_at: datetime | None = None,
    comment: str,
    alert: Alert | None = None,
    **match: Any,
) -> Silence:
    """Return a new silence. alert: an open alert, which is silenced until it is over; ends_at is left out then. match:
    owner, rule, asset, severity, each of which may be left out. Raises ValidationError."""
    # The alert is locked while it is silenced. If it could resolve meanwhile, its resolution would not be sent, though
    # the alert was over before anybody had silenced it.
    if alert is not None and not lock_open_alerts([alert.pk]):
        raise ValidationError({"alert": "It is over already."})
    silence = Silence(author=author, starts_at=starts_at, ends_at=ends_at, comment=comment, alert=alert, **match)
    silence.full_clean()
    silence.save()
    return silence


@transaction.atomic
def end_silences(*, silences: Iterable[Silence], now: datetime) -> int:
    """End those of the silences that are not over, in one transaction, and return how many those are. What they
    deferred is due at once, and comes in one message a channel."""
    lasting = Silence.objects.filter(lasts(now), pk__in=[one.pk for one in silences])
    ids = list(lasting.select_for_update(no_key=True, of=("self",)).order_by("pk").values_list("pk", flat=True))
    # One that has not begun ends where it would begin.
    Silence.objects.filter(pk__in=ids).update(ends_at=Greatest("starts_at", Value(now)))
    Notification.objects.filter(silence__in=ids, message=None).update(due_at=now)
    return len(ids)


def release_silenced(*, now: datetime) -> int:
    """Make due the notifications that wait for the end of an alert that is over now, and return how many they are.
    Planning then records them as silenced.

    Each tick calls this. The transaction that resolves an alert could not: a planner that runs at the same time may
    defer a notification afterwards.
    """
    waiting = Notification.objects.filter(message=None, due_at=None, event__alert__resolved_at__isnull=False)
    return waiting.update(due_at=now)


def look_again(*, silence: Silence, now: datetime) -> None:
    """Make due what the silence defers, since its end was changed; it is deferred again where need be."""
    Notification.objects.filter(silence=silence, message=None).update(due_at=now)
