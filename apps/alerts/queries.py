"""What is asked of alerts."""

from collections.abc import Iterable

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db.models import QuerySet

from apps.alerts.models import Alert, AlertEvent
from apps.rules.models import RuleState


def alerts_of(user: AbstractBaseUser | AnonymousUser) -> QuerySet[Alert]:
    """Return the alerts that `user` may see, newest first, with rule and asset: their own, all for a superuser, none
    for a stranger."""
    rows = Alert.objects.select_related("rule", "asset")
    if not user.is_authenticated:
        return rows.none()
    return rows if getattr(user, "is_superuser", False) else rows.filter(rule__owner=user)


def events_of(alert_ids: Iterable[int]) -> dict[int, list[AlertEvent]]:
    """Return alert id -> its steps in their order. Whose they are is the caller's business."""
    events: dict[int, list[AlertEvent]] = {}
    for event in AlertEvent.objects.filter(alert__in=alert_ids).order_by("pk"):
        events.setdefault(event.alert_id, []).append(event)
    return events


def last_events_of(user: AbstractBaseUser | AnonymousUser, *, limit: int) -> list[AlertEvent]:
    """Return the newest steps of the alerts that `user` may see, with alert, rule and asset."""
    seen = AlertEvent.objects.select_related("alert__rule", "alert__asset").order_by("-pk")
    if not user.is_authenticated:
        return []
    if not getattr(user, "is_superuser", False):
        seen = seen.filter(alert__rule__owner=user)
    return list(seen[:limit])


def states_watching(user: AbstractBaseUser | AnonymousUser, *, asset_id: int) -> QuerySet[RuleState]:
    """Return where the rules that `user` may see stand on one asset, with rule and owner: their own, all for a
    superuser, none for a stranger."""
    rows = RuleState.objects.filter(asset=asset_id, rule__deleted_at=None).select_related("rule__owner")
    if not user.is_authenticated:
        return rows.none()
    rows = rows.order_by("rule__name", "rule_id")
    return rows if getattr(user, "is_superuser", False) else rows.filter(rule__owner=user)
