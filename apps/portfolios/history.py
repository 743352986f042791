"""What a portfolio held on days of the past, and what that was worth. Reads the stored copy and the market's prices."""

from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

from apps.market import queries as market
from apps.market.domain import epoch_microseconds
from apps.market.models import Asset
from apps.portfolios.domain.nights import Part
from apps.portfolios.domain.numbers import ONE, ZERO, Exact, total
from apps.portfolios.domain.rates import FoundRate, Pair, RateTable
from apps.portfolios.domain.returns import Day
from apps.portfolios.models import LedgerCopy, Portfolio

ONE_DAY = timedelta(days=1)
_SAME = FoundRate(ONE)


class History:
    """A portfolio from the end of one day to the end of another one. Made by a few statements, however many days there
    are; answers by none.

    A day's value is what was held at its end at the last prices of that day, or before; that of today, at the newest.
    is_exact: the last day's prices are taken from quotes too, which come into the candles of days a little later; also:
    further assets, for `worth_on`.
    """

    def __init__(
        self,
        portfolio: Portfolio,
        copy: LedgerCopy,
        *,
        since: date,
        until: date,
        now: datetime,
        is_exact: bool = False,
        also: Collection[int] = (),
    ) -> None:
        self._base, self._now = portfolio.base_currency, now
        self._held = steps_of(copy.quantities)
        self._balances = steps_of(copy.balances)
        self._flows = _flows(copy)
        self._assets = {one.pk: one for one in market.every_asset().filter(pk__in={*self._held, *also})}
        self._rate_assets = market.rate_assets()
        wanted = {*self._assets, *(one.pk for one in self._rate_assets)}
        self._closes = market.day_closes(wanted, since=midnight(since), until=midnight(until + ONE_DAY))
        if until >= now.astimezone(UTC).date():
            for key, newest in market.held_prices(wanted).items():
                self._closes.setdefault(key, []).append((newest.at, newest.price))
        elif is_exact:
            last = midnight(until + ONE_DAY) - timedelta(microseconds=1)
            for key, found in market.in_force_at(dict.fromkeys(wanted, last)).items():
                self._closes.setdefault(key, []).append(found)
        self._splits = market.splits_of(list(self._assets))
        self._times = {key: [at for at, _ in rows] for key, rows in self._closes.items()}

    def days(self, *, since: date, until: date) -> list[Day]:
        """Return the value of each day and its flows."""
        return [self.day(since + timedelta(days=number)) for number in range((until - since).days + 1)]

    def day(self, day: date) -> Day:
        """Return the value of one day and its flows."""
        return Day(day, total(one.value for one in self.parts_on(day)), *self._flows.get(day, (ZERO, ZERO)))

    def parts_on(self, day: date) -> list[Part]:
        """Return what was held at the end of a day, and what it was worth then."""
        ends = self._end_of(day)
        rates: dict[str, FoundRate | None] = {}

        def rate_of(currency: str) -> FoundRate | None:
            if currency not in rates:
                rates[currency] = self._rate_on(currency, ends)
            return rates[currency]

        parts = []
        for key, steps in self._held.items():
            if quantity := steps.on(day):
                parts.append(self._part(key, quantity, ends, rate_of))
        for currency, steps in self._balances.items():
            if quantity := steps.on(day):
                rate = rate_of(currency)
                parts.append(Part(None, currency, quantity, ONE, rate and rate.rate, rate and rate.at))
        return parts

    def worth_on(self, day: date, key: int, quantity: Fraction) -> Fraction | None:
        """Return what a quantity of an asset, as of a day, was worth at its end; None where that is not known."""
        ends = self._end_of(day)
        return self._part(key, quantity, ends, lambda currency: self._rate_on(currency, ends)).value

    def _end_of(self, day: date) -> datetime:
        return min(midnight(day + ONE_DAY) - timedelta(microseconds=1), self._now)

    def _part(self, key: int, quantity: Fraction, ends: datetime, rate_of: Callable[[str], FoundRate | None]) -> Part:
        found, asset = self._price_on(key, ends), self._assets.get(key)
        currency = asset.currency if asset is not None else ""
        rate = rate_of(currency) if currency else None
        if found is None:
            return Part(key, currency, quantity, None, rate and rate.rate)
        at, price = found
        each: Fraction = Exact.of(price)
        if self._splits:
            # Closes are as they count now; the quantity is that of the day.
            factor = self._splits.factor(key, epoch_microseconds(ends))
            each = each if factor == 1 else each / factor
        if rate is None:
            return Part(key, currency, quantity, each, None, at)
        return Part(key, currency, quantity, each, rate.rate, at if rate.at is None else min(at, rate.at))

    def _price_on(self, key: int, ends: datetime) -> tuple[datetime, Decimal] | None:
        index = bisect_right(self._times.get(key, []), ends) - 1
        return self._closes[key][index] if index >= 0 else None

    def _rate_on(self, currency: str, ends: datetime) -> FoundRate | None:
        if currency == self._base:
            return _SAME
        known = {one.pk: found for one in self._rate_assets if (found := self._price_on(one.pk, ends)) is not None}
        table = rate_table(self._rate_assets, {key: (*found, "") for key, found in known.items()})
        return table.find(currency, self._base)


def first_day(copy: LedgerCopy) -> date | None:
    """Return the day on which something was held first."""
    changed = [date.fromisoformat(row[0]) for rows in (copy.quantities, copy.balances) for row in rows]
    return min(changed, default=None)


def rate_table(assets: Collection[Asset], prices: Mapping[int, tuple[datetime, Decimal, str]]) -> RateTable:
    """Return the exchange rates that these prices give."""
    pairs = []
    for asset in assets:
        if asset.pk in prices:
            at, price, provider = prices[asset.pk]
            pairs.append(Pair(asset.symbol, asset.base_currency, asset.currency, price, at, provider))
    return RateTable(pairs)


class _Steps(NamedTuple):
    """The quantities held at the end of each day on which they changed."""

    days: list[date]
    held: list[Fraction]

    def on(self, day: date) -> Fraction:
        index = bisect_right(self.days, day) - 1
        return self.held[index] if index >= 0 else ZERO


def steps_of(rows: Collection[tuple[str, Any, str]]) -> dict[Any, _Steps]:
    """Return asset or currency -> what was held of it."""
    found: dict[Any, _Steps] = {}
    for day, key, held in rows:
        steps = found.setdefault(key, _Steps([], []))
        steps.days.append(date.fromisoformat(day))
        steps.held.append(Exact.of(Decimal(held)))
    return found


def _flows(copy: LedgerCopy) -> dict[date, tuple[Fraction | None, Fraction | None]]:
    """Return day -> (inflow, outflow), each None where one of its flows is not known."""
    found: dict[date, tuple[Fraction | None, Fraction | None]] = {}
    for text, amount in copy.flows:
        day = date.fromisoformat(text)
        inflow, outflow = found.get(day, (ZERO, ZERO))
        if amount is None or inflow is None or outflow is None:
            found[day] = (None, None)
        else:
            flow = Exact.of(Decimal(amount))
            found[day] = (inflow + flow, outflow) if flow > ZERO else (inflow, outflow - flow)
    return found


def midnight(day: date) -> datetime:
    """Return 0:00 UTC of a day."""
    return datetime.combine(day, time(), UTC)
