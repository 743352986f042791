"""Lots: what was bought together, at which cost, and what is left of it. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from fractions import Fraction

from apps.portfolios.domain.numbers import ONE, ZERO, are_displayed_alike, plus
from apps.portfolios.domain.transactions import Method


@dataclass(frozen=True, slots=True)
class Lot:
    """A quantity with its cost, which is carried and never derived from the quantity.

    at: when it was acquired; bought: quantity then; factor: product of the ratios of later splits; quantity: what is
    left, in today's shares; cost: of what is left, without fees and taxes, in `currency`; base_cost: the same in the
    portfolio's base currency at the rate of that time, or None where that is not known; base_fees: what is left of its
    fees and taxes; key: of the transaction.
    """

    asset: int
    at: datetime
    bought: Fraction
    factor: Fraction
    quantity: Fraction
    currency: str
    cost: Fraction
    base_cost: Fraction | None
    base_fees: Fraction | None
    key: int = 0

    def split(self, ratio: Fraction) -> "Lot":
        """Return the lot after a split: another quantity at the same cost."""
        return replace(self, quantity=self.quantity * ratio, factor=self.factor * ratio)

    def part(self, share: Fraction) -> "Lot":
        """Return so much of it, with its share of the cost."""
        if share == 1:
            return self
        return Lot(
            asset=self.asset,
            at=self.at,
            bought=self.bought,
            factor=self.factor,
            quantity=self.quantity * share,
            currency=self.currency,
            cost=self.cost * share,
            base_cost=None if self.base_cost is None else self.base_cost * share,
            base_fees=self.base_fees * share if self.base_fees else self.base_fees,
            key=self.key,
        )

    def less_cost(self, share: Fraction) -> "Lot":
        """Return it with so much less cost and the same quantity. The fees stay."""
        base_cost = None if self.base_cost is None else self.base_cost * (ONE - share)
        return replace(self, cost=self.cost * (ONE - share), base_cost=base_cost)


def quantity_of(lots: Iterable[Lot]) -> Fraction:
    """Return how much these lots hold."""
    return sum((lot.quantity for lot in lots), ZERO)


def add(lots: list[Lot], new: Lot, *, method: Method) -> None:
    """Put one more lot into the list. Under average cost, lots of one currency become one."""
    if method is Method.AVERAGE:
        for index, lot in enumerate(lots):
            if lot.currency == new.currency:
                lots[index] = _merged(lot, new)
                return
    lots.append(new)
    if len(lots) > 1 and new.at < lots[-2].at:
        # One that comes by transfer or delivery brings its date.
        lots.sort(key=lambda lot: lot.at)


def _merged(first: Lot, second: Lot) -> Lot:
    quantity = first.quantity + second.quantity
    return replace(
        min(first, second, key=lambda lot: lot.at),
        bought=quantity,
        factor=ONE,
        quantity=quantity,
        cost=first.cost + second.cost,
        base_cost=plus(first.base_cost, second.base_cost),
        base_fees=plus(first.base_fees, second.base_fees),
    )


def take(
    lots: list[Lot], quantity: Fraction, *, held: Fraction, method: Method
) -> tuple[list[Lot], list[Lot], Fraction] | None:
    """Return (taken, left, quantity of what is left), or None where less is held. held: quantity of all lots.

    The quantity as it is displayed takes everything.
    """
    if are_displayed_alike(held, quantity):
        return (lots, [], ZERO) if held else None
    if quantity > held:
        return None
    rest = held - quantity
    if method is Method.AVERAGE:
        share = quantity / held
        return [lot.part(share) for lot in lots], [lot.part(ONE - share) for lot in lots], rest
    taken = []
    for index, lot in enumerate(lots):
        if lot.quantity > quantity:
            share = quantity / lot.quantity
            taken += [lot.part(share)] if share else []
            return taken, [lot.part(ONE - share), *lots[index + 1 :]], rest
        taken.append(lot)
        quantity -= lot.quantity
    return taken, [], ZERO
