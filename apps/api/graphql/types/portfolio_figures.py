"""The value of portfolios, with the parts of each figure. The pages use the same functions."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from decimal import Decimal as PythonDecimal
from fractions import Fraction
from typing import Any

import graphene
from django.utils import timezone

from apps.api.graphql.connections import Page, Paging, TimeOrder, connection, pages_by
from apps.api.graphql.context import Context
from apps.api.graphql.scalars import DateTime, Decimal, enum
from apps.portfolios.domain.numbers import to_decimal
from apps.portfolios.domain.rates import FoundRate
from apps.portfolios.domain.valuation import CashValue, Holding, Result, Valued, value_holding
from apps.portfolios.models import LotCopy, Position, UsedPrice, UsedRate
from apps.portfolios.queries import behind_splits, lots_in, positions_in, prices_used_in, rates_used_in
from apps.portfolios.valuing import View, views_now

MissingKind = enum(
    "MissingKind",
    ["price", "currency", "rate", "cash", "split"],
    description="What a figure lacks: an asset's price, its price's currency, an exchange rate of an asset or of cash, "
    "or the reckoning of a split.",
)


def exact(number: Fraction | PythonDecimal | None) -> PythonDecimal | None:
    """Return a number with twelve decimals, as it is stored and shown."""
    return None if number is None else to_decimal(number)


class RateLeg(graphene.ObjectType):
    """A price by which an exchange rate was found."""

    symbol = graphene.String(required=True, description="Symbol of the asset that has this price.")
    price = graphene.Field(Decimal, required=True, description="The price.")
    is_inverse = graphene.Boolean(required=True, description="Whether 1 / price was taken.")
    at = graphene.Field(DateTime, required=True, description="Since when the price is valid.")
    provider = graphene.String(required=True, description="Its provider; empty if it is not stored.")


class ExchangeRate(graphene.ObjectType):
    """The price of one unit of a currency in the base currency."""

    rate = graphene.Field(Decimal, required=True, description="The rate.")
    legs = graphene.List(
        graphene.NonNull(RateLeg), required=True, description="By which prices it was found; none between equal ones."
    )


class CashBalance(graphene.ObjectType):
    """A balance of one currency."""

    currency = graphene.String(required=True, description="The currency.")
    balance = graphene.Field(Decimal, required=True, description="The balance in that currency; may be below 0.")
    rate = graphene.Field(ExchangeRate, description="The exchange rate into the base currency. Null: not known.")
    value = graphene.Field(Decimal, description="The balance in the base currency. Null: no rate is known.")

    def resolve_balance(cash: CashValue, info: Any) -> PythonDecimal | None:
        return exact(cash.balance)

    def resolve_rate(cash: CashValue, info: Any) -> ExchangeRate | None:
        return shown_rate(cash.rate)

    def resolve_value(cash: CashValue, info: Any) -> PythonDecimal | None:
        return exact(cash.value)


class WorthParts(graphene.ObjectType):
    """The sums that add up to the value, in the base currency: value = flows + realised + unrealised + income − fees −
    taxes + currencyOnCash. Null: not known."""

    flows = graphene.Field(Decimal, description="Money and assets that came in from outside, less those that went out.")
    realised = graphene.Field(Decimal, description="Gain of what was sold, before fees and taxes.")
    unrealised = graphene.Field(Decimal, description="Gain of what is held, before fees and taxes.")
    income = graphene.Field(Decimal, description="Dividends and interest.")
    fees = graphene.Field(Decimal, description="Fees of all transactions.")
    taxes = graphene.Field(Decimal, description="Taxes of all transactions.")
    currency_on_cash = graphene.Field(Decimal, description="Gain on cash by exchange rates.")


class Missing(graphene.ObjectType):
    """A missing price or rate: figures that need it are null."""

    what = graphene.Field(MissingKind, required=True, description="Kind of the missing figure.")
    of = graphene.String(required=True, description="The symbol or the currency; empty for a split.")
    day = graphene.String(description="The day, like 2026-03-02, of which it is missing; null: now.")


class Worth(graphene.ObjectType):
    """The value of a portfolio at the newest prices, in its base currency."""

    value = graphene.Field(Decimal, description="The value of the whole portfolio. Null: something is missing.")
    known_value = graphene.Field(Decimal, description="The value of all parts whose value is known.")
    oldest_at = graphene.Field(DateTime, description="The time of the oldest price used, those of rates too.")
    cash = graphene.List(graphene.NonNull(CashBalance), required=True, description="Its balances, by currency.")
    parts = graphene.Field(WorthParts, description="The sums that add up to the value.")
    missing = graphene.List(graphene.NonNull(Missing), required=True, description="Why figures are null.")


class PositionWorth(graphene.ObjectType):
    """The value of a position or a lot at the newest price, in the base currency. Null: not known."""

    price = graphene.Field(Decimal, description="The newest price, in the asset's currency.")
    price_at = graphene.Field(DateTime, description="Since when the price is valid.")
    price_age_seconds = graphene.Int(description="The age of the price.")
    provider = graphene.String(description="Its provider.")
    rate = graphene.Field(ExchangeRate, description="From the currency of the price into the base currency.")
    value = graphene.Field(Decimal, description="Quantity × price × rate.")
    gain = graphene.Field(Decimal, description="Value less cost, before fees and taxes.")
    price_part = graphene.Field(Decimal, description="The part of the gain by prices.")
    currency_part = graphene.Field(Decimal, description="The part of the gain by exchange rates.")
    gain_after_costs = graphene.Field(Decimal, description="The gain less fees and taxes of the purchases.")


class Lot(graphene.ObjectType):
    """The unsold remainder of one purchase."""

    at = graphene.Field(DateTime, required=True, description="When it was bought.")
    bought = graphene.Field(Decimal, required=True, description="The quantity that was bought.")
    quantity = graphene.Field(Decimal, required=True, description="The remaining quantity, after splits.")
    currency = graphene.String(required=True, description="The currency of the cost.")
    cost = graphene.Field(
        Decimal, required=True, description="Cost of the remaining quantity, in that currency, without fees."
    )
    base_cost = graphene.Field(Decimal, description="The same in the base currency. Null: the rate is not known.")
    base_fees = graphene.Field(Decimal, description="Fees and taxes of the purchase of the remaining quantity.")
    worth = graphene.Field(PositionWorth, description="Its value now.")

    def resolve_worth(lot: LotCopy, info: Any) -> Any:
        return info.context.load(_lot_worths, lot)


LotConnection = connection(Lot, fields=["number"], by=TimeOrder)


class ShownWorth:
    """What a position or a lot is worth, for PositionWorth: each figure is rounded where it is asked for."""

    __slots__ = ("_now", "_valued")
    FIGURES = frozenset(("value", "gain", "price_part", "currency_part", "gain_after_costs"))

    def __init__(self, valued: Valued, *, now: datetime) -> None:
        self._valued, self._now = valued, now

    def __getattr__(self, name: str) -> PythonDecimal | None:
        if name not in self.FIGURES:
            raise AttributeError(name)
        return exact(getattr(self._valued, name))

    @property
    def price(self) -> PythonDecimal | None:
        return self._valued.price and self._valued.price.price

    @property
    def price_at(self) -> datetime | None:
        return self._valued.price and self._valued.price.at

    @property
    def price_age_seconds(self) -> int | None:
        at = self.price_at
        return None if at is None else max(int((self._now - at).total_seconds()), 0)

    @property
    def provider(self) -> str | None:
        return self._valued.price and self._valued.price.provider

    @property
    def rate(self) -> ExchangeRate | None:
        return shown_rate(self._valued.rate)


def worth_of(context: Context, portfolio_ids: list[int]) -> Mapping[int, Worth]:
    """Return portfolio id -> what it is worth."""
    behind = context.once(_behind, portfolio_ids)
    found = {pk: _worth(view) for pk, view in _views_of(context, portfolio_ids).items()}
    # Until the split is reckoned with, quantities and prices do not fit each other.
    split = Missing(what="split", of="")
    return found | {pk: Worth(cash=[], missing=[split]) for pk in behind}


def position_worths(context: Context, positions: list[Position]) -> Mapping[Position, ShownWorth]:
    """Return position -> what it is worth; none where nothing is held."""
    held = _held_in(_views_of(context, {one.portfolio_id for one in positions}))
    now = timezone.now()
    found = {}
    for one in positions:
        valued = held.get((one.portfolio_id, one.asset_id))
        if valued is not None:
            found[one] = ShownWorth(valued, now=now)
    return found


def lots_by_position(context: Context, position_ids: list[int], paging: Paging) -> Mapping[int, Page]:
    """Return position id -> a page of its lots."""
    rows = lots_in(position_ids).select_related("position")
    return pages_by("position_id", LotConnection, rows, context, keys=position_ids, paging=paging)


def used_rates(
    context: Context, keys: list[tuple[int, str, datetime]]
) -> Mapping[tuple[int, str, datetime], ExchangeRate]:
    """Return (portfolio id, currency, at) -> the rate that was found for a transaction."""
    rows = rates_used_in({portfolio_id for portfolio_id, _, _ in keys})
    return {(one.portfolio_id, one.currency, one.at): shown_used_rate(one) for one in rows}


def used_prices(
    context: Context, keys: list[tuple[int, int, datetime]]
) -> Mapping[tuple[int, int, datetime], UsedPrice]:
    """Return (portfolio id, asset id, at) -> the price by which a delivery or a transfer was valued."""
    rows = prices_used_in({portfolio_id for portfolio_id, _, _ in keys})
    return {(one.portfolio_id, one.asset_id, one.at): one for one in rows}


def _lot_worths(context: Context, lots: list[LotCopy]) -> Mapping[LotCopy, ShownWorth]:
    views = _views_of(context, {one.position.portfolio_id for one in lots})
    held = _held_in(views)
    now = timezone.now()
    found = {}
    for one in lots:
        key = one.position.portfolio_id, one.position.asset_id
        if key in held:
            find_rate = views[key[0]].find_rate
            own = value_holding(key[1], _holding(one), price=held[key].price, find_rate=find_rate)
            found[one] = ShownWorth(own, now=now)
    return found


def _holding(lot: LotCopy) -> Holding:
    cost, fees = (None if number is None else Fraction(number) for number in (lot.base_cost, lot.base_fees))
    return Holding(Fraction(lot.quantity), {lot.currency: Fraction(lot.cost)}, cost, fees)


def _behind(portfolio_ids: list[int]) -> Mapping[int, bool]:
    return dict.fromkeys(behind_splits(portfolio_ids), True)


def _views_of(context: Context, portfolio_ids: Collection[int]) -> Mapping[int, View]:
    """Return portfolio id -> it as it is now, without those whose copy does not know every split."""
    behind = context.once(_behind, portfolio_ids)
    return context.once(_views, [pk for pk in portfolio_ids if pk not in behind], context)


def _views(portfolio_ids: list[int], context: Context) -> Mapping[int, View]:
    return views_now(portfolio_ids, [one for rows in all_positions(context, portfolio_ids).values() for one in rows])


def all_positions(context: Context, portfolio_ids: list[int]) -> Mapping[int, Sequence[Position]]:
    """Return portfolio id -> its positions, by asset: the whole, since a portfolio's value needs it too."""
    return context.once(_all_positions, portfolio_ids)


def _all_positions(portfolio_ids: list[int]) -> Mapping[int, Sequence[Position]]:
    found: dict[int, list[Position]] = {pk: [] for pk in portfolio_ids}
    for one in positions_in(portfolio_ids).order_by("asset_id"):
        found[one.portfolio_id].append(one)
    return found


def _held_in(views: Mapping[int, View]) -> Mapping[tuple[int, int], Valued]:
    """Return (portfolio id, asset id) -> what is held there."""
    return {(pk, one.asset): one for pk, view in views.items() for one in view.valuation.positions}


def _worth(view: View) -> Worth:
    valuation = view.valuation
    symbols = {str(one.asset_id): one.asset.symbol for one in view.positions.values()}
    missing = [Missing(what=what, of=symbols.get(str(key), str(key))) for what, key in valuation.missing]
    missing += [Missing(what=what, of=symbols.get(str(key), str(key)), day=day) for what, key, day in view.copy.missing]
    return Worth(
        value=exact(valuation.value),
        known_value=exact(valuation.known_value),
        oldest_at=valuation.oldest_at,
        cash=valuation.cash,
        parts=_parts(view.result),
        missing=missing,
    )


def _parts(result: Result) -> WorthParts:
    return WorthParts(**{name: exact(getattr(result, name)) for name in WorthParts._meta.fields})


def shown_rate(found: FoundRate | None) -> ExchangeRate | None:
    if found is None:
        return None
    legs = [
        RateLeg(
            symbol=one.pair.symbol,
            price=one.pair.price,
            is_inverse=one.inverse,
            at=one.pair.at,
            provider=one.pair.provider,
        )
        for one in found.legs
    ]
    return ExchangeRate(rate=exact(found.rate), legs=legs)


def shown_used_rate(row: UsedRate) -> ExchangeRate:
    legs = [
        RateLeg(
            symbol=symbol,
            price=PythonDecimal(price),
            is_inverse=inverse,
            at=datetime.fromisoformat(at),
            provider="",
        )
        for symbol, price, at, inverse in row.path
    ]
    return ExchangeRate(rate=PythonDecimal(row.rate), legs=legs)
