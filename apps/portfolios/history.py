"""What a portfolio held on days of the past, and what that was worth. Reads the stored copy and the market's prices."""

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

from django.db import connection

from apps.market import queries as market
from apps.market.domain import epoch_microseconds
from apps.market.models import Asset
from apps.portfolios.domain.nights import Part
from apps.portfolios.domain.numbers import ONE, ZERO, Exact, times, to_decimal, total
from apps.portfolios.domain.rates import INTERMEDIATE, FoundRate, Pair, RateTable
from apps.portfolios.domain.returns import Day
from apps.portfolios.models import LedgerCopy, Portfolio

ONE_DAY = timedelta(days=1)
_SAME = FoundRate(ONE)


class History:
    """A portfolio from the end of one day to the end of another one. A few statements, however many days and assets
    there are.

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
        self._splits = market.splits_of(wanted)
        self._closes_between = {"since": midnight(since), "until": midnight(until + ONE_DAY)}
        self._newest: dict[int, tuple[datetime, Decimal]] = {}
        if until >= now.astimezone(UTC).date():
            prices = market.held_prices(wanted, splits=self._splits)
            self._newest = {key: (one.at, one.price) for key, one in prices.items()}
        elif is_exact:
            last = midnight(until + ONE_DAY) - timedelta(microseconds=1)
            self._newest = market.in_force_at(dict.fromkeys(wanted, last))
        self._closes: dict[int, list[tuple[datetime, Decimal]]] = {}
        self._times: dict[int, list[datetime]] = {}
        self._read_closes(one.pk for one in self._rate_assets)

    def days(self, *, since: date, until: date) -> list[Day]:
        """Return the value of each day and its flows. On PostgreSQL, what has no split is summed there."""
        days = [since + timedelta(days=number) for number in range((until - since).days + 1)]
        if not days or connection.vendor != "postgresql":
            return [self.day(day) for day in days]
        split = {key for key in self._held if self._splits.edges(key)}
        self._read_closes(split)
        worths = self._worths(self._held.keys() - split, days)
        return [
            self._valued(day, [*(one.value for one in self._parts(day, split)), *worth])
            for day, worth in zip(days, worths, strict=True)
        ]

    def _worths(self, keys: Collection[int], days: Sequence[date]) -> Iterator[list[Fraction | None]]:
        """Give what these assets were worth at the end of each day, by currency, None where that is not known."""
        held = [
            market.Held(self._currency_of(key), key, *stretch)
            for key in keys
            for stretch in self._held[key].between(days[0], days[-1] + ONE_DAY)
        ]
        newest = {key: self._newest[key] for key in keys if key in self._newest}
        rows = iter(market.worth_by_day(held, newest=newest))
        row = next(rows, None)
        # By currency: what is in force from the days before, and of how many assets no price is known.
        before: dict[str, Fraction] = {}
        unknown: dict[str, int] = {}
        for day in days:
            worth = dict.fromkeys(before, ZERO)
            while row is not None and row.day <= day:
                worth[row.group] = worth.get(row.group, ZERO) + Exact.of(row.worth)
                before[row.group] = before.get(row.group, ZERO) + Exact.of(row.change)
                unknown[row.group] = unknown.get(row.group, 0) + row.unknown
                row = next(rows, None)
            ends = self._end_of(day)
            yield [
                None if unknown[currency] else times(known + before[currency], self._rate_to_base(currency, ends))
                for currency, known in worth.items()
            ]

    def _rate_to_base(self, currency: str, ends: datetime) -> Fraction | None:
        rate = self._rate_on(currency, ends) if currency else None
        return rate and rate.rate

    def day(self, day: date) -> Day:
        """Return the value of one day and its flows."""
        return self._valued(day, [one.value for one in self.parts_on(day)])

    def _valued(self, day: date, values: Iterable[Fraction | None]) -> Day:
        return Day(day, total(values), *self._flows.get(day, (ZERO, ZERO)))

    def parts_on(self, day: date) -> list[Part]:
        """Return what was held at the end of a day, and what it was worth then."""
        self._read_closes(self._held)
        return self._parts(day, self._held)

    def _parts(self, day: date, keys: Collection[int]) -> list[Part]:
        """Return what was held of these assets, whose closes have been read, and of all currencies."""
        ends = self._end_of(day)
        rates: dict[str, FoundRate | None] = {}

        def rate_of(currency: str) -> FoundRate | None:
            if currency not in rates:
                rates[currency] = self._rate_on(currency, ends)
            return rates[currency]

        parts = []
        for key in keys:
            if quantity := self._held[key].on(day):
                parts.append(self._part(key, quantity, ends, rate_of))
        for currency, steps in self._balances.items():
            if quantity := steps.on(day):
                rate = rate_of(currency)
                parts.append(Part(None, currency, quantity, ONE, rate and rate.rate, rate and rate.at))
        return parts

    def worth_on(self, day: date, key: int, quantity: Fraction) -> Fraction | None:
        """Return what a quantity of an asset, as of a day, was worth at its end; None where that is not known."""
        self._read_closes([key])
        ends = self._end_of(day)
        return self._part(key, quantity, ends, lambda currency: self._rate_on(currency, ends)).value

    def _end_of(self, day: date) -> datetime:
        return min(midnight(day + ONE_DAY) - timedelta(microseconds=1), self._now)

    def _part(self, key: int, quantity: Fraction, ends: datetime, rate_of: Callable[[str], FoundRate | None]) -> Part:
        found, currency = self._price_on(key, ends), self._currency_of(key)
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

    def _currency_of(self, key: int) -> str:
        asset = self._assets.get(key)
        return asset.currency if asset is not None else ""

    def _read_closes(self, keys: Iterable[int]) -> None:
        """Have the closes of these assets, and the newest prices behind them."""
        missing = {key for key in keys if key not in self._times}
        if not missing:
            return
        closes = market.day_closes(missing, splits=self._splits, **self._closes_between)
        for key in missing:
            newest = [self._newest[key]] if key in self._newest else []
            self._closes[key] = [*closes.get(key, ()), *newest]
            self._times[key] = [at for at, _ in self._closes[key]]

    def _price_on(self, key: int, ends: datetime) -> tuple[datetime, Decimal] | None:
        index = bisect_right(self._times[key], ends) - 1
        return self._closes[key][index] if index >= 0 else None

    def _rate_on(self, currency: str, ends: datetime) -> FoundRate | None:
        if currency == self._base:
            return _SAME
        on_the_way = {currency, self._base, *INTERMEDIATE}
        assets = [one for one in self._rate_assets if {one.base_currency, one.currency} <= on_the_way]
        known = {one.pk: found for one in assets if (found := self._price_on(one.pk, ends)) is not None}
        return rate_table(assets, {key: (*found, "") for key, found in known.items()}).find(currency, self._base)


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

    def between(self, since: date, until: date) -> Iterator[tuple[date, date, Decimal]]:
        """Give (first day, the day after the last one, quantity) of each stretch within [since, until) in which
        something was held."""
        for begin, end, held in zip(self.days, [*self.days[1:], until], self.held, strict=True):
            first, last = max(begin, since), min(end, until)
            if held and first < last:
                yield first, last, to_decimal(held)


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
