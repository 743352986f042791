"""The values of portfolios, now and by day, and their performance. Reads the stored copy and the market's prices."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import fields
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

from apps.market import queries as market
from apps.market.domain import epoch_microseconds
from apps.market.models import Asset
from apps.portfolios.copying import stored_holding
from apps.portfolios.domain.numbers import ONE, ZERO, Exact, to_decimal, total
from apps.portfolios.domain.rates import FoundRate, Pair, RateTable
from apps.portfolios.domain.returns import (
    Day,
    ReturnUnknown,
    Volatility,
    daily_returns,
    index_of,
    linked,
    max_drawdown,
    volatility_of,
)
from apps.portfolios.domain.valuation import (
    FindRate,
    Priced,
    Result,
    Snapshot,
    Valuation,
    result_between,
    snapshot_of_sums,
    value_holdings,
)
from apps.portfolios.domain.xirr import Answer, xirr
from apps.portfolios.models import LedgerCopy, Portfolio, Position

_ONE_DAY = timedelta(days=1)


class View(NamedTuple):
    """A portfolio as it is now. positions: asset id -> its row, closed ones too; find_rate: into its base currency."""

    copy: LedgerCopy
    positions: Mapping[int, Position]
    valuation: Valuation
    result: Result
    find_rate: FindRate


def view_now(portfolio: Portfolio, positions: Collection[Position]) -> View:
    """Return a portfolio at the newest prices. Four statements."""
    # Only the history by day needs these columns.
    copy = LedgerCopy.objects.defer("flows", "quantities", "balances").get(portfolio=portfolio)
    held = {one.asset_id: one for one in positions if one.quantity}
    rate_assets = market.rate_assets()
    prices = market.held_prices({*held, *(asset.pk for asset in rate_assets)})
    table = _table(rate_assets, {key: (one.at, one.price, one.provider) for key, one in prices.items()})
    priced = {
        key: Priced(prices[key].price, one.asset.currency, prices[key].at, prices[key].provider)
        for key, one in held.items()
        if key in prices
    }

    def find_rate(currency: str) -> FoundRate | None:
        return table.find(currency, portfolio.base_currency)

    valuation = value_holdings(
        {key: stored_holding(one) for key, one in held.items()},
        {currency: Fraction(balance) for currency, balance in copy.cash.items()},
        prices=priced,
        find_rate=find_rate,
    )
    sums = {name: None if text is None else Fraction(text) for name, text in copy.totals.items()}
    nothing = Snapshot(**{one.name: Fraction(0) for one in fields(Snapshot)})
    result = result_between(nothing, snapshot_of_sums(sums, valuation))
    return View(copy, {one.asset_id: one for one in positions}, valuation, result, find_rate)


def _table(assets: Collection[Asset], prices: Mapping[int, tuple[datetime, Decimal, str]]) -> RateTable:
    pairs = []
    for asset in assets:
        if asset.pk in prices:
            at, price, provider = prices[asset.pk]
            pairs.append(Pair(asset.symbol, asset.base_currency, asset.currency, price, at, provider))
    return RateTable(pairs)


class Performance(NamedTuple):
    """How a portfolio did from the first day to the last one, after fees and taxes and with income.

    begins: the first day that counts, since its value and that of the day before are known; unknown: why there is no
    time-weighted return, or ""; drawdown: from 0 to 1.
    """

    days: list[Day]
    begins: date | None
    start: Fraction
    twr: Decimal | None
    unknown: str
    unknown_day: date | None
    xirr: Answer | None
    volatility: Volatility | None
    drawdown: Decimal | None


_NO_DAYS = Performance([], None, Fraction(0), None, "no_days", None, None, None, None)


def performance_of(portfolio: Portfolio, *, since: date | None, until: date, now: datetime) -> Performance:
    """Return how a portfolio did on the days from `since`, or from its first flow, to `until`."""
    copy = LedgerCopy.objects.get(portfolio=portfolio)
    changed = [date.fromisoformat(row[0]) for rows in (copy.quantities, copy.balances) for row in rows]
    if not changed:
        return _NO_DAYS
    first = min(changed)
    begin = first if since is None else max(since, first)
    # With the day before, whose value is the start.
    days = days_of(portfolio, copy, since=begin - _ONE_DAY, until=until, now=now)
    start: Fraction | None = days[0].value if days else None
    days = days[1:]
    while days and (start is None or days[0].value is None):
        # Before the first price of something that is held, a day is unknown: returns begin after it.
        start, days = days[0].value, days[1:]
    if not days or start is None:
        return _NO_DAYS
    return _performance(days, start)


def _performance(days: list[Day], start: Fraction) -> Performance:
    try:
        returns = daily_returns(days, start=start)
        index = index_of(one.rate for one in returns)
        twr, unknown, unknown_day = linked(one.rate for one in returns), "", None
        measures = (volatility_of(returns), max_drawdown([Decimal(1), *index]))
    except ReturnUnknown as error:
        twr, unknown, unknown_day, measures = None, error.reason, error.day, (None, None)
    flows: list[tuple[date, Fraction]] = [(days[0].day - _ONE_DAY, -start)] if start else []
    answer = None
    if all(None not in (one.inflow, one.outflow) for one in days) and days[-1].value is not None:
        flows += [(one.day, (one.outflow or Fraction(0)) - (one.inflow or Fraction(0))) for one in days]
        answer = xirr([*(one for one in flows if one[1]), (days[-1].day, days[-1].value)])
    return Performance(days, days[0].day, start, twr, unknown, unknown_day, answer, *measures)


def asset_return(asset: Asset, *, base: str, since: date, until: date, now: datetime) -> Decimal | None:
    """Return what an asset gave in a currency from the start of one day to the end of another, without income; None
    where a price or a rate is not known. A few statements."""
    rate_assets = market.rate_assets()
    wanted = {asset.pk, *(one.pk for one in rate_assets)}
    values = []
    for moment in (_midnight(since), min(_midnight(until + _ONE_DAY), now)):
        prices = market.in_force_at(dict.fromkeys(wanted, moment))
        table = _table(rate_assets, {key: (*found, "") for key, found in prices.items()})
        rate = table.find(asset.currency, base) if asset.currency else None
        if asset.pk not in prices or rate is None:
            return None
        values.append(Fraction(prices[asset.pk][1]) * rate.rate)
    first, last = values
    return to_decimal(last / first - 1) if first > 0 else None


def days_of(portfolio: Portfolio, copy: LedgerCopy, *, since: date, until: date, now: datetime) -> list[Day]:
    """Return the value of each day and its flows. A few statements, however many days there are.

    A day's value is what was held at its end at the last prices of that day, or before; that of today, at the newest.
    """
    held = _steps(copy.quantities)
    balances = _steps(copy.balances)
    assets = {one.pk: one for one in market.every_asset().filter(pk__in=list(held))}
    rate_assets = market.rate_assets()
    wanted = {*assets, *(one.pk for one in rate_assets)}
    begin, end = _midnight(since), _midnight(until + _ONE_DAY)
    closes = market.day_closes(wanted, since=begin, until=end)
    if until >= now.astimezone(UTC).date():
        for key, newest in market.held_prices(wanted).items():
            closes.setdefault(key, []).append((newest.at, newest.price))
    splits = market.splits_of(list(assets))
    times = {key: [at for at, _ in rows] for key, rows in closes.items()}

    def price_on(key: int, ends: datetime) -> tuple[datetime, Decimal] | None:
        index = bisect_right(times.get(key, []), ends) - 1
        return closes[key][index] if index >= 0 else None

    def rate_on(currency: str, ends: datetime) -> Fraction | None:
        if currency == portfolio.base_currency:
            return ONE
        known = {one.pk: found for one in rate_assets if (found := price_on(one.pk, ends)) is not None}
        rate = _table(rate_assets, {key: (*found, "") for key, found in known.items()}).find(
            currency, portfolio.base_currency
        )
        return None if rate is None else rate.rate

    def value_on(day: date, ends: datetime) -> Fraction | None:
        amounts: dict[str, Fraction] = defaultdict(lambda: ZERO)
        for key, steps in held.items():
            quantity = steps.on(day)
            if not quantity:
                continue
            found, asset = price_on(key, ends), assets.get(key)
            if found is None or asset is None or not asset.currency:
                return None
            # Closes are as they count now; the quantity is that of the day.
            factor = splits.factor(key, epoch_microseconds(ends)) if splits else 1
            amount = quantity * Exact.of(found[1])
            amounts[asset.currency] += amount if factor == 1 else amount / factor
        for currency, steps in balances.items():
            amounts[currency] += steps.on(day)
        rates = {currency: rate_on(currency, ends) for currency, amount in amounts.items() if amount}
        return total(None if rate is None else amounts[currency] * rate for currency, rate in rates.items())

    flows = _flows(copy)
    days = []
    for number in range((until - since).days + 1):
        day = since + timedelta(days=number)
        ends = min(_midnight(day + _ONE_DAY) - timedelta(microseconds=1), now)
        days.append(Day(day, value_on(day, ends), *flows.get(day, (ZERO, ZERO))))
    return days


class _Steps(NamedTuple):
    """The quantities held at the end of each day on which they changed."""

    days: list[date]
    held: list[Fraction]

    def on(self, day: date) -> Fraction:
        index = bisect_right(self.days, day) - 1
        return self.held[index] if index >= 0 else ZERO


def _steps(rows: Collection[tuple[str, Any, str]]) -> dict[Any, _Steps]:
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


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
