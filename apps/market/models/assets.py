"""Assets, their other names, and who watches them."""

from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import ProhibitNullCharactersValidator
from django.db import models
from django.db.models import Q

from apps.canary import WithCanary, WithoutCanary
from apps.market.calendars import CALENDARS
from apps.market.models.feeds import Feed
from apps.market.models.fields import currency_validator, owned_by_id, symbol_validator
from apps.owned_ids import external_id_of


class Asset(models.Model):
    """Anything with a price over time. owner: the one person who sees it, or None; its id is one of apps.owned_ids."""

    symbol = models.CharField(max_length=64, validators=[symbol_validator], help_text="Like BTC-USD.")
    name = models.CharField(
        max_length=128, blank=True, validators=[ProhibitNullCharactersValidator()], help_text="What people call it."
    )
    feed = models.ForeignKey(
        Feed, models.PROTECT, null=True, blank=True, related_name="assets", help_text="Where its quotes come from."
    )
    currency = models.CharField(
        max_length=12,
        blank=True,
        validators=[currency_validator],
        help_text="What its price is in, like USD. A provider whose listing is in another currency is not asked.",
    )
    base_currency = models.CharField(
        max_length=12,
        blank=True,
        validators=[currency_validator],
        help_text="Of an exchange rate: the currency of which 1 unit costs the price, like EUR for EUR-USD. Portfolios "
        "convert by it.",
    )
    calendar = models.CharField(
        max_length=16,
        blank=True,
        help_text="The exchange whose trading hours it has, like XNYS; blank: always open. A silence counts open hours "
        "only.",
    )
    signed = models.BooleanField(
        default=False,
        help_text="Its price may be 0 or less, like that of a spread. Rules in percent do not apply to it, and no "
        "price of it waits to be confirmed.",
    )
    has_flows = models.BooleanField(
        default=False,
        editable=False,
        help_text="Money that comes or goes moves it too, as it does the value of a portfolio. No rule compares it "
        "with its past.",
    )
    tags = models.JSONField(default=list, blank=True, help_text='A list of words that rules can choose by: ["crypto"].')
    # Deleted by `delete_series`, since an owner's rules and log hang on it.
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, editable=False, related_name="owned_assets"
    )
    objects = WithoutCanary()
    every = WithCanary()

    class Meta:
        ordering = ["symbol"]
        # Serves exchange rates: the few assets that are some.
        indexes = [
            models.Index(fields=["base_currency"], condition=~Q(base_currency=""), name="asset_is_a_rate"),
            # Serves selectors and lists: the unique ones are each for a part of the rows.
            models.Index(fields=["symbol"], name="asset_by_symbol"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(base_currency="") | (~Q(currency="") & ~Q(currency=models.F("base_currency"))),
                name="asset_rate_is_between_two_currencies",
            ),
            models.UniqueConstraint(fields=["symbol"], condition=Q(owner=None), name="one_asset_per_symbol"),
            models.UniqueConstraint(
                fields=["owner", "symbol"], condition=Q(owner__isnull=False), name="one_asset_per_owner_and_symbol"
            ),
            owned_by_id("asset_has_an_owner_as_its_id_says"),
        ]

    def __str__(self) -> str:
        return self.symbol

    @property
    def external_id(self) -> str:
        """Return what clients call it: symbols are unique for each owner alone."""
        return external_id_of(self.pk) or self.symbol

    def clean(self) -> None:
        # Forms leave out the owner, and so the constraint that has it.
        others = Asset.every.filter(symbol=self.symbol, owner=self.owner_id).exclude(pk=self.pk)
        if others.exists():
            taken = "There is an asset of this symbol already."
            raise ValidationError({"symbol": ValidationError(taken, code="unique")})
        if not isinstance(self.tags, list) or not all(_is_word(tag) for tag in self.tags):
            raise ValidationError({"tags": 'Write a list of words, like ["crypto", "stablecoin"].'})
        if self.calendar and self.calendar not in CALENDARS:
            raise ValidationError({"calendar": "Use the code of an exchange in docs/setup.md, like XNYS, or none."})
        if self.base_currency and self.base_currency == self.currency:
            raise ValidationError({"base_currency": "A rate is between two currencies; this is that of its price."})
        if self.base_currency and not self.currency:
            raise ValidationError({"currency": "An exchange rate needs the currency that its price is in."})
        if not self.signed and self._has_been_signed():
            raise ValidationError({"signed": "It has prices of 0 or less, so it stays signed."})

    def _has_been_signed(self) -> bool:
        if self.pk is None or not Asset.objects.filter(pk=self.pk, signed=True).exists():
            return False
        is_signed_now = Q(latest__price__lte=0) | Q(unconfirmed__price__lte=0)
        return (
            self.quotes.filter(price__lte=0).exists()
            or self.candles.filter(low__lte=0).exists()
            or Asset.objects.filter(is_signed_now, pk=self.pk).exists()
        )


def _is_word(tag: Any) -> bool:
    return isinstance(tag, str) and 0 < len(tag) <= 64 and "\0" not in tag


class AssetsChange(models.Model):
    """A mark that the assets of rules may have changed since rules last followed them.

    Triggers write it (see the migration) where an asset is made or deleted, or its feed, calendar or tags are set, or a
    feed is renamed. Saving a rule writes it too, since assets may change beside it. `rules.follow_assets` deletes it.
    """

    class Meta:
        default_permissions = ()
        verbose_name_plural = "assets changes"

    def __str__(self) -> str:
        return f"change {self.pk}"


class AssetAlias(models.Model):
    """Another name by which an asset is asked for. A symbol takes precedence over an alias."""

    asset = models.ForeignKey(Asset, models.CASCADE, related_name="aliases")
    name = models.CharField(
        max_length=64, unique=True, validators=[symbol_validator], help_text="Like BTC; no asset's symbol."
    )

    class Meta:
        ordering = ["name"]
        verbose_name_plural = "asset aliases"

    def __str__(self) -> str:
        return f"{self.name} is {self.asset}"

    def clean(self) -> None:
        if Asset.objects.filter(symbol=self.name).exists():
            raise ValidationError({"name": f"{self.name} is an asset's symbol already."})


class WatchedAsset(models.Model):
    """An asset on somebody's watchlist."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="watched_assets")
    asset = models.ForeignKey(Asset, models.CASCADE, related_name="watchers")

    class Meta:
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["user", "asset"], name="one_place_on_a_watchlist")]

    def __str__(self) -> str:
        return f"{self.asset} on the watchlist of {self.user}"
