"""The ratio of a split of which a file has a quantity alone, from what was held before it. Pure."""

from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from apps.portfolios.domain.numbers import ZERO, Exact

# Of shares in Brazil no ratio beyond it is usual, and a wrong one easily is.
RATIO_MOST = 100


class Ratio(NamedTuple):
    """So many new shares in the place of so many old ones. after: how much is held then."""

    numerator: int
    denominator: int
    after: Fraction


def ratio_of(
    held: Fraction, *, is_reverse: bool, changes: Iterable[Decimal | None], lefts: Iterable[Decimal | None]
) -> Ratio | None:
    """Return the ratio of a split: a whole number for 1, or of a reverse split 1 for a whole number. None for any
    other, which is rare, and mostly follows from trades that are missing.

    held: before it, in all accounts; changes: shares that came, below 0 that went, of each account; lefts: those that
    there were after it. Of each account the file has one of the two; where it has both, there is no ratio.
    """
    came, left = ([one for one in several if one is not None] for several in (changes, lefts))
    if bool(came) == bool(left) or held <= 0:
        return None
    after = sum(map(Exact.of, came or left), held if came else ZERO)
    ratio = after / held
    fits = ratio.numerator == 1 < ratio.denominator if is_reverse else ratio.denominator == 1 < ratio.numerator
    if not fits or max(ratio.numerator, ratio.denominator) > RATIO_MOST:
        return None
    return Ratio(ratio.numerator, ratio.denominator, after)
