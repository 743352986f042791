"""Backtests: rules tried on what is stored."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID as PythonUUID

import graphene
from django.db.models import QuerySet

from apps.api.graphql.connections import Page, TimeOrder, connection, page, pages_of
from apps.api.graphql.context import Context
from apps.api.graphql.nodes import Node, among, is_node, public_id
from apps.api.graphql.scalars import JSON, UUID, DateTime, enum
from apps.api.graphql.types.rules import Rule
from apps.backtests.models import BacktestRun
from apps.backtests.queries import backtests_seen_by
from apps.backtests.wording import describe_failure
from apps.public_ids import with_public_id

BacktestStatus = enum("BacktestStatus", BacktestRun.Status.values, description="How far a backtest has come.")


class Backtest(graphene.ObjectType):
    """A rule tried on what is stored of a while, by the same engine. It opens no alert."""

    class Meta:
        interfaces = (Node,)

    id = public_id()
    rule = graphene.Field(Rule, required=True, description="The rule that is tried.")
    document = graphene.Field(JSON, required=True, description="The written form that is tried.")
    since = graphene.Field(DateTime, required=True, description="The beginning of the period that is read.")
    until = graphene.Field(DateTime, required=True, description="The end of the period.")
    status = graphene.Field(BacktestStatus, required=True, description="Its status.")
    progress_percent = graphene.Int(required=True, description="The part of the period that is read.")
    requested_at = graphene.Field(DateTime, required=True, description="When it was requested.")
    started_at = graphene.Field(DateTime, description="When a worker began; null: not yet.")
    finished_at = graphene.Field(DateTime, description="When it finished; null: not yet.")
    failure = graphene.String(required=True, description="Why it failed, as a code; else empty.")
    failure_text = graphene.String(required=True, description="The same as a sentence.")
    result = graphene.Field(JSON, description="What the rule would have done, and at other thresholds; null before.")

    def resolve_status(run: BacktestRun, info: Any) -> str:
        return str(run.status)

    def resolve_failure_text(run: BacktestRun, info: Any) -> str:
        return describe_failure(run.failure, run.failure_data)

    def resolve_result(run: BacktestRun, info: Any) -> Any:
        return info.context.load(_results, run.pk)


is_node(Backtest, BacktestRun, among(lambda context: _backtests(context)))
BacktestConnection = connection(Backtest, fields=["requested_at", "pk"], by=TimeOrder, is_descending=True)


class BacktestsQuery(graphene.ObjectType):
    backtests = pages_of(
        BacktestConnection,
        rule=UUID(description="Only those of this rule."),
        description="Your backtests, newest first; a superuser's are everybody's.",
    )
    backtest = graphene.Field(
        Backtest,
        id=UUID(required=True, description="Its `id`."),
        description="A backtest of yours by its id; null where it is none.",
    )

    def resolve_backtests(root: None, info: Any, rule: PythonUUID | None = None, **paging: Any) -> Page:
        rows = _backtests(info.context)
        if rule is not None:
            rows = rows.filter(rule__public_id=rule)
        return page(BacktestConnection, rows, info.context, **paging)

    def resolve_backtest(root: None, info: Any, id: PythonUUID) -> Any:
        return with_public_id(_backtests(info.context), id)


def _backtests(context: Context) -> QuerySet[BacktestRun]:
    return backtests_seen_by(context.owner()).defer("result")


def _results(context: Context, run_ids: list[PythonUUID]) -> Mapping[PythonUUID, Any]:
    return dict(BacktestRun.objects.filter(pk__in=run_ids).values_list("pk", "result"))
