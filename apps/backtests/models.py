"""Backtests that people asked for, and their results."""

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q

from apps.backtests.wording import Failure
from apps.leases import Dispatched, Leased
from apps.rules.engine.codes import CODE_LONGEST
from apps.rules.models import Rule

_FAILURE_CHOICES = [(failure.value, failure.value) for failure in Failure]


class BacktestRun(Leased, Dispatched):
    """A rule tried on what is stored of [since, until]: asked for by its owner, started by the pipeline.

    document: the written form that is tried; fence: how often it was started; failure, failure_data: why it failed, and
    the numbers or the text that belong to it; result: the report, or None before it is done.
    """

    class Status(models.TextChoices):
        QUEUED = "queued", "waiting"
        RUNNING = "running", "running"
        DONE = "done", "done"
        FAILED = "failed", "failed"
        CANCELLED = "cancelled", "cancelled"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="backtests")
    rule = models.ForeignKey(Rule, models.CASCADE, related_name="backtests")
    document = models.JSONField()
    since = models.DateTimeField()
    until = models.DateTimeField()
    status = models.CharField(max_length=9, choices=Status, default=Status.QUEUED)
    progress_percent = models.PositiveSmallIntegerField(default=0)
    cancel_requested = models.BooleanField(default=False)
    requested_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    failure = models.CharField(max_length=CODE_LONGEST, choices=_FAILURE_CHOICES, blank=True)
    failure_data = models.JSONField(default=dict)
    result = models.JSONField(null=True)

    class Meta:
        ordering = ["-requested_at"]
        verbose_name = "backtest"
        constraints = [
            # Serves tick and sweep too, which look for these.
            models.UniqueConstraint(
                fields=["owner"],
                condition=Q(status__in=["queued", "running"]),
                name="one_unfinished_backtest_per_owner",
            ),
            models.CheckConstraint(condition=Q(since__lt=models.F("until")), name="backtest_since_before_until"),
            models.CheckConstraint(
                condition=Q(progress_percent__gte=0, progress_percent__lte=100), name="backtest_progress_0_to_100"
            ),
        ]
        # Serves the list of an owner's runs, and prune.
        indexes = [models.Index(fields=["owner", "-requested_at"], name="backtest_newest_of_owner")]

    def __str__(self) -> str:
        return f"{self.rule} from {self.since:%Y-%m-%d %H:%M} to {self.until:%Y-%m-%d %H:%M}"

    @property
    def is_over(self) -> bool:
        """It is done, failed or cancelled."""
        return self.status not in (self.Status.QUEUED, self.Status.RUNNING)
