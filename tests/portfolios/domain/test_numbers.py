"""Exact numbers are fractions."""

import operator
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.portfolios.domain.numbers import Exact, to_decimal, to_text

fractions = st.fractions(min_value=-(10**30), max_value=10**30, max_denominator=10**12)


@given(fractions, fractions)
def test_exact_numbers_compute_and_compare_as_fractions(first, second):
    one, other = Exact.of(first), Exact.of(second)
    for operation in (operator.add, operator.sub, operator.mul, operator.gt, operator.lt, operator.eq):
        assert operation(one, other) == operation(one, second) == operation(first, second)
    assert (-one, bool(one), hash(one)) == (-first, bool(first), hash(first))
    if second:
        quotient = one / other
        assert quotient == first / second
        assert quotient.denominator > 0


def test_a_quotient_by_nothing_is_an_error():
    with pytest.raises(ZeroDivisionError):
        Exact(1) / Exact(0)


@given(fractions)
def test_a_text_is_the_decimal_of_the_same_number(number):
    assert Fraction(to_text(number)) == Fraction(to_decimal(number))


@pytest.mark.parametrize(
    ("number", "text"),
    [("-1/3", "-0.333333333333"), ("100", "100"), ("1/2", "0.5"), ("-1/10000000000000", "0"), ("-5/2", "-2.5")],
)
def test_a_number_as_text(number, text):
    assert to_text(Fraction(number)) == text
