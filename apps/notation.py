"""The written form of numbers and durations, as rules and set-up files have it, and exact decimals. Pure."""

import re
from decimal import Context, Decimal
from typing import Any

SECOND = 1_000_000  # in microseconds, the unit of every duration here
DURATION_LONGEST = 400 * 86_400 * SECOND
# Wide enough for every price, level and percent, so that none of them is rounded by the way, or is too long.
WIDE = Context(prec=80, Emax=999, Emin=-999)

# A leading zero is refused: what is written so is a code, or octal.
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d{1,9})?", re.ASCII)
_WHOLE_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,17})", re.ASCII)
_DURATION = re.compile(r"(\d{1,9})(s|m|h|d)", re.ASCII)
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def read_number(text: str) -> Decimal:
    """Return the number that a text is: decimals, perhaps an exponent, no leading zero. Raises ValueError."""
    if not _NUMBER.fullmatch(text):
        raise ValueError("is not a number")
    return Decimal(text)


def read_whole_number(value: Any) -> int:
    """Return a whole number: an int, or the text of one. Raises ValueError."""
    if type(value) is int:
        return value
    if isinstance(value, str) and _WHOLE_NUMBER.fullmatch(value):
        return int(value)
    raise ValueError("is not a whole number")


def read_duration(value: Any, *, shortest: int = 0, longest: int = DURATION_LONGEST) -> int:
    """Return a duration like 10s, 5m, 24h or 30d in microseconds; 0 may be written without a unit.

    Raises ValueError; its text follows the name of the field.
    """
    text = "0s" if value == "0" or (type(value) is int and value == 0) else value
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if not match:
        raise ValueError("is not a duration; write it like 10s, 5m, 24h or 30d")
    duration = int(match[1]) * _UNIT_SECONDS[match[2]] * SECOND
    if not shortest <= duration <= longest:
        raise ValueError(f"must be from {write_duration(shortest)} to {write_duration(longest)}")
    return duration


def write_duration(duration: int) -> str:
    """Return microseconds in the written form, in the largest unit that has no remainder: 300 s is 5m."""
    seconds = duration // SECOND
    unit = next((unit for unit in "dhm" if seconds and seconds % _UNIT_SECONDS[unit] == 0), "s")
    return f"{seconds // _UNIT_SECONDS[unit]}{unit}"


def write_number(number: Decimal) -> str:
    """Return a Decimal without exponent and without trailing zeros."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
