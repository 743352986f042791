"""What is asked of alerts."""

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db.models import QuerySet

from apps.alerts.models import Alert


def alerts_of(user: AbstractBaseUser | AnonymousUser) -> QuerySet[Alert]:
    """Return the alerts that `user` may see, newest first, with rule and asset: their own, all for a superuser, none
    for a stranger."""
    rows = Alert.objects.select_related("rule", "asset")
    if not user.is_authenticated:
        return rows.none()
    return rows if getattr(user, "is_superuser", False) else rows.filter(rule__owner=user)
