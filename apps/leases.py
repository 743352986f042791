"""Columns of rows that one worker at a time works on, or that a message has been sent for.

Who wins is decided by the row in one statement; a lease is measured by the database's clock, so that machines whose
clocks differ agree.
"""

from datetime import datetime

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


class Leased(models.Model):
    """A row that one worker at a time works on.

    lease_until: until then nobody else takes it, unless it is given back; fence: grows with each lease, so that
    a worker that outlives its lease is fenced off.
    """

    lease_until = models.DateTimeField(null=True, editable=False)
    fence = models.PositiveBigIntegerField(default=0, editable=False)

    class Meta:
        abstract = True


class Dispatched(models.Model):
    """A row for which a message is sent to a worker. redispatch_at: no other message is sent before then."""

    redispatch_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        abstract = True


IS_LEASED = Q(lease_until__gte=Now())
LEASE_HAS_EXPIRED = Q(lease_until__lt=Now())
IS_FREE = Q(lease_until=None) | LEASE_HAS_EXPIRED


def may_dispatch(*, now: datetime) -> Q:
    """Match the rows for which no message is on its way."""
    return Q(redispatch_at=None) | Q(redispatch_at__lt=now)
