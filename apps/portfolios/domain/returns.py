"""Time-weighted return, volatility and drawdown. Pure."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date
from decimal import Decimal
from fractions import Fraction
from itertools import accumulate
from typing import NamedTuple

from apps.notation import WIDE
from apps.portfolios.domain.numbers import total
from apps.portfolios.domain.records import AssetFlow

TRADING_DAYS_PER_YEAR = 252
_ONE = Decimal(1)


class Day(NamedTuple):
    """One day of a portfolio in its base currency. value: at its end, None where it is not known; inflow, outflow: both
    0 or more, what came in at its start and went out at its end, None where that is not known."""

    day: date
    value: Fraction | None
    inflow: Fraction | None = Fraction(0)
    outflow: Fraction | None = Fraction(0)


def with_flows(
    days: Sequence[Day],
    flows: Iterable[AssetFlow],
    *,
    worth_on: Callable[[date, int, Fraction], Fraction | None],
) -> list[Day]:
    """Return the days with the flows of one asset. The first day has the value before the others, and no flows.

    worth_on: day, asset and quantity -> what that was worth at the end of the day, None where it is not known. A cost
    that is no part of a trade counts at the end of its day: nothing may be held of the asset at its start.
    """
    inflows: dict[date, list[Fraction | None]] = defaultdict(list)
    outflows: dict[date, list[Fraction | None]] = defaultdict(list)
    for one in flows:
        day = one.at.astimezone(UTC).date()
        base = one.base if one.priced is None else worth_on(day, one.priced, one.quantity)
        is_out = one.is_cost or base is None or base < 0
        (outflows if is_out else inflows)[day].append(None if base is None else -base if is_out else base)
    return [
        *days[:1],
        *(one._replace(inflow=total(inflows[one.day]), outflow=total(outflows[one.day])) for one in days[1:]),
    ]


class DayReturn(NamedTuple):
    """The return of a day: 0.01 is 1 %."""

    day: date
    rate: Decimal


class ReturnUnknown(Exception):
    """The days have no time-weighted return. reason: unknown_value, negative_start or no_days."""

    def __init__(self, reason: str, day: date | None = None) -> None:
        super().__init__(reason)
        self.reason, self.day = reason, day


def daily_returns(days: Sequence[Day], *, start: Fraction = Fraction(0)) -> list[DayReturn]:
    """Return what each day gave; start: value before the first one. Raises ReturnUnknown.

    An inflow counts at the start of its day, an outflow at its end. A day that begins at 0 without an inflow gave 0.
    """
    returns, before = [], start
    for one in days:
        if one.value is None or one.inflow is None or one.outflow is None:
            raise ReturnUnknown("unknown_value", one.day)
        begin, end = before + one.inflow, one.value + one.outflow
        if begin < 0:
            raise ReturnUnknown("negative_start", one.day)
        rate = WIDE.subtract(_divide(end / begin), _ONE) if begin else Decimal(0)
        returns.append(DayReturn(one.day, rate))
        before = one.value
    return returns


def _divide(number: Fraction) -> Decimal:
    return WIDE.divide(Decimal(number.numerator), Decimal(number.denominator))


def index_of(returns: Iterable[Decimal]) -> list[Decimal]:
    """Return the linked index after each return, where 1 is the value before the first."""
    return list(accumulate((WIDE.add(rate, _ONE) for rate in returns), WIDE.multiply))


def linked(returns: Iterable[Decimal]) -> Decimal:
    """Return the return of all of them together. Raises ReturnUnknown where there are none."""
    index = index_of(returns)
    if not index:
        raise ReturnUnknown("no_days")
    return WIDE.subtract(index[-1], _ONE)


def percent_of(returned: Decimal, benchmark: Decimal) -> Decimal | None:
    """Return how many times a benchmark's return a return is; None where the benchmark gave nothing."""
    return WIDE.divide(returned, benchmark) if benchmark > 0 else None


def real_return(returned: Decimal, inflation: Decimal) -> Decimal:
    """Return what a return is worth after inflation over the same days."""
    return WIDE.subtract(WIDE.divide(WIDE.add(_ONE, returned), WIDE.add(_ONE, inflation)), _ONE)


class Volatility(NamedTuple):
    """Standard deviation (n − 1) of daily log returns: of a day, of the whole period, and of a year of 252 days. mean:
    of these log returns; days: how many there are."""

    daily: float
    period: float
    yearly: float
    mean: float
    days: int


def is_traded(one: DayReturn) -> bool:
    """Tell whether a day counts for the volatility: Saturdays and Sundays on which nothing moved do not."""
    return bool(one.rate) or one.day.weekday() < 5


def volatility_of(returns: Iterable[DayReturn]) -> Volatility | None:
    """Return the volatility, or None where there are fewer than two days of trading, or one lost everything."""
    rates = [one.rate for one in returns if is_traded(one)]
    if len(rates) < 2 or any(rate <= -1 for rate in rates):
        return None
    logs = [math.log1p(rate) for rate in rates]
    mean = math.fsum(logs) / len(logs)
    daily = math.sqrt(math.fsum((one - mean) ** 2 for one in logs) / (len(logs) - 1))
    yearly = daily * math.sqrt(TRADING_DAYS_PER_YEAR)
    return Volatility(daily, daily * math.sqrt(len(logs)), yearly, mean, len(logs))


class Fall(NamedTuple):
    """The largest fall of an index from a peak. part: of the peak, from 0 to 1; peak, trough: their positions in the
    index, both 0 where it never fell."""

    part: Decimal
    peak: int
    trough: int


def max_drawdown(index: Iterable[Decimal]) -> Fall:
    """Return the largest fall from a peak, of equal ones the first. index: 1 + cumulative return, above 0."""
    top, peak, worst = Decimal(0), 0, Fall(Decimal(0), 0, 0)
    for position, value in enumerate(index):
        if value > top:
            top, peak = value, position
        if top > 0:
            part = WIDE.subtract(_ONE, WIDE.divide(value, top))
            if part > worst.part:
                worst = Fall(part, peak, position)
    return worst
