"""Prices adjusted by splits that were effective after them. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

from apps.market.domain import Given, PathCandle, epoch_microseconds, round_price, scaled
from apps.notation import WIDE

RATIO_HIGHEST = 100_000
# The usual ratios of companies.
RATIOS_USUAL = (
    *((5, 4), (4, 3), (3, 2), (5, 2)),
    *((number, 1) for number in (2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40, 50, 100)),
)
# (microseconds, units)
Point = tuple[int, int]


@dataclass(frozen=True, slots=True)
class SplitFact:
    """numerator new shares stand for denominator old ones: prices from before it count denominator / numerator of what
    they were.

    effective_at: microseconds since 1970; entry_id: the entry of the log from which on it is known.
    """

    asset_id: int
    effective_at: int
    numerator: int
    denominator: int
    entry_id: int = 0


class Splits:
    """The splits of some assets. Every price is read through one of these: as it came, it is a price of its time."""

    def __init__(self, facts: Iterable[SplitFact] = ()) -> None:
        self._facts = tuple(facts)
        self._of: dict[int, list[tuple[int, Fraction]]] = {}
        by_time = sorted(self._facts, key=lambda one: -one.effective_at)
        for one in by_time:
            known = self._of.setdefault(one.asset_id, [])
            # With the later ones: a price before this split is before all of those.
            later = known[-1][1] if known else Fraction(1)
            known.append((one.effective_at, later * Fraction(one.denominator, one.numerator)))

    def __bool__(self) -> bool:
        return bool(self._facts)

    def up_to(self, entry_id: int) -> "Splits":
        """Return those that are known at this entry of the log."""
        if all(one.entry_id <= entry_id for one in self._facts):
            return self
        return Splits(one for one in self._facts if one.entry_id <= entry_id)

    def edges(self, asset_id: int) -> list[int]:
        """Return when the splits of an asset were effective, oldest first, in microseconds."""
        return sorted({at for at, _ in self._of.get(asset_id, ())})

    def factor(self, asset_id: int, at: int) -> Fraction:
        """Return by what a price of this time is multiplied; at: microseconds since 1970."""
        factor = Fraction(1)
        for effective_at, product in self._of.get(asset_id, ()):
            if at >= effective_at:
                break
            factor = product
        return factor

    def units(self, asset_id: int, at: int, units: int) -> int:
        """Return a price of this time as it counts now, rounded half to even once."""
        factor = self.factor(asset_id, at)
        return units if factor == 1 else scaled(units, factor.numerator, factor.denominator)

    def price(self, asset_id: int, at: datetime, price: Decimal) -> Decimal:
        """Return a stored price of this time as it counts now, with as many digits as a stored price has."""
        factor = self.factor(asset_id, epoch_microseconds(at)) if asset_id in self._of else 1
        return price if factor == 1 else multiplied(price, Fraction(factor))

    def quotes(self, rows: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
        """Return (asset id, microseconds, units) with the prices as they count now."""
        if not self._of:
            return rows
        return [(asset_id, at, self.units(asset_id, at, units)) for asset_id, at, units in rows]

    def path(self, asset_id: int, points: Sequence[Point | PathCandle]) -> list[Point | PathCandle]:
        """Return quotes and candles of one asset with their prices as they count now. No split lies within a candle."""
        if asset_id not in self._of:
            return list(points)
        return [
            self._candle(asset_id, one)
            if isinstance(one, PathCandle)
            else (one[0], self.units(asset_id, one[0], one[1]))
            for one in points
        ]

    def lies_within(self, asset_id: int, first_at: int, last_at: int) -> bool:
        """Tell whether a split was effective between these two times."""
        return self.factor(asset_id, first_at) != self.factor(asset_id, last_at)

    def _candle(self, asset_id: int, candle: PathCandle) -> PathCandle:
        factor = self.factor(asset_id, candle.first_at)
        if factor == 1:
            return candle
        numerator, denominator = factor.numerator, factor.denominator
        low, high = scaled(candle.low, numerator, denominator), scaled(candle.high, numerator, denominator)
        length = candle.last_at - candle.first_at
        price_time = scaled(candle.price_time, numerator, denominator)
        square_time = scaled(candle.square_time, numerator**2, denominator**2)
        return candle._replace(
            open=scaled(candle.open, numerator, denominator),
            low=low,
            high=high,
            close=scaled(candle.close, numerator, denominator),
            # A price that stood still has no other mean than itself, though it was rounded.
            price_time=min(max(price_time, low * length), high * length),
            square_time=_within_squares(square_time, low=low, high=high, length=length),
            given=Given(*(scaled(price, numerator, denominator) for price in candle.given)),
        )


def _within_squares(square_time: int, *, low: int, high: int, length: int) -> int:
    lowest, highest = sorted((low * low, high * high))
    return min(max(square_time, (0 if low < 0 < high else lowest) * length), highest * length)


def multiplied(price: Decimal, factor: Fraction) -> Decimal:
    """Return price · factor, rounded as prices are."""
    return round_price(WIDE.divide(WIDE.multiply(price, Decimal(factor.numerator)), Decimal(factor.denominator)))


def read_ratio(text: str) -> tuple[int, int]:
    """Return (numerator, denominator) of a written ratio like 20:1. Raises ValueError, for people."""
    numbers = text.split(":")
    if len(numbers) != 2 or not all(one.isascii() and one.isdigit() and len(one) <= 9 for one in numbers):
        raise ValueError("write new shares to old ones, like 20:1")
    numerator, denominator = map(int, numbers)
    refuse_ratio(numerator, denominator)
    return numerator, denominator


def ratio_of_step(before: Decimal, after: Decimal) -> tuple[int, int]:
    """Return the usual ratio, or its inverse, that comes next to the step between two prices, both above 0."""
    step = Fraction(before) / Fraction(after)
    ratios = [*RATIOS_USUAL, *((denominator, numerator) for numerator, denominator in RATIOS_USUAL)]
    return min(ratios, key=lambda one: max(Fraction(*one) / step, step / Fraction(*one)))


def refuse_ratio(numerator: int, denominator: int) -> None:
    """Raise ValueError, for people, where this is not the ratio of a split."""
    if not (1 <= numerator <= RATIO_HIGHEST and 1 <= denominator <= RATIO_HIGHEST):
        raise ValueError(f"both numbers of a ratio are whole numbers from 1 to {RATIO_HIGHEST}")
    if numerator == denominator:
        raise ValueError(f"{numerator}:{denominator} is no split: nothing would change")
