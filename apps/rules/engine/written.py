"""The written form of numbers, durations and moments, and the error that names what is wrong in it."""

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any

from apps import notation
from apps.market.domain import PRICE_DECIMALS, PRICE_DIGITS, UNITS_PER_ONE, price_of
from apps.notation import SECOND, WIDE, write_number

WINDOW_SHORTEST, WINDOW_LONGEST = 10 * SECOND, notation.DURATION_LONGEST

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER = re.compile(r"-?\d{1,12}(\.\d{1,18})?|-?1000000000000", re.ASCII)


class RuleInvalid(ValueError):
    """The written form is wrong. The text names the path (`condition.window`) and says what would be right.

    path, message: the same, apart from each other.
    """

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path
        self.message = message

    @property
    def key(self) -> str:
        """The key of the whole rule that it is in: `condition` of `condition.all[0].window`."""
        return re.split(r"[.\[]", self.path, maxsplit=1)[0]

    @property
    def path_within(self) -> str:
        """The path from there on: `all[0].window`; "" where it is the whole."""
        return self.path.removeprefix(self.key).removeprefix(".")


def read_number(value: Any, path: str, *, lowest: Decimal, highest: Decimal, above_lowest: bool = False) -> Decimal:
    """Return a number that a person wrote: a string, an int or a Decimal, with at most 18 decimals, within the
    bounds."""
    text = ""
    if isinstance(value, str):
        with suppress(ValueError):
            value = notation.read_number(value)
    # Only what is of a number's size is written out: 1E+999999999 would be a gigabyte, and 5 000 digits are refused.
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() < 64:
        text = str(value)
    elif isinstance(value, Decimal) and value.is_finite() and abs(value.adjusted()) < 64:
        text = write_number(value)
    if not _NUMBER.fullmatch(text):
        raise RuleInvalid(path, "is not a number; write it like 10 or '0.995'")
    number = Decimal(text) or Decimal(0)  # There is no minus zero.
    if not lowest <= number <= highest or (above_lowest and number == lowest):
        raise RuleInvalid(path, f"must be {'above' if above_lowest else 'at least'} {lowest:f} and at most {highest:f}")
    return number


def read_duration(value: Any, path: str, *, shortest: int = 0, longest: int = WINDOW_LONGEST) -> int:
    """Return a duration in microseconds. Raises RuleInvalid."""
    try:
        return notation.read_duration(value, shortest=shortest, longest=longest)
    except ValueError as error:
        raise RuleInvalid(path, str(error)) from None


def refuse_unknown_keys(data: Mapping[str, Any], known: set[str], path: str) -> None:
    """Raise RuleInvalid for the first key that is not known, by its name."""
    for key in data:
        if key not in known:
            raise RuleInvalid(
                f"{path}.{key}" if path else str(key), f"is not known here; known are {', '.join(sorted(known))}"
            )


def to_units(number: Decimal) -> int:
    """Return a level as an integer of 1e-18."""
    return int(number * UNITS_PER_ONE)


def from_units(units: int) -> str:
    """Return whole units of 1e-18 as a decimal string."""
    return write_number(price_of(units))


def mean_from_units(units: Fraction) -> str:
    """Return a mean of units as a decimal string, rounded half-even to a price's digits: 15 significant ones, and 18
    decimals at most."""
    mean = WIDE.divide(Decimal(units.numerator), Decimal(units.denominator * UNITS_PER_ONE))
    last = max(mean.adjusted() - PRICE_DIGITS + 1, -PRICE_DECIMALS)
    return write_number(mean.quantize(Decimal(1).scaleb(last), context=WIDE))


def write_moment(microseconds: int) -> str:
    """Return microseconds since 1970 as ISO 8601 UTC."""
    return (_EPOCH + timedelta(microseconds=microseconds)).isoformat().replace("+00:00", "Z")


def write_percent(fraction: Fraction) -> str:
    """Return a fraction in percent, rounded half-even to four decimals: 0.104 is "10.4". Where that would be 0, it has
    two significant digits."""
    rounded = round(fraction * 10**6)
    if rounded or not fraction:
        return write_number(Decimal(rounded).scaleb(-4, context=WIDE))
    return write_number(Context(prec=2).divide(Decimal(fraction.numerator * 100), Decimal(fraction.denominator)))


def write_part(fraction: Fraction) -> str:
    """Return a part of a whole, from 0 to 1, rounded half-even to four decimals."""
    return write_number(Decimal(round(fraction * 10**4)).scaleb(-4))
