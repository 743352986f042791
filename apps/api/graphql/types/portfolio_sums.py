"""The transactions of which the sums of a portfolio are made. The pages use the same functions."""

from decimal import Decimal as PythonDecimal
from typing import Any

import graphene

from apps.api.graphql.scalars import DateTime, Decimal, enum
from apps.api.graphql.types.portfolio_figures import ExchangeRate, exact, shown_used_rate
from apps.market.queries import assets_named
from apps.portfolios.domain.records import Flow, Item
from apps.portfolios.models import Portfolio, Transaction, UsedPrice
from apps.portfolios.sums import SUMS, Part, base_of, sum_of
from apps.portfolios.used import Used, used_in

# Each computes all transactions of a portfolio.
SUMS_MOST = 5

PortfolioSum = enum("PortfolioSum", list(SUMS), description="A sum of a portfolio that is made of transactions.")


class SumPart(graphene.ObjectType):
    """What one transaction adds to a sum, or one lot of a sale. Null: not known, or nothing of this sum."""

    at = graphene.Field(DateTime, required=True, description="When it happened.")
    transaction = graphene.Field(
        "apps.api.graphql.types.portfolios.Transaction", description="The transaction. Null: a split of the market."
    )
    base = graphene.Field(Decimal, description="In the base currency: of a sale, its gain before fees and taxes.")
    amount = graphene.Field(Decimal, description="Of income, fees and taxes the amount, of a sale the proceeds.")
    currency = graphene.String(required=True, description="The currency of that; empty for a flow.")
    rate = graphene.Field(
        ExchangeRate,
        description="The exchange rate of that currency at its time; without prices if the transaction states it.",
    )
    fees = graphene.Field(Decimal, description="Of a sale: fees and taxes of the purchase and of the sale.")
    gain_after_costs = graphene.Field(Decimal, description="Of a sale: its gain less these.")
    quantity = graphene.Field(Decimal, description="Of a sale: the quantity of this lot; 0: capital was returned.")
    bought_at = graphene.Field(DateTime, description="Of a sale: when the lot was bought.")
    cost = graphene.Field(Decimal, description="Of a sale: the cost of the lot.")
    cost_currency = graphene.String(description="Of a sale: the currency of that.")
    base_cost = graphene.Field(Decimal, description="Of a sale: the cost at the rate of the purchase.")
    price_part = graphene.Field(Decimal, description="Of a sale: the part of the gain by prices.")
    currency_part = graphene.Field(Decimal, description="Of a sale: the part of the gain by exchange rates.")


class SumParts(graphene.ObjectType):
    """A page of the parts of a sum, newest first."""

    total = graphene.Field(Decimal, description="The sum, in the base currency. Null: a part of it is not known.")
    total_after_costs = graphene.Field(Decimal, description="Of sales: the sum less their fees and taxes.")
    parts = graphene.List(graphene.NonNull(SumPart), required=True, description="The parts.")
    older = graphene.Int(required=True, description="How many older parts there are.")


class PriceUsed(graphene.ObjectType):
    """The price by which a delivery or a transfer was valued."""

    price = graphene.Field(Decimal, required=True, description="The price of one.")
    currency = graphene.String(required=True, description="Its currency.")
    at = graphene.Field(DateTime, required=True, description="Since when it was valid.")

    def resolve_at(row: UsedPrice, info: Any) -> Any:
        return row.priced_at


def sum_parts(portfolio: Portfolio, name: str, *, asset: str | None, newer: int) -> SumParts | None:
    """Return a sum of a portfolio and a page of its parts; None where there is no such asset. asset: a name; newer: how
    many of the newest parts to leave out."""
    asset_id = None
    if asset is not None:
        row = assets_named([asset], owner_id=portfolio.owner_id).get(asset)
        if row is None:
            return None
        asset_id = row.pk
    found, used = sum_of(portfolio, name, asset_id=asset_id, newer=newer), used_in(portfolio)
    return SumParts(
        total=exact(found.total),
        total_after_costs=exact(found.after_costs),
        parts=[_part(*one, used) for one in found.parts],
        older=found.older,
    )


def _part(one: Part, row: Transaction | None, used: Used) -> SumPart:
    base = exact(base_of(one))
    if isinstance(one, Flow):
        return SumPart(at=one.at, transaction=row, base=base, currency="")
    if isinstance(one, Item):
        amount, sale = one.amount, {}
    else:
        amount = one.proceeds
        names = ("fees", "gain_after_costs", "quantity", "cost", "base_cost", "price_part", "currency_part")
        sale = {name: exact(getattr(one, name)) for name in names}
        sale |= {"bought_at": one.bought_at, "cost_currency": one.cost_currency}
    return SumPart(
        at=one.at,
        transaction=row,
        base=base,
        amount=exact(amount),
        currency=one.currency,
        rate=_rate(row, one.currency, used),
        **sale,
    )


def _rate(row: Transaction | None, currency: str, used: Used) -> ExchangeRate | None:
    if currency == used.base:
        return ExchangeRate(rate=PythonDecimal(1), legs=[])
    if row is None:
        return None
    if row.rate is not None and currency == row.currency:
        return ExchangeRate(rate=row.rate, legs=[])
    found = used.rates.get((currency, row.at))
    return None if found is None else shown_used_rate(found)
