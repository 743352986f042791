"""Changes of alerts: somebody knows of them."""

from datetime import datetime
from typing import Any
from uuid import UUID as PythonUUID

import graphene

from apps.alerts.models import Alert as AlertRow
from apps.alerts.queries import alerts_of
from apps.alerts.services import acknowledge
from apps.api.graphql.context import Context
from apps.api.graphql.mutations.base import Mutation, check_column, row_of
from apps.api.graphql.mutations.faults import Code, Fault, Faulty
from apps.api.graphql.scalars import UUID
from apps.api.graphql.types.alerts import Alert, alerts_by_id


class AcknowledgeAlert(Mutation):
    """Say that somebody knows of an open alert. It is reminded of no more, and stays open until it is over."""

    class Arguments:
        id = UUID(required=True, description="Id of an alert that you may see.")
        note = graphene.String(required=True, default_value="", description="What you found, or what you do about it.")

    permission = "alerts.change_alert"
    alert = graphene.Field(Alert, description="The row after the change.")

    @classmethod
    def change(cls, context: Context, now: datetime, *, id: PythonUUID, note: str | None) -> dict[str, Any]:
        """Acknowledge it."""
        check_column(AlertRow, "note", note or "")
        alert = row_of(alerts_of(context.owner()), id)
        rows = alerts_of(context.owner()).filter(pk=alert.pk)
        if not acknowledge(alerts=rows, by=context.owner(), note=note or "", now=now):
            raise Faulty(Fault(Code.CONFLICT, "It is acknowledged already, or over."))
        return {"alert": alerts_by_id(context, [alert.pk])[alert.pk]}


class AlertsMutation(graphene.ObjectType):
    acknowledge_alert = AcknowledgeAlert.Field()
