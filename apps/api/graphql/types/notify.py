"""Messages, channels, and silences, which defer notifications."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import graphene

from apps.alerts.models import Alert as AlertRow
from apps.api.graphql.connections import NameOrder, Page, Paging, TimeOrder, connection, page, pages_by, pages_of
from apps.api.graphql.context import Context
from apps.api.graphql.nodes import Node, among, is_node, public_id
from apps.api.graphql.scalars import DateTime, enum
from apps.api.graphql.types import alerts
from apps.api.graphql.types.health import ADDRESS, Health, channel_health
from apps.api.graphql.types.market import Asset
from apps.api.graphql.types.rules import Rule, Severity
from apps.notify.models import Attempt as AttemptRow
from apps.notify.models import Channel as ChannelRow
from apps.notify.models import Message as MessageRow
from apps.notify.models import Notification as NotificationRow
from apps.notify.models import Silence as SilenceRow
from apps.notify.queries import (
    alert_ids_of,
    attempts_of,
    channels_seen_by,
    messages_about,
    messages_seen_by,
    notifications_about,
    silences_seen_by,
)

MessageStatus = enum(
    "MessageStatus", MessageRow.Status.values, description="How far a message has come; `SILENCED`: it is not sent."
)
NotificationStatus = enum(
    "NotificationStatus",
    NotificationRow.Status.values,
    description="How far a notification has come: it waits for more alerts or for its turn, or is deferred; else how "
    "far its message has come, which is `SILENCED` where the alert was silenced until it was over.",
)
AttemptOutcome = enum(
    "AttemptOutcome",
    AttemptRow.Outcome.values,
    description="How an attempt ended: after a transient failure another follows, after a permanent one none does.",
)


class Channel(graphene.ObjectType):
    """A place where its owner is notified. Addresses are not shown here."""

    class Meta:
        interfaces = (Node,)

    id = public_id()
    name = graphene.String(required=True, description="Its name, unique for its owner.")
    kind = graphene.String(required=True, description="The kind of channel, like inbox or webhook.")
    is_enabled = graphene.Boolean(required=True, description="False: nothing is sent here.")
    is_failing = graphene.Boolean(required=True, description="Whether the last try did not get through.")
    switched_off_because = graphene.String(
        required=True, description="Why it was disabled for its owner, since it did not work; else empty."
    )
    wants_resolved = graphene.Boolean(required=True, description="Also say when an alert is over.")
    wants_system = graphene.Boolean(required=True, description="Also notify of alerts about the installation.")
    group_wait_seconds = graphene.Int(
        required=True, description="How long it waits for more alerts, to send them in one message."
    )
    messages_per_minute = graphene.Int(required=True, description="0: no limit.")
    repeat_minutes = graphene.Int(required=True, description="Between reminders; 0: none.")
    quiet_from = graphene.String(description="When quiet hours begin; null: there are none.")
    quiet_until = graphene.String(description="When quiet hours end.")
    quiet_zone = graphene.String(required=True, description="The time zone of quiet hours.")
    quiet_allow_critical = graphene.Boolean(required=True, description="Critical alerts are sent in quiet hours too.")
    subject_template = graphene.String(required=True, description="Empty: the default.")
    text_template = graphene.String(required=True, description="Empty: the default.")
    health = graphene.Field(Health, description="Its health.")

    def resolve_health(channel: ChannelRow, info: Any) -> Any:
        return info.context.load(channel_health, channel.pk)

    def resolve_is_failing(channel: ChannelRow, info: Any) -> bool:
        return channel.failing_since is not None

    def resolve_switched_off_because(channel: ChannelRow, info: Any) -> str:
        return ADDRESS.sub("…", channel.switched_off_because)


is_node(Channel, ChannelRow, among(lambda context: channels_seen_by(context.owner())))
ChannelConnection = connection(Channel, fields=["name", "pk"], by=NameOrder)


class Message(graphene.ObjectType):
    """A message to a channel: about alerts, a test, or a notice. All attempts to send it carry the same id."""

    class Meta:
        interfaces = (Node,)

    id = public_id()
    channel = graphene.Field(Channel, required=True, description="The channel it is sent on.")
    status = graphene.Field(MessageStatus, required=True, description="Its status.")
    subject = graphene.String(required=True, description="Its subject.")
    text = graphene.String(required=True, description="Its text.")
    attempts = graphene.Int(required=True, description="How many were begun.")
    created_at = graphene.Field(DateTime, required=True, description="When it was created.")
    delivered_at = graphene.Field(DateTime, description="When its receiver accepted it; null: not yet.")
    alerts = graphene.List(
        graphene.NonNull(alerts.Alert), description="The alerts that it is about; empty for a test or a notice."
    )

    def resolve_alerts(message: MessageRow, info: Any) -> Any:
        return info.context.load(_alerts_of_messages, message.pk)


is_node(Message, MessageRow, among(lambda context: messages_seen_by(context.owner())))
MessageConnection = connection(Message, fields=["created_at", "pk"], by=TimeOrder, is_descending=True)


class Silence(graphene.ObjectType):
    """A period in which matching alerts are recorded, and their notifications deferred. Null matches any. One of an
    alert lasts until that is over, and what it deferred is not sent."""

    class Meta:
        interfaces = (Node,)

    id = public_id()
    owner = graphene.String(description="Whose alerts; null: everybody's.")
    author = graphene.String(description="Who made it.")
    rule = graphene.Field(Rule, description="Alerts of this rule alone.")
    asset = graphene.Field(Asset, description="Alerts on this asset alone.")
    severity = graphene.Field(Severity, description="Alerts of this severity alone.")
    starts_at = graphene.Field(DateTime, required=True, description="The beginning.")
    alert = graphene.Field(alerts.Alert, description="This alert alone.")
    ends_at = graphene.Field(
        DateTime,
        description="Then what was deferred is sent. Null: it is one of an alert, and was not ended early.",
    )
    comment = graphene.String(required=True, description="Why.")

    def resolve_owner(silence: SilenceRow, info: Any) -> str | None:
        return silence.owner.get_username() if silence.owner is not None else None

    def resolve_author(silence: SilenceRow, info: Any) -> str | None:
        return silence.author.get_username() if silence.author is not None else None

    def resolve_severity(silence: SilenceRow, info: Any) -> str | None:
        return silence.severity or None


is_node(Silence, SilenceRow, among(lambda context: silences_seen_by(context.owner())))
SilenceConnection = connection(Silence, fields=["starts_at", "pk"], by=TimeOrder, is_descending=True)


class Attempt(graphene.ObjectType):
    """An attempt to send a message."""

    number = graphene.Int(required=True, description="1 is the first.")
    started_at = graphene.Field(DateTime, required=True, description="When it began.")
    finished_at = graphene.Field(DateTime, description="When it ended; null: it is under way, or its process died.")
    milliseconds = graphene.Int(description="How long it took.")
    outcome = graphene.Field(AttemptOutcome, description="How it ended; null: it has not.")
    reason = graphene.String(required=True, description="Why it failed, as a code; else empty.")
    detail = graphene.String(required=True, description="The same for people, without addresses; may be empty.")
    status = graphene.Int(description="The status of the answer, of HTTP or SMTP.")

    def resolve_outcome(attempt: AttemptRow, info: Any) -> str | None:
        return attempt.outcome or None

    def resolve_detail(attempt: AttemptRow, info: Any) -> str:
        return ADDRESS.sub("…", attempt.detail)


class Notification(graphene.ObjectType):
    """A step of an alert, or a reminder of it, for one channel. A message carries one or more of them."""

    event = graphene.Field(alerts.EventKind, required=True, description="The step of the alert.")
    reminder = graphene.Int(required=True, description="0: of the step itself; else the number of the reminder.")
    channel = graphene.Field(Channel, required=True, description="The channel that it is for.")
    status = graphene.Field(NotificationStatus, required=True, description="Its status.")
    reason = graphene.String(
        description="Why it is deferred, `silence` or `quiet`, or silenced; else why the last attempt failed, as a "
        "code. Null: for neither reason."
    )
    created_at = graphene.Field(DateTime, required=True, description="When it was created.")
    due_at = graphene.Field(
        DateTime,
        description="When it becomes part of a message: after the channel's group wait, or when what defers it ends. "
        "Null: its alert is silenced until it is over, and then it is not sent.",
    )
    delivered_at = graphene.Field(DateTime, description="When its receiver accepted the message; null: not yet.")
    message = graphene.Field(Message, description="The message that carries it; null before it is written.")
    attempts = graphene.List(
        graphene.NonNull(Attempt), description="The attempts to send that message, in order; empty before the first."
    )

    def resolve_event(notification: NotificationRow, info: Any) -> str:
        return notification.event.kind

    def resolve_status(notification: NotificationRow, info: Any) -> str:
        return str(notification.status)

    def resolve_reminder(notification: NotificationRow, info: Any) -> int:
        return notification.repeat

    def resolve_reason(notification: NotificationRow, info: Any) -> Any:
        if notification.status in (NotificationRow.Status.DEFERRED, NotificationRow.Status.SILENCED):
            return notification.deferred_by
        return (
            info.context.load(_last_failures, notification.message_id) if notification.message_id is not None else None
        )

    def resolve_delivered_at(notification: NotificationRow, info: Any) -> Any:
        return notification.message.delivered_at if notification.message is not None else None

    def resolve_attempts(notification: NotificationRow, info: Any) -> Any:
        return info.context.load(_attempts, notification.message_id) if notification.message_id is not None else []


NotificationConnection = connection(Notification, fields=["pk"], by=TimeOrder)


class NotifyQuery(graphene.ObjectType):
    channels = pages_of(ChannelConnection, description="Your channels, by name; a superuser's are everybody's.")
    messages = pages_of(
        MessageConnection,
        inbox_only=graphene.Boolean(required=True, default_value=False, description="Only what your inboxes hold."),
        description="Messages to your channels, newest first; a superuser's are everybody's.",
    )

    silences = pages_of(
        SilenceConnection,
        description="Silences of your alerts and of everybody's, the last to begin first; a superuser's are all.",
    )

    def resolve_channels(root: None, info: Any, **paging: Any) -> Page:
        return page(ChannelConnection, channels_seen_by(info.context.owner()), info.context, **paging)

    def resolve_messages(root: None, info: Any, inbox_only: bool | None = False, **paging: Any) -> Page:
        rows = messages_seen_by(info.context.owner(), inbox_only=bool(inbox_only))
        return page(MessageConnection, rows, info.context, **paging)

    def resolve_silences(root: None, info: Any, **paging: Any) -> Page:
        rows = silences_seen_by(info.context.owner())
        return page(SilenceConnection, rows, info.context, **paging)


def messages_of_alerts(context: Context, alert_ids: list[int], paging: Paging) -> Mapping[int, Page]:
    """Return alert id -> a page of the messages about it."""
    rows = messages_about(context.owner(), alert_ids)
    return pages_by("alert_id", MessageConnection, rows, context, keys=alert_ids, paging=paging)


def notifications_of_alerts(context: Context, alert_ids: list[int], paging: Paging) -> Mapping[int, Page]:
    """Return alert id -> a page of its notifications on the channels that the reader may see."""
    rows = notifications_about(context.owner(), alert_ids)
    return pages_by("alert_id", NotificationConnection, rows, context, keys=alert_ids, paging=paging)


def _attempts(context: Context, message_ids: list[UUID]) -> Mapping[UUID, Sequence[AttemptRow]]:
    return context.once(attempts_of, message_ids)


def _last_failures(context: Context, message_ids: list[UUID]) -> Mapping[UUID, str]:
    reasons = {
        message_id: [one.reason for one in tries if one.outcome]
        for message_id, tries in _attempts(context, message_ids).items()
    }
    return {message_id: ended[-1] for message_id, ended in reasons.items() if ended and ended[-1]}


def _alerts_of_messages(context: Context, message_ids: list[UUID]) -> Mapping[UUID, Sequence[AlertRow]]:
    ids_of = alert_ids_of(message_ids)
    rows = alerts.alerts_by_id(context, sorted({alert_id for ids in ids_of.values() for alert_id in ids}))
    return {pk: [rows[alert_id] for alert_id in ids_of.get(pk, ()) if alert_id in rows] for pk in message_ids}
