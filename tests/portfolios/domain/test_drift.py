"""How far shares are from a target allocation."""

from datetime import date, timedelta
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from apps.portfolios.domain.drift import Drift, drift_on, openings, shares_of
from apps.portfolios.domain.nights import Part

DAY = date(2024, 1, 1)


def part(asset, value):
    return Part(asset, "EUR", Fraction(1), None if value is None else Fraction(value), Fraction(1))


def test_shares_are_of_the_whole_with_all_cash_together():
    shares = shares_of([part(1, 60), part(2, 20), part(None, 15), part(None, 5)])
    assert shares == {1: Fraction(3, 5), 2: Fraction(1, 5), None: Fraction(1, 5)}
    assert shares_of([part(1, 60), part(2, None)]) is None
    assert shares_of([part(1, 60), part(None, -60)]) is None
    assert shares_of([]) is None


def test_drift_is_the_largest_difference_of_a_share_from_its_target():
    target = {1: Fraction(1, 2), None: Fraction(1, 2)}
    assert drift_on(DAY, {1: Fraction(3, 5), 2: Fraction(2, 5)}, target) == Drift(DAY, Fraction(1, 2), None)
    assert drift_on(DAY, {1: Fraction(1, 10), None: Fraction(9, 10)}, target).part == Fraction(2, 5)


def drifts_of(parts):
    return [Drift(DAY + timedelta(number), Fraction(one), 1) for number, one in enumerate(parts)]


def test_several_days_above_are_one_opening_and_equal_is_not_above():
    found = openings(drifts_of([0, 6, 7, 5, 6, 0, 5]), above=Fraction(5))
    assert [one.day.day for one in found] == [2, 5]


@given(st.dictionaries(st.sampled_from([1, 2, None]), st.integers(1, 1000), min_size=1))
def test_shares_add_up_to_the_whole_and_have_no_drift_from_themselves(values):
    shares = shares_of([part(asset, value) for asset, value in values.items()])
    assert sum(shares.values()) == 1
    assert drift_on(DAY, shares, shares).part == 0
