"""The schema: what each app shows, put together. `schema.graphql` is the same in GraphQL's own language."""

from typing import Any

import graphene
from graphql import print_schema

from apps.api.graphql.mutations.alerts import AlertsMutation
from apps.api.graphql.mutations.backtests import BacktestsMutation
from apps.api.graphql.mutations.channels import ChannelsMutation
from apps.api.graphql.mutations.imports import ImportsMutation
from apps.api.graphql.mutations.listings import ListingsMutation
from apps.api.graphql.mutations.portfolios import PortfoliosMutation
from apps.api.graphql.mutations.rules import RulesMutation
from apps.api.graphql.mutations.silences import SilencesMutation
from apps.api.graphql.nodes import NodesQuery
from apps.api.graphql.types.alerts import AlertsQuery, AlertsSubscription
from apps.api.graphql.types.backtests import BacktestsQuery
from apps.api.graphql.types.health import HealthQuery
from apps.api.graphql.types.market import MarketQuery, MarketSubscription
from apps.api.graphql.types.monitoring import MonitoringQuery
from apps.api.graphql.types.notify import NotifyQuery
from apps.api.graphql.types.portfolios import PortfoliosQuery
from apps.api.graphql.types.rules import RulesQuery
from apps.api.graphql.types.why import WhyQuery


class Me(graphene.ObjectType):
    """Who is asking."""

    username = graphene.String(required=True, description="Your user name.")
    is_superuser = graphene.Boolean(required=True, description="Whether you see everybody's rows.")


class Query(
    NodesQuery,
    MonitoringQuery,
    WhyQuery,
    BacktestsQuery,
    HealthQuery,
    NotifyQuery,
    AlertsQuery,
    RulesQuery,
    PortfoliosQuery,
    MarketQuery,
    graphene.ObjectType,
):
    """The fields that read."""

    me = graphene.Field(Me, description="Who is asking; null for a stranger.")

    def resolve_me(root: None, info: Any) -> Any:
        return info.context.user if info.context.user.is_authenticated else None


class Mutation(
    AlertsMutation,
    SilencesMutation,
    RulesMutation,
    ChannelsMutation,
    BacktestsMutation,
    PortfoliosMutation,
    ImportsMutation,
    ListingsMutation,
    graphene.ObjectType,
):
    """The fields that change something. They run one after the other, each in a transaction of its own. Where `errors`
    is not empty, the field has changed nothing, and the client can mend the request."""


class Subscription(AlertsSubscription, MarketSubscription, graphene.ObjectType):
    """The fields that follow what happens. One at a time is answered at /graphql/stream, by server-sent events."""


schema = graphene.Schema(query=Query, mutation=Mutation, subscription=Subscription).graphql_schema


def print_schema_text() -> str:
    """Return the schema in GraphQL's own language."""
    return print_schema(schema) + "\n"
