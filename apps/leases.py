"""Abstract models for rows that a worker leases, or for which a task is dispatched.

One conditional UPDATE decides which worker gets a lease. Leases are measured by the database's clock, so that machines
whose clocks differ agree; dispatches by the application's.

A clock may be set back. What waits for a time that was set before that would wait for as long as the clock went back,
so each such time is compared with the longest wait that it can stand for, or with when it was set.
"""

from datetime import datetime, timedelta

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


class Leased(models.Model):
    """A row that one worker at a time works on.

    lease_until: held until this time, unless it is released earlier; fence: grows with each lease, so that a worker
    that outlives its lease is fenced off.
    """

    lease_until = models.DateTimeField(null=True, editable=False)
    fence = models.PositiveBigIntegerField(default=0, editable=False)

    class Meta:
        abstract = True


class Dispatched(models.Model):
    """A row whose task has been dispatched. redispatch_at: from then on the task may be sent again."""

    redispatch_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        abstract = True


IS_LEASED = Q(lease_until__gte=Now())
LEASE_HAS_EXPIRED = Q(lease_until__lt=Now())
IS_FREE = Q(lease_until=None) | LEASE_HAS_EXPIRED


# The same for statements written by hand: the database's clock, and a time after it, of which a parameter tells how
# long: lease_time().
_NOW = {
    "postgresql": ("statement_timestamp()", "statement_timestamp() + %s::interval"),
    "sqlite": ("strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now')", "strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now', %s)"),
}


def lease_time(lease: timedelta) -> str:
    """Return the first parameter of a statement of take_lease_sql."""
    return f"+{lease.total_seconds()} seconds"


def take_lease_sql(table: str, *, where: str, columns: str) -> dict[str, str]:
    """Return, for each database, the statement that leases the rows for which `where` holds, if they are free, and
    returns these columns: for a hot path, on which Django would need longer to build it than the database to run it."""
    return {
        vendor: f"""
    UPDATE {table} SET fence = fence + 1, lease_until = {later}
    WHERE {where} AND (lease_until IS NULL OR lease_until < {now}) RETURNING {columns}"""  # noqa: S608 (constants)
        for vendor, (now, later) in _NOW.items()
    }


# The clocks of machines may differ by this much. What is dated later was dated before the clock was set back.
CLOCKS_DIFFER_AT_MOST = timedelta(seconds=5)


def may_dispatch(*, now: datetime, again_after: timedelta | None = None) -> Q:
    """Match the rows for which no task is on its way. again_after: how long one is waited for, where that is the same
    for all rows."""
    may = Q(redispatch_at=None) | Q(redispatch_at__lt=now)
    return may if again_after is None else may | Q(redispatch_at__gt=now + again_after + CLOCKS_DIFFER_AT_MOST)
