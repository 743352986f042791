"""Episodes: opened, acknowledged, resolved, and why, so that each explains itself."""

from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Func, Q

from apps.alerts.episodes import CORRECTED, OPENED, REASONS, RESOLVED
from apps.market.models import Asset, FeedEntry
from apps.public_ids import PublicId
from apps.rules.engine.codes import CODE_LONGEST, DETAIL_LONGEST, Reason
from apps.rules.models import Rule, RuleVersion

_WITHOUT_RULE = Q(rule=None, version=None, asset=None, entry=None)
_WITH_RULE = Q(rule__isnull=False, version__isnull=False, asset__isnull=False, entry__isnull=False)
_REASON_CHOICES = [(reason, reason) for reason in REASONS]


class TransactionNumber(Func):
    """The number of the transaction that writes, which grows in the order in which transactions first write. 0 on
    SQLite, where one writes at a time."""

    template = "pg_current_xact_id()::text::bigint"
    output_field = models.BigIntegerField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="0", **context)


class Alert(PublicId):
    """One episode: of one rule on one asset; of the health of one subject; of a portfolio that differs from a
    file of positions; or of this installation, found by Alertmanager.

    kind: the condition held, or evaluating it failed, or a split paused it, or its subject has stopped, or it came from
    Alertmanager; owner: whose it is, None: the operators'; subject, subject_id: of kinds health and
    reconciliation, what it is about;
    opened_at, resolved_at: event time, of kind health by the wall clock; evidence, in data and in words: what the rule
    saw when it opened (where no rule opened it: labels and annotations); entry: the entry of the log that opened it,
    which has the quotes and the trace; resolution: why it ended; fingerprint: Alertmanager's name for the labels;
    reported_start: of kind system, when it began by Alertmanager's clock; acknowledged_at: by the wall clock.
    """

    class Kind(models.TextChoices):
        CONDITION = "condition", "condition"
        ERROR = "error", "error"
        PAUSED = "paused", "paused"
        HEALTH = "health", "health"
        RECONCILIATION = "reconciliation", "reconciliation"
        SYSTEM = "system", "system"

    class State(models.TextChoices):
        """Where an alert stands; it follows from the row."""

        OPEN = "open", "open"
        ACKNOWLEDGED = "acknowledged", "acknowledged"
        RESOLVED = "resolved", "resolved"
        EXPIRED = "expired", "expired"

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, null=True, related_name="alerts")
    rule = models.ForeignKey(Rule, models.CASCADE, null=True, related_name="alerts")
    version = models.ForeignKey(RuleVersion, models.CASCADE, null=True, related_name="alerts")
    asset = models.ForeignKey(Asset, models.CASCADE, null=True, related_name="alerts")
    entry = models.ForeignKey(FeedEntry, models.PROTECT, null=True, related_name="alerts")
    kind = models.CharField(max_length=14, choices=Kind, default=Kind.CONDITION)
    subject = models.CharField(max_length=9, blank=True)
    subject_id = models.BigIntegerField(default=0)
    severity = models.CharField(max_length=8, choices=Rule.Severity)
    opened_at = models.DateTimeField()
    resolved_at = models.DateTimeField(null=True)
    resolution = models.CharField(max_length=CODE_LONGEST, choices=_REASON_CHOICES, blank=True)
    acknowledged_at = models.DateTimeField(null=True)
    acknowledged_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    note = models.CharField(max_length=500, blank=True)
    evidence = models.JSONField(default=dict)
    summary = models.TextField()
    fingerprint = models.CharField(max_length=64, blank=True)
    reported_start = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-opened_at", "-id"]
        permissions = [
            ("send_system_alerts", "Can send alerts about the installation (Alertmanager's webhook)"),
            ("view_system_alerts", "Can see alerts about the installation"),
        ]
        constraints = [
            # An episode opens once, whoever evaluates it how often.
            models.UniqueConstraint(
                fields=["rule", "asset"], condition=Q(resolved_at=None), name="one_open_alert_per_rule_and_asset"
            ),
            # Alertmanager says the same thing again and again.
            models.UniqueConstraint(
                fields=["fingerprint", "reported_start"],
                condition=Q(kind="system"),
                name="one_alert_per_fingerprint_and_start",
            ),
            models.CheckConstraint(
                condition=Q(resolved_at=None) | Q(resolved_at__gte=models.F("opened_at")),
                name="alert_resolved_after_it_opened",
            ),
            # One of an owner, and one of the operators, of each subject.
            models.UniqueConstraint(
                fields=["owner", "subject", "subject_id"],
                condition=Q(kind__in=["health", "reconciliation"], resolved_at=None, owner__isnull=False),
                name="one_open_alert_per_owner_and_subject",
            ),
            models.UniqueConstraint(
                fields=["subject", "subject_id"],
                condition=Q(kind="health", resolved_at=None, owner=None),
                name="one_open_health_alert_of_operators_per_subject",
            ),
            models.CheckConstraint(
                condition=(
                    _WITHOUT_RULE
                    & (
                        Q(kind="system", owner=None, subject="")
                        | Q(kind="health") & ~Q(subject="")
                        | Q(kind="reconciliation", subject="portfolio", owner__isnull=False)
                    )
                )
                | (
                    _WITH_RULE
                    & ~Q(kind__in=["system", "health", "reconciliation"])
                    & Q(owner__isnull=False, subject="")
                ),
                name="alert_of_a_rule_or_a_subject_or_the_system",
            ),
        ]
        indexes = [
            # Serves the lists of alerts, newest first.
            models.Index(fields=["-opened_at", "-id"], name="alert_newest_first"),
            # Serves the check of health: what is open.
            models.Index(fields=["id"], condition=Q(kind="health", resolved_at=None), name="health_alert_open"),
            # Serves reminders and the lists of what waits for somebody: what is open and not acknowledged.
            models.Index(
                fields=["id"], condition=Q(resolved_at=None, acknowledged_at=None), name="alert_unacknowledged"
            ),
        ]

    def __str__(self) -> str:
        return self.summary

    @property
    def state(self) -> str:
        """Return one of State."""
        if self.resolved_at is not None:
            return self.State.EXPIRED if self.resolution == Reason.EXPIRED else self.State.RESOLVED
        return self.State.OPEN if self.acknowledged_at is None else self.State.ACKNOWLEDGED

    @property
    def rule_name(self) -> str:
        """Return the name of what opened it: a rule of ours, the check of health, or a rule of Prometheus."""
        return self.rule.name if self.rule is not None else self._label("alertname") or "alert"

    @property
    def symbol(self) -> str:
        """Return what it is about: an asset, what has stopped, or what Prometheus calls the instance or job; "" where
        it names none."""
        return self.asset.symbol if self.asset is not None else self._label("instance") or self._label("job")

    def _label(self, name: str) -> str:
        labels: dict[str, Any] = self.evidence.get("labels", {})
        return str(labels.get(name, ""))


class AlertEvent(models.Model):
    """A step in the life of an alert, of which channels are notified.

    at: event time of what the engine found or Alertmanager said, the wall clock's of what a person did; entry: the
    entry of the log that made it; by: the person who did it, where one did; reason: why, where no person did it;
    detail: what was raised, or the person's note; correction: of a corrected one, domain.CorrectionSeen as data;
    transaction: the number of the transaction that wrote it. Ids are given before commits, and commits come in another
    order; whoever reads (transaction, id) below the oldest that is under way misses none.
    """

    class Kind(models.TextChoices):
        OPENED = OPENED, OPENED
        ACKNOWLEDGED = "acknowledged", "acknowledged"
        RESOLVED = RESOLVED, RESOLVED
        CORRECTED = CORRECTED, CORRECTED

    alert = models.ForeignKey(Alert, models.CASCADE, related_name="events")
    kind = models.CharField(max_length=12, choices=Kind)
    at = models.DateTimeField()
    reason = models.CharField(max_length=CODE_LONGEST, choices=_REASON_CHOICES, blank=True)
    detail = models.CharField(max_length=DETAIL_LONGEST, blank=True)
    entry = models.ForeignKey(FeedEntry, models.PROTECT, null=True, related_name="alert_events")
    by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    correction = models.JSONField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    transaction = models.BigIntegerField(db_default=TransactionNumber(), editable=False)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["alert", "kind"], condition=~Q(kind=CORRECTED), name="one_event_per_alert_and_kind"
            ),
            # The prices that an alert saw may be corrected more than once.
            models.UniqueConstraint(
                fields=["alert", "entry"], condition=Q(kind=CORRECTED), name="one_correction_per_alert_and_entry"
            ),
        ]
        # Serves whoever follows alerts.
        indexes = [models.Index(fields=["transaction", "id"], name="alert_event_as_committed")]

    def __str__(self) -> str:
        return f"{self.kind} {self.alert_id}"
