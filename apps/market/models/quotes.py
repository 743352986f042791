"""Prices of assets: each quote, the newest, one that waits to be confirmed, and those that a correction replaced."""

from django.db import models
from django.db.models import Q

from apps.market import domain
from apps.market.models.assets import Asset
from apps.market.models.fields import PriceField, price_in_range
from apps.market.models.log import FeedEntry


class Quote(models.Model):
    """One price of one asset at one time. Provider and receipt time are its entry's.

    On PostgreSQL the table is partitioned by day of `at` (see the migration). No foreign key constraints there: they
    cost two look-ups a row in COPY, and the only writer takes both ids from rows that it has just read or made.
    """

    pk = models.CompositePrimaryKey("asset_id", "at")
    asset = models.ForeignKey(Asset, models.PROTECT, db_constraint=False, db_index=False, related_name="quotes")
    at = models.DateTimeField()
    price = PriceField()
    volume = models.DecimalField(null=True, max_digits=domain.VOLUME_MAX_DIGITS, decimal_places=domain.VOLUME_DECIMALS)
    # The index serves evaluation: the quotes of one entry.
    entry = models.ForeignKey(FeedEntry, models.PROTECT, db_constraint=False, related_name="quotes")
    late = models.BooleanField(default=False)

    class Meta:
        constraints = [
            price_in_range("quote_price_in_range"),
            models.CheckConstraint(
                condition=Q(volume=None) | Q(volume__gte=0, volume__lte=domain.VOLUME_HIGHEST),
                name="quote_volume_in_range",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.price} at {self.at}"


class SupersededQuote(models.Model):
    """A quote that a correction has replaced or deleted. A reader of the log before that entry still sees it.

    until_entry: the correction; the other columns are those of the quote, with the entry that had brought it.
    """

    pk = models.CompositePrimaryKey("asset_id", "at", "until_entry_id")
    asset = models.ForeignKey(Asset, models.PROTECT, db_constraint=False, db_index=False, related_name="+")
    at = models.DateTimeField()
    price = PriceField()
    volume = models.DecimalField(null=True, max_digits=domain.VOLUME_MAX_DIGITS, decimal_places=domain.VOLUME_DECIMALS)
    entry = models.ForeignKey(FeedEntry, models.PROTECT, db_constraint=False, related_name="superseded_quotes")
    late = models.BooleanField(default=False)
    until_entry = models.ForeignKey(FeedEntry, models.PROTECT, db_constraint=False, related_name="corrected_quotes")

    class Meta:
        constraints = [price_in_range("superseded_price_in_range")]

    def __str__(self) -> str:
        return f"{self.price} at {self.at} until {self.until_entry_id}"


class Correction(models.Model):
    """The assets and quotes of a correction, beside its entry of the log.

    asset_ids: the assets whose past is another one from this entry on, sorted; removed: quotes that were replaced or
    deleted; days: [asset id, day like 2026-01-31] of the whole days whose candles were replaced or deleted, since their
    quotes were kept no more.
    """

    entry = models.OneToOneField(FeedEntry, models.CASCADE, primary_key=True, related_name="correction")
    asset_ids = models.JSONField()
    removed = models.PositiveIntegerField(default=0)
    days = models.JSONField(default=list)

    def __str__(self) -> str:
        return f"correction at {self.entry_id}"


class LatestQuote(models.Model):
    """The newest quote of each asset that is not late: what admission compares with, and what the cache reads
    through to.

    It outlives the quote's partition: the newest price of an asset is never forgotten.
    """

    asset = models.OneToOneField(Asset, models.CASCADE, primary_key=True, related_name="latest")
    at = models.DateTimeField()
    price = PriceField()
    provider = models.CharField(max_length=32, blank=True)

    class Meta:
        constraints = [price_in_range("latest_price_in_range")]

    def __str__(self) -> str:
        return f"{self.price} at {self.at}"


class UnconfirmedQuote(models.Model):
    """A price that jumped, and waits for the next one to confirm it. times: how many in a row have jumped."""

    asset = models.OneToOneField(Asset, models.CASCADE, primary_key=True, related_name="unconfirmed")
    at = models.DateTimeField()
    price = PriceField()
    volume = models.DecimalField(null=True, max_digits=domain.VOLUME_MAX_DIGITS, decimal_places=domain.VOLUME_DECIMALS)
    provider = models.CharField(max_length=32)
    times = models.PositiveSmallIntegerField(default=1)

    class Meta:
        constraints = [price_in_range("unconfirmed_price_in_range")]

    def __str__(self) -> str:
        return f"{self.price} at {self.at}"
