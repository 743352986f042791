"""Reads of backtests."""

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db.models import QuerySet

from apps.backtests.models import BacktestRun


def backtests_seen_by(user: AbstractBaseUser | AnonymousUser) -> QuerySet[BacktestRun]:
    """Return the backtests that `user` may see, with their rules: their own, all for a superuser, none for a
    stranger."""
    rows = BacktestRun.objects.select_related("rule")
    if not user.is_authenticated:
        return rows.none()
    return rows if getattr(user, "is_superuser", False) else rows.filter(owner=user)
