"""Episodes: opened, resolved, and why, so that each explains itself."""

from django.db import models
from django.db.models import Q

from apps.alerts.episodes import OPENED, RESOLVED
from apps.market.models import Asset, Batch
from apps.rules.models import Rule, RuleVersion


class Alert(models.Model):
    """One episode of one rule on one asset. Its owner is the rule's.

    kind: the condition held, or judging it failed; opened_at, resolved_at: event time; evidence, in data and in words:
    what the rule saw when it opened; batch: the entry of the log that opened it, which has the quotes and the trace.
    """

    class Kind(models.TextChoices):
        CONDITION = "condition", "condition"
        ERROR = "error", "error"

    rule = models.ForeignKey(Rule, models.CASCADE, related_name="alerts")
    version = models.ForeignKey(RuleVersion, models.CASCADE, related_name="alerts")
    asset = models.ForeignKey(Asset, models.CASCADE, related_name="alerts")
    batch = models.ForeignKey(Batch, models.PROTECT, related_name="alerts")
    kind = models.CharField(max_length=9, choices=Kind, default=Kind.CONDITION)
    severity = models.CharField(max_length=8, choices=Rule.Severity)
    opened_at = models.DateTimeField()
    resolved_at = models.DateTimeField(null=True)
    resolution = models.CharField(max_length=200, blank=True)
    evidence = models.JSONField(default=dict)
    words = models.TextField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-opened_at", "-id"]
        constraints = [
            # An episode opens once, whoever judges it how often.
            models.UniqueConstraint(
                fields=["rule", "asset"], condition=Q(resolved_at=None), name="one_open_alert_per_rule_and_asset"
            ),
            models.CheckConstraint(
                condition=Q(resolved_at=None) | Q(resolved_at__gte=models.F("opened_at")),
                name="alert_resolved_after_it_opened",
            ),
        ]
        # Serves the lists of alerts, newest first.
        indexes = [models.Index(fields=["-opened_at", "-id"], name="alert_newest_first")]

    def __str__(self) -> str:
        return self.words


class AlertEvent(models.Model):
    """A step in the life of an alert: what channels are told of. at: event time."""

    class Kind(models.TextChoices):
        OPENED = OPENED, OPENED
        RESOLVED = RESOLVED, RESOLVED

    alert = models.ForeignKey(Alert, models.CASCADE, related_name="events")
    kind = models.CharField(max_length=8, choices=Kind)
    at = models.DateTimeField()
    reason = models.CharField(max_length=500, blank=True)
    batch = models.ForeignKey(Batch, models.PROTECT, related_name="alert_events")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["alert", "kind"], name="one_event_per_alert_and_kind")]

    def __str__(self) -> str:
        return f"{self.kind} {self.alert_id}"
