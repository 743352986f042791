"""Exact numbers and how they are rounded. Pure."""

from collections.abc import Iterable
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction

PLACES = 12
# A rate has this many digits, so that sums of many amounts keep small denominators.
RATE_DIGITS = 34
_ANY_LENGTH = Context(prec=999_999, Emax=999_999, Emin=-999_999)
_RATE = Context(prec=RATE_DIGITS, rounding=ROUND_HALF_EVEN, Emax=999, Emin=-999)


def to_decimal(number: Fraction, places: int = PLACES) -> Decimal:
    """Return a number rounded half to even, to 12 decimals where nothing else is asked for."""
    numerator, denominator = number.numerator * 10**places, number.denominator
    units, rest = divmod(numerator, denominator)
    # Python rounds a quotient down: half of a unit goes to the even neighbour.
    if 2 * rest > denominator or (2 * rest == denominator and units % 2):
        units += 1
    return Decimal(units).scaleb(-places, _ANY_LENGTH)


def round_rate(number: Fraction) -> Fraction:
    """Return a rate with 34 significant digits."""
    return Fraction(_RATE.divide(Decimal(number.numerator), Decimal(number.denominator)))


_SMALLEST = Fraction(1, 10**PLACES)


def are_displayed_alike(first: Fraction, second: Fraction) -> bool:
    """Tell whether two numbers are the same after rounding."""
    return first == second or (abs(first - second) <= _SMALLEST and to_decimal(first) == to_decimal(second))


def total(numbers: Iterable[Fraction | None]) -> Fraction | None:
    """Return the sum, or None where one of the numbers is not known."""
    found = Fraction(0)
    for number in numbers:
        if number is None:
            return None
        found += number
    return found


def times(first: Fraction | None, second: Fraction | None) -> Fraction | None:
    """Return the product, or None where one of the two is not known. Nothing at an unknown rate is nothing."""
    if first is None or second is None:
        return None if first or second or first is second else Fraction(0)
    return first * second


def less(first: Fraction | None, second: Fraction | None) -> Fraction | None:
    """Return the difference, or None where one of the two is not known."""
    return None if first is None or second is None else first - second
