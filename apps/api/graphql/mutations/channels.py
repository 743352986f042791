"""Channels made, changed and tried."""

from datetime import datetime
from typing import Any
from uuid import UUID as PythonUUID

import graphene
from django.core.exceptions import ValidationError

from apps.api.graphql.context import Context
from apps.api.graphql.mutations.base import Creation, Mutation, row_of
from apps.api.graphql.mutations.faults import Code, Fault, Faulty
from apps.api.graphql.scalars import JSON, UUID
from apps.api.graphql.types.notify import Channel, Message
from apps.notify.encryption import DecryptionError
from apps.notify.models import Channel as ChannelRow
from apps.notify.models import Message as MessageRow
from apps.notify.queries import channels_seen_by, messages_seen_by
from apps.notify.services import (
    SECRET,
    ChannelStays,
    TestRefused,
    change_channel,
    create_channel,
    delete_channel,
    has_rotating_secret,
    send_test,
)
from apps.notify.transports.registry import why_not_chosen

_SETTINGS = "What its kind has to know, by name, as texts: docs/notifications.md lists it. It is never shown again."


class ChannelOptions(graphene.InputObjectType):
    """What people set of a channel, whatever its kind. What is left out stays, or is what suits the kind."""

    is_enabled = graphene.Boolean(description="False: nothing is sent here, and pending messages are discarded.")
    wants_resolved = graphene.Boolean(description="Also say when an alert is over.")
    wants_system = graphene.Boolean(description="Also notify of alerts about the installation. For operators.")
    group_wait_seconds = graphene.Int(description="How long to wait for more alerts, which come as one message.")
    messages_per_minute = graphene.Int(description="0: no limit.")
    repeat_minutes = graphene.Int(description="Between reminders; 0: none.")
    quiet_from = graphene.String(description='When quiet hours begin, like "22:00"; null: there are none.')
    quiet_until = graphene.String(description="When they end.")
    quiet_zone = graphene.String(description="Their time zone, like Europe/Kyiv.")
    quiet_allow_critical = graphene.Boolean(description="Critical alerts are sent in quiet hours too.")
    subject_template = graphene.String(description="Empty: the default.")
    text_template = graphene.String(description="Empty: the default.")


_WITHIN = dict.fromkeys(ChannelOptions._meta.fields, "options")


class CreateChannel(Creation):
    """Make a channel of yours. Nothing is sent before a rule names it, or a test is asked for."""

    class Arguments:
        name = graphene.String(required=True, description="Its name, unique among yours.")
        kind = graphene.String(required=True, description="One of the kinds of docs/notifications.md, like inbox.")
        settings = JSON(description=_SETTINGS)
        options = ChannelOptions(description="Settings that every kind of channel has.")

    permission = "notify.add_channel"
    columns_within = _WITHIN
    gives = "channel"
    channel = graphene.Field(Channel, description="The new channel.")
    secret = graphene.String(
        description="The secret by which its receiver checks what comes, where one was made. Not shown again: null "
        "in a repeat."
    )

    @classmethod
    def change(
        cls, context: Context, now: datetime, *, name: str, kind: str, settings: Any = None, options: Any = None
    ) -> ChannelRow:
        """Make it the client's."""
        owner, columns = context.owner(), _columns_of(context, options)
        if why := why_not_chosen(kind):
            raise ValidationError({"kind": why})
        return create_channel(owner=owner, name=name, kind=kind, config=_settings_of(settings), **columns)

    @classmethod
    def found(cls, context: Context, id: str) -> ChannelRow | None:
        """Return the channel of an id."""
        return channels_seen_by(context.owner()).filter(pk=id).first()

    @classmethod
    def beside(cls, made: ChannelRow, *, settings: Any = None, **arguments: Any) -> dict[str, Any]:
        """Return the secret that was made."""
        is_made = has_rotating_secret(made) and not (settings or {}).get(SECRET)
        return {"secret": made.transport_settings.get(SECRET)} if is_made else {}


class UpdateChannel(Mutation):
    """Change a channel; what is left out stays. Its kind is what it is."""

    class Arguments:
        id = UUID(required=True, description="Id of a channel of yours.")
        name = graphene.String(description="Its name, unique among yours.")
        settings = JSON(description=f"{_SETTINGS} What is left out of it stays too.")
        options = ChannelOptions(description="Settings that every kind of channel has.")

    permission = "notify.change_channel"
    columns_within = _WITHIN
    channel = graphene.Field(Channel, description="The row after the change.")

    @classmethod
    def change(
        cls,
        context: Context,
        now: datetime,
        *,
        id: PythonUUID,
        name: str | None = None,
        settings: Any = None,
        options: Any = None,
    ) -> dict[str, Any]:
        """Change it, as its form does."""
        channel = row_of(channels_seen_by(context.owner()), id)
        columns = _columns_of(context, options) | ({"name": name} if name is not None else {})
        try:
            change_channel(channel=channel, config=_settings_of(settings), now=now, **columns)
        except DecryptionError:
            text = "What is stored cannot be read with the keys of this site: send all settings anew."
            raise Faulty(Fault(Code.CONFLICT, text, "settings")) from None
        return {"channel": channels_seen_by(context.owner()).get(pk=channel.pk)}


class DeleteChannel(Mutation):
    """Delete a channel that has only been tried. One that was notified of alerts stays on record: switch it off."""

    class Arguments:
        id = UUID(required=True, description="Id of a channel of yours.")

    permission = "notify.delete_channel"
    deleted_id = graphene.Field(UUID, description="The id of the deleted row.")

    @classmethod
    def change(cls, context: Context, now: datetime, *, id: PythonUUID) -> dict[str, Any]:
        """Delete it."""
        try:
            delete_channel(channel=row_of(channels_seen_by(context.owner()), id))
        except ChannelStays as error:
            raise Faulty(Fault(Code.CONFLICT, str(error))) from None
        return {"deleted_id": id}


class TestChannel(Creation):
    """Send a test on a channel, as its alerts go. At most one a minute."""

    __test__ = False  # It is no test class, whatever its name looks like.

    class Arguments:
        id = UUID(required=True, description="Id of a channel of yours.")

    permission = "notify.change_channel"
    gives = "message"
    message = graphene.Field(Message, description="Its status says later what came of it.")

    @classmethod
    def change(cls, context: Context, now: datetime, *, id: PythonUUID) -> MessageRow:
        """Write the message; the next tick sends it."""
        channel = row_of(channels_seen_by(context.owner()), id)
        try:
            return send_test(channel=channel, asked_by=context.owner().get_username(), now=now)
        except TestRefused as refusal:
            raise Faulty(Fault(Code.CONFLICT, str(refusal))) from None

    @classmethod
    def found(cls, context: Context, id: str) -> MessageRow | None:
        """Return the message of an id."""
        return messages_seen_by(context.owner()).filter(pk=id).first()


class ChannelsMutation(graphene.ObjectType):
    create_channel = CreateChannel.Field()
    update_channel = UpdateChannel.Field()
    delete_channel = DeleteChannel.Field()
    test_channel = TestChannel.Field()


def _columns_of(context: Context, options: Any) -> dict[str, Any]:
    """Return the columns that a client sets. Raises Faulty where the account may not set one."""
    columns = dict(options or {})
    if columns.get("wants_system") and not context.owner().has_perm("alerts.view_system_alerts"):
        text = "Your account may not see alerts about the installation."
        raise Faulty(Fault(Code.INVALID, text, "options.wantsSystem"))
    # Null says something of quiet hours alone.
    return {
        name: value for name, value in columns.items() if value is not None or name in ("quiet_from", "quiet_until")
    }


def _settings_of(settings: Any) -> dict[str, Any]:
    if not isinstance(settings, dict | None):
        raise Faulty(Fault(Code.INVALID, 'It must be an object like {url: "https://example.org/hook"}.', "settings"))
    return settings or {}
