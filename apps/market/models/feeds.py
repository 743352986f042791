"""Feeds, the end of each one's log, and how far it has been evaluated."""

from django.conf import settings
from django.core.validators import MaxValueValidator
from django.db import models
from django.db.models import Q

from apps.canary import WithCanary, WithoutCanary
from apps.leases import Dispatched, Leased
from apps.market import domain
from apps.market.models.fields import owned_by_id, slug_validator
from apps.owned_ids import LABEL

INTERVAL_LONGEST_SECONDS = 7 * 86_400
SILENT_SHORTEST_SECONDS, SILENT_LONGEST_SECONDS = 10, 30 * 86_400


class Feed(models.Model):
    """A set of assets asked for together: the unit of scheduling, of ordering and of parallelism.

    Nothing locks this row: its two locks are FeedHead and EvaluationCursor, made with it. owner: whose derived series
    it has, and whoever else does not see it; its id is one of apps.owned_ids.
    """

    class TimePolicy(models.TextChoices):
        EVENT = "event", "event time"
        RECEIPT = "receipt", "receipt time"

    name = models.CharField(max_length=64, unique=True, validators=[slug_validator], help_text="Like crypto-spot.")
    interval_seconds = models.PositiveIntegerField(help_text="How often quotes are asked for, in seconds.")
    interval_changed_at = models.DateTimeField(null=True, editable=False)
    time_policy = models.CharField(
        max_length=7,
        choices=TimePolicy,
        default=TimePolicy.EVENT,
        help_text="Which time a quote gets: the provider's (where it gives none, the slot's), or that of its receipt. "
        "Recordings and invented markets keep their own.",
    )
    jump_percent = models.PositiveIntegerField(
        default=domain.JUMP_PERCENT,
        help_text="A price that is further than this from the last one, in percent, waits until the next one confirms "
        "it. 0: none waits.",
    )
    switch_step_percent = models.PositiveIntegerField(
        default=domain.SWITCH_STEP_PERCENT,
        validators=[MaxValueValidator(domain.SWITCH_STEP_PERCENT_HIGHEST)],
        help_text="Where another provider takes over, a step of at most this, in percent, is taken for the difference "
        "between the two, and windows do not see it. 0: every step is movement.",
    )
    silent_after_seconds = models.PositiveIntegerField(
        null=True,
        blank=True,
        help_text="After so many seconds without a price an asset is silent, and without an answer the feed has "
        "stopped; at least its interval. Blank: after 3 intervals, and 60 s at least.",
    )
    is_enabled = models.BooleanField(
        default=True, help_text="Off: nothing is fetched; what is stored is still evaluated."
    )
    # Its clock is that of this machine, not a recording's. It follows from the feed's sources, which set it.
    is_live = models.BooleanField(default=False, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    # Deleted by `delete_series`, since an owner's rules and log hang on it.
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, editable=False, related_name="owned_feeds"
    )
    objects = WithoutCanary()
    every = WithCanary()

    class Meta:
        ordering = ["name"]
        constraints = [
            owned_by_id("feed_has_an_owner_as_its_id_says"),
            models.CheckConstraint(
                condition=~Q(name=LABEL),
                name="feed_name_is_not_that_of_owned_feeds",
                violation_error_message=f"Metrics and logs call the feeds of owners {LABEL}; take another name.",
            ),
            models.CheckConstraint(
                condition=Q(interval_seconds__gte=1, interval_seconds__lte=INTERVAL_LONGEST_SECONDS),
                name="feed_interval_from_1_second_to_7_days",
            ),
            models.CheckConstraint(
                condition=Q(jump_percent__gte=0, jump_percent__lte=domain.JUMP_PERCENT_HIGHEST),
                name="feed_jump_percent_in_range",
            ),
            models.CheckConstraint(
                condition=Q(switch_step_percent__gte=0, switch_step_percent__lte=domain.SWITCH_STEP_PERCENT_HIGHEST),
                name="feed_switch_step_percent_in_range",
            ),
            models.CheckConstraint(
                condition=Q(silent_after_seconds=None)
                | Q(
                    silent_after_seconds__gte=models.F("interval_seconds"),
                    silent_after_seconds__range=(SILENT_SHORTEST_SECONDS, SILENT_LONGEST_SECONDS),
                ),
                name="feed_silent_after_its_interval",
                violation_error_message=f"It is silent after its interval at the earliest, and after "
                f"{SILENT_SHORTEST_SECONDS} s to 30 days.",
            ),
        ]
        permissions = [("push_quotes", "Can push quotes into feeds")]

    def __str__(self) -> str:
        return self.name


class FeedHead(Leased, Dispatched):
    """The end of a feed's log. Locked for the moment in which an entry is appended, or a due fetch is claimed.

    seq: number of the last entry; as_of: the feed's clock there; began_at: slot of the first answer;
    last_slot: which was fetched last; next_slot: when the feed is due; relived_until: since the clock was set back, the
    log may have slots up to here already; turn: number of fetches so far, which picks the assets of a round that cannot
    ask for all; redispatch_at: when a lost fetch task may be sent again; failures: answers missing in a row;
    is_cache_stale: a write to the cache failed and is to be done again; totals: of all that was appended (apps.totals).
    """

    # Columns that change with each appended entry.
    APPENDED = ("seq", "totals")

    feed = models.OneToOneField(Feed, models.CASCADE, primary_key=True, related_name="head")
    seq = models.PositiveBigIntegerField(default=0)
    as_of = models.DateTimeField(null=True)
    began_at = models.DateTimeField(null=True)
    last_slot = models.DateTimeField(null=True)
    next_slot = models.DateTimeField()
    relived_until = models.DateTimeField(null=True)
    turn = models.PositiveBigIntegerField(default=0)
    failures = models.PositiveIntegerField(default=0)
    is_cache_stale = models.BooleanField(default=False)
    totals = models.JSONField(default=dict)

    class Meta:
        indexes = [
            # Serves tick: which feeds are due.
            models.Index(fields=["next_slot"], name="feed_head_due"),
            models.Index(fields=["last_slot"], name="feed_head_ahead"),
            # Serves sweep: which writes to the cache are to be done again.
            models.Index(fields=["feed"], condition=Q(is_cache_stale=True), name="feed_head_cache_stale"),
        ]

    def __str__(self) -> str:
        return f"{self.feed_id} at {self.seq}"


class EvaluationCursor(Dispatched):
    """How far a feed's log has been evaluated. Locked while its pending entries are evaluated; storing never waits for
    it.

    redispatch_at: when a lost evaluation task may be sent again; totals: of all that was evaluated (apps.totals).
    """

    feed = models.OneToOneField(Feed, models.CASCADE, primary_key=True, related_name="evaluation_cursor")
    seq = models.PositiveBigIntegerField(default=0)
    totals = models.JSONField(default=dict)

    def __str__(self) -> str:
        return f"{self.feed_id} evaluated to {self.seq}"
