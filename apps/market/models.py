"""Assets, feeds, and each feed's log: entries numbered without gaps, and their quotes."""

from decimal import Decimal
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, ProhibitNullCharactersValidator, RegexValidator
from django.db import models
from django.db.models import Q

from apps.canary import WithCanary, WithoutCanary
from apps.leases import Dispatched, Leased
from apps.market import domain
from apps.market.calendars import CALENDARS
from apps.market.derived import models as _derived  # noqa: F401 (Django looks for tables here)
from apps.market.splits import RATIO_HIGHEST
from apps.owned_ids import LABEL, external_id_of

INTERVAL_LONGEST_SECONDS = 7 * 86_400
SILENT_SHORTEST_SECONDS, SILENT_LONGEST_SECONDS = 10, 30 * 86_400
symbol_validator = RegexValidator(
    r"\A[A-Z0-9][A-Z0-9._:/-]{0,63}\Z", "Use 1 to 64 capital letters, digits and . _ : / - (like BTC-USD)."
)
currency_validator = RegexValidator(r"\A[A-Z0-9]{2,12}\Z", "Use 2 to 12 capital letters and digits (like USD).")
slug_validator = RegexValidator(r"\A[a-z0-9][a-z0-9-]{0,63}\Z", "Use 1 to 64 small letters, digits and dashes.")


def owned_by_id(name: str) -> models.CheckConstraint:
    """Return the constraint that the rows with an owner are those whose id says so (apps.owned_ids)."""
    return models.CheckConstraint(condition=Q(owner=None, id__gte=-1) | Q(owner__isnull=False, id__lt=-1), name=name)


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
        quoted = (Quote.objects.filter(price__lte=0), LatestQuote.objects.filter(price__lte=0))
        waiting, rolled_up = UnconfirmedQuote.objects.filter(price__lte=0), Candle.objects.filter(low__lte=0)
        return any(rows.filter(asset=self.pk).exists() for rows in (*quoted, waiting, rolled_up))


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


def _is_word(tag: Any) -> bool:
    return isinstance(tag, str) and 0 < len(tag) <= 64 and "\0" not in tag


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


class PriceField(models.DecimalField):
    """A price in the range that admission lets through: of a signed asset it may be 0 or less."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs |= {"max_digits": domain.PRICE_MAX_DIGITS, "decimal_places": domain.PRICE_DECIMALS}
        super().__init__(**kwargs)


def price_in_range(name: str) -> models.CheckConstraint:
    """Return the constraint that bounds a price from both sides (PostgreSQL lets NaN through a lower bound alone)."""
    highest = Decimal(domain.PRICE_HIGHEST)
    return models.CheckConstraint(condition=Q(price__gte=-highest, price__lte=highest), name=name)


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


class FactorField(models.CharField):
    """A positive decimal as text: SQLite's own numbers have fewer digits."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs | {"max_length": 64})

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Decimal | None:
        return None if value is None else Decimal(value)

    def get_prep_value(self, value: Any) -> Any:
        return format(value, "f") if isinstance(value, Decimal) else super().get_prep_value(value)


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


class WholeNumberField(models.Field):
    """A whole number of any size: SQLite's own have 64 bits, so there it is text."""

    def db_type(self, connection: Any) -> str:
        return "numeric(80, 0)" if connection.vendor == "postgresql" else "text"

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> int | None:
        return None if value is None else int(value)

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        return str(value) if value is not None and connection.vendor != "postgresql" else value


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
