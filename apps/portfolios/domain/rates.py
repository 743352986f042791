"""Exchange rates from the prices of assets, with the path that was taken. Pure."""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

from apps.portfolios.domain.numbers import ONE, Exact, round_rate

# Through which a rate is found where no asset is priced in the other currency.
INTERMEDIATE = ("EUR", "USD")


class Pair(NamedTuple):
    """A price of an asset that is an exchange rate: 1 unit of `base` costs `price` of `currency`."""

    symbol: str
    base: str
    currency: str
    price: Decimal
    at: datetime
    provider: str = ""


class Leg(NamedTuple):
    """One price on the path of a rate. inverse: 1 / price was taken."""

    pair: Pair
    inverse: bool


class FoundRate(NamedTuple):
    """The exchange rate of 1 unit of a currency in another. legs: none between equal currencies, else one or two."""

    rate: Fraction
    legs: tuple[Leg, ...] = ()

    @property
    def at(self) -> datetime | None:
        """Time of the oldest price used."""
        return min((leg.pair.at for leg in self.legs), default=None)


class RateTable:
    """The rates that the prices of some assets give. Of several assets of one pair, the newest price counts."""

    def __init__(self, pairs: Iterable[Pair]) -> None:
        self._pairs: dict[tuple[str, str], Pair] = {}
        self._found: dict[tuple[str, str], FoundRate | None] = {}
        for pair in sorted(pairs, key=lambda one: one.symbol):
            known = self._pairs.get((pair.base, pair.currency))
            if pair.price > 0 and (known is None or pair.at > known.at):
                self._pairs[pair.base, pair.currency] = pair

    def find(self, currency: str, to: str) -> FoundRate | None:
        """Return the rate, or None: the direct asset, else the inverse, else both over EUR, else over USD."""
        if (currency, to) not in self._found:
            self._found[currency, to] = self._look(currency, to)
        return self._found[currency, to]

    def _look(self, currency: str, to: str) -> FoundRate | None:
        if currency == to:
            return FoundRate(ONE)
        paths = [(currency, to), *((currency, one, to) for one in INTERMEDIATE if one not in (currency, to))]
        for path in paths:
            legs = [self._leg(*step) for step in pairwise(path)]
            if all(legs):
                return _found(tuple(leg for leg in legs if leg is not None))
        return None

    def _leg(self, currency: str, to: str) -> Leg | None:
        if (currency, to) in self._pairs:
            return Leg(self._pairs[currency, to], inverse=False)
        return Leg(self._pairs[to, currency], inverse=True) if (to, currency) in self._pairs else None


def _found(legs: tuple[Leg, ...]) -> FoundRate:
    rate: Fraction = ONE
    for leg in legs:
        price = Exact.of(leg.pair.price)
        rate = rate / price if leg.inverse else rate * price
    return FoundRate(round_rate(rate), legs)
