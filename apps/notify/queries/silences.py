"""Queries of silences: who may see them, and which are in force."""

from collections.abc import Callable, Iterable
from datetime import datetime

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db.models import F, Q, QuerySet, Value
from django.db.models.functions import Greatest

from apps.alerts.models import Alert
from apps.notify import domain
from apps.notify.models import Silence

# What a silence is at a moment -> the condition.
SILENCE_STATES: dict[str, Callable[[datetime], Q]] = {
    "in force": lambda now: lasts(now) & Q(starts_at__lte=now),
    "to come": lambda now: lasts(now) & Q(starts_at__gt=now),
    "over": lambda now: Q(ends_at__lte=now) | Q(ends_at=None, alert__resolved_at__isnull=False),
}


def lasts(now: datetime) -> Q:
    """Match the silences that are not over. A silence of one alert is over when the alert is."""
    return Q(ends_at__gt=now) | Q(ends_at=None, alert__resolved_at=None)


def silences_seen_by(user: AbstractBaseUser | AnonymousUser) -> QuerySet[Silence]:
    """Return the silences that `user` may see, the last to begin first: those of their own alerts and those of
    everybody's, but for those of others' rules; all for a superuser, none for a stranger."""
    rows = Silence.objects.select_related("owner", "author", "rule", "asset", "alert__rule", "alert__asset")
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
    in_force = silences_seen_by(user).filter(SILENCE_STATES["in force"](now))
    return in_force.order_by(F("ends_at").asc(nulls_last=True), "pk")


def silences_in_force(*, now: datetime, alert_ids: Iterable[int]) -> list[domain.Silenced]:
    """Return the silences that are in force at a time. Those of these alerts that were not ended early are among them
    even after the alert is over: its resolution is enqueued then, and is not sent either."""
    is_in_force = Q(starts_at__lte=now, ends_at__gt=now) | Q(starts_at__lte=now, ends_at=None, alert__in=set(alert_ids))
    return [
        domain.Silenced(one.pk, one.owner_id, one.rule_id, one.asset_id, one.severity, one.ends_at, one.alert_id)
        for one in Silence.objects.filter(is_in_force)
    ]


def silences_about(
    alert: Alert, *, seen_by: AbstractBaseUser, until: datetime, limit: int = 100
) -> list[tuple[datetime, Silence, bool]]:
    """Return (moment, silence, whether it ends there) for each beginning and end of a silence over an alert, in their
    order: of those that `seen_by` may see, and that were in force between the alert's opening and `until`, by the wall
    clock. A silence of the alert alone has an end where it was ended early."""
    columns = {"rule": alert.rule_id, "asset": alert.asset_id, "owner": alert.owner_id}
    covers = Q(severity__in=("", alert.severity))
    for column, value in columns.items():
        covers &= Q(**{column: None}) | Q(**{column: value})
    lasted = Q(starts_at__lt=until) & (Q(ends_at=None) | Q(ends_at__gt=Greatest("starts_at", Value(alert.created_at))))
    rows = silences_seen_by(seen_by).filter(lasted, Q(alert=alert) | (Q(alert=None) & covers))
    found = []
    for one in rows.order_by("starts_at", "pk")[:limit]:
        found.append((max(one.starts_at, one.created_at), one, False))
        if one.ends_at is not None and one.ends_at <= until:
            found.append((one.ends_at, one, True))
    return sorted(found, key=lambda one: (one[0], one[1].pk, one[2]))


def lock_silences(silence_ids: Iterable[int]) -> dict[int, Silence]:
    """Return silence id -> the silence, locked."""
    silences = Silence.objects.select_for_update(no_key=True).filter(pk__in=silence_ids).order_by("pk")
    return {one.pk: one for one in silences}
