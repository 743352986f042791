"""Messages: what was told, or is to be, and where."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import graphene

from apps.alerts.models import Alert as AlertRow
from apps.api import alerts
from apps.api.connections import Page, connection, page, pages_by, pages_of
from apps.api.context import Context
from apps.api.scalars import DateTime, enum
from apps.notify.models import Message as MessageRow
from apps.notify.queries import alert_ids_of, messages_about, messages_seen_by

MessageStatus = enum("MessageStatus", MessageRow.Status.values, description="How far a message has come.")


class Channel(graphene.ObjectType):
    """A place where its owner is told. Addresses are not shown here."""

    name = graphene.String(required=True)
    kind = graphene.String(required=True)
    is_enabled = graphene.Boolean(required=True)


class Message(graphene.ObjectType):
    """What is sent once. Every attempt carries the same id."""

    id = graphene.ID(required=True)
    channel = graphene.Field(Channel, required=True)
    status = graphene.Field(MessageStatus, required=True)
    subject = graphene.String(required=True)
    text = graphene.String(required=True)
    attempts = graphene.Int(required=True, description="How many were begun.")
    created_at = graphene.Field(DateTime, required=True)
    delivered_at = graphene.Field(DateTime)
    alerts = graphene.List(
        graphene.NonNull(alerts.Alert), description="What it tells of; empty for a test or a notice."
    )

    def resolve_alerts(message: MessageRow, info: Any) -> Any:
        return info.context.load(_alerts_of_messages, message.pk)


MessageConnection = connection(Message, fields=["created_at", "pk"], is_descending=True)


class NotifyQuery(graphene.ObjectType):
    messages = pages_of(
        MessageConnection,
        inbox_only=graphene.Boolean(default_value=False, description="Only what your inboxes hold."),
        description="Messages to your channels, newest first; a superuser's are everybody's.",
    )

    def resolve_messages(
        root: None, info: Any, first: int | None, after: str | None = None, inbox_only: bool | None = False
    ) -> Page:
        rows = messages_seen_by(info.context.owner(), inbox_only=bool(inbox_only))
        return page(MessageConnection, rows, info.context, first=first, after=after)


def messages_of_alerts(
    context: Context, alert_ids: list[int], first: int | None, after: str | None
) -> Mapping[int, Page]:
    """Return alert id -> a page of what was told of it."""
    rows = messages_about(context.owner(), alert_ids)
    return pages_by("alert_id", MessageConnection, rows, context, keys=alert_ids, first=first, after=after)


def _alerts_of_messages(context: Context, message_ids: list[UUID]) -> Mapping[UUID, Sequence[AlertRow]]:
    told = alert_ids_of(message_ids)
    rows = alerts.alerts_by_id(context, sorted({alert_id for ids in told.values() for alert_id in ids}))
    return {pk: [rows[alert_id] for alert_id in told.get(pk, ()) if alert_id in rows] for pk in message_ids}
