"""Portfolios, their transactions with the history of corrections, and a copy of what they come to."""

from collections.abc import Iterable
from decimal import Decimal
from enum import StrEnum
from typing import Any

from django.conf import settings
from django.core.validators import ProhibitNullCharactersValidator, RegexValidator
from django.db import models
from django.db.models import F, Q

from apps.market.models import Asset
from apps.portfolios.domain.series import EVERY_DEFAULT, EVERY_LEAST, EVERY_MOST, SeriesKind
from apps.portfolios.domain.transactions import RATIO_HIGHEST, Event, Kind, Method
from apps.portfolios.fields import ExactField
from apps.public_ids import PublicId

_no_nul = ProhibitNullCharactersValidator()
currency_validator = RegexValidator(r"\A[A-Z0-9]{2,12}\Z", "Use a code like EUR.")


def values_of(codes: Iterable[StrEnum]) -> list[str]:
    """Return codes as the database has them, so that a migration needs no code of ours."""
    return [one.value for one in codes]


# Kinds that are about an asset.
ASSET_KINDS = values_of(
    (Kind.BUY, Kind.SELL, Kind.DIVIDEND, Kind.DELIVERY_IN, Kind.DELIVERY_OUT, Kind.TRANSFER, Kind.EVENT)
)


def choices_of(codes: Any) -> list[tuple[str, str]]:
    """Return the choices of a column of codes."""
    return [(one.value, one.value.replace("_", " ")) for one in codes]


def _from_zero(name: str, field: str, *, above: bool) -> models.CheckConstraint:
    """Return the constraint that a column is above 0, or not below it. (As text on SQLite, "-1" < "0" < "0.5" too.)"""
    low = Q(**{f"{field}__gt" if above else f"{field}__gte": Decimal(0)})
    return models.CheckConstraint(condition=Q(**{field: None}) | low, name=name)


class Portfolio(PublicId):
    """Transactions of one owner that are valued together."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="portfolios")
    name = models.CharField(max_length=64, validators=[_no_nul], help_text="What you call it.")
    base_currency = models.CharField(
        max_length=12, validators=[currency_validator], help_text="The currency of its value and gains, like EUR."
    )
    method = models.CharField(
        max_length=7,
        choices=choices_of(Method),
        default=Method.FIFO.value,
        help_text="Which lots a sale takes: the oldest first (fifo), or a part of all at their average cost.",
    )
    tracks_cash = models.BooleanField(
        default=False,
        help_text="Keep balances of cash. Without it, each purchase is money that comes in, and each sale or income "
        "money that goes out. It stays so from the first transaction on.",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name", "id"]
        constraints = [
            models.UniqueConstraint(fields=["owner", "name"], name="one_portfolio_per_owner_and_name"),
            models.CheckConstraint(condition=Q(method__in=values_of(Method)), name="portfolio_method_is_known"),
            models.CheckConstraint(condition=~Q(base_currency="") & ~Q(name=""), name="portfolio_has_name_and_base"),
        ]

    def __str__(self) -> str:
        return self.name


class Transaction(PublicId):
    """One row of a portfolio; its fields are those of `domain.transactions.Transaction`.

    day: the day of `at` in UTC; group_id: of rows that belong together; external_id: what the source calls it.
    """

    portfolio = models.ForeignKey(Portfolio, models.CASCADE, related_name="transactions")
    kind = models.CharField(max_length=12, choices=choices_of(Kind))
    at = models.DateTimeField(help_text="When it happened.")
    has_time = models.BooleanField(default=True, help_text="Off: only the date counts; the row stands at 12:00 UTC.")
    day = models.DateField(editable=False)
    # Of the asset's rows: who deletes an asset has to delete the transactions first.
    asset = models.ForeignKey(Asset, models.PROTECT, null=True, blank=True, related_name="transactions")
    quantity = ExactField(null=True, blank=True)
    amount = ExactField(
        null=True,
        blank=True,
        help_text="Money before fees and taxes: what was paid or received in all, the cost of a delivery, the cash of "
        "an event; for bonus shares the cost of one.",
    )
    currency = models.CharField(max_length=12, blank=True, validators=[currency_validator])
    fee = ExactField(default=Decimal(0), blank=True)
    fee_currency = models.CharField(
        max_length=12, blank=True, validators=[currency_validator], help_text="Blank: that of the amount."
    )
    fee_asset = models.ForeignKey(
        Asset,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        help_text="Where the fee was paid in an asset, like a coin; the fee is then its worth.",
    )
    fee_quantity = ExactField(null=True, blank=True)
    tax = ExactField(default=Decimal(0), blank=True)
    tax_currency = models.CharField(
        max_length=12, blank=True, validators=[currency_validator], help_text="Blank: that of the amount."
    )
    rate = ExactField(
        null=True,
        blank=True,
        help_text="What 1 unit of the currency cost in the portfolio's base currency. It wins over the day's rate.",
    )
    counter_amount = ExactField(null=True, blank=True, help_text="Of a conversion: what came in for it.")
    counter_currency = models.CharField(max_length=12, blank=True, validators=[currency_validator])
    acquired_at = models.DateTimeField(null=True, blank=True, help_text="Of a delivery: when it was bought.")
    # Restricted, not protected: who deletes an owner deletes both portfolios.
    to_portfolio = models.ForeignKey(
        Portfolio, models.RESTRICT, null=True, blank=True, related_name="transfers_in", help_text="Of a transfer."
    )
    event = models.CharField(max_length=17, choices=choices_of(Event), blank=True, help_text="Which corporate event.")
    to_asset = models.ForeignKey(Asset, models.PROTECT, null=True, blank=True, related_name="+")
    numerator = models.PositiveIntegerField(null=True, blank=True, help_text="New shares.")
    denominator = models.PositiveIntegerField(null=True, blank=True, help_text="For so many old ones.")
    cost_share = ExactField(null=True, blank=True, help_text="Part of the cost that moves, from 0 to 1.")
    notes = models.TextField(max_length=2_000, blank=True, validators=[_no_nul])
    group_id = models.CharField(max_length=64, blank=True, validators=[_no_nul])
    external_id = models.CharField(max_length=128, blank=True, validators=[_no_nul])
    recorded_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["portfolio", "external_id"],
                condition=~Q(external_id=""),
                name="one_transaction_per_external_id",
            ),
            models.UniqueConstraint(
                fields=["portfolio", "asset", "day", "event"],
                condition=~Q(event=""),
                name="one_event_per_asset_day_and_kind",
            ),
            models.CheckConstraint(condition=Q(kind__in=values_of(Kind)), name="transaction_kind_is_known"),
            models.CheckConstraint(
                condition=(Q(kind=Kind.EVENT.value) & Q(event__in=values_of(Event)))
                | (~Q(kind=Kind.EVENT.value) & Q(event="")),
                name="transaction_of_kind_event_has_an_event",
            ),
            models.CheckConstraint(
                condition=~Q(kind__in=ASSET_KINDS) | Q(asset__isnull=False), name="transaction_has_its_asset"
            ),
            models.CheckConstraint(
                condition=(
                    Q(kind=Kind.TRANSFER.value) & Q(to_portfolio__isnull=False) & ~Q(to_portfolio=F("portfolio"))
                )
                | (~Q(kind=Kind.TRANSFER.value) & Q(to_portfolio=None)),
                name="transfer_goes_to_another_portfolio",
            ),
            models.CheckConstraint(
                condition=Q(numerator=None, denominator=None)
                | Q(
                    numerator__isnull=False,
                    denominator__isnull=False,
                    numerator__gte=1,
                    numerator__lte=RATIO_HIGHEST,
                    denominator__gte=1,
                    denominator__lte=RATIO_HIGHEST,
                ),
                name="transaction_ratio_in_range",
            ),
            _from_zero("transaction_quantity_above_0", "quantity", above=True),
            _from_zero("transaction_amount_from_0", "amount", above=False),
            _from_zero("transaction_fee_from_0", "fee", above=False),
            _from_zero("transaction_tax_from_0", "tax", above=False),
            _from_zero("transaction_rate_above_0", "rate", above=True),
            _from_zero("transaction_counter_amount_above_0", "counter_amount", above=True),
        ]
        # Serves the list of a portfolio, newest first, and the computation.
        indexes = [models.Index(fields=["portfolio", "-at", "-id"], name="transaction_of_portfolio")]

    def __str__(self) -> str:
        what = self.get_event_display() if self.event else self.get_kind_display()
        return f"{what} of {self.day}"


class TransactionChange(models.Model):
    """A transaction as it stood before it was corrected or deleted.

    row: the id of the transaction, which may be gone; by_name: the user's name then.
    """

    class Kind(models.TextChoices):
        CORRECTED = "corrected", "corrected"
        DELETED = "deleted", "deleted"

    portfolio = models.ForeignKey(Portfolio, models.CASCADE, related_name="changes")
    row = models.BigIntegerField()
    kind = models.CharField(max_length=9, choices=Kind)
    at = models.DateTimeField()
    by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    by_name = models.CharField(max_length=150)
    before = models.JSONField()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(condition=Q(kind__in=["corrected", "deleted"]), name="transaction_change_is_known")
        ]
        indexes = [models.Index(fields=["portfolio", "row", "-id"], name="changes_of_transaction")]

    def __str__(self) -> str:
        return f"{self.kind} at {self.at}"


class UsedRate(models.Model):
    """The exchange rate of a currency in a portfolio's base currency at the time of a transaction, as it was found.

    path: [symbol, provider's price, time, whether it was inverted] for each leg; priced_at: time of the oldest price.
    """

    portfolio = models.ForeignKey(Portfolio, models.CASCADE, related_name="used_rates")
    currency = models.CharField(max_length=12)
    at = models.DateTimeField()
    # 34 significant digits.
    rate = models.CharField(max_length=64)
    path = models.JSONField(default=list)
    priced_at = models.DateTimeField()

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(fields=["portfolio", "currency", "at"], name="one_rate_per_currency_and_time")
        ]

    def __str__(self) -> str:
        return f"{self.currency} at {self.at}"


class UsedPrice(models.Model):
    """The price of an asset at the time of a transfer or delivery, as it was found."""

    portfolio = models.ForeignKey(Portfolio, models.CASCADE, related_name="used_prices")
    asset = models.ForeignKey(Asset, models.CASCADE, related_name="+")
    at = models.DateTimeField()
    price = ExactField()
    currency = models.CharField(max_length=12)
    priced_at = models.DateTimeField()

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(fields=["portfolio", "asset", "at"], name="one_price_per_asset_and_time")
        ]

    def __str__(self) -> str:
        return f"{self.asset_id} at {self.at}"


class ImportFile(PublicId):
    """A file of transactions that waits for its owner to confirm what it would record: of each owner at most one that
    came by the page, and one by the API. Its public id is another one for each file."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="import_files")
    is_by_api = models.BooleanField(default=False)
    name = models.CharField(max_length=255)
    content = models.BinaryField()
    uploaded_at = models.DateTimeField()

    class Meta:
        default_permissions = ("view", "delete")
        constraints = [models.UniqueConstraint(fields=["owner", "is_by_api"], name="one_import_file_per_owner_and_way")]

    def __str__(self) -> str:
        return self.name


class Reconciliation(models.Model):
    """A file of positions beside what is computed. Of a portfolio's files the newest counts.

    day: at whose end the file says that this was held; stated: symbol -> quantity; deviations: where what is computed
    differs, see `domain.positions.document_of`, as compared last.
    """

    portfolio = models.ForeignKey(Portfolio, models.CASCADE, related_name="reconciliations")
    name = models.CharField("file", max_length=255)
    day = models.DateField()
    stated = models.JSONField(default=dict)
    deviations = models.JSONField(default=list)
    uploaded_at = models.DateTimeField()
    compared_at = models.DateTimeField()

    class Meta:
        default_permissions = ("view", "add", "delete")
        ordering = ["-uploaded_at", "-id"]
        indexes = [models.Index(fields=["portfolio", "-uploaded_at", "-id"], name="reconciliation_of_portfolio")]

    def __str__(self) -> str:
        return f"{self.name} of {self.day}"


class PriceRequest(models.Model):
    """An owner's request to operators: prices of what a file calls `symbol`, from a day on. It is answered when an
    asset of that symbol has them."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="price_requests")
    symbol = models.CharField(max_length=64)
    currency = models.CharField(max_length=12, blank=True)
    since = models.DateField("prices from")
    asked_at = models.DateTimeField()

    class Meta:
        default_permissions = ("view", "delete")
        ordering = ["symbol", "id"]
        constraints = [models.UniqueConstraint(fields=["owner", "symbol"], name="one_price_request_per_symbol")]

    def __str__(self) -> str:
        return f"prices of {self.symbol} from {self.since}"


class LedgerCopy(models.Model):
    """The totals of a portfolio, besides positions and lots; written with each change of them.

    split_id: the newest split that it knows; totals: name -> sum in the base currency, or None; cash: currency ->
    balance; flows: [day, amount or None]; quantities: [day, asset id, quantity after it]; balances: [day, currency,
    balance after it]; missing: what was not found: ["rate", currency, day] and ["price", asset id, day]; warnings:
    [transaction id, code].
    """

    portfolio = models.OneToOneField(Portfolio, models.CASCADE, primary_key=True, related_name="ledger_copy")
    split_id = models.BigIntegerField(default=0)
    totals = models.JSONField(default=dict)
    cash = models.JSONField(default=dict)
    flows = models.JSONField(default=list)
    quantities = models.JSONField(default=list)
    balances = models.JSONField(default=list)
    missing = models.JSONField(default=list)
    warnings = models.JSONField(default=list)

    class Meta:
        default_permissions = ()
        verbose_name_plural = "ledger copies"

    def __str__(self) -> str:
        return f"copy of {self.portfolio_id}"


class NightlyValue(models.Model):
    """What a portfolio was worth at the end of a day, as it was known in the night after it. The database refuses to
    change it.

    value: in the base currency of that night; flows: of that day, what came in less what went out; None: not known;
    oldest_at: time of the oldest price used; parts: see `domain.nights.document_of`.
    """

    portfolio = models.ForeignKey(Portfolio, models.CASCADE, related_name="nights")
    day = models.DateField()
    currency = models.CharField(max_length=12)
    value = ExactField(null=True)
    flows = ExactField(null=True)
    oldest_at = models.DateTimeField(null=True)
    parts = models.JSONField(default=list)
    recorded_at = models.DateTimeField()

    class Meta:
        default_permissions = ()
        ordering = ["-day"]
        constraints = [models.UniqueConstraint(fields=["portfolio", "day"], name="one_nightly_value_per_day")]

    def __str__(self) -> str:
        return f"value of {self.day}"


class PortfolioSeries(models.Model):
    """A derived series that is made of a portfolio. kind: see `domain.series.SeriesKind`; every_seconds: it has at most
    one quote in so long; target: of a drift: [asset id or None for cash, share as a fraction]."""

    # Deleted by `delete_series`, since rules and a log hang on it.
    asset = models.OneToOneField(Asset, models.CASCADE, primary_key=True, related_name="of_portfolio")
    portfolio = models.ForeignKey(Portfolio, models.PROTECT, related_name="series")
    kind = models.CharField(max_length=16, choices=choices_of(SeriesKind))
    every_seconds = models.PositiveIntegerField(default=EVERY_DEFAULT)
    target = models.JSONField(default=list)

    class Meta:
        default_permissions = ()
        ordering = ["asset"]
        verbose_name_plural = "series of portfolios"
        constraints = [
            models.CheckConstraint(condition=Q(kind__in=values_of(SeriesKind)), name="portfolio_series_kind_is_known"),
            models.CheckConstraint(
                condition=Q(every_seconds__gte=EVERY_LEAST, every_seconds__lte=EVERY_MOST),
                name="portfolio_series_every_in_range",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} of {self.portfolio_id}"


class Position(models.Model):
    """A copy of what a portfolio holds of one asset, and of what it has made with it, in the base currency.

    Rounded half to even to 12 decimals. None: a rate is missing. cost, fees: of what is held; cost_in: currency -> cost
    of the lots that were bought in it; realised: gain of sales before costs, with its price
    part and its currency part; costs: fees and taxes of the sold lots and of their sales.
    """

    portfolio = models.ForeignKey(Portfolio, models.CASCADE, related_name="positions")
    asset = models.ForeignKey(Asset, models.PROTECT, related_name="positions")
    quantity = ExactField()
    cost = ExactField(null=True)
    fees = ExactField(null=True)
    cost_in = models.JSONField(default=dict)
    realised = ExactField(null=True)
    price_part = ExactField(null=True)
    currency_part = ExactField(null=True)
    costs = ExactField(null=True)
    income = ExactField(null=True)

    class Meta:
        default_permissions = ()
        ordering = ["portfolio", "asset"]
        constraints = [models.UniqueConstraint(fields=["portfolio", "asset"], name="one_position_per_asset")]

    def __str__(self) -> str:
        return f"{self.quantity} of {self.asset_id}"

    @property
    def realised_after_costs(self) -> Decimal | None:
        """The gain of sales less fees and taxes of the sold lots and of their sales."""
        return None if self.realised is None or self.costs is None else self.realised - self.costs


class LotCopy(models.Model):
    """A copy of one lot of a position, in order. row: the transaction that bought it; see `domain.lots.Lot`."""

    position = models.ForeignKey(Position, models.CASCADE, related_name="lots")
    number = models.PositiveIntegerField()
    row = models.BigIntegerField()
    at = models.DateTimeField()
    bought = ExactField()
    numerator = models.CharField(max_length=64)
    denominator = models.CharField(max_length=64)
    quantity = ExactField()
    currency = models.CharField(max_length=12)
    cost = ExactField()
    base_cost = ExactField(null=True)
    base_fees = ExactField(null=True)

    class Meta:
        default_permissions = ()
        ordering = ["position", "number"]
        constraints = [models.UniqueConstraint(fields=["position", "number"], name="one_lot_per_number")]

    def __str__(self) -> str:
        return f"{self.quantity} of {self.at}"
