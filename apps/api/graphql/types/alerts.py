"""Alerts: each with what opened it and what happened to it."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID as PythonUUID

import graphene
from django.db.models import QuerySet
from django.utils.module_loading import import_string

from apps.alerts import reconciliation
from apps.alerts.models import Alert as AlertRow
from apps.alerts.models import AlertEvent as AlertEventRow
from apps.alerts.queries import IN_STATE, alerts_of, events_of
from apps.alerts.wording import describe_event_reason
from apps.api.graphql.connections import Page, Paging, TimeOrder, connection, page, pages_by, pages_of
from apps.api.graphql.context import Context
from apps.api.graphql.nodes import Node, NodeId, among, is_node, node_ids, public_id
from apps.api.graphql.scalars import JSON, UUID, DateTime, enum
from apps.api.graphql.types.market import Asset, FeedEntry
from apps.api.graphql.types.rules import Rule, Severity, usernames
from apps.health.domain import Subject
from apps.market.models import FeedEntry as FeedEntryRow
from apps.market.queries import entries_by_id
from apps.public_ids import with_public_id

AlertKind = enum(
    "AlertKind",
    AlertRow.Kind.values,
    description="Whether a rule's condition held, or evaluating it failed, or a split paused it, or something has "
    "stopped, or a portfolio differs from a file of positions, or it came from Alertmanager.",
)
AlertSubject = enum(
    "AlertSubject",
    [*(one.value for one in Subject), reconciliation.SUBJECT],
    description="The kinds of things that alerts without a rule are about.",
)
AlertState = enum("AlertState", AlertRow.State.values, description="Where an alert stands.")
EventKind = enum("EventKind", AlertEventRow.Kind.values, description="What happened to an alert.")


class AlertEvent(graphene.ObjectType):
    """A step in the life of an alert."""

    kind = graphene.Field(EventKind, required=True, description="What happened.")
    at = graphene.Field(
        DateTime, required=True, description="By the feed's clock; of what a person did, by the wall clock."
    )
    reason = graphene.String(required=True, description="Why, as a code of docs/rules.md; empty where a person did it.")
    reason_text = graphene.String(
        required=True,
        description="The same for people, with what was raised; of what a person did, their note; of a correction, "
        "what it changed.",
    )
    detail = graphene.String(required=True, description="The exception's text, or the person's note; else empty.")
    correction = graphene.Field(
        JSON,
        description="The price that the alert saw and that was corrected: at, before and after (null where there was "
        "none, or is none); or the day whose prices were replaced.",
    )
    by = graphene.String(description="The person who did it; null if it happened by itself.")
    entry = graphene.Field(FeedEntry, description="The entry of the log that made it, where one did.")

    def resolve_reason_text(event: AlertEventRow, info: Any) -> str:
        return describe_event_reason(event.reason, event.detail, event.correction)

    def resolve_by(event: AlertEventRow, info: Any) -> Any:
        return _loaded(info, usernames, event.by_id)

    def resolve_entry(event: AlertEventRow, info: Any) -> Any:
        return _loaded(info, _entries, event.entry_id)


class Alert(graphene.ObjectType):
    """One episode: of one rule on one asset; of the health of one subject; of a portfolio that differs from a file of
    positions; or of this installation, from Alertmanager. The last three have no rule, no version, no asset and
    no entry."""

    class Meta:
        interfaces = (Node,)

    id = public_id()
    kind = graphene.Field(AlertKind, required=True, description="The kind of alert.")
    severity = graphene.Field(Severity, required=True, description="The severity.")
    state = graphene.Field(AlertState, required=True, description="Its state.")
    rule = graphene.Field(Rule, description="The rule that opened it, where one did.")
    version = graphene.Int(description="Number of the rule's version that opened it.")
    asset = graphene.Field(Asset, description="The asset concerned, if any.")
    subject = graphene.Field(AlertSubject, description="Of kinds health and reconciliation: what it is about.")
    subject_id = graphene.Field(
        NodeId, description="The id to pass to `node`; null for the system and for deleted rows."
    )
    is_open = graphene.Boolean(required=True, description="Whether it is not over, acknowledged or not.")
    opened_at = graphene.Field(
        DateTime, required=True, description="By the feed's clock, or Alertmanager's; without a rule by the wall clock."
    )
    resolved_at = graphene.Field(DateTime, description="When it ended; null: it is open.")
    resolution = graphene.String(
        required=True, description="Why it ended, as a code of docs/rules.md; empty while it is open."
    )
    resolution_text = graphene.String(required=True, description="The same as a sentence.")
    acknowledged_at = graphene.Field(DateTime, description="By the wall clock.")
    acknowledged_by = graphene.String(description="User who acknowledged it.")
    note = graphene.String(required=True, description="What they said to it; may be empty.")
    summary = graphene.String(required=True, description="A sentence about what the rule saw when the alert opened.")
    evidence = graphene.Field(
        JSON,
        required=True,
        description="The same as data: the operands and their values; where no rule opened it, labels and annotations.",
    )
    entry = graphene.Field(FeedEntry, description="The entry of the log that opened it.")
    timeline = graphene.List(graphene.NonNull(AlertEvent), description="What happened to it, in order.")
    # By name: messages stand downstream, and know alerts.
    messages = pages_of(
        "apps.api.graphql.types.notify.MessageConnection",
        by=TimeOrder,
        description="The messages about it, newest first.",
    )
    notifications = pages_of(
        "apps.api.graphql.types.notify.NotificationConnection",
        by=TimeOrder,
        description="Its notifications on your channels, oldest first; for a superuser on everybody's.",
    )

    def resolve_subject(alert: AlertRow, info: Any) -> str | None:
        return alert.subject or None

    def resolve_subject_id(alert: AlertRow, info: Any) -> Any:
        return info.context.load(node_ids, (alert.subject, alert.subject_id))

    def resolve_state(alert: AlertRow, info: Any) -> str:
        return str(alert.state)

    def resolve_version(alert: AlertRow, info: Any) -> int | None:
        return alert.version.number if alert.version is not None else None

    def resolve_resolution_text(alert: AlertRow, info: Any) -> str:
        return describe_event_reason(alert.resolution)

    def resolve_is_open(alert: AlertRow, info: Any) -> bool:
        return alert.resolved_at is None

    def resolve_acknowledged_by(alert: AlertRow, info: Any) -> Any:
        return _loaded(info, usernames, alert.acknowledged_by_id)

    def resolve_entry(alert: AlertRow, info: Any) -> Any:
        return _loaded(info, _entries, alert.entry_id)

    def resolve_timeline(alert: AlertRow, info: Any) -> Any:
        return info.context.load(_timelines, alert.pk)

    def resolve_messages(alert: AlertRow, info: Any, **paging: Any) -> Any:
        return info.context.load(
            import_string("apps.api.graphql.types.notify.messages_of_alerts"), alert.pk, Paging(**paging)
        )

    def resolve_notifications(alert: AlertRow, info: Any, **paging: Any) -> Any:
        return info.context.load(
            import_string("apps.api.graphql.types.notify.notifications_of_alerts"), alert.pk, Paging(**paging)
        )


is_node(Alert, AlertRow, among(lambda context: _alerts(context)))
AlertConnection = connection(Alert, fields=["opened_at", "pk"], by=TimeOrder, is_descending=True)


class AlertsQuery(graphene.ObjectType):
    alerts = pages_of(
        AlertConnection,
        is_open=graphene.Boolean(description="Only those that are not over, or only those that are."),
        state=AlertState(description="Only those that stand there."),
        description="Your alerts, newest first, and for operators those about the installation; a superuser's are "
        "everybody's.",
    )
    alert = graphene.Field(
        Alert,
        id=UUID(required=True, description="Its `id`."),
        description="An alert that you may see by its id; null where it is none.",
    )

    def resolve_alerts(root: None, info: Any, is_open: bool | None = None, state: Any = None, **paging: Any) -> Page:
        rows = _in_state(_alerts(info.context), is_open=is_open, state=state)
        return page(AlertConnection, rows, info.context, **paging)

    def resolve_alert(root: None, info: Any, id: PythonUUID) -> Any:
        return with_public_id(_alerts(info.context), id)


class AlertChange(graphene.ObjectType):
    """A step of an alert that is new, and the alert as it is by now."""

    cursor = graphene.String(required=True, description="Where to go on behind it: the argument `after`.")
    event = graphene.Field(AlertEvent, required=True, description="What happened.")
    alert = graphene.Field(Alert, required=True, description="The alert after the change.")


class AlertsSubscription(graphene.ObjectType):
    alert_changed = graphene.Field(
        AlertChange,
        after=graphene.String(description="A cursor: steps behind it come first. Else those from now on."),
        description="Each new step of the alerts that `alerts` lists, at least once.",
    )

    def resolve_alert_changed(change: AlertChange, info: Any, **arguments: Any) -> AlertChange:
        return change


def _loaded(info: Any, reader: Any, key: int | None) -> Any:
    return info.context.load(reader, key) if key is not None else None


def _alerts(context: Context) -> QuerySet[AlertRow]:
    return alerts_of(context.owner()).select_related("version").defer("version__document")


def _in_state(rows: QuerySet[AlertRow], *, is_open: bool | None, state: Any) -> QuerySet[AlertRow]:
    if is_open is not None:
        rows = rows.filter(resolved_at__isnull=is_open)
    return rows.filter(IN_STATE[state.value]) if state is not None else rows


def alerts_of_assets(
    context: Context, asset_ids: list[int], is_open: bool | None, state: Any, paging: Paging
) -> Mapping[int, Page]:
    """Return asset id -> a page of the alerts on it that the reader may see."""
    rows = _in_state(_alerts(context).filter(asset__in=asset_ids), is_open=is_open, state=state)
    return pages_by("asset_id", AlertConnection, rows, context, keys=asset_ids, paging=paging)


def alerts_by_id(context: Context, alert_ids: list[int]) -> Mapping[int, AlertRow]:
    """Return alert id -> alert, for those that the reader may see."""
    return _alerts(context).in_bulk(alert_ids)


def _entries(context: Context, entry_ids: list[int]) -> Mapping[int, FeedEntryRow]:
    return entries_by_id(entry_ids)


def _timelines(context: Context, alert_ids: list[int]) -> Mapping[int, Sequence[AlertEventRow]]:
    return dict.fromkeys(alert_ids, ()) | events_of(alert_ids)
