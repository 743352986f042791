"""The rows of derived series: what each is made of, and how far their feeds have read those of their legs."""

from django.db import models

from apps.leases import Dispatched


class DerivedFeed(Dispatched):
    """A feed whose quotes are made of other feeds': of the series of one owner, or of none, over one set of leg feeds.

    key: the owner and the leg feeds; version: grows with each change of its series, so that what a process remembers
    of them is known to be old. Its head is locked while quotes are derived, and after it its cursors.
    """

    feed = models.OneToOneField("market.Feed", models.CASCADE, primary_key=True, related_name="derived")
    key = models.TextField(unique=True)
    version = models.PositiveBigIntegerField(default=0)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.feed_id} of {self.key}"


class LegCursor(models.Model):
    """How far a derived feed has read the log of one of its legs' feeds.

    is_behind: the leg was left behind, so the others' quotes are derived without waiting for it.
    """

    feed = models.ForeignKey(DerivedFeed, models.CASCADE, related_name="legs")
    leg = models.ForeignKey("market.Feed", models.PROTECT, related_name="derived_cursors")
    seq = models.PositiveBigIntegerField(default=0)
    is_behind = models.BooleanField(default=False)

    class Meta:
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["feed", "leg"], name="one_cursor_per_derived_feed_and_leg")]

    def __str__(self) -> str:
        return f"{self.feed_id} read {self.leg_id} to {self.seq}"


class DerivedSeries(models.Model):
    """An asset that is made of others.

    document: its definition as of the end of its feed's log; state: a copy of its last one there, None before it has
    one.
    """

    asset = models.OneToOneField("market.Asset", models.CASCADE, primary_key=True, related_name="series")
    document = models.JSONField()
    state = models.JSONField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = verbose_name_plural = "derived series"

    def __str__(self) -> str:
        # In lists of what keeps an asset from being deleted, where other people's series are not named.
        return "a derived series"


class SeriesLeg(models.Model):
    """An asset of which a series is made. It cannot be deleted, nor leave its feed, before that series is."""

    series = models.ForeignKey(DerivedSeries, models.CASCADE, related_name="legs")
    asset = models.ForeignKey("market.Asset", models.PROTECT, related_name="leg_of")

    class Meta:
        default_permissions = ()
        verbose_name_plural = "derived series"
        constraints = [models.UniqueConstraint(fields=["series", "asset"], name="one_leg_per_series_and_asset")]

    def __str__(self) -> str:
        return "a derived series"


class SeriesChange(models.Model):
    """One line of a change of series in a derived feed's log.

    Of an asset: `document` is its definition from that entry on, None where it ended. Of a leg's feed: it was left
    behind there.
    """

    entry = models.ForeignKey("market.FeedEntry", models.CASCADE, related_name="series_changes")
    # No foreign key: the log outlives a series that was deleted.
    asset_id = models.BigIntegerField(null=True)
    document = models.JSONField(null=True)
    left_behind = models.ForeignKey("market.Feed", models.PROTECT, null=True, related_name="+")

    class Meta:
        default_permissions = ()
        ordering = ["id"]

    def __str__(self) -> str:
        return f"change of series at {self.entry_id}"


class Derivation(models.Model):
    """What an entry of derived quotes was made from: positions: leg feed id, as text, -> the last entry read there;
    states: asset id, as text, -> the state of its series after the entry, of series that have one."""

    entry = models.OneToOneField("market.FeedEntry", models.CASCADE, primary_key=True, related_name="derivation")
    positions = models.JSONField()
    states = models.JSONField(default=dict)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"derived at {self.entry_id}"
