"""Inflation by an index that is published for whole months, on days within a month too. Pure."""

from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal
from functools import cache
from typing import NamedTuple

from apps.notation import WIDE

_ONE_DAY = timedelta(days=1)
# Days on which banks are closed in Brazil, as ANBIMA lists them: (month, day), and days after Easter.
_FIXED = ((1, 1), (4, 21), (5, 1), (9, 7), (10, 12), (11, 2), (11, 15), (12, 25))
_AFTER_EASTER = (-48, -47, -2, 60)
# Consciência Negra, and since when it is a holiday of the whole country.
_SINCE_2024 = (11, 20)


class IndexOn(NamedTuple):
    """An index of months at the end of a day.

    before, after: at the end of the month before, and of the month of the day; None: not known; elapsed, total: how
    many business days of the month are over at the end of the day, and how many it has.
    """

    day: date
    before: Decimal | None
    after: Decimal | None
    elapsed: int
    total: int

    @property
    def value(self) -> Decimal | None:
        """The index: within a month it grows by the same factor on each business day. None where it is not known."""
        if self.elapsed == self.total:
            return self.after
        if self.elapsed == 0:
            return self.before
        if self.before is None or self.after is None:
            return None
        part = WIDE.divide(Decimal(self.elapsed), Decimal(self.total))
        return WIDE.multiply(self.before, WIDE.power(WIDE.divide(self.after, self.before), part))


def index_on(day: date, ends: Mapping[date, Decimal]) -> IndexOn:
    """Return the index at the end of a day. ends: last day of a month -> the index at its end."""
    first, last = end_before(day), end_of_month(day)
    counts = (business_days(first, day), business_days(first, last))
    return IndexOn(day, ends.get(first), ends.get(last), *counts)


def end_of_month(day: date) -> date:
    """Return the last day of the month of a day."""
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1) - _ONE_DAY


def end_before(day: date) -> date:
    """Return the last day of the month before that of a day."""
    return day.replace(day=1) - _ONE_DAY


def business_days(after: date, until: date) -> int:
    """Return how many business days of Brazilian banks there are after one day, up to another one."""
    days = (after + timedelta(days=number) for number in range(1, (until - after).days + 1))
    return sum(day.weekday() < 5 and day not in _holidays(day.year) for day in days)


@cache
def _holidays(year: int) -> frozenset[date]:
    fixed = [*_FIXED, *([_SINCE_2024] if year >= 2024 else [])]
    movable = (_easter(year) + timedelta(days=days) for days in _AFTER_EASTER)
    return frozenset([*(date(year, *one) for one in fixed), *movable])


def _easter(year: int) -> date:
    """Return Easter Sunday, by the Gregorian computus."""
    century, golden = year // 100, year % 19
    epact = (century - century // 4 - (8 * century + 13) // 25 + 19 * golden + 15) % 30
    full_moon = epact - (epact // 28) * (1 - (29 // (epact + 1)) * ((21 - golden) // 11))
    weekday = (year + year // 4 + full_moon + 2 - century + century // 4) % 7
    days = full_moon - weekday + 28
    return date(year, 3, 1) + timedelta(days=days - 1)
