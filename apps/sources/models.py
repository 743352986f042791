"""Where a feed's quotes come from: its providers, their names for assets, circuit breakers and backfills."""

import json
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q

from apps.leases import Leased
from apps.market.domain import FUTURE_TOLERANCE
from apps.market.models import Asset, Feed
from apps.sources.providers.protocol import ProviderMisconfigured
from apps.sources.providers.registry import provider_named


class FeedSource(models.Model):
    """One provider of a feed, in order: the first that answers is taken."""

    feed = models.ForeignKey(Feed, models.CASCADE, related_name="sources")
    position = models.PositiveSmallIntegerField(default=1, help_text="1 is asked first.")
    provider = models.CharField(max_length=32, help_text="Where the quotes come from.")
    options = models.JSONField(
        default=dict, blank=True, help_text="What the provider needs to know; see docs/feeds.md."
    )

    class Meta:
        ordering = ["feed", "position"]
        constraints = [models.UniqueConstraint(fields=["feed", "position"], name="one_source_per_feed_and_position")]

    def __str__(self) -> str:
        return f"{self.position}. {self.provider}"

    def clean(self) -> None:
        if not isinstance(self.options, dict) or "\\u0000" in json.dumps(self.options):
            raise ValidationError({"options": 'Write a mapping, like {"seed": 7}.'})
        try:
            self.options = provider_named(self.provider).validate_options(self.options)
        except ProviderMisconfigured as error:
            if not error.faults:
                raise ValidationError(str(error)) from None
            # Each names its option, so that a form can show it beside the field of that option.
            found = [
                ValidationError(text.replace("%", "%%"), params={"option": name}) for name, text in error.faults.items()
            ]
            raise ValidationError({"options": found}) from None


class Listing(models.Model):
    """What a provider calls an asset; without one, a provider is asked for the asset's symbol."""

    asset = models.ForeignKey(Asset, models.CASCADE, related_name="listings")
    provider = models.CharField(max_length=32)
    external_id = models.CharField(max_length=128, help_text="Like bitcoin at CoinCap.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["asset", "provider"], name="one_listing_per_asset_and_provider"),
            models.UniqueConstraint(fields=["provider", "external_id"], name="one_asset_per_external_id"),
        ]

    def __str__(self) -> str:
        return f"{self.external_id} at {self.provider}"

    def clean(self) -> None:
        try:
            provider = provider_named(self.provider)
        except ProviderMisconfigured as error:
            raise ValidationError({"provider": str(error)}) from None
        currency = provider.currency_of(self.external_id, self._options()) if self.external_id else None
        if currency and self.asset.currency and currency != self.asset.currency:
            raise ValidationError(
                {"external_id": f"{self} is in {currency}, and {self.asset} is in {self.asset.currency}."}
            )

    def _options(self) -> dict[str, Any]:
        """Return those with which its asset's feed asks the provider, or would by default."""
        feed = self.asset.feed
        source = feed.sources.filter(provider=self.provider).first() if feed is not None else None
        if source is not None:
            return dict(source.options)
        try:
            return provider_named(self.provider).validate_options({})
        except ProviderMisconfigured:
            return {}


class RefusedListing(models.Model):
    """A name that a provider refuses, while it gives prices for others.

    external_id: the name, which may be the asset's symbol; a listing that says another name by now is not refused;
    reason: of the last refusal; since: of the first; next_ask_at: until then the provider is not asked for it.
    """

    asset = models.ForeignKey(Asset, models.CASCADE, related_name="refused_listings")
    provider = models.CharField(max_length=32)
    external_id = models.CharField(max_length=128)
    reason = models.CharField(max_length=64)
    since = models.DateTimeField()
    next_ask_at = models.DateTimeField()

    class Meta:
        ordering = ["asset", "provider"]
        constraints = [
            models.UniqueConstraint(fields=["asset", "provider"], name="one_refusal_per_asset_and_provider"),
            models.CheckConstraint(condition=Q(since__lt=models.F("next_ask_at")), name="refusal_forward"),
        ]

    def __str__(self) -> str:
        return f"{self.external_id} at {self.provider}"


class Circuit(models.Model):
    """The circuit breaker of one provider at one address, for all feeds and workers together.

    failures: in a row; open_until: nobody is asked until then; successes: in a row since it was open; reason,
    failed_at: of the last failure; let_through: a feed that may ask once all the same, since a person said so. No row:
    it has never failed.
    """

    provider = models.CharField(max_length=32)
    address = models.CharField(max_length=200)
    failures = models.PositiveIntegerField(default=0)
    successes = models.PositiveIntegerField(default=0)
    open_until = models.DateTimeField(null=True)
    reason = models.CharField(max_length=64, blank=True)
    failed_at = models.DateTimeField(null=True)
    let_through = models.ForeignKey(Feed, models.SET_NULL, null=True, related_name="+")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["provider", "address"], name="one_circuit_per_address")]

    def __str__(self) -> str:
        return f"{self.provider} at {self.address}"


class SenderClock(models.Model):
    """The clock of one sender of a feed's pushed quotes that was ahead of ours. No row: it never was.

    sender: a code like token:7, user:3 or queue:own-prices; skew_seconds: by how much its quotes are set back;
    ahead_at: when one was ahead last; refused_seconds: how far the last quote was ahead that was refused for it, at
    refused_at.
    """

    feed = models.ForeignKey(Feed, models.CASCADE, related_name="sender_clocks")
    sender = models.CharField(max_length=300)
    skew_seconds = models.PositiveSmallIntegerField(default=0)
    ahead_at = models.DateTimeField(null=True)
    refused_seconds = models.PositiveBigIntegerField(null=True)
    refused_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(fields=["feed", "sender"], name="one_clock_per_feed_and_sender"),
            models.CheckConstraint(
                condition=Q(skew_seconds__lte=FUTURE_TOLERANCE.seconds), name="skew_within_tolerance"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.sender} of {self.feed}"


class Backfill(Leased):
    """The past of one asset, asked of one provider page by page. What was begun goes on where it stopped.

    since, until: what is wanted; reached: up to where it is there; next_call_at: when the provider's limits allow the
    next call; accepted, calls: so far; failure: of the last call, or ""; is_asked: workers go on with it, page by page.
    """

    asset = models.ForeignKey(Asset, models.CASCADE, related_name="backfills")
    provider = models.CharField(max_length=32)
    since = models.DateTimeField()
    until = models.DateTimeField()
    reached = models.DateTimeField()
    next_call_at = models.DateTimeField()
    accepted = models.PositiveIntegerField(default=0)
    calls = models.PositiveIntegerField(default=0)
    failure = models.CharField(max_length=64, blank=True)
    is_asked = models.BooleanField(default=False)
    finished_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["asset", "provider"], condition=Q(finished_at=None), name="one_backfill_at_a_time"
            ),
            models.CheckConstraint(condition=Q(since__lt=models.F("until")), name="backfill_forward"),
        ]

    def __str__(self) -> str:
        return f"{self.asset} from {self.provider} since {self.since:%Y-%m-%d %H:%M}"
