"""Why a day is worth something else today than was known then."""

from datetime import UTC, datetime
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from apps.portfolios.domain.nights import Difference, Part, difference_of, document_of, parts_of, rounded
from apps.portfolios.domain.numbers import total

AT = datetime(2024, 1, 2, tzinfo=UTC)


def held(quantity="10", price="100", rate="1", *, asset=1, currency="EUR"):
    price, rate = (None if one is None else Fraction(one) for one in (price, rate))
    return Part(asset, currency, Fraction(quantity), price, rate, AT)


def test_nothing_differs_where_nothing_changed():
    assert difference_of([held()], [held()]) == Difference(0, 0, 0)


def test_a_difference_is_split_into_transactions_prices_and_rates():
    # 10 · 100 · 2 = 2000 then, 12 · 110 · 3 = 3960 today.
    found = difference_of([held("10", "100", "2")], [held("12", "110", "3")])
    assert found == Difference(2 * 110 * 3, 10 * 10 * 3, 10 * 100 * 1)
    assert found.total == 3960 - 2000


def test_what_came_or_went_later_is_of_transactions():
    cash = Part(None, "EUR", Fraction(-500), Fraction(1), Fraction(1))
    assert difference_of([held()], [held(asset=2), cash]) == Difference(1000 - 500 - 1000, 0, 0)


def test_what_was_not_known_then_is_not_a_number():
    assert difference_of([held(price=None)], [held()]) == Difference(0, None, 0)
    assert difference_of([held(rate=None)], [held()]) == Difference(0, 0, None)
    assert difference_of([held(price=None)], [held(price=None)]) == Difference(0, 0, 0)


numbers = st.fractions(min_value="1/1000", max_value=10**6, max_denominator=10**6)
kinds = st.sampled_from([(1, "EUR"), (2, "USD"), (None, "EUR"), (None, "USD")])
many = st.dictionaries(kinds, st.tuples(numbers, numbers, numbers), max_size=4).map(
    lambda found: rounded(Part(*kind, *one) for kind, one in found.items())
)


@given(many, many)
def test_the_parts_add_up_and_stored_parts_come_back(then, today):
    then, today = parts_of(document_of(then)), parts_of(document_of(today))
    difference = difference_of(then, today)
    worth = [total(one.value for one in parts) for parts in (then, today)]
    assert difference.total == worth[1] - worth[0]
    assert parts_of(document_of(then)) == then
