"""The ratio of a split from what was held and what came, as values."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.portfolios.domain.counted_splits import RATIO_MOST, ratio_of


def of(held, *changes, left=(), is_reverse=False):
    numbers = {"changes": [Decimal(one) for one in changes], "lefts": [Decimal(one) for one in left]}
    found = ratio_of(Fraction(held), is_reverse=is_reverse, **numbers)
    return found and (found.numerator, found.denominator, found.after)


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        (of(100, 100), (2, 1, 200)),
        (of("0.5", "4.5"), (10, 1, 5)),
        # Of two institutions.
        (of(150, 100, 50), (2, 1, 300)),
        (of(100, 9_900), (100, 1, 10_000)),
        (of(105, left=["10.5"], is_reverse=True), (1, 10, Fraction("10.5"))),
        (of(100, -90, is_reverse=True), (1, 10, 10)),
        # A part of a share has no end as a decimal.
        (of(Fraction(20, 3), -Decimal(5), is_reverse=True), (1, 4, Fraction(5, 3))),
    ],
)
def test_the_ratio_of_a_split(ratio, expected):
    assert ratio == expected


@pytest.mark.parametrize(
    "ratio",
    [
        of(0, 100),
        of(-100, 200),
        # 3 for 2, and what only a trade that is missing gives.
        of(100, 50),
        of(37, 100),
        of(99, 100),
        # Too many for one.
        of(1, 100),
        # None came, and none went.
        of(100),
        of(100, left=[100], is_reverse=True),
        of(100, left=[101], is_reverse=True),
        of(100, left=[30], is_reverse=True),
        of(100, -100, is_reverse=True),
        of(100, -101, is_reverse=True),
        of(100, -50),
        of(100, 50, is_reverse=True),
        # What went and what is left, each of a row: which of both the file means, nobody knows.
        of(100, -90, left=[10], is_reverse=True),
    ],
)
def test_what_fits_no_ratio(ratio):
    assert ratio is None


@given(
    st.lists(st.decimals(min_value="0.001", max_value="100000", places=3), min_size=1, max_size=4),
    st.integers(2, RATIO_MOST),
)
def test_what_a_split_gives_to_each_account_gives_its_ratio(accounts, new):
    held = sum(map(Fraction, accounts))
    assert of(held, *[one * (new - 1) for one in accounts]) == (new, 1, held * new)
    left = [one * new for one in accounts]
    assert of(held * new, left=accounts, is_reverse=True) == (1, new, held)
    assert of(held * new, *[one - more for one, more in zip(accounts, left, strict=True)], is_reverse=True) == (
        *(1, new, held),
    )
