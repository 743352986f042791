"""Numbers as the pages of portfolios show them."""

from decimal import Decimal
from fractions import Fraction

from apps.portfolios.domain.numbers import to_decimal
from apps.reader import show_number, show_percent

UNKNOWN = "not known"


def figure(number: Fraction | Decimal | None) -> str:
    """Return a number with twelve decimals at most."""
    return UNKNOWN if number is None else show_number(to_decimal(number))


def money(number: Fraction | Decimal | None, currency: str = "") -> str:
    """Return an amount with two decimals, and its currency where one is given."""
    return UNKNOWN if number is None else f"{show_number(to_decimal(number, 2))} {currency}".rstrip()


def percent(part: Fraction | Decimal | float | None) -> str:
    """Return a part of 1 as a percent with its sign."""
    if part is None:
        return UNKNOWN
    number = to_decimal(Fraction(part) * 100, 2)
    return ("−" if number < 0 else "") + show_percent(number)
