"""A feed's log: entries numbered without gaps."""

from django.db import models
from django.db.models import Q

from apps.market.models.feeds import Feed

# Kinds of entries that time brings; every other kind changes what a reader sees of the past.
FORWARD_KINDS = ("quotes", "rules", "series")


class FeedEntry(models.Model):
    """One entry of a feed's log, numbered without gaps.

    seq: its place; slot: of the fetch, or None; as_of: the feed's clock at receipt; received_at: the wall clock;
    first_at, last_at: bounds of its quotes' times (they prune partitions); failure: why there was no answer, or "";
    part: a slot has several where the assets that one provider did not give were asked of the next;
    repeated: quotes that say what is stored already; unconfirmed: prices that jumped and wait for the next to confirm
    them; rejected: reason -> how many quotes; missed_slots: slots that passed without a fetch before this one;
    switched: provider before -> asset ids whose quotes come from another since this entry, None where there are none;
    each has a ProviderSwitch of this entry; is_superseded: some of its quotes were corrected later.
    """

    class Kind(models.TextChoices):
        QUOTES = "quotes", "quotes"
        RULES = "rules", "change of rules"
        HISTORY = "history", "history"
        SPLIT = "split", "split"
        CORRECTION = "correction", "correction"
        SERIES = "series", "change of series"

    feed = models.ForeignKey(Feed, models.CASCADE, related_name="entries")
    seq = models.PositiveBigIntegerField()
    kind = models.CharField(max_length=10, choices=Kind)
    slot = models.DateTimeField(null=True)
    part = models.PositiveSmallIntegerField(default=1)
    as_of = models.DateTimeField()
    received_at = models.DateTimeField()
    provider = models.CharField(max_length=32, blank=True)
    failure = models.CharField(max_length=64, blank=True)
    accepted = models.PositiveIntegerField(default=0)
    late = models.PositiveIntegerField(default=0)
    repeated = models.PositiveIntegerField(default=0)
    unconfirmed = models.PositiveIntegerField(default=0)
    rejected = models.JSONField(default=dict)
    missed_slots = models.PositiveIntegerField(default=0)
    first_at = models.DateTimeField(null=True)
    last_at = models.DateTimeField(null=True)
    switched = models.JSONField(null=True)
    is_superseded = models.BooleanField(default=False)
    trace_id = models.CharField(max_length=32)
    evaluated_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]
        verbose_name = "feed entry"
        verbose_name_plural = "feed entries"
        constraints = [
            # Serves evaluation, which reads the log in order, and keeps numbers unique.
            models.UniqueConstraint(fields=["feed", "seq"], name="one_entry_per_feed_and_seq"),
            # A fetch that runs twice stores once.
            models.UniqueConstraint(fields=["feed", "slot", "part"], name="one_entry_per_feed_slot_and_part"),
        ]
        indexes = [
            # Serves sweep: what has stayed behind.
            models.Index(fields=["received_at"], condition=Q(evaluated_at=None), name="entry_not_evaluated"),
            # Serves windows that are filled: whether the past was changed after a place in the log.
            models.Index(fields=["id"], condition=~Q(kind__in=FORWARD_KINDS), name="entry_of_the_past"),
            # Serves what is told of a feed's last day.
            models.Index(fields=["feed", "received_at"], name="entry_by_receipt"),
            # Serves the feed's page: where its quotes began to come from another provider.
            models.Index(fields=["feed", "seq"], condition=Q(switched__isnull=False), name="entry_switched"),
        ]

    def __str__(self) -> str:
        return f"{self.feed} #{self.seq}"
