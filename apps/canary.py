"""The canary's id, and the managers that leave it out: its user, feed, asset, rule and channel have a negative id, as
feeds and assets of one owner have (apps.owned_ids)."""

from typing import Any

from django.db import models
from django.db.models import Q, QuerySet

# The id of each of them. No sequence of the database gives it.
CANARY = -1


class WithCanary(models.Manager[Any]):
    """All rows, for the code that evaluates the canary, and for queries that decide who sees a row."""


class WithoutCanary(models.Manager[Any]):
    """All rows but the canary's and those of one owner. As a model's default manager it keeps them off lists, counts,
    forms and selectors; foreign keys still lead to them, and the model's `every` has them."""

    def get_queryset(self) -> QuerySet[Any]:
        return super().get_queryset().filter(pk__gt=0)


def is_not_canary(column: str) -> Q:
    """Return the condition for rows that reach the canary by a foreign key, like "rule", which may be null."""
    return ~Q(**{column: CANARY})
