"""Silences."""

from collections.abc import Callable, Iterable
from datetime import datetime

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db.models import Q, QuerySet

from apps.notify import domain
from apps.notify.models import Silence

# What a silence is at a moment -> the condition.
SILENCE_STATES: dict[str, Callable[[datetime], Q]] = {
    "in force": lambda now: Q(starts_at__lte=now, ends_at__gt=now),
    "to come": lambda now: Q(starts_at__gt=now, ends_at__gt=now),
    "over": lambda now: Q(ends_at__lte=now),
}


def silences_seen_by(user: AbstractBaseUser | AnonymousUser) -> QuerySet[Silence]:
    """Return the silences that `user` may see, the last to begin first: those of their own alerts and those of
    everybody's, but for those of others' rules; all for a superuser, none for a stranger."""
    rows = Silence.objects.select_related("owner", "author", "rule", "asset")
    if not user.is_authenticated:
        return rows.none()
    if getattr(user, "is_superuser", False):
        return rows
    return rows.filter(Q(owner=user) | Q(owner=None), Q(rule=None) | Q(rule__owner=user))


def silences_ended_by(user: AbstractBaseUser) -> QuerySet[Silence]:
    """Return the silences that `user` may end: their own, all for a superuser. Everybody's they only see."""
    rows = silences_seen_by(user)
    return rows if getattr(user, "is_superuser", False) else rows.filter(owner=user)


def silences_in_force_of(user: AbstractBaseUser | AnonymousUser, *, now: datetime) -> QuerySet[Silence]:
    """Return those of the silences that `user` may see that are in force, the first to end first."""
    return silences_seen_by(user).filter(SILENCE_STATES["in force"](now)).order_by("ends_at", "pk")


def silences_in_force(*, now: datetime) -> list[domain.Silenced]:
    """Return the silences that are in force."""
    return [
        domain.Silenced(one.pk, one.owner_id, one.rule_id, one.asset_id, one.severity, one.ends_at)
        for one in Silence.objects.filter(SILENCE_STATES["in force"](now))
    ]


def lock_silences(silence_ids: Iterable[int]) -> dict[int, datetime]:
    """Return silence id -> when it ends, locked."""
    silences = Silence.objects.select_for_update(no_key=True).filter(pk__in=silence_ids).order_by("pk")
    return dict(silences.values_list("pk", "ends_at"))
