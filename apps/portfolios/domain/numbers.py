"""Exact numbers and how they are rounded. Pure."""

from collections.abc import Iterable
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction
from math import gcd
from typing import Any

from apps.notation import write_number

PLACES = 12
# A rate has this many digits, so that sums of many amounts keep small denominators.
RATE_DIGITS = 34
_UNITS = 10**PLACES
_ANY_LENGTH = Context(prec=999_999, Emax=999_999, Emin=-999_999)
_RATE = Context(prec=RATE_DIGITS, rounding=ROUND_HALF_EVEN, Emax=999, Emin=-999)


class Exact(Fraction):
    """A Fraction whose sums and products with its own kind take a third of the time. Other operations are those of
    Fraction, and give Fractions."""

    __slots__ = ()
    _numerator: int
    _denominator: int

    @classmethod
    def of(cls, written: Decimal | Fraction | int) -> "Exact":
        """Return a finite number as it is written."""
        return _made(*written.as_integer_ratio())

    def __add__(self, other: Any) -> Any:
        if type(other) is not Exact:
            return Fraction.__add__(self, other)
        return _sum(self._numerator, self._denominator, other._numerator, other._denominator)

    def __sub__(self, other: Any) -> Any:
        if type(other) is not Exact:
            return Fraction.__sub__(self, other)
        return _sum(self._numerator, self._denominator, -other._numerator, other._denominator)

    def __mul__(self, other: Any) -> Any:
        if type(other) is not Exact:
            return Fraction.__mul__(self, other)
        return _product(self._numerator, self._denominator, other._numerator, other._denominator)

    def __truediv__(self, other: Any) -> Any:
        if type(other) is not Exact or not other._numerator:
            return Fraction.__truediv__(self, other)
        numerator, denominator = other._denominator, other._numerator
        if denominator < 0:
            numerator, denominator = -numerator, -denominator
        return _product(self._numerator, self._denominator, numerator, denominator)

    def __neg__(self) -> "Exact":
        return _made(-self._numerator, self._denominator)

    def __bool__(self) -> bool:
        return self._numerator != 0

    def __eq__(self, other: object) -> bool:
        if type(other) is not Exact:
            return Fraction.__eq__(self, other)
        return self._numerator == other._numerator and self._denominator == other._denominator

    __hash__ = Fraction.__hash__

    def __gt__(self, other: Any) -> bool:
        if type(other) is not Exact:
            return Fraction.__gt__(self, other)
        return self._numerator * other._denominator > other._numerator * self._denominator


_new = object.__new__


def _made(numerator: int, denominator: int) -> Exact:
    """Return a number of two integers without a common divisor, the second above 0."""
    made = _new(Exact)
    made._numerator, made._denominator = numerator, denominator
    return made


# The next two make their number themselves: a call of _made is a tenth of their time.
def _sum(numerator: int, denominator: int, other: int, below: int) -> Exact:
    made = _new(Exact)
    # As in fractions.py: the denominators' common divisor is the only one that the sum can have with their product.
    common = gcd(denominator, below)
    if common == 1:
        made._numerator, made._denominator = numerator * below + denominator * other, denominator * below
        return made
    part = denominator // common
    total = numerator * (below // common) + other * part
    again = gcd(total, common)
    made._numerator, made._denominator = total // again, part * (below // again)
    return made


def _product(numerator: int, denominator: int, other: int, below: int) -> Exact:
    made = _new(Exact)
    if below != 1 and (common := gcd(numerator, below)) != 1:
        numerator, below = numerator // common, below // common
    if denominator != 1 and (common := gcd(other, denominator)) != 1:
        other, denominator = other // common, denominator // common
    made._numerator, made._denominator = numerator * other, denominator * below
    return made


ZERO, ONE = Exact(0), Exact(1)


def to_decimal(number: Fraction | Decimal, places: int = PLACES) -> Decimal:
    """Return a number rounded half to even, to 12 decimals where nothing else is asked for."""
    return Decimal(_units(*number.as_integer_ratio(), places)).scaleb(-places, _ANY_LENGTH)


def to_text(number: Fraction) -> str:
    """Return a number rounded half to even to 12 decimals, without trailing zeros and without exponent."""
    if number.denominator == 1:
        return str(number.numerator)
    units = _units(number.numerator, number.denominator, PLACES)
    whole, part = divmod(abs(units), _UNITS)
    text = f"{whole}.{part:012}".rstrip("0").removesuffix(".")
    return f"-{text}" if units < 0 else text


def _units(numerator: int, denominator: int, places: int) -> int:
    scale: int = 10**places
    units, rest = divmod(numerator * scale, denominator)
    # Python rounds a quotient down: half of a unit goes to the even neighbour.
    if 2 * rest > denominator or (2 * rest == denominator and units % 2):
        units += 1
    return units


def round_rate(number: Fraction) -> Fraction:
    """Return a rate with 34 significant digits."""
    return Exact.of(_RATE.divide(Decimal(number.numerator), Decimal(number.denominator)))


def write_rate(number: Fraction) -> str:
    """Return a number with 34 significant digits as text."""
    return write_number(_RATE.divide(Decimal(number.numerator), Decimal(number.denominator)))


_SMALLEST = Exact(1, _UNITS)


def are_displayed_alike(first: Fraction, second: Fraction) -> bool:
    """Tell whether two numbers are the same after rounding."""
    return first == second or (abs(first - second) <= _SMALLEST and to_decimal(first) == to_decimal(second))


def total(numbers: Iterable[Fraction | None]) -> Fraction | None:
    """Return the sum, or None where one of the numbers is not known."""
    # Numerators of one denominator first: of thousands of numbers few denominators differ.
    sums: dict[int, int] = {}
    for number in numbers:
        if number is None:
            return None
        numerator, denominator = number.as_integer_ratio()
        sums[denominator] = sums.get(denominator, 0) + numerator
    found = ZERO
    for denominator, numerator in sums.items():
        common = gcd(numerator, denominator)
        found += _made(numerator // common, denominator // common)
    return found


def plus(first: Fraction | None, second: Fraction | None) -> Fraction | None:
    """Return the sum, or None where one of the two is not known."""
    return None if first is None or second is None else first + second


def times(first: Fraction | None, second: Fraction | None) -> Fraction | None:
    """Return the product, or None where one of the two is not known. Nothing at an unknown rate is nothing."""
    if first is None or second is None:
        return None if first or second or first is second else ZERO
    return first * second


def less(first: Fraction | None, second: Fraction | None) -> Fraction | None:
    """Return the difference, or None where one of the two is not known."""
    return None if first is None or second is None else first - second
