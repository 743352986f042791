"""Portfolios: what their owners hold, and the transactions that it comes from."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID as PythonUUID

import graphene
from django.utils import timezone

from apps.api.graphql.connections import NameOrder, Order, Page, Paging, TimeOrder, connection, page, pages_by, pages_of
from apps.api.graphql.context import Context
from apps.api.graphql.nodes import Node, among, is_node, public_id
from apps.api.graphql.scalars import UUID, AssetId, DateTime, Decimal, Skip, enum
from apps.api.graphql.types.market import Asset
from apps.api.graphql.types.performance import Asked, Performance
from apps.api.graphql.types.portfolio_figures import (
    ExchangeRate,
    LotConnection,
    PositionWorth,
    Worth,
    all_positions,
    lots_by_position,
    position_worths,
    used_prices,
    used_rates,
    worth_of,
)
from apps.api.graphql.types.portfolio_sums import (
    SUMS_MOST,
    PortfolioSum,
    PriceUsed,
    SumParts,
    sum_parts,
)
from apps.api.graphql.types.rules import usernames
from apps.market.queries import assets_known_as, assets_named
from apps.portfolios.domain.transactions import Event, Kind, Method
from apps.portfolios.models import Portfolio as PortfolioRow
from apps.portfolios.models import Position as PositionRow
from apps.portfolios.models import Transaction as TransactionRow
from apps.portfolios.queries import concerning, portfolios_seen_by, transactions_in, transactions_seen_by
from apps.portfolios.services import ledger_now
from apps.portfolios.sums import PARTS_MOST
from apps.portfolios.used import MOVES
from apps.portfolios.valuing import performance_of, performance_of_asset
from apps.public_ids import public_id_of, with_public_id

# Each reads prices of many days.
PERFORMANCES_MOST = 5

TransactionKind = enum("TransactionKind", Kind, description="The kinds of transactions; see docs/portfolios.md.")
CorporateEvent = enum("CorporateEvent", Event, description="The kinds of corporate events; see docs/portfolios.md.")
LotMethod = enum("LotMethod", Method, description="Which lots a sale takes.")


class Position(graphene.ObjectType):
    """A portfolio's quantity of one asset, and its gains on it, in the base currency, with 12 decimals. Null:
    an exchange rate is not known."""

    asset = graphene.Field(Asset, required=True, description="The asset that is held.")
    quantity = graphene.Field(Decimal, required=True, description="The quantity held; 0: the position is closed.")
    cost = graphene.Field(Decimal, description="Of what is held, without fees and taxes.")
    fees = graphene.Field(Decimal, description="Fees and taxes of the purchases of what is held.")
    realised = graphene.Field(Decimal, description="Gain of what was sold, before fees and taxes.")
    price_part = graphene.Field(Decimal, description="The part of it by prices.")
    currency_part = graphene.Field(Decimal, description="The part of it by exchange rates.")
    costs = graphene.Field(Decimal, description="Fees and taxes of what was sold.")
    realised_after_costs = graphene.Field(Decimal, description="Gain of what was sold, less these.")
    income = graphene.Field(Decimal, description="Dividends and interest.")
    worth = graphene.Field(PositionWorth, description="Its value now. Null: nothing is held.")
    lots = pages_of(LotConnection, description="The purchases that make up the position, oldest first.")

    def resolve_worth(position: PositionRow, info: Any) -> Any:
        return info.context.load(position_worths, position)

    def resolve_lots(position: PositionRow, info: Any, **paging: Any) -> Any:
        return info.context.load(lots_by_position, position.pk, Paging(**paging))


PositionConnection = connection(Position, fields=["asset_id"])


class Transaction(graphene.ObjectType):
    """One transaction of a portfolio; docs/portfolios.md says what the fields of each kind mean."""

    class Meta:
        interfaces = (Node,)

    id = public_id()
    kind = graphene.Field(TransactionKind, required=True, description="Kind of transaction.")
    event = graphene.Field(CorporateEvent, description="Null for what is no corporate event.")
    at = graphene.Field(DateTime, required=True, description="When it happened.")
    has_time = graphene.Boolean(required=True, description="False: only the date counts.")
    asset = graphene.Field(Asset, description="The asset concerned, if any.")
    to_asset = graphene.Field(Asset, description="The asset that a corporate event leads to.")
    quantity = graphene.Field(Decimal, description="Quantity of the asset.")
    amount = graphene.Field(Decimal, description="Money before fees and taxes.")
    currency = graphene.String(required=True, description="Currency of the amount; may be empty.")
    rate = graphene.Field(Decimal, description="The exchange rate that the transaction states.")
    fee = graphene.Field(Decimal, required=True, description="0: none.")
    fee_currency = graphene.String(required=True, description="Empty: that of the amount.")
    fee_asset = graphene.Field(Asset, description="The coin that the fee was paid in.")
    fee_quantity = graphene.Field(Decimal, description="The quantity of that coin.")
    tax = graphene.Field(Decimal, required=True, description="0: none.")
    tax_currency = graphene.String(required=True, description="Empty: that of the amount.")
    counter_amount = graphene.Field(Decimal, description="The amount received in a conversion.")
    counter_currency = graphene.String(required=True, description="Currency of that; else empty.")
    acquired_at = graphene.Field(DateTime, description="When the delivered assets were first bought.")
    to_portfolio = graphene.Field(UUID, description="Id of the portfolio that a transfer goes to.")
    numerator = graphene.Int(description="Of the ratio of a corporate event.")
    denominator = graphene.Int(description="Of the ratio of a corporate event.")
    cost_share = graphene.Field(Decimal, description="The part of the cost that moves to the other asset.")
    notes = graphene.String(required=True, description="Its owner's notes; may be empty.")
    group_id = graphene.String(
        required=True, description="The same for transactions that belong together; may be empty."
    )
    external_id = graphene.String(required=True, description="Its id in another program; may be empty.")
    recorded_at = graphene.Field(DateTime, required=True, description="When it was recorded.")
    used_rate = graphene.Field(
        ExchangeRate, description="The exchange rate that was found for its time, if it states none."
    )

    used_price = graphene.Field(PriceUsed, description="The price by which a delivery or a transfer was valued.")

    def resolve_used_price(row: TransactionRow, info: Any) -> Any:
        return info.context.load(used_prices, (row.portfolio_id, row.asset_id, row.at)) if row.kind in MOVES else None

    def resolve_used_rate(row: TransactionRow, info: Any) -> Any:
        return info.context.load(used_rates, (row.portfolio_id, row.currency, row.at)) if row.rate is None else None

    def resolve_event(row: TransactionRow, info: Any) -> str | None:
        return row.event or None

    def resolve_to_portfolio(row: TransactionRow, info: Any) -> PythonUUID | None:
        return public_id_of(row.to_portfolio) if row.to_portfolio is not None else None


is_node(Transaction, TransactionRow, among(lambda context: transactions_seen_by(context.owner())))
TransactionConnection = connection(Transaction, fields=["at", "pk"], by=TimeOrder, is_descending=True)


class Chosen(NamedTuple):
    """Which transactions of a portfolio are asked for. None: whatever they have there."""

    asset: str | None
    kind: str | None
    since: datetime | None
    until: datetime | None


class Portfolio(graphene.ObjectType):
    """Transactions of one owner that are valued together."""

    class Meta:
        interfaces = (Node,)

    id = public_id()
    name = graphene.String(required=True, description="Its name, unique for its owner.")
    owner = graphene.String(description="Its owner's user name.")
    base_currency = graphene.String(required=True, description="The currency in which it is valued.")
    method = graphene.Field(LotMethod, required=True, description="Which lots a sale takes.")
    tracks_cash = graphene.Boolean(required=True, description="Whether balances of cash belong to it.")
    created_at = graphene.Field(DateTime, required=True, description="When it was created.")
    worth = graphene.Field(Worth, description="The value of the portfolio now, with its parts.")
    positions = pages_of(PositionConnection, description="Its open and closed positions, one per asset.")
    transactions = pages_of(
        TransactionConnection,
        asset=AssetId(description="Only those that concern this asset."),
        kind=TransactionKind(description="Only those of this kind."),
        since=DateTime(description="Only those from this moment on."),
        until=DateTime(description="Only those before this moment."),
        description="Newest first.",
    )

    def resolve_owner(portfolio: PortfolioRow, info: Any) -> Any:
        return info.context.load(usernames, portfolio.owner_id)

    def resolve_worth(portfolio: PortfolioRow, info: Any) -> Any:
        return info.context.load(worth_of, portfolio.pk)

    def resolve_positions(portfolio: PortfolioRow, info: Any, **paging: Any) -> Any:
        return info.context.load(_positions, portfolio.pk, Paging(**paging))

    def resolve_transactions(
        portfolio: PortfolioRow,
        info: Any,
        asset: str | None = None,
        kind: Any = None,
        since: datetime | None = None,
        until: datetime | None = None,
        **paging: Any,
    ) -> Any:
        chosen = Chosen(asset, kind.value if kind is not None else None, since, until)
        return info.context.load(_transactions, portfolio.pk, chosen, Paging(**paging))


is_node(Portfolio, PortfolioRow, among(lambda context: portfolios_seen_by(context.owner())))
PortfolioConnection = connection(Portfolio, fields=["name", "pk"], by=NameOrder)


class PortfoliosQuery(graphene.ObjectType):
    portfolios = pages_of(PortfolioConnection, description="Your portfolios, by name; a superuser's are everybody's.")
    portfolio = graphene.Field(
        Portfolio,
        id=UUID(required=True, description="Its `id`."),
        description="A portfolio of yours by its id; null where it is none.",
    )
    performance = graphene.Field(
        Performance,
        portfolio=UUID(required=True, description="Id of a portfolio of yours."),
        since=graphene.Date(
            description="The first day; by default 365 days before the last. At the earliest its first."
        ),
        until=graphene.Date(description="The last day; by default today, in UTC, and at the latest."),
        asset=AssetId(description="Only what the portfolio holds of this asset, by its own trades and income."),
        description="How a portfolio did in a period. Null where it is none, is not yours, or never held the asset. "
        f"At most {PERFORMANCES_MOST} are answered in one request.",
    )

    sum_parts = graphene.Field(
        SumParts,
        portfolio=UUID(required=True, description="Id of a portfolio of yours."),
        of=PortfolioSum(required=True, description="Which sum."),
        asset=AssetId(description="Only the parts that are of this asset; a flow is of none."),
        newer=Skip(
            required=True, default_value=0, description="So many of the newest parts are left out: for the next page."
        ),
        description=f"The transactions of which a sum of a portfolio is made, newest first, {PARTS_MOST} at a time. "
        "Null: there is no such portfolio of yours, or no such asset. At most "
        f"{SUMS_MOST} are answered in one request.",
    )

    def resolve_sum_parts(
        root: None, info: Any, portfolio: PythonUUID, of: Any, newer: int, asset: str | None = None
    ) -> SumParts | None:
        context = info.context
        rows = portfolios_seen_by(context.owner())
        context.count_costly("sumParts", most=SUMS_MOST)
        row = with_public_id(rows, portfolio)
        return None if row is None else sum_parts(row, of.value, asset=asset, newer=newer)

    def resolve_portfolios(root: None, info: Any, **paging: Any) -> Page:
        return page(PortfolioConnection, portfolios_seen_by(info.context.owner()), info.context, **paging)

    def resolve_portfolio(root: None, info: Any, id: PythonUUID) -> Any:
        return with_public_id(portfolios_seen_by(info.context.owner()), id)

    def resolve_performance(
        root: None,
        info: Any,
        portfolio: PythonUUID,
        since: date | None = None,
        until: date | None = None,
        asset: str | None = None,
    ) -> Asked | None:
        context = info.context
        rows = portfolios_seen_by(context.owner())
        context.count_costly("performance", most=PERFORMANCES_MOST)
        row = with_public_id(rows, portfolio)
        if row is None:
            return None
        now = timezone.now()
        today = now.astimezone(UTC).date()
        last = today if until is None else min(until, today)
        first = max(last, date(2, 1, 1)) - timedelta(days=365) if since is None else max(since, date(2, 1, 1))
        days = {"since": first, "until": last, "now": now}
        if asset is None:
            return Asked(row, performance_of(row, **days), now)
        held = assets_named([asset], owner_id=row.owner_id).get(asset)
        if held is None or not row.positions.filter(asset=held).exists():
            return None
        return Asked(row, performance_of_asset(row, ledger_now(row), held.pk, **days), now)


def _positions(context: Context, portfolio_ids: list[int], paging: Paging) -> Mapping[int, Page]:
    order: Order = PositionConnection.order
    [behind] = order.place(paging.after, context) or [None]
    return {
        key: Page(
            [one for one in rows if behind is None or one.asset_id > int(behind)],
            order=order, context=context, paging=paging,
        )
        for key, rows in all_positions(context, portfolio_ids).items()
    }  # fmt: skip


def _transactions(context: Context, portfolio_ids: list[int], chosen: Chosen, paging: Paging) -> Mapping[int, Page]:
    rows = transactions_in(portfolio_ids)
    if chosen.asset is not None:
        asset = assets_known_as([chosen.asset], reader=context.user).get(chosen.asset)
        rows = concerning(rows, asset.pk) if asset is not None else rows.none()
    if chosen.kind is not None:
        rows = rows.filter(kind=chosen.kind)
    if chosen.since is not None:
        rows = rows.filter(at__gte=chosen.since)
    if chosen.until is not None:
        rows = rows.filter(at__lt=chosen.until)
    return pages_by("portfolio_id", TransactionConnection, rows, context, keys=portfolio_ids, paging=paging)
