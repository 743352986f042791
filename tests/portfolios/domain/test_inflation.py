"""An index of months on days within a month, by business days of Brazilian banks."""

from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.portfolios.domain.inflation import business_days, end_before, end_of_month, index_on

# As ANBIMA lists them, without Saturdays and Sundays.
HOLIDAYS = {
    *("2023-02-20", "2023-02-21", "2023-04-07", "2023-04-21", "2023-05-01", "2023-06-08", "2023-09-07", "2023-10-12"),
    *("2023-11-02", "2023-11-15", "2023-12-25", "2024-01-01", "2024-02-12", "2024-02-13", "2024-03-29", "2024-05-01"),
    *("2024-05-30", "2024-11-15", "2024-11-20", "2024-12-25", "2025-01-01", "2025-03-03", "2025-03-04", "2025-04-18"),
    *("2025-04-21", "2025-05-01", "2025-06-19", "2025-11-20", "2025-12-25"),
}
ENDS = {date(2023, 12, 31): Decimal(100), date(2024, 1, 31): Decimal(121)}


def test_business_days_are_those_of_brazilian_banks():
    days = [date(2023, 1, 1) + timedelta(days=number) for number in range(3 * 365 + 1)]
    closed = {str(day) for day in days if day.weekday() < 5 and not business_days(day - timedelta(days=1), day)}
    assert closed == HOLIDAYS
    assert not any(business_days(day - timedelta(days=1), day) for day in days if day.weekday() >= 5)


@pytest.mark.parametrize(
    ("day", "value", "elapsed"),
    [("2023-12-31", 100, 20), ("2024-01-01", 100, 0), ("2024-01-16", 110, 11), ("2024-01-31", 121, 22)],
)
def test_it_grows_by_the_same_factor_on_each_business_day(day, value, elapsed):
    on = index_on(date.fromisoformat(day), ENDS)
    assert (round(on.value, 20), on.elapsed) == (value, elapsed)


def test_a_weekend_at_the_end_of_a_month_adds_nothing():
    ends = {date(2024, 2, 29): Decimal(100), date(2024, 3, 31): Decimal(121)}
    # Good Friday, Saturday and Easter Sunday.
    assert {index_on(date(2024, 3, day), ends).value for day in (28, 29, 30, 31)} == {Decimal(121)}


def test_what_is_not_published_is_not_known():
    january, february = date(2024, 1, 16), date(2024, 2, 14)
    assert index_on(february, ENDS).value is None
    assert index_on(january, {date(2024, 1, 31): Decimal(121)}).value is None
    assert index_on(date(2024, 1, 31), {date(2024, 1, 31): Decimal(121)}).value == 121
    assert index_on(date(2024, 1, 1), {date(2023, 12, 31): Decimal(100)}).value == 100


@given(
    day=st.dates(date(1999, 1, 1), date(2060, 12, 31)),
    before=st.integers(1, 10**6),
    after=st.integers(1, 10**6),
)
def test_within_a_month_it_lies_between_both_ends_and_its_days_multiply_to_the_month(day, before, after):
    first, last = end_before(day), end_of_month(day)
    ends = {first: Decimal(before), last: Decimal(after)}
    days = [first + timedelta(days=number) for number in range(1, (last - first).days + 1)]
    values = [Decimal(before), *(index_on(one, ends).value for one in days)]
    assert values[-1] == after
    assert values == sorted(values, reverse=after < before) or after == before
    ratios = {
        (late / early).quantize(Decimal("1e-12"))
        for early, late, one in zip(values, values[1:], days, strict=False)
        if business_days(one - timedelta(days=1), one)
    }
    assert len(ratios) == 1
