"""The problems that the last check has found, and its time."""

from django.db import models
from django.db.models import Q

from apps.health.domain import Code, Level, Subject


class Check(models.Model):
    """The times at which the scheduler and the workers last did their work, in one row.

    ticked_at: when a worker finished a tick last; checked_at: when everything was checked last; running_since: since
    when checks have come without a gap; pinged_at: when HEARTBEAT_URL was called last.
    """

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    ticked_at = models.DateTimeField(null=True)
    checked_at = models.DateTimeField(null=True)
    running_since = models.DateTimeField(null=True)
    pinged_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()
        constraints = [models.CheckConstraint(condition=Q(id=1), name="one_row_of_checks")]

    def __str__(self) -> str:
        return f"checked at {self.checked_at}"


class Problem(models.Model):
    """A problem of one subject. The first check that finds it makes the row; the first that does not deletes it.

    subject_id: 0 for the system; since: from when on; facts: what the sentence about it needs.
    """

    subject = models.CharField(max_length=8, choices=[(one.value, one.value) for one in Subject])
    subject_id = models.BigIntegerField(default=0)
    code = models.CharField(max_length=32, choices=[(one.value, one.value) for one in Code])
    level = models.CharField(max_length=8, choices=[(one.value, one.value) for one in Level])
    since = models.DateTimeField()
    facts = models.JSONField(default=dict)

    class Meta:
        default_permissions = ()
        ordering = ["subject", "subject_id", "since"]
        constraints = [
            models.UniqueConstraint(fields=["subject", "subject_id", "code"], name="one_problem_per_subject_and_code")
        ]

    def __str__(self) -> str:
        return f"{self.subject} {self.subject_id}: {self.code}"
