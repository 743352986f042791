"""Factors that readers multiply stored prices by: splits, and switches from one provider to another."""

from django.db import models
from django.db.models import Q

from apps.market.models.assets import Asset
from apps.market.models.fields import FactorField
from apps.market.models.log import FeedEntry
from apps.market.splits import RATIO_HIGHEST


class ProviderSwitch(models.Model):
    """An asset's quotes come from another provider since this entry; windows take them multiplied by `factor`.

    at: time of the first quote of the new one; before_at: of the last one of the provider before, whose factor was
    before_factor; until_entry: the correction that deleted all prices from `at` on, or None. A factor holds from here
    to the asset's next row.
    """

    asset = models.ForeignKey(Asset, models.CASCADE, db_index=False, related_name="switches")
    entry = models.ForeignKey(FeedEntry, models.CASCADE, related_name="switches")
    at = models.DateTimeField()
    provider = models.CharField(max_length=32)
    factor = FactorField()
    before = models.CharField(max_length=32)
    before_at = models.DateTimeField()
    before_factor = FactorField()
    until_entry = models.ForeignKey(FeedEntry, models.CASCADE, null=True, related_name="ended_switches")

    class Meta:
        default_permissions = ()
        indexes = [
            # Serves windows, which are filled from the past.
            models.Index(fields=["asset", "at"], name="switch_by_asset_and_time"),
            # Serves the next switch: which factor a provider had that comes back.
            models.Index(fields=["asset", "before", "at"], name="switch_by_provider_before"),
        ]

    def __str__(self) -> str:
        return f"{self.before} to {self.provider} at {self.at}"


class Split(models.Model):
    """numerator new shares for denominator old ones, from `effective_at` on: quotes from before stay as they came, and
    whoever reads them multiplies them.

    In lowest terms. effective_at: a whole minute, so that no minute candle has prices of both kinds; entry: the place
    in the log from which on it is known. A split that was entered in error is undone by its inverse at the same time.
    """

    asset = models.ForeignKey(Asset, models.PROTECT, related_name="splits")
    effective_at = models.DateTimeField()
    numerator = models.PositiveIntegerField()
    denominator = models.PositiveIntegerField()
    entry = models.OneToOneField(FeedEntry, models.PROTECT, related_name="split")

    class Meta:
        ordering = ["effective_at", "id"]
        constraints = [
            # Entered twice, it would count twice.
            models.UniqueConstraint(
                fields=["asset", "effective_at", "numerator", "denominator"], name="one_split_per_asset_time_and_ratio"
            ),
            models.CheckConstraint(
                condition=Q(numerator__gte=1, numerator__lte=RATIO_HIGHEST)
                & Q(denominator__gte=1, denominator__lte=RATIO_HIGHEST)
                & ~Q(numerator=models.F("denominator")),
                name="split_ratio_in_range",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.numerator}:{self.denominator}"
