"""What a day was worth as it was known then, and why today's computation gives another value. Pure."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

from apps.portfolios.domain.numbers import ONE, ZERO, Exact, less, round_rate, times, to_text, total, write_rate


class Part(NamedTuple):
    """What was held of one asset, or of the cash of one currency (asset None), at the end of a day.

    price: of one unit of that day, in `currency`; rate: from there into the base currency; at: time of the oldest price
    used, None for cash in the base currency. None: not known.
    """

    asset: int | None
    currency: str
    quantity: Fraction
    price: Fraction | None
    rate: Fraction | None
    at: datetime | None = None

    @property
    def key(self) -> tuple[int | None, str]:
        """What it is of. The currency of an asset's price may have been corrected since."""
        return (self.asset, self.currency if self.asset is None else "")

    @property
    def value(self) -> Fraction | None:
        """Its worth in the base currency."""
        return times(times(self.quantity, self.price), self.rate)


class Difference(NamedTuple):
    """Today's value of a day less the one that was known then, by cause; None where something is not known."""

    transactions: Fraction | None
    prices: Fraction | None
    rates: Fraction | None

    @property
    def total(self) -> Fraction | None:
        return total(self)


def difference_of(then: Iterable[Part], today: Iterable[Part]) -> Difference:
    """Return why today's computation of a day gives another value than the one that was known then.

    The three parts add up to the difference: what is held otherwise counts at today's price and rate, another price at
    today's rate for what was held then, and another rate for what was held then at the price that was known then.
    """
    before, after = {one.key: one for one in then}, {one.key: one for one in today}
    transactions: list[Fraction | None] = []
    prices: list[Fraction | None] = []
    rates: list[Fraction | None] = []
    for key in {*before, *after}:
        old, new = before.get(key), after.get(key)
        if old is None or new is None:
            gone, come = (old.value if old else ZERO), (new.value if new else ZERO)
            transactions.append(less(come, gone))
            continue
        transactions.append(times(times(new.quantity - old.quantity, new.price), new.rate))
        prices.append(_changed(old.quantity, old.price, new.price, new.rate))
        rates.append(_changed(times(old.quantity, old.price), old.rate, new.rate, ONE))
    return Difference(total(transactions), total(prices), total(rates))


def _changed(
    held: Fraction | None, before: Fraction | None, after: Fraction | None, rate: Fraction | None
) -> Fraction | None:
    """Return what it makes that something counts otherwise: nothing where both are equal, or both are not known."""
    if before == after:
        return ZERO
    return times(times(held, less(after, before)), rate)


def rounded(parts: Iterable[Part]) -> list[Part]:
    """Return parts with prices and rates of 34 digits, as they are stored."""
    return [one._replace(price=_short(one.price), rate=_short(one.rate)) for one in parts]


def document_of(parts: Iterable[Part]) -> list[list[Any]]:
    """Return parts as JSON has them: [asset, currency, quantity, price, rate] each."""
    return [[one.asset, one.currency, to_text(one.quantity), _written(one.price), _written(one.rate)] for one in parts]


def parts_of(document: Iterable[Sequence[Any]]) -> list[Part]:
    """Return the parts that were stored as JSON, without times."""
    return [
        Part(asset, currency, Exact.of(Decimal(quantity)), _read(price), _read(rate))
        for asset, currency, quantity, price, rate in document
    ]


def _short(number: Fraction | None) -> Fraction | None:
    return None if number is None else round_rate(number)


def _written(number: Fraction | None) -> str | None:
    return None if number is None else write_rate(number)


def _read(text: str | None) -> Fraction | None:
    return None if text is None else Exact.of(Decimal(text))
