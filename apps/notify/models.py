"""Tables of notifying: channels, silences, notifications, messages, and attempts to send them."""

import uuid
from collections.abc import Mapping
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, ProhibitNullCharactersValidator
from django.db import models
from django.db.models import F, Q

from apps.accounts.models import validate_time_zone
from apps.alerts.models import Alert, AlertEvent
from apps.market.models import Asset
from apps.notify import domain
from apps.notify.encryption import decrypt, encrypt
from apps.notify.transports.protocol import ChannelInvalid
from apps.notify.transports.registry import transport_named
from apps.public_ids import PublicId
from apps.rules.models import Rule


class Channel(PublicId):
    """One place where one owner is notified.

    config, encrypted: the settings of its transport, the secret ones encrypted (see `transport_settings`,
    `put_settings`); failing_since: no attempt has succeeded since then; refused_since: each attempt since then was
    refused; resume_at: the receiver asked for a pause until then; switched_off_because: why it was disabled
    automatically; dispatched_at: when a task was last sent to deliver on it.
    """

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="channels")
    name = models.CharField(
        max_length=64, validators=[ProhibitNullCharactersValidator()], help_text="What you call it."
    )
    kind = models.CharField(max_length=16, help_text="How you are notified.")
    config = models.JSONField(default=dict, blank=True, editable=False)
    encrypted = models.TextField(blank=True, editable=False)
    is_enabled = models.BooleanField(
        default=True,
        help_text="When off, nothing is sent here and pending messages are discarded; they can be sent again.",
    )
    is_default = models.BooleanField(default=False, help_text="Ticked in the form of a new rule.")
    wants_resolved = models.BooleanField(default=True, help_text="Also say when an alert is over.")
    wants_system = models.BooleanField(
        default=False,
        help_text="Also notify of alerts about this installation: what has stopped, and what Alertmanager sends. "
        "For operators.",
    )
    group_wait_seconds = models.PositiveSmallIntegerField(
        default=10,
        validators=[MaxValueValidator(600)],
        help_text="Seconds to wait for further alerts, which then come as one message. What is critical never waits. "
        "0: nothing waits.",
    )
    messages_per_minute = models.PositiveSmallIntegerField(
        default=0,
        validators=[MaxValueValidator(6_000)],
        help_text="At most so many messages a minute; what is more comes together in one. 0: no limit.",
    )
    repeat_minutes = models.PositiveIntegerField(
        default=0,
        validators=[MaxValueValidator(43_200)],
        help_text="Minutes between reminders while an alert is open and nobody has acknowledged it. 0: no reminders.",
    )
    quiet_from = models.TimeField(
        null=True, blank=True, help_text="From then on nothing is sent until the end of the quiet hours, each day."
    )
    quiet_until = models.TimeField(
        null=True, blank=True, help_text="Then what was deferred comes as one message. May lie on the next day."
    )
    quiet_zone = models.CharField(
        max_length=64,
        default="UTC",
        validators=[validate_time_zone],
        help_text="Time zone of the quiet hours.",
    )
    quiet_allow_critical = models.BooleanField(default=True, help_text="What is critical comes in quiet hours too.")
    subject_template = models.CharField(
        max_length=255,
        blank=True,
        validators=[ProhibitNullCharactersValidator()],
        help_text="Subject of a message about one alert. Empty: the default.",
    )
    text_template = models.TextField(
        max_length=4_000,
        blank=True,
        validators=[ProhibitNullCharactersValidator()],
        help_text="Text about each alert. Empty: the default.",
    )
    failing_since = models.DateTimeField(null=True, editable=False)
    refused_since = models.DateTimeField(null=True, editable=False)
    resume_at = models.DateTimeField(null=True, editable=False)
    switched_off_because = models.CharField(max_length=500, blank=True, editable=False)
    dispatched_at = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["owner", "name"], name="one_channel_per_owner_and_name"),
            models.CheckConstraint(
                condition=Q(quiet_from=None, quiet_until=None)
                | (Q(quiet_from__isnull=False, quiet_until__isnull=False) & ~Q(quiet_from=F("quiet_until"))),
                name="quiet_hours_have_a_beginning_and_another_end",
            ),
            models.CheckConstraint(
                condition=Q(
                    group_wait_seconds__range=(0, 600),
                    messages_per_minute__range=(0, 6_000),
                    repeat_minutes__range=(0, 43_200),
                ),
                name="channel_waits_within_bounds",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.kind})"

    @property
    def transport_settings(self) -> dict[str, str]:
        """Return the settings of its transport, secrets decrypted. Raises DecryptionError."""
        return {**self.config, **decrypt(self.encrypted)}

    def put_settings(self, values: Mapping[str, Any]) -> None:
        """Check and set the settings of its transport, secrets encrypted, without saving. Raises ChannelInvalid."""
        transport = transport_named(self.kind)
        checked = transport.validate(values)
        secret = {one.name for one in transport.settings if one.is_secret}
        self.config = {name: value for name, value in checked.items() if name not in secret}
        self.encrypted = encrypt({name: value for name, value in checked.items() if name in secret})

    @property
    def quiet_hours(self) -> domain.QuietHours | None:
        """Return its quiet hours, None where it has none, or where their time zone no longer exists."""
        if self.quiet_from is None or self.quiet_until is None:
            return None
        try:
            ZoneInfo(self.quiet_zone)
        except (ValueError, OSError, ZoneInfoNotFoundError):
            # It was checked when it was saved, but an update of the database of time zones may remove one. The alert is
            # sent all the same.
            return None
        return domain.QuietHours(self.quiet_from, self.quiet_until, self.quiet_zone, self.quiet_allow_critical)

    def clean(self) -> None:
        self._clean_quiet_hours()
        for field in ("subject_template", "text_template"):
            try:
                domain.fill_in(getattr(self, field), dict.fromkeys(domain.PLACEHOLDERS, ""))
            except domain.TemplateInvalid as error:
                raise ValidationError({field: str(error)}) from None
        try:
            self.put_settings(self.transport_settings)
        except ChannelInvalid as error:
            raise ValidationError(str(error), code="transport", params={"setting": error.setting}) from None

    def _clean_quiet_hours(self) -> None:
        if (self.quiet_from is None) != (self.quiet_until is None):
            missing = "quiet_from" if self.quiet_from is None else "quiet_until"
            raise ValidationError({missing: "Quiet hours need a beginning and an end."})
        if self.quiet_from is not None and self.quiet_from == self.quiet_until:
            raise ValidationError({"quiet_until": "It must differ from the beginning."})


class RuleChannel(models.Model):
    """A channel that a rule notifies. The table belongs to this app, since `rules` does not know channels."""

    rule = models.ForeignKey(Rule, models.CASCADE, related_name="rule_channels")
    channel = models.ForeignKey(Channel, models.CASCADE, related_name="rule_channels")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["rule", "channel"], name="one_link_per_rule_and_channel")]

    def __str__(self) -> str:
        return f"{self.rule} → {self.channel}"


class Silence(PublicId):
    """A period in which matching alerts are recorded, and their notifications deferred until its end.

    owner, rule, asset, severity: what it matches; empty is any. owner None: everybody's, for superusers. It is ended
    early by setting ends_at. alert: the one alert that it is about; then it lasts until that alert is over, ends_at is
    None unless it is ended early, and what it deferred is not sent.
    """

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, null=True, blank=True, related_name="silences",
        help_text="Whose alerts. Empty: everybody's, and those about this installation.",
    )  # fmt: skip
    author = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, editable=False, related_name="+")
    rule = models.ForeignKey(
        Rule, models.CASCADE, null=True, blank=True, related_name="silences", help_text="Empty: of any rule."
    )
    asset = models.ForeignKey(
        Asset, models.CASCADE, null=True, blank=True, related_name="silences", help_text="Empty: on any asset."
    )
    severity = models.CharField(
        max_length=8, blank=True, choices=Rule.Severity, help_text="Empty: of any severity, critical ones too."
    )
    alert = models.ForeignKey(Alert, models.CASCADE, null=True, editable=False, related_name="silences")
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField(
        null=True, blank=True, help_text="Then each channel gets what was deferred, in one message."
    )
    comment = models.CharField(
        max_length=200, validators=[ProhibitNullCharactersValidator()], help_text="Why, for whoever reads it later."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-starts_at", "-id"]
        constraints = [
            models.CheckConstraint(condition=Q(ends_at__gte=F("starts_at")), name="silence_ends_after_it_starts"),
            models.CheckConstraint(
                condition=Q(alert=None, ends_at__isnull=False)
                | Q(alert__isnull=False, owner__isnull=False, rule=None, asset=None, severity=""),
                name="silence_has_an_end_or_is_of_one_alert",
            ),
            models.UniqueConstraint(
                fields=["alert"],
                condition=Q(ends_at=None),
                name="one_lasting_silence_per_alert",
                violation_error_message="The alert is silenced already.",
            ),
        ]
        # Serves every planner: the silences in force.
        indexes = [models.Index(fields=["ends_at"], name="silence_by_end")]

    def __str__(self) -> str:
        return self.comment


class Message(models.Model):
    """A message to one channel. Every attempt carries the same id, so a receiver can drop repeats.

    kind: about alerts, or a test of the channel; status: a silenced one is not sent, and records what the silence of
    an alert deferred; items: its events, as data (domain.MessageItem); attempts: how many were begun, which is also the
    fence of the running one; attempts_before: how many were begun before it was last redelivered, which the schedule
    does not count; lease_until: when the lease of the running attempt ends.
    """

    class Kind(models.TextChoices):
        ALERT = "alert", "alert"
        TEST = "test", "test"

    class Status(models.TextChoices):
        PENDING = "pending", "pending"
        SENDING = "sending", "sending"
        DELIVERED = "delivered", "delivered"
        FAILED = "failed", "failed"
        SILENCED = "silenced", "silenced"

    UNSENT = (Status.PENDING, Status.SENDING)
    # Written as in the conditions of the indexes below: PostgreSQL uses those where a query excludes exactly these.
    SETTLED = ("delivered", "failed", "silenced")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    channel = models.ForeignKey(Channel, models.CASCADE, related_name="messages")
    kind = models.CharField(max_length=6, choices=Kind, default=Kind.ALERT)
    status = models.CharField(max_length=9, choices=Status, default=Status.PENDING)
    subject = models.CharField(max_length=255)
    text = models.TextField()
    items = models.JSONField(default=list)
    attempts = models.PositiveIntegerField(default=0)
    attempts_before = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField()
    lease_until = models.DateTimeField(null=True)
    delivered_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-created_at"]
        indexes = [
            # Serves the lists of messages, newest first.
            models.Index(fields=["-created_at"], name="message_newest_first"),
            # Serves a channel's page, and its limit: what was made for it lately.
            models.Index(fields=["channel", "-created_at"], name="message_newest_of_channel"),
            # Serves the sender of a channel: what is due on it.
            models.Index(
                fields=["channel", "next_attempt_at"],
                condition=~Q(status__in=["delivered", "failed", "silenced"]),
                name="message_due",
            ),
            # Serves tick: what is due on any channel.
            models.Index(
                fields=["next_attempt_at"],
                condition=~Q(status__in=["delivered", "failed", "silenced"]),
                name="message_due_anywhere",
            ),
        ]

    def __str__(self) -> str:
        return self.subject


class Notification(models.Model):
    """One alert event for one channel, and the message that it is part of, once there is one.

    repeat: 0 for the event itself, then the number of the reminder; due_at: when it is to be planned: after the
    channel's group wait, or at the end of what defers it, None where it waits for the end of its alert; deferred_by:
    what defers it, or did until it was planned; remind_at: when the next reminder of the same opening is due, None
    where there is none to come; given_up_on: another channel of its owner, whose message about the event was given up.
    """

    class Deferral(models.TextChoices):
        NONE = "", "nothing"
        SILENCE = "silence", "a silence"
        QUIET = "quiet", "quiet hours"

    class Status(models.TextChoices):
        """How far it has come; it follows from the row and its message."""

        WAITING = "waiting", "waiting"
        DEFERRED = "deferred", "deferred"
        PENDING = "pending", "pending"
        SENDING = "sending", "sending"
        DELIVERED = "delivered", "delivered"
        FAILED = "failed", "failed"
        SILENCED = "silenced", "silenced"

    event = models.ForeignKey(AlertEvent, models.CASCADE, related_name="notifications")
    channel = models.ForeignKey(Channel, models.CASCADE, related_name="notifications")
    repeat = models.PositiveIntegerField(default=0)
    due_at = models.DateTimeField(null=True)
    remind_at = models.DateTimeField(null=True)
    deferred_by = models.CharField(max_length=7, choices=Deferral, blank=True, default=Deferral.NONE)
    silence = models.ForeignKey(Silence, models.SET_NULL, null=True, related_name="deferred")
    given_up_on = models.ForeignKey(Channel, models.SET_NULL, null=True, related_name="+")
    message = models.ForeignKey(Message, models.CASCADE, null=True, related_name="members")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["event", "channel", "repeat"], name="one_notification_per_event_channel_and_repeat"
            ),
            models.CheckConstraint(
                condition=Q(due_at__isnull=False) | Q(deferred_by="silence"), name="notification_is_due_or_silenced"
            ),
        ]
        indexes = [
            # Serves the planner of a channel: notifications without a message.
            models.Index(fields=["channel", "due_at"], condition=Q(message=None), name="notification_unplanned"),
            # Serves tick: those of them that are due.
            models.Index(fields=["due_at"], condition=Q(message=None), name="notification_due"),
            # Serves sweep: reminders that are due.
            models.Index(fields=["remind_at"], condition=Q(remind_at__isnull=False), name="notification_to_remind"),
        ]

    def __str__(self) -> str:
        return f"{self.event} → {self.channel}"

    @property
    def status(self) -> str:
        """Return one of Status."""
        if self.message is not None:
            return self.message.status
        return self.Status.DEFERRED if self.deferred_by else self.Status.WAITING


class DeliveryTotal(models.Model):
    """A total of attempts, which outlives their messages (apps.totals): the sum over the slots of one name.

    slot: processes write to different ones, so that those that send at one time do not wait for each other's commit.
    """

    name = models.CharField(max_length=64)
    slot = models.PositiveSmallIntegerField()
    count = models.FloatField()

    class Meta:
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["name", "slot"], name="one_delivery_total_per_name_and_slot")]

    def __str__(self) -> str:
        return f"{self.name}: {self.count}"


class Attempt(models.Model):
    """One attempt to send a message. outcome is "" while it runs, and stays "" when its process died.

    reason: short; detail: for the owner; status: of HTTP or SMTP; answer: the beginning of the receiver's answer, for
    operators only, since the receiver may be a server on their own network.
    """

    class Outcome(models.TextChoices):
        DELIVERED = "delivered", "delivered"
        TRANSIENT_FAILURE = "transient_failure", "failed; will be retried"
        PERMANENT_FAILURE = "permanent_failure", "failed permanently"

    message = models.ForeignKey(Message, models.CASCADE, related_name="tries")
    number = models.PositiveIntegerField()
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    milliseconds = models.PositiveIntegerField(null=True)
    outcome = models.CharField(max_length=17, choices=Outcome, blank=True)
    reason = models.CharField(max_length=64, blank=True)
    detail = models.CharField(max_length=2048, blank=True)
    status = models.PositiveSmallIntegerField(null=True)
    answer = models.CharField(max_length=2048, blank=True)

    class Meta:
        ordering = ["message", "number"]
        constraints = [models.UniqueConstraint(fields=["message", "number"], name="one_attempt_per_message_and_number")]

    def __str__(self) -> str:
        return f"{self.number}. {self.outcome or 'under way'}"
