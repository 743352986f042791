"""The values of portfolios, now and by day, and their performance. Reads the stored copy and the market's prices."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import fields
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from apps.market import queries as market
from apps.portfolios.copying import stored_holding
from apps.portfolios.domain.rates import FoundRate, RateTable
from apps.portfolios.domain.records import Ledger
from apps.portfolios.domain.returns import (
    Day,
    DayReturn,
    Fall,
    ReturnUnknown,
    Volatility,
    daily_returns,
    index_of,
    linked,
    max_drawdown,
    volatility_of,
    with_flows,
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
from apps.portfolios.domain.xirr import DAYS_PER_YEAR, Answer, NotUnique, Rate, over_days, xirr
from apps.portfolios.history import ONE_DAY, History, first_day, rate_table
from apps.portfolios.models import LedgerCopy, Portfolio, Position


class View(NamedTuple):
    """A portfolio as it is now. positions: asset id -> its row, closed ones too; find_rate: into its base currency."""

    copy: LedgerCopy
    positions: Mapping[int, Position]
    valuation: Valuation
    result: Result
    find_rate: FindRate


def view_now(portfolio: Portfolio, positions: Collection[Position]) -> View:
    """Return a portfolio at the newest prices. Four statements."""
    return views_now([portfolio.pk], positions)[portfolio.pk]


def views_now(portfolio_ids: Collection[int], positions: Collection[Position]) -> dict[int, View]:
    """Return portfolio id -> it at the newest prices. positions: of all of them. Four statements."""
    # Only the history by day needs these columns.
    copies = LedgerCopy.objects.defer("flows", "quantities", "balances").select_related("portfolio")
    rate_assets = market.rate_assets()
    held = {one.asset_id for one in positions if one.quantity}
    prices = market.held_prices({*held, *(asset.pk for asset in rate_assets)})
    table = rate_table(rate_assets, {key: (one.at, one.price, one.provider) for key, one in prices.items()})
    of_portfolio: dict[int, list[Position]] = defaultdict(list)
    for one in positions:
        of_portfolio[one.portfolio_id].append(one)
    return {
        copy.pk: _view(copy.portfolio, copy, of_portfolio[copy.pk], prices=prices, table=table)
        for copy in copies.filter(pk__in=portfolio_ids)
    }


def _view(
    portfolio: Portfolio,
    copy: LedgerCopy,
    positions: Collection[Position],
    *,
    prices: Mapping[int, market.HeldPrice],
    table: RateTable,
) -> View:
    held = {one.asset_id: one for one in positions if one.quantity}
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


class Performance(NamedTuple):
    """How a portfolio, or what it holds of one asset, did from the first day to the last one, after fees and taxes and
    with income.

    begins: the first day that counts, since its value and that of the day before are known; start: the value of the day
    before it; unknown: why there is no time-weighted return, or ""; returns, index: of each of the days, empty where
    one is unknown; flows: those of which `xirr` is the answer, by day.
    """

    days: list[Day]
    begins: date | None
    start: Fraction
    twr: Decimal | None
    unknown: str
    unknown_day: date | None
    returns: list[DayReturn]
    index: list[Decimal]
    xirr: Answer | None
    flows: list[tuple[date, Fraction]]
    volatility: Volatility | None
    fall: Fall | None

    @property
    def is_year(self) -> bool:
        """Whether the period is a year or longer: nothing shorter is annualised."""
        return len(self.days) >= DAYS_PER_YEAR

    @property
    def last_day(self) -> date | None:
        """The last day that counts."""
        return self.days[-1].day if self.days else None

    @property
    def rates(self) -> list[Decimal]:
        """The annual rates that fit the flows: none, one or several."""
        if isinstance(self.xirr, NotUnique):
            return list(self.xirr.roots)
        return [self.xirr.rate] if isinstance(self.xirr, Rate) else []

    @property
    def drawdown(self) -> Decimal | None:
        """The largest fall from a peak as a part of it; None where no return is known."""
        return None if self.fall is None else self.fall.part

    def of_period(self, rate: Decimal) -> Decimal:
        """Return an annual rate as people see it: over the days of a period that is shorter than a year."""
        return rate if self.is_year else over_days(rate, len(self.days))

    def day_of(self, position: int) -> date | None:
        """Return the day at whose end the index that begins with 1 has this position."""
        return None if self.begins is None else self.begins + timedelta(days=position - 1)

    def index_at(self, position: int) -> Decimal:
        """Return the index that begins with 1 at a position, such as one of `fall`."""
        return self.index[position - 1] if position else Decimal(1)


_NO_DAYS = Performance([], None, Fraction(0), None, "no_days", None, [], [], None, [], None, None)


def performance_of(
    portfolio: Portfolio, *, since: date | None, until: date, now: datetime, copy: LedgerCopy | None = None
) -> Performance:
    """Return how a portfolio did on the days from `since`, or from its first flow, to `until`. copy: the portfolio's,
    where it is read already."""
    copy = copy or LedgerCopy.objects.get(portfolio=portfolio)
    first = first_day(copy)
    if first is None:
        return _NO_DAYS
    begin = first if since is None else max(since, first)
    # With the day before, whose value is the start.
    known = {"since": begin - ONE_DAY, "until": until}
    return performance_on(History(portfolio, copy, **known, now=now).days(**known))


def performance_of_asset(
    portfolio: Portfolio,
    ledger: Ledger,
    asset_id: int,
    *,
    since: date | None,
    until: date,
    now: datetime,
    copy: LedgerCopy | None = None,
) -> Performance:
    """Return the performance of what a portfolio holds of one asset, by its own trades and income: the money of
    purchases is an inflow; proceeds of sales, and income, are outflows. ledger: of the portfolio; copy: as for
    `performance_of`."""
    copy = copy or LedgerCopy.objects.get(portfolio=portfolio)
    own = LedgerCopy(portfolio=portfolio, quantities=[row for row in copy.quantities if row[1] == asset_id])
    first = first_day(own)
    if first is None:
        return _NO_DAYS
    begin = first if since is None else max(since, first)
    flows = [one for one in ledger.asset_flows if one.asset == asset_id]
    known = {"since": begin - ONE_DAY, "until": until}
    also = {one.priced for one in flows if one.priced is not None}
    history = History(portfolio, own, **known, now=now, also=also)
    return performance_on(with_flows(history.days(**known), flows, worth_on=history.worth_on))


def performance_on(days: list[Day]) -> Performance:
    """Return the performance on these days, of which the first only has the value before the others."""
    start: Fraction | None = days[0].value if days else None
    days = days[1:]
    while days and (start is None or days[0].value is None):
        # Before the first price of something that is held, a day is unknown: returns begin after it.
        start, days = days[0].value, days[1:]
    if not days or start is None:
        return _NO_DAYS
    returns: list[DayReturn] = []
    index: list[Decimal] = []
    twr, unknown, unknown_day, volatility, fall = None, "", None, None, None
    try:
        returns = daily_returns(days, start=start)
        index = index_of(one.rate for one in returns)
        twr = linked(one.rate for one in returns)
        volatility, fall = volatility_of(returns), max_drawdown([Decimal(1), *index])
    except ReturnUnknown as error:
        unknown, unknown_day = error.reason, error.day
    flows: list[tuple[date, Fraction]] = []
    answer = None
    if all(None not in (one.inflow, one.outflow) for one in days) and days[-1].value is not None:
        flows = _flows(days, start)
        answer = xirr(flows)
    return Performance(
        *(days, days[0].day, start, twr, unknown, unknown_day, returns, index, answer, flows, volatility, fall)
    )


def _flows(days: list[Day], start: Fraction) -> list[tuple[date, Fraction]]:
    """Return the flows of a period as an investor sees them, by day: what is paid in is below 0."""
    by_day: dict[date, Fraction] = defaultdict(Fraction)
    by_day[days[0].day - ONE_DAY] -= start
    for one in days:
        by_day[one.day] += (one.outflow or Fraction(0)) - (one.inflow or Fraction(0))
    by_day[days[-1].day] += days[-1].value or Fraction(0)
    last = days[-1].day
    # The last day counts where everything is lost too.
    return [(day, amount) for day, amount in sorted(by_day.items()) if amount or day == last]


def return_until(found: Performance, last: date) -> Decimal | None:
    """Return the time-weighted return of the days up to the last one; None where there are none, or one is unknown."""
    days = [one for one in found.days if one.day <= last]
    try:
        return linked(one.rate for one in daily_returns(days, start=found.start))
    except ReturnUnknown:
        return None
