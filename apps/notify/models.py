"""Telling somebody: where to, what is owed there, what was sent, and every attempt at it."""

import json
import uuid

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import ProhibitNullCharactersValidator
from django.db import models
from django.db.models import Q

from apps.alerts.models import AlertEvent
from apps.notify.transports.protocol import ChannelInvalid
from apps.notify.transports.registry import transport_named
from apps.rules.models import Rule


class Channel(models.Model):
    """One place where one owner is told."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="channels")
    name = models.CharField(
        max_length=64, validators=[ProhibitNullCharactersValidator()], help_text="What you call it."
    )
    kind = models.CharField(max_length=16, help_text="How you are told: email or inbox.")
    config = models.JSONField(
        default=dict, blank=True, help_text='For email: {"to": "you@example.org"}; for inbox: {}.'
    )
    is_enabled = models.BooleanField(
        default=True,
        help_text="Off: nothing new is sent here. What has told of alerts is not deleted, only switched off.",
    )
    wants_resolved = models.BooleanField(default=True, help_text="Also say when an alert is over.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["owner", "name"], name="one_channel_per_owner_and_name")]

    def __str__(self) -> str:
        return f"{self.name} ({self.kind})"

    def clean(self) -> None:
        if not isinstance(self.config, dict) or "\\u0000" in json.dumps(self.config):
            raise ValidationError({"config": 'Write a mapping, like {"to": "you@example.org"}.'})
        try:
            self.config = transport_named(self.kind).validate_config(self.config)
        except ChannelInvalid as error:
            raise ValidationError(str(error), code="transport") from None


class RuleChannel(models.Model):
    """A rule's alerts are told on this channel. It stands here, since rules know nothing of telling."""

    rule = models.ForeignKey(Rule, models.CASCADE, related_name="rule_channels")
    channel = models.ForeignKey(Channel, models.CASCADE, related_name="rule_channels")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["rule", "channel"], name="one_link_per_rule_and_channel")]

    def __str__(self) -> str:
        return f"{self.rule} → {self.channel}"


class Message(models.Model):
    """What is sent once. Every attempt carries the same id, so a receiver can drop repeats.

    kind: it tells of alerts, or only tries the channel; attempts: how many were begun, and the fence of the one that is
    under way; lease_until: it may be under way till then; hurried_at: when a worker was last asked to send it.
    """

    class Kind(models.TextChoices):
        ALERT = "alert", "alert"
        TEST = "test", "test"

    class Status(models.TextChoices):
        PENDING = "pending", "pending"
        SENDING = "sending", "sending"
        DELIVERED = "delivered", "delivered"
        DEAD = "dead", "dead"

    UNSENT = (Status.PENDING, Status.SENDING)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    channel = models.ForeignKey(Channel, models.CASCADE, related_name="messages")
    kind = models.CharField(max_length=5, choices=Kind, default=Kind.ALERT)
    status = models.CharField(max_length=9, choices=Status, default=Status.PENDING)
    subject = models.CharField(max_length=255)
    text = models.TextField()
    attempts = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField()
    lease_until = models.DateTimeField(null=True)
    hurried_at = models.DateTimeField()
    delivered_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-created_at"]
        indexes = [
            # Serves the lists of messages, newest first.
            models.Index(fields=["-created_at"], name="message_newest_first"),
            # Serves sweep: what is due.
            models.Index(
                fields=["next_attempt_at"], condition=~Q(status__in=["delivered", "dead"]), name="message_due"
            ),
        ]

    def __str__(self) -> str:
        return self.subject


class Owed(models.Model):
    """What one alert event owes to one channel, and the message that pays it."""

    event = models.ForeignKey(AlertEvent, models.CASCADE, related_name="owed")
    channel = models.ForeignKey(Channel, models.CASCADE, related_name="owed")
    message = models.ForeignKey(Message, models.CASCADE, null=True, related_name="members")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["event", "channel"], name="one_debt_per_event_and_channel")]
        # Serves the planner: what no message pays yet.
        indexes = [models.Index(fields=["id"], condition=Q(message=None), name="owed_unplanned")]

    def __str__(self) -> str:
        return f"{self.event} → {self.channel}"


class Attempt(models.Model):
    """One try at one message. outcome is "" while it is under way, or for ever when its process died."""

    class Outcome(models.TextChoices):
        DELIVERED = "delivered", "delivered"
        FAILED = "failed", "failed, to be tried again"
        REJECTED = "rejected", "rejected for good"

    message = models.ForeignKey(Message, models.CASCADE, related_name="tries")
    number = models.PositiveIntegerField()
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=9, choices=Outcome, blank=True)
    reason = models.CharField(max_length=64, blank=True)
    detail = models.CharField(max_length=2048, blank=True)

    class Meta:
        ordering = ["message", "number"]
        constraints = [models.UniqueConstraint(fields=["message", "number"], name="one_attempt_per_message_and_number")]

    def __str__(self) -> str:
        return f"{self.number}. {self.outcome or 'under way'}"
