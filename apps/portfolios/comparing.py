"""What a portfolio gave beside other series on the same days: any asset, the CDI, and the IPCA."""

from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from apps.market import queries as market
from apps.market.models import Asset
from apps.portfolios.domain.inflation import IndexOn, end_before, end_of_month, index_on
from apps.portfolios.domain.numbers import to_decimal
from apps.portfolios.domain.rates import FoundRate
from apps.portfolios.domain.returns import percent_of, real_return
from apps.portfolios.history import ONE_DAY, midnight, rate_table
from apps.portfolios.valuing import Performance, return_until

# The series of the Banco Central by which a portfolio in reais is compared, as the provider bcb_sgs calls them.
CDI, IPCA = "12", "433"


class Worth(NamedTuple):
    """One unit of an asset at a time. price: in the asset's currency, in force since priced_at; rate: from there into
    the other currency. None: not known."""

    at: datetime
    price: Decimal | None
    priced_at: datetime | None
    rate: FoundRate | None

    @property
    def value(self) -> Fraction | None:
        """The price in the other currency."""
        return None if self.price is None or self.rate is None else Fraction(self.price) * self.rate.rate


class Comparison(NamedTuple):
    """An asset from the start of one day to the end of another, in a currency, without income."""

    asset: Asset
    first: Worth
    last: Worth

    @property
    def returned(self) -> Decimal | None:
        """What it gave; None where a price or a rate is not known."""
        first, last = self.first.value, self.last.value
        return to_decimal(last / first - 1) if first and last is not None and first > 0 else None


class PercentOfCdi(NamedTuple):
    """The time-weighted return by what the CDI gave on the same days. part: 1 is 100 %; None: not known, or the CDI
    gave nothing."""

    part: Decimal | None
    cdi: Comparison


class Inflation(NamedTuple):
    """An index of months from the end of one day to the end of another one."""

    asset: Asset
    first: IndexOn
    last: IndexOn

    @property
    def returned(self) -> Decimal | None:
        """By what part it rose; None where it is not known at one of the ends."""
        first, last = self.first.value, self.last.value
        return to_decimal(Fraction(last) / Fraction(first) - 1) if first is not None and last is not None else None


class RealReturn(NamedTuple):
    """The time-weighted return after inflation up to the last published month. returned: up to `last`; published: up to
    where the IPCA is known."""

    real: Decimal | None
    returned: Decimal | None
    ipca: Inflation
    last: date
    published: date


def compare(asset: Asset, *, base: str, since: date, until: date, now: datetime) -> Comparison:
    """Return an asset on these days in a currency. A few statements."""
    rate_assets = market.rate_assets()
    wanted = {asset.pk, *(one.pk for one in rate_assets)}
    found = []
    for moment in (midnight(since), min(midnight(until + ONE_DAY), now)):
        prices = market.in_force_at(dict.fromkeys(wanted, moment))
        table = rate_table(rate_assets, {key: (*one, "") for key, one in prices.items()})
        rate = table.find(asset.currency, base) if asset.currency else None
        priced_at, price = prices.get(asset.pk, (None, None))
        found.append(Worth(moment, price, priced_at, rate))
    return Comparison(asset, *found)


def compare_with(asset: Asset, found: Performance, *, base: str, now: datetime) -> Comparison | None:
    """Return an asset on the days of a performance; None where there are none."""
    if found.begins is None:
        return None
    return compare(asset, base=base, since=found.begins, until=found.days[-1].day, now=now)


def percent_of_cdi(asset: Asset, found: Performance, *, now: datetime) -> PercentOfCdi | None:
    """Return the performance of a portfolio in reais beside the CDI, which is this asset; None where there are no
    days."""
    cdi = compare_with(asset, found, base="BRL", now=now)
    if cdi is None:
        return None
    gave = cdi.returned
    return PercentOfCdi(percent_of(found.twr, gave) if found.twr is not None and gave is not None else None, cdi)


def real_return_of(asset: Asset, found: Performance) -> RealReturn | None:
    """Return the performance of a portfolio in reais after inflation by the IPCA, which is this asset; None where there
    are no days, or the IPCA has no price."""
    newest = market.held_prices([asset.pk]).get(asset.pk)
    if newest is None or found.begins is None:
        return None
    published = _month_of(newest.at)
    last = min(published, found.days[-1].day)
    ipca = _inflation(asset, after=found.begins - ONE_DAY, until=last)
    returned, gave = return_until(found, last), ipca.returned
    real = real_return(returned, gave) if returned is not None and gave is not None else None
    return RealReturn(real, returned, ipca, last, published)


def _inflation(asset: Asset, *, after: date, until: date) -> Inflation:
    """Return an index of months from the end of one day to the end of another one."""
    wanted = {end: midnight(end + ONE_DAY) for day in (after, until) for end in (end_before(day), end_of_month(day))}
    prices = market.prices_then((asset.pk, at) for at in wanted.values())
    ends = {}
    for end, at in wanted.items():
        price = prices.get((asset.pk, at))
        # A month that is missing is not known, and not as the one before it.
        if price is not None and _month_of(price.at) == end:
            ends[end] = price.price
    return Inflation(asset, index_on(after, ends), index_on(until, ends))


def _month_of(at: datetime) -> date:
    """Return the day at whose end an index of months was quoted: the last one of its month."""
    return (at - timedelta(hours=1)).date()
