"""The days of raw quotes: partitions on PostgreSQL, ranges of rows on SQLite."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from functools import cache

from django.db import connection, transaction
from django.db.models.functions import Substr

from apps.market.models import Quote

_PREFIX = "market_quote_"
# Any number; who creates partitions holds this lock, so two processes do not create the same one.
_ADVISORY_LOCK = 7_301_001


@cache
def _known_days() -> set[date]:
    """Return the days that this process knows to be there. `drop` takes days out; `forget` takes all."""
    return set()


def forget() -> None:
    """Ask the database again which days are there: another process may have dropped one that this process knows."""
    _known_days().clear()


def ensure(days_wanted: Iterable[date]) -> None:
    """Create the partitions of these days where they are missing, in a transaction of its own.

    Attached rather than created in place: that takes no lock which would stop readers and writers of other days.
    """
    if connection.vendor != "postgresql":
        return
    missing = sorted(set(days_wanted) - _known_days())
    if not missing:
        return
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_ADVISORY_LOCK])
        there = set(days())
        for day in missing:
            if day not in there:
                name, begin, end = f"{_PREFIX}{day:%Y%m%d}", day, day + timedelta(days=1)
                cursor.execute(f"CREATE TABLE {name} (LIKE market_quote INCLUDING ALL)")
                cursor.execute(
                    f"ALTER TABLE market_quote ATTACH PARTITION {name} "
                    f"FOR VALUES FROM ('{begin} 00:00:00+00') TO ('{end} 00:00:00+00')"
                )
    _known_days().update(missing)


def days() -> list[date]:
    """Return the days that are kept, oldest first."""
    if connection.vendor != "postgresql":
        # Times are text there, and begin with the day.
        days_written = Quote.objects.order_by().values_list(Substr("at", 1, 10), flat=True).distinct()
        return sorted(date.fromisoformat(day) for day in days_written)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid "
            "WHERE inhparent = 'market_quote'::regclass ORDER BY relname"
        )
        names = [row[0] for row in cursor.fetchall()]
    return [datetime.strptime(name, f"{_PREFIX}%Y%m%d").replace(tzinfo=UTC).date() for name in names]


def drop(days_over: Iterable[date]) -> list[date]:
    """Drop the quotes of these days and return the days."""
    dropped = sorted(days_over)
    for day in dropped:
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute(f"DROP TABLE {_PREFIX}{day:%Y%m%d}")
        else:
            begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
            Quote.objects.filter(at__gte=begin, at__lt=begin + timedelta(days=1)).delete()
        _known_days().discard(day)
    return dropped
