"""The types that the benchmark asks for, by Strawberry: of the same names, by the same queries of the apps, with the
same statements a page. Its process alone imports this."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Generic, NewType, TypeVar
from uuid import UUID

import strawberry
from django.urls import path
from django.utils import timezone
from strawberry.django.views import GraphQLView
from strawberry.schema.config import StrawberryConfig

from apps.alerts.models import Alert as AlertRow
from apps.alerts.models import AlertEvent as AlertEventRow
from apps.alerts.queries import alerts_of, events_of
from apps.market.models import Asset as AssetRow
from apps.market.queries import assets_seen_by, latest_prices, variations_over
from apps.portfolios.domain.numbers import to_decimal
from apps.portfolios.domain.valuation import Valued
from apps.portfolios.models import Portfolio as PortfolioRow
from apps.portfolios.models import Position as PositionRow
from apps.portfolios.queries import behind_splits, portfolios_seen_by, positions_in
from apps.portfolios.valuing import View, views_now
from apps.public_ids import public_id_of

DAY = timedelta(hours=24)
Number = NewType("Number", object)
Moment = NewType("Moment", object)
Data = NewType("Data", object)
Row = TypeVar("Row")


def write_number(value: Decimal) -> str:
    digits = f"{value:f}"
    if "." in digits:
        digits = digits.rstrip("0").rstrip(".")
    return "0" if digits == "-0" else digits


def write_moment(value: datetime) -> str:
    return f"{value.astimezone(UTC).replace(tzinfo=None).isoformat()}Z"


def once(read: Callable[[], Any]) -> Callable[[], Any]:
    """Return `read`, called once: what the rows of a page have in common is read when the first field asks for it."""
    return functools.cache(read)


def exact(number: Any) -> Decimal | None:
    return None if number is None else to_decimal(number)


@strawberry.type
class Asset:
    symbol: str
    name: str
    pk: strawberry.Private[int]
    prices: strawberry.Private[Callable[[], Mapping[int, Decimal]]]
    variations: strawberry.Private[Callable[[], Mapping[int, Decimal]]]

    @strawberry.field
    def price(self) -> Number | None:
        return self.prices().get(self.pk)

    @strawberry.field(name="variation24h")
    def variation_24h(self) -> Number | None:
        return self.variations().get(self.pk)


def assets_of(rows: Iterable[AssetRow]) -> dict[int, Asset]:
    """Return asset id -> the asset, of a page."""
    by_id = {row.pk: row for row in rows}
    latest = once(lambda: latest_prices(list(by_id), now=timezone.now()))
    prices = once(lambda: {pk: price for pk, (_, price) in latest().items()})
    variations = once(lambda: variations_over(prices(), back=DAY))
    return {
        pk: Asset(symbol=row.symbol, name=row.name, pk=pk, prices=prices, variations=variations)
        for pk, row in by_id.items()
    }


@strawberry.type
class Rule:
    name: str


@strawberry.type
class AlertEvent:
    row: strawberry.Private[AlertEventRow]

    @strawberry.field
    def kind(self) -> str:
        return self.row.kind.upper()

    @strawberry.field
    def at(self) -> Moment:
        return self.row.at

    @strawberry.field
    def reason(self) -> str:
        return self.row.reason


@strawberry.type
class Alert:
    row: strawberry.Private[AlertRow]
    steps: strawberry.Private[Callable[[], Mapping[int, Any]]]
    assets: strawberry.Private[Mapping[int, Asset]]

    @strawberry.field
    def id(self) -> UUID:
        return public_id_of(self.row)

    @strawberry.field
    def severity(self) -> str:
        return self.row.severity.upper()

    @strawberry.field
    def opened_at(self) -> Moment:
        return self.row.opened_at

    @strawberry.field
    def summary(self) -> str:
        return self.row.summary

    @strawberry.field
    def evidence(self) -> Data:
        return self.row.evidence

    @strawberry.field
    def rule(self) -> Rule | None:
        return Rule(name=self.row.rule.name)

    @strawberry.field
    def asset(self) -> Asset | None:
        return self.assets.get(self.row.asset_id)

    @strawberry.field
    def timeline(self) -> list[AlertEvent]:
        return [AlertEvent(row=one) for one in self.steps().get(self.row.pk, ())]


@strawberry.type
class Missing:
    what: str
    of: str


@strawberry.type
class WorthParts:
    unrealised: Number | None
    realised: Number | None
    income: Number | None


@strawberry.type
class Worth:
    value: Number | None
    known_value: Number | None
    missing: list[Missing]
    parts: WorthParts


@strawberry.type
class PositionWorth:
    value: Number | None
    gain: Number | None
    price_part: Number | None
    currency_part: Number | None


@strawberry.type
class Position:
    row: strawberry.Private[PositionRow]
    valued: strawberry.Private[Callable[[], Mapping[int, Valued]]]
    assets: strawberry.Private[Mapping[int, Asset]]

    @strawberry.field
    def quantity(self) -> Number:
        return self.row.quantity

    @strawberry.field
    def cost(self) -> Number | None:
        return self.row.cost

    @strawberry.field
    def realised(self) -> Number | None:
        return self.row.realised

    @strawberry.field
    def income(self) -> Number | None:
        return self.row.income

    @strawberry.field
    def worth(self) -> PositionWorth | None:
        found = self.valued().get(self.row.asset_id)
        if found is None:
            return None
        names = ("value", "gain", "price_part", "currency_part")
        return PositionWorth(**{name: exact(getattr(found, name)) for name in names})

    @strawberry.field
    def asset(self) -> Asset:
        return self.assets[self.row.asset_id]


@strawberry.type
class PageInfo:
    end_cursor: str | None
    has_next_page: bool


@strawberry.type
class Edge(Generic[Row]):
    node: Row


@strawberry.type
class Connection(Generic[Row]):
    edges: list[Edge[Row]]
    page_info: PageInfo


def connection_of(nodes: list[Any], *, first: int, end_cursor: str | None = None) -> Connection[Any]:
    """Return a page of `first` nodes, of which there is one more where another page follows."""
    edges = [Edge(node=one) for one in nodes[:first]]
    return Connection(edges=edges, page_info=PageInfo(end_cursor=end_cursor, has_next_page=len(nodes) > first))


@strawberry.type
class Portfolio:
    row: strawberry.Private[PortfolioRow]
    view: strawberry.Private[Callable[[], View]]
    held: strawberry.Private[Callable[[], list[PositionRow]]]

    @strawberry.field
    def name(self) -> str:
        return self.row.name

    @strawberry.field
    def worth(self) -> Worth | None:
        view = self.view()
        parts = {name: exact(getattr(view.result, name)) for name in ("unrealised", "realised", "income")}
        return Worth(
            value=exact(view.valuation.value),
            known_value=exact(view.valuation.known_value),
            missing=[Missing(what=what.upper(), of=str(key)) for what, key in view.valuation.missing],
            parts=WorthParts(**parts),
        )

    @strawberry.field
    def positions(self, first: int = 20) -> Connection[Position]:
        rows = self.held()[: first + 1]
        assets = assets_of(row.asset for row in rows)
        valued = once(lambda: {one.asset: one for one in self.view().valuation.positions})
        return connection_of([Position(row=row, valued=valued, assets=assets) for row in rows], first=first)


@strawberry.type
class Query:
    @strawberry.field
    def assets(self, info: strawberry.Info, first: int = 20, after: str | None = None) -> Connection[Asset]:
        rows = assets_seen_by(info.context.request.user).order_by("symbol", "pk")
        if after is not None:
            rows = rows.filter(symbol__gt=after)
        found = list(rows[: first + 1])
        nodes = list(assets_of(found[:first]).values())
        page = connection_of(nodes, first=first, end_cursor=nodes[-1].symbol if nodes else None)
        page.page_info.has_next_page = len(found) > first
        return page

    @strawberry.field
    def alerts(self, info: strawberry.Info, first: int = 20) -> Connection[Alert]:
        alerts = alerts_of(info.context.request.user).order_by("-opened_at", "-pk")
        rows = list(alerts.select_related("version").defer("version__document")[: first + 1])
        steps = once(lambda: events_of([row.pk for row in rows]))
        assets = assets_of(row.asset for row in rows)
        return connection_of([Alert(row=row, steps=steps, assets=assets) for row in rows], first=first)

    @strawberry.field
    def portfolios(self, info: strawberry.Info, first: int = 20) -> Connection[Portfolio]:
        rows = list(portfolios_seen_by(info.context.request.user).order_by("name", "pk")[: first + 1])
        ids = [row.pk for row in rows]
        positions = once(lambda: list(positions_in(ids).order_by("asset_id")))

        @functools.cache
        def views() -> Mapping[int, View]:
            behind = behind_splits(ids)
            return views_now([pk for pk in ids if pk not in behind], positions())

        def portfolio(row: PortfolioRow) -> Portfolio:
            return Portfolio(
                row=row,
                view=lambda: views()[row.pk],
                held=lambda: [one for one in positions() if one.portfolio_id == row.pk],
            )

        return connection_of([portfolio(row) for row in rows], first=first)


SCALARS = {
    Number: strawberry.scalar(name="Number", serialize=write_number),
    Moment: strawberry.scalar(name="Moment", serialize=write_moment),
    Data: strawberry.scalar(name="Data", serialize=lambda value: value),
}
schema = strawberry.Schema(query=Query, config=StrawberryConfig(scalar_map=SCALARS))
urlpatterns = [path("graphql", GraphQLView.as_view(schema=schema, graphql_ide=None))]
