"""Channels made, tried and disabled, and what they gave up sent again."""

import itertools
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.urls import reverse

from apps.accounts.queries import profile_of
from apps.alerts.models import Alert
from apps.notify import domain
from apps.notify.encryption import DecryptionError
from apps.notify.models import Channel, Message, Notification, RuleChannel
from apps.notify.queries import has_notified, reader_of_messages
from apps.notify.services.reminding import schedule_reminders
from apps.notify.transports.protocol import ChannelInvalid
from apps.notify.transports.registry import TRANSPORTS, transport_named
from apps.rules.models import Rule

# Whoever may press the button could otherwise fill a stranger's mailbox.
TEST_PAUSE = timedelta(minutes=1)
QUIET = ["quiet_from", "quiet_until", "quiet_zone", "quiet_allow_critical"]
# What people set. The rest are the senders' columns, which change meanwhile.
SET_BY_PEOPLE = [
    *("name", "config", "encrypted", "is_enabled", "is_default", "wants_resolved", "wants_system"),
    *("group_wait_seconds", "messages_per_minute", "repeat_minutes", *QUIET, "subject_template", "text_template"),
]
# The settings of a transport that signs.
SECRET, PREVIOUS_SECRET = "secret", "previous_secret"


class TestRefused(ValueError):
    """A channel is not tried now; the text is for people."""

    __test__ = False  # It is no test class, whatever its name looks like.


class ChannelStays(Exception):
    """A channel cannot be deleted; the text says why, for people."""


def create_channel(
    *, owner: AbstractBaseUser, name: str, kind: str, config: Mapping[str, Any], **options: Any
) -> Channel:
    """Return a new channel. config: what its transport has to know, secrets among it; options: columns that differ from
    what is usual for the kind. Raises ValidationError."""
    try:
        defaults = transport_named(kind).defaults
    except ChannelInvalid as error:
        raise ValidationError(str(error), code="transport") from None
    channel = Channel(
        owner=owner,
        name=name,
        quiet_zone=profile_of(owner).time_zone,
        group_wait_seconds=defaults.group_wait_seconds,
        messages_per_minute=defaults.messages_per_minute,
    )
    return configure_channel(channel=channel, kind=kind, config=config, **options)


def create_inbox(*, owner: AbstractBaseUser) -> Channel:
    """Return a new inbox, which the owner's new rules notify."""
    return create_channel(owner=owner, name="Inbox", kind="inbox", config={}, is_default=True)


def configure_channel(*, channel: Channel, kind: str, config: Mapping[str, Any], **options: Any) -> Channel:
    """Return the channel, saved with this kind, these settings of its transport and these columns. An optional secret
    that is not given stays as it is. Raises ValidationError."""
    is_same = channel.kind == kind
    channel.kind = kind
    try:
        channel.put_settings({**(_optional_secrets(channel) if is_same else {}), **config})
    except ChannelInvalid as error:
        raise ValidationError(str(error), code="transport", params={"setting": error.setting}) from None
    for column, value in options.items():
        setattr(channel, column, value)
    channel.full_clean()
    with transaction.atomic():
        channel.save()
        schedule_reminders(channel=channel)
    return channel


def change_channel(*, channel: Channel, config: Mapping[str, Any], now: datetime, **options: Any) -> None:
    """Change a channel that is there, and save it. config: those settings of its transport that change; options: those
    columns. Raises ValidationError, and DecryptionError where stored secrets cannot be read and are not given."""
    before = {name: getattr(channel, name) for name in options}
    if config:
        try:
            stored = channel.transport_settings
        except DecryptionError:
            stored = dict(channel.config)
        try:
            channel.put_settings(stored | dict(config))
        except ChannelInvalid as error:
            raise ValidationError(str(error), code="transport", params={"setting": error.setting}) from None
    for column, value in options.items():
        setattr(channel, column, value)
    channel.full_clean()
    save_changes(channel=channel, changed={name for name in options if getattr(channel, name) != before[name]}, now=now)


def save_changes(*, channel: Channel, changed: Collection[str], now: datetime) -> None:
    """Save what people have set of a channel, and let what follows from the columns that changed follow."""
    with transaction.atomic():
        channel.save(update_fields=SET_BY_PEOPLE)
        if channel.is_enabled and "is_enabled" in changed:
            switch_on(channel=channel)
        if "repeat_minutes" in changed:
            schedule_reminders(channel=channel)
        if set(QUIET) & set(changed):
            reconsider_quiet_hours(channel=channel, now=now)


def delete_channel(*, channel: Channel) -> None:
    """Delete a channel with its tests. Raises ChannelStays."""
    with transaction.atomic():
        # Whoever plans a message on it meanwhile waits, or is waited for.
        channel = Channel.objects.select_for_update().get(pk=channel.pk)
        if has_notified(channel):
            raise ChannelStays("Messages about alerts stay on record. Disable it instead.")
        channel.delete()


def _optional_secrets(channel: Channel) -> dict[str, str]:
    """Return the secrets that are not required, which may have been generated: receivers check with them."""
    optional = {one.name for one in transport_named(channel.kind).settings if one.is_secret and not one.is_required}
    try:
        return {name: value for name, value in channel.transport_settings.items() if name in optional}
    except DecryptionError:
        return {}


def send_test(*, channel: Channel, asked_by: str, now: datetime, content: tuple[str, str] | None = None) -> Message:
    """Return a new message that tests this channel. It is sent like all others, by the next tick.

    content: its subject and text; by default it says that it is a test.
    Raises TestRefused: disabled, or tried less than a minute ago.
    """
    with transaction.atomic():
        # Two presses at once are one after the other.
        channel = Channel.objects.select_for_update(no_key=True).get(pk=channel.pk)
        if not channel.is_enabled:
            raise TestRefused(f"{channel.name} is disabled. Enable it first.")
        lately = (now - TEST_PAUSE, now + TEST_PAUSE)
        if channel.messages.filter(kind=Message.Kind.TEST, created_at__range=lately).exists():
            raise TestRefused(
                f"{channel.name} was tried less than a minute ago. Look into Messages for what came of it."
            )
        subject, text = content or domain.compose_test(
            channel=channel.name,
            asked_by=asked_by,
            at=now,
            url=url_of(channel),
            reader=reader_of_messages(channel),
        )
        subject = subject[: domain.SUBJECT_LONGEST]
        return Message.objects.create(
            kind=Message.Kind.TEST, channel=channel, subject=subject, text=text, next_attempt_at=now
        )


def set_channels(*, rule: Rule, channels: Sequence[Channel]) -> None:
    """Have the rule notify these channels, and no others. They must belong to the rule's owner."""
    if any(channel.owner_id != rule.owner_id for channel in channels):
        raise ValueError("a rule notifies only channels of its owner")
    with transaction.atomic():
        RuleChannel.objects.filter(rule=rule).exclude(channel__in=channels).delete()
        RuleChannel.objects.bulk_create(
            [RuleChannel(rule=rule, channel=channel) for channel in channels], ignore_conflicts=True
        )


def switch_off(*, channel: Channel, because: str, now: datetime) -> bool:
    """Disable a channel that does not work, in the caller's transaction, and return whether it was on. The check of
    health finds it, and its owner is notified on another channel.

    Its unsent messages fail when a sender finds them, and can be sent again; but what it has not delivered of alerts
    about health moves to another channel.
    """
    if not Channel.objects.filter(pk=channel.pk, is_enabled=True).update(
        is_enabled=False, switched_off_because=because[:500]
    ):
        return False
    health = Notification.objects.filter(channel=channel, event__alert__kind=Alert.Kind.HEALTH)
    undelivered = health.filter(Q(message=None) | ~Q(message__status=Message.Status.DELIVERED))
    if undelivered.exists():
        other = channel_that_works(channel.owner, other_than=channel)
        known = Notification.objects.filter(channel=other).values("event")
        undelivered.exclude(event__in=known).update(channel=other, message=None, due_at=now, remind_at=None)
    return True


def switch_on(*, channel: Channel) -> None:
    """Enable a channel, and clear the record of its failures: if it still does not work, it fails again."""
    channel.is_enabled = True
    channel.switched_off_because = ""
    channel.failing_since = channel.refused_since = channel.resume_at = None
    with transaction.atomic():
        channel.save(
            update_fields=["is_enabled", "switched_off_because", "failing_since", "refused_since", "resume_at"]
        )
        schedule_reminders(channel=channel)


def has_rotating_secret(channel: Channel) -> bool:
    """Return whether the channel signs with a secret that can be changed in two steps."""
    kind = TRANSPORTS.get(channel.kind)
    return kind is not None and {SECRET, PREVIOUS_SECRET} <= {one.name for one in kind.settings}


def rotate_secret(*, channel: Channel) -> str:
    """Have its transport generate a new secret, and return it; the old one signs too, until it is retired.

    Raises DecryptionError, and ChannelInvalid where the rest of the settings is no longer taken.
    """
    with transaction.atomic():
        channel = Channel.objects.select_for_update(no_key=True).get(pk=channel.pk)
        known = channel.transport_settings
        kept = {name: value for name, value in known.items() if name != SECRET}
        channel.put_settings(kept | {PREVIOUS_SECRET: known.get(SECRET, "")})
        channel.save(update_fields=["config", "encrypted"])
    return channel.transport_settings[SECRET]


def retire_previous_secret(*, channel: Channel) -> bool:
    """Sign with the channel's newest secret alone from now on. False where it does so already. Raises DecryptionError
    and ChannelInvalid."""
    with transaction.atomic():
        channel = Channel.objects.select_for_update(no_key=True).get(pk=channel.pk)
        known = channel.transport_settings
        if PREVIOUS_SECRET not in known:
            return False
        channel.put_settings({name: value for name, value in known.items() if name != PREVIOUS_SECRET})
        channel.save(update_fields=["config", "encrypted"])
    return True


def redeliver(*, messages: QuerySet[Message], now: datetime) -> int:
    """Have those of the messages that failed sent again, with the same ids and the whole schedule of retries, and
    return how many those are. Messages of a channel that is disabled stay as they are."""
    failed = messages.filter(status=Message.Status.FAILED, channel__is_enabled=True).order_by().values("pk")
    with transaction.atomic():
        # Reminders count from the end of the new attempts.
        Notification.objects.filter(message__in=failed).update(remind_at=None)
        return Message.objects.filter(pk__in=failed, status=Message.Status.FAILED).update(
            status=Message.Status.PENDING, next_attempt_at=now, attempts_before=F("attempts")
        )


def reconsider_quiet_hours(*, channel: Channel, now: datetime) -> None:
    """Make due what the channel's quiet hours defer, since they were changed; it is deferred again where need be."""
    Notification.objects.filter(channel=channel, deferred_by=Notification.Deferral.QUIET, message=None).update(
        due_at=now
    )
    # No column says which of them wait for the old end, and which for a retry.
    channel.messages.filter(status=Message.Status.PENDING, next_attempt_at__gt=now).update(next_attempt_at=now)


def inbox_of(owner: AbstractBaseUser, *, other_than: Channel | None = None) -> Channel:
    """Return an inbox of the owner that is enabled; one is made where there is none."""
    inboxes = Channel.objects.filter(owner=owner, kind="inbox", is_enabled=True).order_by("pk")
    inbox = next((one for one in inboxes if one != other_than), None)
    if inbox is None:
        taken = set(Channel.objects.filter(owner=owner).values_list("name", flat=True))
        names = ("Inbox for errors" + (f" {number}" if number > 1 else "") for number in itertools.count(1))
        name = next(name for name in names if name not in taken)
        inbox = Channel.objects.create(owner=owner, name=name, kind="inbox", group_wait_seconds=0)
    return inbox


def url_of(channel: Channel) -> str:
    """Return the URL of the channel's page."""
    return settings.SITE_URL + reverse("admin:notify_channel_change", args=[channel.pk])


def channel_that_works(owner: AbstractBaseUser, *, other_than: Channel | None = None) -> Channel:
    """Return the owner's channel with the newest delivery, else an inbox."""
    working = Channel.objects.filter(
        owner=owner, is_enabled=True, failing_since=None, messages__status=Message.Status.DELIVERED
    )
    # Locked: whoever disables it meanwhile waits and finds the notification. One that is being disabled is
    # skipped.
    last = (
        working.exclude(pk=other_than.pk if other_than is not None else None)
        .order_by("-messages__delivered_at")
        .select_for_update(no_key=True, skip_locked=True, of=("self",))
        .first()
    )
    return last or inbox_of(owner, other_than=other_than)
