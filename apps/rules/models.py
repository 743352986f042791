"""What owners want watched, in immutable versions, and how far each instance of it has come."""

from django.conf import settings
from django.core.validators import ProhibitNullCharactersValidator
from django.db import models
from django.db.models import Q

from apps.canary import WithCanary, WithoutCanary
from apps.market.models import Asset, Feed, FeedEntry
from apps.public_ids import PublicId
from apps.rules.engine.codes import CODE_LONGEST, DETAIL_LONGEST, Reason, Unknown
from apps.rules.engine.instance import STATES

_STATE_CHOICES = [(state, state) for state in STATES]
_REASON_CHOICES = [(reason.value, reason.value) for reason in Reason]
_UNKNOWN_CHOICES = [(unknown.value, unknown.value) for unknown in Unknown]


class Rule(PublicId):
    """A rule by name. What it means stands in its versions; the newest one is in force, from its place in the log
    on."""

    class Severity(models.TextChoices):
        INFO = "info", "info"
        WARNING = "warning", "warning"
        CRITICAL = "critical", "critical"

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="rules")
    name = models.CharField(
        max_length=128,
        validators=[ProhibitNullCharactersValidator()],
        help_text="Shown in every message.",
    )
    severity = models.CharField(max_length=8, choices=Severity, default=Severity.WARNING)
    created_at = models.DateTimeField(auto_now_add=True)
    # A deleted rule stays for the alerts that it opened.
    deleted_at = models.DateTimeField(null=True, editable=False)
    objects = WithoutCanary()
    every = WithCanary()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(
                fields=["owner", "name"], condition=Q(deleted_at=None), name="one_rule_per_owner_and_name"
            )
        ]

    def __str__(self) -> str:
        return self.name


class RuleVersion(models.Model):
    """What a rule meant from one edit to the next, in the written form of docs/rules.md. Never changed."""

    rule = models.ForeignKey(Rule, models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    document = models.JSONField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["rule", "number"]
        constraints = [models.UniqueConstraint(fields=["rule", "number"], name="one_version_per_rule_and_number")]

    def __str__(self) -> str:
        return f"{self.rule} v{self.number}"


class FilledWindows(models.Model):
    """Windows that were filled before the rules that need them entered a feed's log, so that the feed does not wait
    for that.

    seq: the place in the log; data: the engine that has them, as compressed JSON; documents: version in that engine ->
    the rule in its written form.
    """

    feed = models.ForeignKey(Feed, models.CASCADE, related_name="+")
    seq = models.PositiveBigIntegerField()
    documents = models.JSONField()
    data = models.BinaryField()
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.feed_id} at {self.seq}"


class RuleChange(models.Model):
    """One line of a change of rules in a feed's log: from that entry on the rule is evaluated so, on these assets.

    version: None when the rule is no longer evaluated there; asset_ids: the ids that the rule's selector chose then;
    calendars: asset id -> trading calendar, where it has one and the rule looks at the clock; resumes: its owner has
    checked its levels after a split, so paused instances begin anew; filled: its windows, if they were
    filled before.
    """

    entry = models.ForeignKey(FeedEntry, models.CASCADE, related_name="rule_changes")
    rule = models.ForeignKey(Rule, models.CASCADE, related_name="changes")
    version = models.ForeignKey(RuleVersion, models.CASCADE, null=True, related_name="changes")
    asset_ids = models.JSONField(default=list)
    calendars = models.JSONField(default=dict)
    resumes = models.BooleanField(default=False)
    filled = models.ForeignKey(FilledWindows, models.SET_NULL, null=True, related_name="changes")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["entry", "rule"], name="one_change_per_entry_and_rule")]

    def __str__(self) -> str:
        return f"{self.rule} at {self.entry}"


class RuleState(models.Model):
    """Where one (rule, asset) stands, as of the feed's last evaluated entry.

    since: when it came into this state (event time), None before the first transition; unknown: why the last evaluation
    could say neither yes nor no, or ""; unknown_since: the feed's clock when that began; reason: of the last
    transition; detail: for ERROR what was raised, for PAUSED the ratio of the split.
    """

    # The index of the constraint below serves it, and its version holds the rule: thousands are written at once.
    rule = models.ForeignKey(Rule, models.CASCADE, related_name="states", db_index=False, db_constraint=False)
    asset = models.ForeignKey(Asset, models.CASCADE, related_name="rule_states")
    version = models.ForeignKey(RuleVersion, models.CASCADE, related_name="states")
    state = models.CharField(max_length=12, choices=_STATE_CHOICES)
    since = models.DateTimeField(null=True)
    unknown = models.CharField(max_length=CODE_LONGEST, choices=_UNKNOWN_CHOICES, blank=True)
    unknown_since = models.DateTimeField(null=True)
    reason = models.CharField(max_length=CODE_LONGEST, choices=_REASON_CHOICES, blank=True)
    detail = models.CharField(max_length=DETAIL_LONGEST, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["rule", "asset"], name="one_state_per_rule_and_asset")]

    def __str__(self) -> str:
        return f"{self.rule} on {self.asset}: {self.state}"


class Transition(models.Model):
    """One step of one instance, with the evidence it was made on. What was suppressed by a cooldown is here too.

    detail: for a step to ERROR what was raised, for one because of a split its ratio.
    """

    entry = models.ForeignKey(FeedEntry, models.CASCADE, related_name="transitions")
    # Order within the entry: an instance may take several steps in it.
    position = models.PositiveIntegerField()
    rule = models.ForeignKey(Rule, models.CASCADE, related_name="transitions")
    version = models.ForeignKey(RuleVersion, models.CASCADE, related_name="transitions")
    asset = models.ForeignKey(Asset, models.CASCADE, related_name="rule_transitions")
    from_state = models.CharField(max_length=12, choices=_STATE_CHOICES)
    to_state = models.CharField(max_length=12, choices=_STATE_CHOICES)
    at = models.DateTimeField()
    reason = models.CharField(max_length=CODE_LONGEST, choices=_REASON_CHOICES)
    detail = models.CharField(max_length=DETAIL_LONGEST, blank=True)
    suppressed = models.BooleanField(default=False)
    evidence = models.JSONField(null=True)

    class Meta:
        ordering = ["entry", "position"]
        constraints = [
            models.UniqueConstraint(fields=["entry", "position"], name="one_transition_per_entry_and_position")
        ]
        # Serves a rule's last steps.
        indexes = [models.Index(fields=["rule", "-id"], name="transition_newest_of_rule")]

    def __str__(self) -> str:
        return f"{self.rule} on {self.asset}: {self.from_state} → {self.to_state}"


class Checkpoint(models.Model):
    """A feed's engine as it stood after one entry: a rebuild starts here, and so does a replay."""

    feed = models.ForeignKey(Feed, models.CASCADE, related_name="checkpoints")
    seq = models.PositiveBigIntegerField()
    as_of = models.DateTimeField()
    created_at = models.DateTimeField(auto_now_add=True)
    # Compressed JSON.
    data = models.BinaryField()

    class Meta:
        ordering = ["feed", "seq"]
        constraints = [models.UniqueConstraint(fields=["feed", "seq"], name="one_checkpoint_per_feed_and_seq")]

    def __str__(self) -> str:
        return f"{self.feed} at {self.seq}"
