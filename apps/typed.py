"""Numbers and durations as people type them ("1 000,5", "10 %", "5 minutes"), given in the written form. Pure.

Files and the API know the written form alone; this is for forms. The texts of errors follow the name of the field.
"""

import re
from fractions import Fraction

from apps.notation import SECOND, read_number, write_duration

_SPACES = str.maketrans({"\u00a0": " ", "\u2009": " ", "\u202f": " ", "\t": " ", "\u2019": "'", "\u2212": "-"})
_ZERO = re.compile(r"0+")
# One mark, three digits after it, and before it what may be a group of thousands.
_TWO_READINGS = re.compile(r"(-?[1-9]\d{0,2})[.,](\d{3})", re.ASCII)
# Groups with one mark between them, or digits without; then decimals.
_TYPED = re.compile(r"(-?) ?(?:([1-9]\d{0,2}([ '.,])\d{3}(?:\3\d{3})*)|(\d*))(?:([.,])(\d+))?", re.ASCII)
_PART = re.compile(r"([\d.,' ]*\d) ?([A-Za-z]+)(?: ?,| and(?= ))? ?", re.ASCII)
_UNITS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3_600),
    **dict.fromkeys(("d", "day", "days"), 86_400),
    **dict.fromkeys(("w", "week", "weeks"), 7 * 86_400),
}


def read_typed_number(text: str, *, unit: str = "") -> str:
    """Return a number in the written form: "1 000,5" is "1000.5". unit: what may stand behind it, like %.

    A mark that stands once is the decimal mark; marks that stand several times, or before another one, group thousands.
    Where one mark may be either ("1.005"), ValueError offers both readings; what is no number is a ValueError too.
    """
    plain = " ".join(text.translate(_SPACES).split())
    if unit:
        plain = plain.removesuffix(unit).rstrip()
    if two := _TWO_READINGS.fullmatch(plain):
        raise ValueError(f"can be read in two ways: write {two[1]}.{two[2]}0 or {two[1]}{two[2]}")
    if typed := _TYPED.fullmatch(plain):
        sign, grouped, group, whole, mark, decimals = typed.groups()
        if mark != group or mark is None:
            digits = grouped.replace(group, "") if grouped else whole or ("0" if decimals else "")
            plain = f"{sign}{digits}" + (f".{decimals}" if decimals else "")
    try:
        read_number(plain)
    except ValueError:
        raise ValueError("is not a number; write it like 1000 or 0.995") from None
    return plain


def write_typed_number(number: str) -> str:
    """Return a number of the written form so that it is read as the same: "1.005" is "1.0050"."""
    return f"{number}0" if _TWO_READINGS.fullmatch(number) else number


def read_typed_duration(text: str) -> str:
    """Return a duration in the written form: "5 minutes" is "5m", "1 h 30 min" is "90m". Raises ValueError."""
    plain = " ".join(text.translate(_SPACES).split())
    if _ZERO.fullmatch(plain):
        return "0s"
    seconds, place = Fraction(0), 0
    while part := _PART.match(plain, place):
        # M is a month elsewhere.
        size = _UNITS.get(part[2].lower()) if part[2] != "M" else None
        if size is None:
            break
        seconds += Fraction(read_typed_number(part[1])) * size
        place = part.end()
    if not place or place < len(plain):
        if plain.isdecimal():
            raise ValueError(f"has no unit; write {plain} s, {plain} min, {plain} h or {plain} d")
        raise ValueError("is not a duration; write it like 10 s, 5 minutes, 24 h or 30 d")
    if seconds.denominator != 1:
        raise ValueError("must be whole seconds")
    return write_duration(int(seconds) * SECOND)
