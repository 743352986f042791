"""The exchange rates and prices that were found for the transactions of a portfolio."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import NamedTuple

from apps.portfolios.domain.transactions import Kind
from apps.portfolios.models import Portfolio, UsedPrice, UsedRate
from apps.portfolios.queries import prices_used_in, rates_used

# What is valued at a price, since no money says what it is worth.
MOVES = {Kind.DELIVERY_IN.value, Kind.DELIVERY_OUT.value, Kind.TRANSFER.value}


class Used(NamedTuple):
    """What was found. rates: (currency, at) -> into the base currency; prices: (asset id, at) -> of a delivery or a
    transfer."""

    base: str
    rates: Mapping[tuple[str, datetime], UsedRate]
    prices: Mapping[tuple[int, datetime], UsedPrice]


def used_in(portfolio: Portfolio, *, also: Collection[int] = ()) -> Used:
    """Return what was found for a portfolio; also: ids of portfolios that transferred to it, with which the prices of
    transfers are kept. Two statements."""
    rates = {(one.currency, one.at): one for one in rates_used(portfolio)}
    prices = {(one.asset_id, one.at): one for one in prices_used_in({portfolio.pk, *also})}
    return Used(portfolio.base_currency, rates, prices)
