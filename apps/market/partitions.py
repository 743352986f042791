"""The days of raw quotes: partitions on PostgreSQL, ranges of rows on SQLite."""

import re
from collections.abc import Collection, Iterable
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import NamedTuple

from django.db import connection, transaction
from django.db.models import Count
from django.db.models.functions import Substr, TruncDate

from apps.market.models import Quote

_PREFIX = "market_quote_"
# market_quote_20260302 is a day, market_quote_202303 a month.
_NAME = re.compile(_PREFIX + r"(\d{4})(\d{2})(\d{2})?\Z")
# Any number; who creates partitions holds this lock, so two processes do not create the same one.
_ADVISORY_LOCK = 7_301_001
# In one transaction, which holds a few locks for each.
_MADE_AT_ONCE = 50
_DAY = timedelta(days=1)


class _Partition(NamedTuple):
    """The days of [begin, end)."""

    name: str
    begin: date
    end: date

    def days(self) -> list[date]:
        return [self.begin + number * _DAY for number in range((self.end - self.begin).days)]


@cache
def _known_days() -> set[date]:
    """Return the days that this process knows to be there. `drop` takes days out; `forget` takes all."""
    return set()


def forget() -> None:
    """Ask the database again which days are there: another process may have dropped one that this process knows."""
    _known_days().clear()


def ensure(days_wanted: Iterable[date], *, months_before: date | None = None) -> None:
    """Create the partitions of these days where they are missing, in transactions of its own.

    months_before: a month that is over by then gets one partition for all of its days, where it has none yet: each
    statement locks every partition that it may read, and of years of days there would be too many.
    Attached rather than created in place: that takes no lock which would stop readers and writers of other days.
    """
    if connection.vendor != "postgresql":
        return
    missing = sorted(set(days_wanted) - _known_days())
    for first in range(0, len(missing), _MADE_AT_ONCE):
        _ensure(missing[first : first + _MADE_AT_ONCE], months_before or date.min)
    _known_days().update(missing)


def _ensure(wanted: Iterable[date], months_before: date) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_ADVISORY_LOCK])
        there = {day for partition in _partitions() for day in partition.days()}
        for day in wanted:
            if day in there:
                continue
            month = _month_of(day)
            whole = month.end <= months_before and there.isdisjoint(month.days())
            name, begin, end = month if whole else _Partition(f"{_PREFIX}{day:%Y%m%d}", day, day + _DAY)
            cursor.execute(f"CREATE TABLE {name} (LIKE market_quote INCLUDING ALL)")
            cursor.execute(
                f"ALTER TABLE market_quote ATTACH PARTITION {name} "
                f"FOR VALUES FROM ('{begin} 00:00:00+00') TO ('{end} 00:00:00+00')"
            )
            there.update(month.days() if whole else [day])


def _month_of(day: date) -> _Partition:
    begin = day.replace(day=1)
    return _Partition(f"{_PREFIX}{day:%Y%m}", begin, (begin + 31 * _DAY).replace(day=1))


def _partitions() -> list[_Partition]:
    """Return what is there, in order of name."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid "
            "WHERE inhparent = 'market_quote'::regclass ORDER BY relname"
        )
        names = [row[0] for row in cursor.fetchall()]
    found = []
    for name in names:
        match = _NAME.match(name)
        if match is None:
            continue
        year, month, day = match.groups()
        begin = date(int(year), int(month), int(day or 1))
        found.append(_Partition(name, begin, begin + _DAY) if day else _month_of(begin))
    return found


def days() -> list[date]:
    """Return the days that are kept, oldest first."""
    if connection.vendor != "postgresql":
        # Times are text there, and begin with the day.
        days_written = Quote.objects.order_by().values_list(Substr("at", 1, 10), flat=True).distinct()
        return sorted(date.fromisoformat(day) for day in days_written)
    return sorted(day for partition in _partitions() for day in partition.days())


def droppable(days_over: Collection[date]) -> list[date]:
    """Return those of these days that can be dropped: a month goes as a whole."""
    if connection.vendor != "postgresql":
        return sorted(days_over)
    over = [partition for partition in _partitions() if set(partition.days()) <= set(days_over)]
    return sorted(day for partition in over for day in partition.days())


def tables(days_wanted: Collection[date]) -> list[str]:
    """Return the names of the partitions of these days; none on SQLite, which has them in one table."""
    if connection.vendor != "postgresql":
        return []
    return [partition.name for partition in _partitions() if partition.begin in days_wanted]


def drop(days_over: Collection[date]) -> list[date]:
    """Drop the quotes of these days, of a month only as a whole, and return the days."""
    dropped = droppable(days_over)
    if connection.vendor == "postgresql":
        for partition in _partitions():
            if partition.begin in dropped:
                with connection.cursor() as cursor:
                    cursor.execute(f"DROP TABLE {partition.name}")
    else:
        for day in dropped:
            begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
            Quote.objects.filter(at__gte=begin, at__lt=begin + _DAY).delete()
    _known_days().difference_update(dropped)
    return dropped


def count_by_day(days_counted: Collection[date]) -> dict[date, int]:
    """Return how many quotes each of these days has; one statement for all of them between the first and the last."""
    if not days_counted:
        return {}
    first, last = min(days_counted), max(days_counted)
    begin = datetime(first.year, first.month, first.day, tzinfo=UTC)
    end = datetime(last.year, last.month, last.day, tzinfo=UTC) + _DAY
    rows = Quote.objects.filter(at__gte=begin, at__lt=end).order_by().values(day=TruncDate("at", tzinfo=UTC))
    counts = dict(rows.annotate(count=Count("*")).values_list("day", "count"))
    return {day: counts.get(day, 0) for day in sorted(days_counted)}
