"""How far the shares of a portfolio are from a target allocation. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from fractions import Fraction
from typing import NamedTuple

from apps.portfolios.domain.nights import Part
from apps.portfolios.domain.numbers import ZERO

# Asset -> its share of the whole, from 0 to 1; None stands for all cash together.
Shares = Mapping[int | None, Fraction]


class Drift(NamedTuple):
    """How far a day was from the target.

    part: the largest difference of a share from its target, from 0 to 1; asset: whose share differs most, None: cash.
    """

    day: date
    part: Fraction
    asset: int | None


def shares_of(parts: Iterable[Part]) -> dict[int | None, Fraction] | None:
    """Return the share of each asset, and of cash; None where the whole is not known, or not above 0."""
    values: dict[int | None, Fraction] = {}
    for one in parts:
        if one.value is None:
            return None
        values[one.asset] = values.get(one.asset, ZERO) + one.value
    whole = sum(values.values(), ZERO)
    return {asset: value / whole for asset, value in values.items()} if whole > 0 else None


def drift_on(day: date, shares: Shares, target: Shares) -> Drift:
    """Return how far shares are from their targets. What has no target is not to be held."""
    differences = {asset: abs(shares.get(asset, ZERO) - target.get(asset, ZERO)) for asset in {*shares, *target}}
    asset = max(differences, key=lambda one: (differences[one], one or 0))
    return Drift(day, differences[asset], asset)


def openings(drifts: Sequence[Drift], *, above: Fraction) -> list[Drift]:
    """Return the days on which the drift rose above a part: each first day of several in a row."""
    found, is_above = [], False
    for one in drifts:
        if one.part > above and not is_above:
            found.append(one)
        is_above = one.part > above
    return found
