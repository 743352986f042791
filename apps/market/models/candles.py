"""Candles, and how far each feed's log has been rolled up into them."""

from decimal import Decimal

from django.db import models
from django.db.models import Q

from apps.market import domain
from apps.market.models.assets import Asset
from apps.market.models.feeds import Feed
from apps.market.models.fields import PriceField, WholeNumberField


class Candle(models.Model):
    """The quotes of one asset in [at, at + resolution), late ones left out; kept for longer than they are.

    No foreign key constraint, for the reason that `Quote` has; who deletes an asset by Django deletes its candles.

    resolution: seconds; first_at, last_at: times of the first and the last quote; low_at, high_at: the last time at
    which the lowest and the highest price was quoted; price_time, square_time: sums of price · time and price² · time
    from first_at to last_at, exact, in 1e-18 and microseconds as the engine has them; seen: what windows see where a
    provider's factor makes that another, else None: open, low_at, low, high_at, high, close and the two sums.
    """

    class Resolution(models.IntegerChoices):
        MINUTE = 60, "1m"
        HOUR = 3_600, "1h"
        DAY = 86_400, "1d"

    pk = models.CompositePrimaryKey("asset_id", "resolution", "at")
    asset = models.ForeignKey(Asset, models.CASCADE, db_constraint=False, db_index=False, related_name="candles")
    resolution = models.PositiveIntegerField(choices=Resolution)
    at = models.DateTimeField()
    open = PriceField()
    high = PriceField()
    low = PriceField()
    close = PriceField()
    count = models.PositiveIntegerField()
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    low_at = models.DateTimeField()
    high_at = models.DateTimeField()
    volume = models.DecimalField(null=True, max_digits=domain.VOLUME_MAX_DIGITS, decimal_places=domain.VOLUME_DECIMALS)
    price_time = WholeNumberField()
    square_time = WholeNumberField()
    seen = models.JSONField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(low__gte=-Decimal(domain.PRICE_HIGHEST), high__lte=Decimal(domain.PRICE_HIGHEST))
                & Q(low__lte=models.F("open"), high__gte=models.F("open"))
                & Q(low__lte=models.F("close"), high__gte=models.F("close")),
                name="candle_prices_in_range",
            )
        ]

    def __str__(self) -> str:
        return f"{self.get_resolution_display()} at {self.at}"


class RollupCursor(models.Model):
    """How far a feed's log has been rolled up into candles. Locked while that goes on."""

    feed = models.OneToOneField(Feed, models.CASCADE, primary_key=True, related_name="rollup_cursor")
    seq = models.PositiveBigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.feed_id} rolled up to {self.seq}"
