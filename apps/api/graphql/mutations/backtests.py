"""Backtests started and cancelled."""

from datetime import datetime
from typing import Any
from uuid import UUID as PythonUUID

import graphene

from apps.api.graphql.context import Context
from apps.api.graphql.mutations.base import Creation, Mutation, row_of
from apps.api.graphql.mutations.faults import Code, Fault, Faulty
from apps.api.graphql.mutations.rules import faults_of_rules, written_form
from apps.api.graphql.scalars import JSON, UUID, DateTime
from apps.api.graphql.types.backtests import Backtest
from apps.backtests.models import BacktestRun
from apps.backtests.queries import backtests_seen_by
from apps.backtests.services import RunRefused, cancel_backtest, request_backtest
from apps.rules.queries import rules_seen_by


class StartBacktest(Creation):
    """Try a rule on what is stored, as soon as a worker is free. One of yours at a time."""

    class Arguments:
        rule = UUID(required=True, description="Id of a rule of yours.")
        since = DateTime(required=True, description="The beginning of the period that is read.")
        until = DateTime(required=True, description="The end of the period.")
        document = JSON(
            description="Another written form to try, which leaves the rule as it is; by default what the rule says."
        )

    permission = "rules.change_rule"
    gives = "backtest"
    backtest = graphene.Field(Backtest, description="The backtest, which waits.")

    @classmethod
    def change(
        cls,
        context: Context,
        now: datetime,
        *,
        rule: PythonUUID,
        since: datetime,
        until: datetime,
        document: Any = None,
    ) -> BacktestRun:
        """Ask for it in the client's name."""
        tried = row_of(rules_seen_by(context.owner()), rule, field="rule")
        form = written_form(document) if document is not None else None
        try:
            with faults_of_rules():
                return request_backtest(
                    owner=context.owner(), rule=tried, since=since, until=until, document=form, now=now
                )
        except RunRefused as refusal:
            raise Faulty(Fault(Code.CONFLICT, str(refusal))) from None

    @classmethod
    def found(cls, context: Context, id: str) -> BacktestRun | None:
        """Return the backtest of an id."""
        return backtests_seen_by(context.owner()).defer("result").filter(pk=id).first()


class CancelBacktest(Mutation):
    """Cancel a backtest that is not over. One that runs stops within seconds."""

    class Arguments:
        id = UUID(required=True, description="Id of a backtest of yours.")

    permission = "rules.change_rule"
    backtest = graphene.Field(Backtest, description="The row after the change.")

    @classmethod
    def change(cls, context: Context, now: datetime, *, id: PythonUUID) -> dict[str, Any]:
        """Cancel it."""
        rows = backtests_seen_by(context.owner()).defer("result")
        run = row_of(rows, id)
        if not cancel_backtest(run_id=run.pk):
            raise Faulty(Fault(Code.CONFLICT, "It is over already."))
        return {"backtest": rows.get(pk=run.pk)}


class BacktestsMutation(graphene.ObjectType):
    start_backtest = StartBacktest.Field()
    cancel_backtest = CancelBacktest.Field()
