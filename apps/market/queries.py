"""What is asked of the market's rows."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise, takewhile
from math import ceil
from statistics import median
from typing import Any, NamedTuple

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db import connection
from django.db.models import (
    BigIntegerField,
    Case,
    Count,
    DateTimeField,
    Exists,
    F,
    Func,
    Max,
    Min,
    OuterRef,
    PositiveBigIntegerField,
    Prefetch,
    Q,
    QuerySet,
    Subquery,
    Sum,
    TextField,
    Value,
    When,
)
from django.db.models.expressions import RawSQL
from django.db.models.functions import Coalesce, Now, TruncDate, TruncMinute

from apps.market import cache, calendars, partitions
from apps.market.domain import (
    AdmittedQuote,
    Held,
    Newest,
    epoch_microseconds,
    from_epoch_microseconds,
    price_units,
    slot_of,
)
from apps.market.models import (
    Asset,
    AssetAlias,
    Backfill,
    Batch,
    Candle,
    Circuit,
    Feed,
    FeedSource,
    HeldQuote,
    JudgePosition,
    LatestQuote,
    Listing,
    Quote,
)
from apps.market.providers.registry import PROVIDERS

# The engine's units, worked out exactly by PostgreSQL (its extract() is numeric).
_MICROSECONDS = RawSQL("(extract(epoch FROM at) * 1000000)::bigint", [], output_field=BigIntegerField())
_NEWEST_QUOTES = """
    SELECT asset_id, (extract(epoch FROM at) * 1000000)::bigint, price, provider
    FROM market_latestquote JOIN market_asset ON market_asset.id = asset_id WHERE feed_id = %s"""
_VARIATION_STEP = Decimal("0.0001")
# Quotes by spans of so many seconds.
_SPANS = {
    "postgresql": "floor(extract(epoch FROM %(expressions)s) / %(step)s)::bigint",
    "sqlite": "CAST(strftime('%%%%s', %(expressions)s) AS INTEGER) / %(step)s",
}
_UNITS = RawSQL("(price * 10000000000)::numeric(33, 0)::text", [], output_field=TextField())


def asset_ids_by_external_id(feed: Feed) -> "AssetIds":
    """Return, per source, external id -> asset id for the assets of `feed`; two statements."""
    assets = {pk: (symbol, currency) for pk, symbol, currency in feed.assets.values_list("pk", "symbol", "currency")}
    listings = Listing.objects.filter(asset__feed=feed).values_list("provider", "asset_id", "external_id")
    return AssetIds(assets, list(listings))


class AssetIds:
    """What each source of a feed is asked for; an asset without a listing goes by its symbol.

    Only names in one currency are paired: where an asset says no currency, it is that of the first source that tells.
    So ask for the sources in their order. assets: asset id -> (symbol, currency or "").
    """

    def __init__(self, assets: Mapping[int, tuple[str, str]], listings: Sequence[tuple[str, int, str]]) -> None:
        self._assets = assets
        self._listings = listings
        self._currencies = {asset_id: currency for asset_id, (_, currency) in assets.items() if currency}
        # (provider, external id, asset id, its currency): names that are in another currency than their asset.
        self.left_out: list[tuple[str, str, int, str]] = []

    def of(self, source: FeedSource) -> dict[str, int]:
        """Return external id -> asset id for one source."""
        listed = {asset_id: external_id for slug, asset_id, external_id in self._listings if slug == source.provider}
        named = {listed.get(asset_id, symbol): asset_id for asset_id, (symbol, _) in self._assets.items()}
        provider = PROVIDERS.get(source.provider)
        if provider is None:
            return named
        paired = {}
        for external_id, asset_id in named.items():
            currency = provider.currency_of(external_id, source.options)
            if currency is not None and self._currencies.setdefault(asset_id, currency) != currency:
                self.left_out.append((source.provider, external_id, asset_id, currency))
            else:
                paired[external_id] = asset_id
        return paired


def newest_stored(asset_ids: Sequence[int]) -> dict[int, tuple[datetime, Decimal]]:
    """Return asset id -> (at, price) of its newest stored quote that is not late."""
    rows = LatestQuote.objects.filter(asset__in=asset_ids).values_list("asset_id", "at", "price")
    return {asset_id: (at, price) for asset_id, at, price in rows}


def newest_quotes(feed_id: int) -> dict[int, Newest]:
    """Return asset id -> its newest stored quote that is not late, for a feed's assets."""
    if connection.vendor == "postgresql":
        # Every answer asks it of all the feed's assets. Whole numbers are read several times as fast as times, and the
        # cursor's own tuples as fast again as a queryset's.
        with connection.cursor() as cursor:
            cursor.execute(_NEWEST_QUOTES, [feed_id])
            return {asset_id: Newest(at, price, provider) for asset_id, at, price, provider in cursor.fetchall()}
    rows = LatestQuote.objects.filter(asset__feed=feed_id)
    found = rows.values_list("asset_id", "at", "price", "provider")
    return {asset_id: Newest(epoch_microseconds(at), price, provider) for asset_id, at, price, provider in found}


def held_quotes(feed_id: int) -> dict[int, Held]:
    """Return asset id -> the quote that waits to be confirmed, for a feed's assets."""
    return {
        one.asset_id: Held(AdmittedQuote(one.asset_id, one.at, one.price, one.volume), one.provider, one.times)
        for one in HeldQuote.objects.filter(asset__feed=feed_id)
    }


def latest_prices(asset_ids: Sequence[int], *, now: datetime) -> dict[int, tuple[datetime, Decimal]]:
    """Return asset id -> (at, price), from the cache first and from the rows for what it does not know."""
    known = cache.get_latest(asset_ids, now=now)
    missing = [asset_id for asset_id in asset_ids if asset_id not in known]
    return known | (newest_stored(missing) if missing else {})


def stored_prices(quotes: Sequence[AdmittedQuote]) -> dict[tuple[int, datetime], Decimal]:
    """Return (asset id, at) -> price for those of `quotes` that are stored; the answer may hold others."""
    if not quotes:
        return {}
    times = [quote.at for quote in quotes]
    rows = Quote.objects.filter(
        asset__in={quote.asset_id for quote in quotes}, at__gte=min(times), at__lte=max(times)
    ).values_list("asset_id", "at", "price")
    return {(asset_id, at): price for asset_id, at, price in rows}


def pending_batch(*, feed_id: int, after_seq: int) -> Batch | None:
    """Return the next entry of the feed's log that has not been judged."""
    return Batch.objects.filter(feed_id=feed_id, seq=after_seq + 1).first()


def has_pending(feed_id: int) -> bool:
    """Tell whether the feed's log goes on behind the judge's position."""
    return JudgePosition.objects.filter(feed_id=feed_id, feed__head__seq__gt=F("seq")).exists()


def feeds_to_roll_up() -> list[int]:
    """Return the feeds whose log is judged further than it is rolled up."""
    rolled_up = Coalesce("feed__rolled_up__seq", 0, output_field=PositiveBigIntegerField())
    # Annotated first: a filter alone would leave out the feeds that have no position yet.
    rows = JudgePosition.objects.annotate(rolled_up=rolled_up).filter(seq__gt=F("rolled_up"))
    return list(rows.order_by("pk").values_list("pk", flat=True))


def feeds_behind(*, before: datetime) -> list[int]:
    """Return the feeds whose oldest entry that was not judged came before `before`."""
    late = Batch.objects.filter(evaluated_at=None, received_at__lt=before)
    return sorted(set(late.order_by().values_list("feed_id", flat=True)))


def feeds_pushed_to() -> list[int]:
    """Return the feeds with an entry of pushed quotes that was not judged: it belongs to no slot."""
    pushed = Batch.objects.filter(evaluated_at=None, kind=Batch.Kind.QUOTES, slot=None)
    return sorted(set(pushed.order_by().values_list("feed_id", flat=True)))


def judged_quotes(batch: Batch) -> list[tuple[int, int, int]]:
    """Return the quotes of one entry that are judged, in the order in which they are: (asset id, microseconds,
    units)."""
    if not batch.accepted:
        return []
    quotes = Quote.objects.filter(batch=batch, late=False, at__gte=batch.first_at, at__lte=batch.last_at)
    return _in_units(quotes.order_by("at", "asset_id"))


def asset_ids_in(batch: Batch) -> list[int]:
    """Return the assets that have quotes in one entry."""
    if batch.first_at is None:
        return []
    rows = Quote.objects.filter(batch=batch, at__gte=batch.first_at, at__lte=batch.last_at)
    return sorted(set(rows.order_by().values_list("asset_id", flat=True)))


class PathCandle(NamedTuple):
    """A candle within a path, in microseconds and units; resolution too is in microseconds."""

    resolution: int
    first_at: int
    open: int
    low_at: int
    low: int
    high_at: int
    high: int
    last_at: int
    close: int
    price_time: int
    square_time: int


def stored_path(
    reach: Mapping[int, int], *, feed_id: int, up_to_seq: int, coarse: int
) -> dict[int, list[tuple[int, int] | PathCandle]]:
    """Return the path of these assets as quoted_path does, with candles of those days whose quotes are kept no more.

    coarse: minutes are given for so many hours before the newest quote, hours for so many days, and days before that.
    """
    quoted = quoted_path(reach, feed_id=feed_id, up_to_seq=up_to_seq)
    clock = Batch.objects.filter(feed=feed_id, seq__lte=up_to_seq).order_by("-seq").values_list("as_of", flat=True)
    now = clock.first()
    paths: dict[int, list[tuple[int, int] | PathCandle]] = {}
    for asset_id, microseconds in reach.items():
        quotes = quoted.get(asset_id, [])
        if microseconds and now is not None:
            span = timedelta(microseconds=microseconds)
            paths[asset_id] = _with_candles(asset_id, quotes, reach=span, now=now, coarse=coarse)
        else:
            paths[asset_id] = list(quotes)
    return {asset_id: path for asset_id, path in paths.items() if path}


def _with_candles(
    asset_id: int, quotes: list[tuple[int, int]], *, reach: timedelta, now: datetime, coarse: int
) -> list[tuple[int, int] | PathCandle]:
    """Return the path of an asset from the price in force that long before its newest quote on."""
    candles = Candle.objects.filter(asset=asset_id)
    its_first = Quote.objects.filter(asset=asset_id, late=False, at=OuterRef("first_at"))
    days = candles.filter(resolution=Candle.Resolution.DAY, first_at__lte=now).order_by("-at")
    # By the rows, since a day that was dropped may be made again for quotes of the past.
    lost = days.exclude(Exists(its_first)).first()
    if lost is None:
        return list(quotes)
    until = lost.at + timedelta(days=1)
    rest = [one for one in quotes if one[0] >= epoch_microseconds(until)]
    # What is asked for a place in the log that is long past does not see what came after it.
    until = min(until, slot_of(at=now, interval_seconds=Candle.Resolution.MINUTE))
    if rest:
        newest = from_epoch_microseconds(rest[-1][0])
    else:
        lasts = (candles.filter(resolution=one, at__lt=until, last_at__lt=until) for one in Candle.Resolution)
        known = [last.last_at for rows in lasts if (last := rows.order_by("at").last()) is not None]
        if not known:
            return list(quotes)
        newest = max(known)
    edge = newest - reach
    if rest and from_epoch_microseconds(rest[0][0]) <= edge:
        return list(rest)
    return [*_candles_since(asset_id, edge=edge, newest=newest, until=until, coarse=coarse), *rest]


def _candles_since(
    asset_id: int, *, edge: datetime, newest: datetime, until: datetime, coarse: int
) -> list[PathCandle]:
    """Return the candles of an asset before `until`, from that with the price in force at `edge` on."""
    minute, hour, day = Candle.Resolution
    hours_from = slot_of(at=newest - coarse * timedelta(seconds=day), interval_seconds=day)
    minutes_from = slot_of(at=newest - coarse * timedelta(seconds=hour), interval_seconds=hour)
    candles = Candle.objects.filter(asset=asset_id)
    # Where minutes are kept for less long than that, hours are given instead.
    its_first = candles.filter(resolution=minute, at=OuterRef("minute"))
    whole_days = candles.filter(resolution=day, at__gte=minutes_from - timedelta(days=1), at__lt=until)
    whole_days = whole_days.annotate(minute=TruncMinute("first_at", tzinfo=UTC))
    gone = whole_days.exclude(Exists(its_first)).order_by("-at").first()
    if gone is not None:
        minutes_from = max(minutes_from, gone.at + timedelta(days=1))
    found: list[Candle] = []
    for resolution, since, before in (
        (minute, minutes_from, until),
        (hour, hours_from, min(minutes_from, until)),
        (day, None, min(hours_from, until)),
    ):
        part = candles.filter(resolution=resolution, at__lt=before).order_by("at")
        part = part if since is None else part.filter(at__gte=since)
        # A day that is not over at that place in the log is told by its hours or minutes.
        part = part.filter(last_at__lt=until)
        in_force = part.filter(at__lte=edge, last_at__lte=edge).last()
        found = [*(part if in_force is None else part.filter(at__gte=in_force.at)), *found]
        if in_force is not None:
            break
    return [_path_candle(one) for one in found]


def _path_candle(candle: Candle) -> PathCandle:
    return PathCandle(
        resolution=candle.resolution * 1_000_000,
        first_at=epoch_microseconds(candle.first_at),
        open=price_units(candle.open),
        low_at=epoch_microseconds(candle.low_at),
        low=price_units(candle.low),
        high_at=epoch_microseconds(candle.high_at),
        high=price_units(candle.high),
        last_at=epoch_microseconds(candle.last_at),
        close=price_units(candle.close),
        price_time=candle.price_time,
        square_time=candle.square_time,
    )


def quoted_path(reach: Mapping[int, int], *, feed_id: int, up_to_seq: int) -> dict[int, list[tuple[int, int]]]:
    """Return asset id -> (microseconds, units), oldest first, as it is stored up to one place in the feed's log.

    reach: asset id -> microseconds. The path begins with the quote in force that long before the newest one,
    and holds at least the two newest. Late quotes are not in it.
    """
    # Ids of batches rise within a feed: they are given under its head's lock.
    place = Batch.objects.filter(feed=feed_id, seq__lte=up_to_seq).order_by("-seq").values_list("pk", flat=True).first()
    if place is None:
        return {}
    quoted = LatestQuote.objects.filter(asset__in=reach).values_list("asset_id", flat=True)
    # Asset by asset, each from its own edge, so that neither a quiet asset nor a long history makes others read more.
    paths = {asset_id: _stored_path(asset_id, reach=reach[asset_id], up_to_batch=place) for asset_id in quoted}
    return {asset_id: path for asset_id, path in paths.items() if path}


def _stored_path(asset_id: int, *, reach: int, up_to_batch: int) -> list[tuple[int, int]]:
    return _path_in(Quote.objects.filter(asset=asset_id, late=False, batch__lte=up_to_batch), reach=reach)


def _path_in(quotes: QuerySet[Quote], *, reach: int) -> list[tuple[int, int]]:
    stored = quotes.values_list("at", "price")
    path = list(reversed(stored.order_by("-at")[:2]))
    if path and reach:
        edge = from_epoch_microseconds(max(epoch_microseconds(path[-1][0]) - reach, 0))
        in_force = stored.filter(at__lte=edge).order_by("-at")[:1]
        path = [*in_force, *stored.filter(at__gt=edge).order_by("at").iterator(chunk_size=10_000)]
    return [(epoch_microseconds(at), price_units(price)) for at, price in path]


def path_before(reach: Mapping[int, int], *, before: datetime) -> dict[int, list[tuple[int, int]]]:
    """Return the stored path of these assets up to `before`, as stored_path does."""
    paths = {}
    for asset_id, microseconds in reach.items():
        stored = Quote.objects.filter(asset=asset_id, late=False, at__lt=before)
        paths[asset_id] = _path_in(stored, reach=microseconds)
    return {asset_id: path for asset_id, path in paths.items() if path}


def forgotten_before(feed_id: int) -> datetime | None:
    """Return from when on the quotes of a feed's entries are all kept: the end of the newest day of which they are not,
    or None where nothing is forgotten.

    By the feed's own rows: other feeds keep days of their own, and a day that was dropped may be made again for quotes
    of the past.
    """
    entries = Batch.objects.filter(feed=feed_id, accepted__gt=0).order_by()
    oldest_of_each_day = entries.values(day=TruncDate("first_at", tzinfo=UTC)).annotate(oldest=Min("pk"))
    its_first = Quote.objects.filter(batch=OuterRef("pk"), at=OuterRef("first_at"))
    forgotten = Batch.objects.filter(pk__in=oldest_of_each_day.values("oldest")).exclude(Exists(its_first))
    newest = forgotten.aggregate(newest=Max("first_at"))["newest"]
    if newest is None:
        return None
    kept = next((day for day in partitions.days() if day > newest.date()), newest.date() + timedelta(days=1))
    return datetime(kept.year, kept.month, kept.day, tzinfo=UTC)


def quotes_between(asset_ids: Sequence[int], *, since: datetime, until: datetime) -> list[tuple[int, int, int]]:
    """Return (asset id, microseconds, units) of the stored quotes of [since, until) that are not late, oldest first."""
    quotes = Quote.objects.filter(asset__in=asset_ids, late=False, at__gte=since, at__lt=until)
    return _in_units(quotes.order_by("at", "asset_id"))


def released_between(asset_ids: Sequence[int], *, since: datetime, until: datetime) -> list[tuple[int, int, int, int]]:
    """Return (asset id, microseconds, units, released) of the stored quotes of [since, until) that are not late.

    released: the feed's clock when the quote came, in microseconds; of imported history its own time.
    """
    quotes = Quote.objects.filter(asset__in=asset_ids, late=False, at__gte=since, at__lt=until)
    rows = quotes.values_list("asset_id", "at", "price", "batch__kind", "batch__as_of")
    return [
        (
            asset_id,
            epoch_microseconds(at),
            price_units(price),
            epoch_microseconds(at if kind == Batch.Kind.HISTORY else max(as_of, at)),
        )
        for asset_id, at, price, kind, as_of in rows
    ]


def switches_between(feed_id: int, *, since: datetime, until: datetime) -> dict[tuple[int, int], tuple[str, str]]:
    """Return (asset id, microseconds) -> (provider before, provider now) of a feed's quotes of [since, until] that come
    from another provider than the asset's quote before; a statement for each entry in which that was so."""
    entries = Batch.objects.filter(feed=feed_id, switched__isnull=False, first_at__lte=until, last_at__gte=since)
    found = {}
    for batch in entries.order_by("seq"):
        found |= switches_in(batch, judged_quotes(batch))
    return found


def switches_in(batch: Batch, quotes: Iterable[tuple[int, int, int]]) -> dict[tuple[int, int], tuple[str, str]]:
    """Return (asset id, microseconds) -> (provider before, provider now) of the quotes of one entry that come from
    another provider than the asset's quote before. quotes: those of the entry that are judged, in their order."""
    if not batch.switched:
        return {}
    waiting = {asset_id: before for before, asset_ids in batch.switched.items() for asset_id in asset_ids}
    return {
        (asset_id, at): (waiting.pop(asset_id), batch.provider) for asset_id, at, _ in quotes if asset_id in waiting
    }


def clocks_between(feed_id: int, *, since: datetime, until: datetime) -> list[int]:
    """Return the clocks of a feed's entries of quotes in [since, until), in microseconds, oldest first."""
    entries = Batch.objects.filter(feed=feed_id, kind=Batch.Kind.QUOTES, as_of__gte=since, as_of__lt=until)
    return [epoch_microseconds(as_of) for as_of in entries.order_by("as_of").values_list("as_of", flat=True)]


def _in_units(quotes: QuerySet[Quote]) -> list[tuple[int, int, int]]:
    if connection.vendor == "postgresql":
        rows = quotes.annotate(microseconds=_MICROSECONDS, units=_UNITS)
        return [
            (asset_id, at, int(units)) for asset_id, at, units in rows.values_list("asset_id", "microseconds", "units")
        ]
    stored = quotes.values_list("asset_id", "at", "price")
    return [(asset_id, epoch_microseconds(at), price_units(price)) for asset_id, at, price in stored]


def assets_chosen(*, symbols: Iterable[str] = (), tag: str | None = None, feed: str | None = None) -> list[Asset]:
    """Return the assets that a rule's selector chooses, in order of id; unknown symbols are left out."""
    if tag is not None:
        # JSON containment differs between the databases; tags are few words on few rows, so Python decides.
        return [asset for asset in Asset.objects.order_by("pk") if tag in asset.tags]
    chosen = Q(feed__name=feed) if feed is not None else Q(symbol__in=list(symbols))
    return list(Asset.objects.filter(chosen).order_by("pk"))


def first_assets(*, limit: int) -> list[Asset]:
    """Return assets in order of symbol."""
    return list(Asset.objects.order_by("symbol")[:limit])


RECENT_ENTRIES = 20
HOURS_SHOWN = 24
# Failures of rounds in which nobody was called.
NOT_ASKED = ("circuit_open", "no_key", "no_provider", "misconfigured")
ADDRESS_LENGTH = 200
BACKFILL_GOES_ON = timedelta(hours=1)
PATH_POINTS = 400
# What is put off for longer than this is behind: ticks come each second, and a wake-up that is lost is sent again.
BEHIND = timedelta(seconds=30)


def with_recent_entries(feeds: QuerySet[Feed]) -> QuerySet[Feed]:
    """Return the feeds with head, judge's position, sources and `recent`, the quotes among their last entries, newest
    first: three statements, however many feeds there are and however long their logs."""
    recent = Batch.objects.filter(kind=Batch.Kind.QUOTES, seq__gt=F("feed__head__seq") - RECENT_ENTRIES)
    return feeds.select_related("head", "judged").prefetch_related(
        "sources", Prefetch("batches", queryset=recent.order_by("-seq"), to_attr="recent")
    )


def seconds_between_rounds(providers: Iterable[str], *, backfills_more: int = 0) -> int:
    """Return how far apart the rounds of a feed that asks these providers have to lie, so that all feeds together keep
    the limits of each: two statements, or none where none has limits.

    Nothing is counted while it runs, so nothing is forgotten by a restart: were every enabled feed that names the
    provider asked this often, and every backfill that was called within the last hour or is about to be, its limits
    would be used up and not passed. They are those of its public address. backfills_more: as if so many more went on.
    """
    limits = {slug: PROVIDERS[slug].limits for slug in providers if slug in PROVIDERS}
    limited = {slug: its for slug, its in limits.items() if its is not None}
    if not limited:
        return 0
    public = Q()
    for slug in limited:
        address = PROVIDERS[slug].validate_options({})["base_url"]
        public |= Q(provider=slug) & (Q(options__base_url=address) | Q(options__base_url__isnull=True))
    sources = FeedSource.objects.filter(public, feed__is_enabled=True).annotate(assets=Count("feed__assets"))
    calls: Counter[str] = Counter()
    for slug, assets in sources.values_list("provider", "assets"):
        calls[slug] += limited[slug].calls_for(assets)
    # Only those at an address of their feed's own ask nothing of the public one.
    elsewhere = FeedSource.objects.filter(feed__assets=OuterRef("asset"), provider=OuterRef("provider")).exclude(public)
    going_on = Backfill.objects.filter(~Exists(elsewhere), finished_at=None, next_call_at__gt=Now() - BACKFILL_GOES_ON)
    calls.update(going_on.filter(provider__in=limited).order_by().values_list("provider", flat=True))
    calls.update({slug: backfills_more for slug in limited if backfills_more})
    return max((limited[slug].interval_seconds_for(count) for slug, count in calls.items()), default=0)


def circuits_of(sources: Iterable[FeedSource]) -> dict[tuple[str, str], Circuit]:
    """Return (provider, address) -> its circuit, for those of `sources` that have failed some time; one statement."""
    asked = Q()
    for source in sources:
        asked |= Q(provider=source.provider, address=address_of(source))
    return {(one.provider, one.address): one for one in Circuit.objects.filter(asked)} if asked else {}


def address_of(source: FeedSource) -> str:
    """Return the address that a source is asked at, "" where it is none."""
    address = source.options.get("base_url", "") if isinstance(source.options, dict) else ""
    return str(address)[:ADDRESS_LENGTH]


def narrowest_limit(provider: str) -> str:
    """Return in words which of a provider's limits holds its feeds back most."""
    limits = PROVIDERS[provider].limits
    if limits is None:
        return "no limits"
    paces = [(float(limits.shortest_interval_seconds), "asking faster gives nothing new")]
    if limits.calls_per_minute is not None:
        paces.append((60 / limits.calls_per_minute, f"{limits.calls_per_minute:.4g} calls a minute"))
    if limits.calls_per_day is not None:
        paces.append((86_400 / limits.calls_per_day, f"{limits.calls_per_day:.4g} calls a day"))
    return max(paces)[1]


def effective_interval_seconds(feed: Feed) -> float | None:
    """Return the median gap between the last answers of a feed that came with_recent_entries, by the wall clock."""
    answered = [entry.received_at for entry in feed.recent if not entry.failure]  # type: ignore[attr-defined]
    return median((later - earlier).total_seconds() for later, earlier in pairwise(answered)) if answered[1:] else None


class Health(NamedTuple):
    """How a feed is, in one word and in a sentence."""

    state: str
    words: str


def health_of(feed: Feed, *, now: datetime) -> Health:
    """Return how a feed is that came with_recent_entries: paused, new, failing, finished, behind or fresh."""
    recent: list[Batch] = feed.recent  # type: ignore[attr-defined]
    due = feed.head.next_slot
    pending = feed.judged.seq < feed.head.seq
    if not feed.is_enabled:
        return Health("paused", "Nothing is fetched until it is resumed.")
    if feed.head.failures and recent:
        row = list(takewhile(lambda entry: entry.failure, recent))
        since = f"{'before ' if len(row) < feed.head.failures else ''}{_written(row[-1].received_at if row else due)}"
        times = "" if feed.head.failures == 1 else f", {feed.head.failures} times in a row"
        reason = row[0].failure if row else "unknown"
        return Health("failing", f"{reason} since {since}{times}. Asked again at {_written(due)}.")
    if _is_over(feed, recent):
        return Health("finished", f"The recording ended at {_written(recent[0].as_of)}.")
    interval = timedelta(seconds=feed.interval_seconds)
    if due > now + interval + BEHIND:
        return Health("behind", f"Due at {_written(due)}, ahead of the clock. Was this machine's clock set back?")
    if now - due > max(interval, BEHIND):
        return Health("behind", f"Due since {_written(due)}, and nobody has fetched it. Does a watcher run?")
    if pending and recent and any(one.evaluated_at is None and now - one.received_at > BEHIND for one in recent):
        return Health(
            "behind", f"Entries that wait for the judge: {feed.head.seq - feed.judged.seq}. Does an analyzer run?"
        )
    if feed.head.began_at is None:
        return Health("new", "Never fetched. It is due now." if due <= now else f"Due at {_written(due)}.")
    return Health("fresh", f"Last answer at {_written(recent[0].received_at)}." if recent else "")


def _is_over(feed: Feed, recent: Sequence[Batch]) -> bool:
    """Tell whether a recording has ended: the answers are empty and its clock stands. A live market only rests."""
    last = recent[:3]
    if len(last) < 3 or any(PROVIDERS[one.provider].is_live for one in feed.sources.all() if one.provider in PROVIDERS):
        return False
    return all(not (one.accepted or one.late or one.rejected) and one.as_of == last[0].as_of for one in last)


def _written(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}"


class PathPoint(NamedTuple):
    """The lowest and the highest price from one time on; of a single quote both are its price."""

    at: datetime
    low: Decimal
    high: Decimal


def price_path(asset_id: int, *, since: datetime, until: datetime) -> list[PathPoint]:
    """Return an asset's prices for drawing, oldest first, without late quotes.

    Each quote where they are few, else the lowest and highest of equal spans, so that no peak is lost: of candles where
    the spans are minutes at least, and of quotes where nothing is rolled up yet. What is kept as candles alone comes
    from them. Twice PATH_POINTS rows at most, in a few statements.
    """
    quotes = Quote.objects.filter(asset=asset_id, late=False, at__gte=since, at__lte=until)
    path = list(quotes.order_by("at").values_list("at", "price")[: PATH_POINTS + 1])
    step = max(ceil((until - since).total_seconds() / (PATH_POINTS - 1)), 1)
    if len(path) <= PATH_POINTS:
        before = path[0][0] if path else until
        older, _ = _candle_path(asset_id, since=since, before=before, step=step)
        return [*older, *(PathPoint(at, price, price) for at, price in path)]
    drawn: list[PathPoint] = []
    reached = None
    if step >= Candle.Resolution.MINUTE:
        drawn, reached = _candle_path(asset_id, since=since, before=None, until=until, step=step)
    rest = quotes if reached is None else quotes.filter(at__gt=reached)
    rows = _by_spans(rest, step=step).annotate(begins=Min("at"), lowest=Min("price"), highest=Max("price"))
    return [*drawn, *(PathPoint(*row) for row in rows.values_list("begins", "lowest", "highest"))]


def _candle_path(
    asset_id: int, *, since: datetime, before: datetime | None, step: int, until: datetime | None = None
) -> tuple[list[PathPoint], datetime | None]:
    """Return what candles say of [since, until], or of what is over by `before`, in spans of `step` seconds; and
    when the last quote in them was.

    Of the coarsest resolution that is no coarser than that, and of a coarser one where minutes are kept no more.
    """
    fitting = max((one for one in Candle.Resolution if one <= step), default=Candle.Resolution.MINUTE)
    for resolution in [one for one in Candle.Resolution if one >= fitting]:
        candles = Candle.objects.filter(asset=asset_id, resolution=resolution, at__gte=since)
        last = until if before is None else before - timedelta(seconds=resolution)
        rows = _by_spans(candles.filter(at__lte=last), step=max(step, resolution)).annotate(
            begins=Min("first_at"), lowest=Min("low"), highest=Max("high"), ends=Max("last_at")
        )
        found = list(rows.values_list("begins", "lowest", "highest", "ends"))
        if found:
            return [PathPoint(*row[:3]) for row in found], found[-1][3]
    return [], None


def price_known_since(asset_id: int) -> datetime | None:
    """Return when the first price of an asset was quoted that is kept, be it as a candle; None where there is none."""
    quotes = Quote.objects.filter(asset=asset_id, late=False).order_by("at").values_list("at", flat=True)
    days = Candle.objects.filter(asset=asset_id, resolution=Candle.Resolution.DAY).order_by("at")
    firsts = (quotes.first(), days.values_list("at", flat=True).first())
    return min((at for at in firsts if at is not None), default=None)


def _by_spans(rows: QuerySet[Any], *, step: int) -> QuerySet[Any]:
    """Return the rows grouped by spans of so many seconds, in order."""
    span = Func(F("at"), template=_SPANS[connection.vendor], step=step, output_field=BigIntegerField())
    return rows.annotate(span=span).order_by("span").values("span")


def last_quotes(asset_id: int, *, limit: int) -> list[Quote]:
    """Return the newest quotes of an asset, late ones too, with their entries of the log."""
    return list(Quote.objects.filter(asset=asset_id).select_related("batch").order_by("-at")[:limit])


def last_entries(feed_id: int, *, limit: int) -> list[Batch]:
    """Return the end of a feed's log, newest entry first."""
    return list(Batch.objects.filter(feed=feed_id).order_by("-seq")[:limit])


def known_tags(*, limit: int) -> list[str]:
    """Return tags that assets carry, in order."""
    rows = Asset.objects.exclude(tags=[]).order_by().values_list("tags", flat=True)
    return sorted({tag for tags in rows for tag in tags})[:limit]


def quotes_in(batch: Batch, *, limit: int) -> list[Quote]:
    """Return quotes of one entry, late ones too, oldest first, with their assets."""
    if batch.first_at is None:
        return []
    rows = Quote.objects.filter(batch=batch, at__gte=batch.first_at, at__lte=batch.last_at)
    return list(rows.select_related("asset").order_by("at", "asset_id")[:limit])


def feeds_seen_by(user: AbstractBaseUser | AnonymousUser) -> QuerySet[Feed]:
    """Return the feeds with head and judge's position for those who may look at feeds in the admin, none for others."""
    is_operator = user.is_active and getattr(user, "is_staff", False) and user.has_perm("market.view_feed")
    rows = Feed.objects.select_related("head", "judged")
    return rows if is_operator else rows.none()


def assets_named(names: Iterable[str]) -> dict[str, Asset]:
    """Return name -> asset for symbols and aliases; a symbol goes before an alias. Two statements."""
    wanted = list(names)
    aliases = AssetAlias.objects.filter(name__in=wanted).select_related("asset")
    by_alias = {alias.name: alias.asset for alias in aliases}
    return by_alias | {asset.symbol: asset for asset in Asset.objects.filter(symbol__in=wanted)}


def entries_by_id(batch_ids: Iterable[int]) -> dict[int, Batch]:
    """Return batch id -> entry of a log, with its feed."""
    return Batch.objects.select_related("feed").in_bulk(list(batch_ids))


def aliases_of(asset_ids: Iterable[int]) -> dict[int, list[str]]:
    """Return asset id -> its aliases, sorted."""
    aliases: dict[int, list[str]] = {}
    for asset_id, name in AssetAlias.objects.filter(asset__in=asset_ids).order_by("name").values_list("asset", "name"):
        aliases.setdefault(asset_id, []).append(name)
    return aliases


def prices_at(moments: Mapping[int, datetime]) -> dict[int, Decimal]:
    """Return asset id -> the price in force at its moment, where one that old is stored; late quotes do not count.

    From quotes, and from candles where there are none of that hour any more: of minutes, else of hours, else of days.
    One statement, or two; for each asset, a few steps into indexes.
    """
    rows = _at_moments(moments)
    quoted = Quote.objects.filter(asset=OuterRef("pk"), late=False, at__lte=OuterRef("moment")).order_by("-at")
    rows = rows.annotate(price=Subquery(quoted.values("price")[:1]), since=Subquery(quoted.values("at")[:1]))
    found = {pk: (since, price) for pk, price, since in rows.values_list("pk", "price", "since") if since is not None}
    old = {pk: at for pk, at in moments.items() if pk not in found or at - found[pk][0] > timedelta(hours=1)}
    if old:
        closes, times = [], []
        for resolution in Candle.Resolution:
            candles = Candle.objects.filter(asset=OuterRef("pk"), resolution=resolution, at__lte=OuterRef("moment"))
            candles = candles.filter(last_at__lte=OuterRef("moment")).order_by("-at")
            closes.append(Subquery(candles.values("close")[:1]))
            times.append(Subquery(candles.values("last_at")[:1]))
        rows = _at_moments(old).annotate(price=Coalesce(*closes), since=Coalesce(*times))
        for pk, price, since in rows.values_list("pk", "price", "since"):
            if since is not None and (pk not in found or since > found[pk][0]):
                found[pk] = (since, price)
    return {pk: price for pk, (_, price) in found.items()}


def _at_moments(moments: Mapping[int, datetime]) -> QuerySet[Asset]:
    """Return the assets, each with its `moment`."""
    # Assets of one feed have one clock, so there are few.
    together: dict[datetime, list[int]] = {}
    for asset_id, moment in moments.items():
        together.setdefault(moment, []).append(asset_id)
    cases = [When(pk__in=asset_ids, then=Value(moment)) for moment, asset_ids in together.items()]
    moment = Case(*cases, output_field=DateTimeField())
    return Asset.objects.filter(pk__in=list(moments)).order_by().annotate(moment=moment)


def _clocks_of(asset_ids: Iterable[int]) -> dict[int, datetime]:
    """Return asset id -> the clock of its feed, where it has one."""
    rows = Asset.objects.filter(pk__in=list(asset_ids), feed__head__as_of__isnull=False).order_by()
    return dict(rows.values_list("pk", "feed__head__as_of"))


def variations_24h(latest: Mapping[int, Decimal]) -> dict[int, Decimal]:
    """Return asset id -> percent by which its newest price differs from the one in force 24 hours before its feed's
    clock.

    latest: asset id -> newest price. Rounded half-even to 4 decimals; without a price that old, the asset is left out.
    """
    return _variations(latest, {pk: as_of - timedelta(hours=24) for pk, as_of in _clocks_of(latest).items()})


def variations_since_close(latest: Mapping[int, Decimal]) -> dict[int, Decimal]:
    """Return asset id -> percent by which its newest price differs from that at the last close, as variations_24h does.

    By its feed's clock: the end of the last session of its calendar; without one, the last midnight in UTC.
    """
    calendar_of = dict(Asset.objects.filter(pk__in=list(latest)).exclude(calendar="").values_list("pk", "calendar"))
    moments = {}
    for pk, as_of in _clocks_of(latest).items():
        code = calendar_of.get(pk)
        close = calendars.previous_close(code, as_of) if code in calendars.CALENDARS else None
        moments[pk] = close or as_of.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return _variations(latest, moments)


def _variations(latest: Mapping[int, Decimal], moments: Mapping[int, datetime]) -> dict[int, Decimal]:
    before = prices_at(moments) if moments else {}
    return {
        # The widest change there can be, from the lowest price to the highest, has just the 28 digits of a Decimal.
        asset_id: ((latest[asset_id] - price) / price * 100).quantize(_VARIATION_STEP)
        for asset_id, price in before.items()
    }


def candles_of(asset_ids: Sequence[int], *, resolution: int, chosen: Q, limit: int) -> dict[int, list[Candle]]:
    """Return asset id -> its newest candles of one resolution among those `chosen`, newest first; two statements.

    Where each asset's last row stands first, since numbering all of them would read years of minutes.
    """
    candles = Candle.objects.filter(chosen, resolution=resolution)
    last = candles.filter(asset=OuterRef("pk")).order_by("-at").values("at")[limit - 1 : limit]
    edges = Asset.objects.filter(pk__in=asset_ids).order_by().annotate(edge=Subquery(last)).values_list("pk", "edge")
    wanted = Q(pk__in=[])
    for asset_id, edge in edges:
        wanted |= Q(asset=asset_id) & (Q(at__gte=edge) if edge is not None else Q())
    found: dict[int, list[Candle]] = {asset_id: [] for asset_id in asset_ids}
    for candle in candles.filter(wanted).order_by("-at"):
        found[candle.asset_id].append(candle)
    return found


class QuoteCounts(NamedTuple):
    """What became of the quotes of a while; `rejected` counts those of every reason."""

    accepted: int
    late: int
    rejected: int


def quote_counts(feed_ids: Iterable[int], *, since: datetime) -> dict[int, QuoteCounts]:
    """Return feed id -> what became of the quotes that came from `since` on, without history; two statements."""
    entries = Batch.objects.filter(feed__in=list(feed_ids), kind=Batch.Kind.QUOTES, received_at__gte=since).order_by()
    rejected: dict[int, int] = {}
    for feed_id, reasons in entries.exclude(rejected={}).values_list("feed_id", "rejected").iterator():
        rejected[feed_id] = rejected.get(feed_id, 0) + sum(reasons.values())
    rows = entries.values_list("feed_id").annotate(Sum("accepted"), Sum("late"))
    return {feed_id: QuoteCounts(accepted, late, rejected.get(feed_id, 0)) for feed_id, accepted, late in rows}


def hourly_counts(feed_id: int, *, now: datetime) -> dict[str, list[int]]:
    """Return what became of a feed's quotes in the last HOURS_SHOWN hours: name -> count per hour, the newest last.

    Names are accepted, late, repeated and held, which are always there, and the reasons of what was rejected. Two
    statements.
    """
    begin = now - timedelta(hours=HOURS_SHOWN)
    entries = Batch.objects.filter(feed=feed_id, kind=Batch.Kind.QUOTES, received_at__gt=begin, received_at__lte=now)
    counts: dict[str, list[int]] = {name: [0] * HOURS_SHOWN for name in ("accepted", "late", "repeated", "held")}

    def count(name: str, at: datetime, quotes: int) -> None:
        hour = max(HOURS_SHOWN - 1 - (now - at) // timedelta(hours=1), 0)
        counts.setdefault(name, [0] * HOURS_SHOWN)[hour] += quotes

    # By the minute, so that little leaves the database and the hours end now.
    minutes = entries.annotate(minute=TruncMinute("received_at")).order_by().values("minute")
    sums = minutes.annotate(*(Sum(name) for name in tuple(counts)))
    for row in sums:
        for name in ("accepted", "late", "repeated", "held"):
            count(name, row["minute"], row[f"{name}__sum"])
    rejections = entries.exclude(rejected={}).order_by().values_list("received_at", "rejected")
    for at, reasons in rejections.iterator():
        for reason, quotes in reasons.items():
            count(reason, at, quotes)
    return counts


class Budget(NamedTuple):
    """Calls that a provider allows in a day, and about how many of them the last 24 hours have left."""

    allowed: int
    left: int


def budget_of(provider: str, *, now: datetime) -> Budget | None:
    """Return what is left of a provider's calls of a day at its public address, by the logs of all feeds that name it;
    None where it has no such limit. Three statements.

    About: a round that failed counts for the first source of its feed, and what another machine asks is not known.
    """
    limits = PROVIDERS[provider].limits if provider in PROVIDERS else None
    if limits is None or limits.calls_per_day is None:
        return None
    since = now - timedelta(days=1)
    address = PROVIDERS[provider].validate_options({})["base_url"]
    sources = FeedSource.objects.filter(provider=provider).filter(
        Q(options__base_url=address) | Q(options__base_url__isnull=True)
    )
    calls = {
        feed_id: (limits.calls_for(assets), position)
        for feed_id, position, assets in sources.annotate(assets=Count("feed__assets")).values_list(
            "feed_id", "position", "assets"
        )
    }
    rounds = Batch.objects.filter(feed__in=calls, slot__isnull=False, received_at__gte=since).order_by()
    answered = rounds.filter(provider=provider).values_list("feed_id").annotate(Count("pk"))
    failed = rounds.exclude(failure="").exclude(failure__in=NOT_ASKED).values_list("feed_id").annotate(Count("pk"))
    used = sum(calls[feed_id][0] * count for feed_id, count in answered)
    used += sum(calls[feed_id][0] * count for feed_id, count in failed if calls[feed_id][1] == 1)
    used += Backfill.objects.filter(provider=provider, created_at__gte=since).aggregate(Sum("calls"))["calls__sum"] or 0
    allowed = int(limits.calls_per_day)
    return Budget(allowed, max(allowed - used, 0))


def last_switches(feed_id: int, *, limit: int) -> list[Batch]:
    """Return the newest entries since which quotes come from another provider."""
    return list(Batch.objects.filter(feed=feed_id, switched__isnull=False).order_by("-seq")[:limit])


def left_out_of(feed: Feed) -> list[tuple[str, str, int, str]]:
    """Return (provider, external id, asset id, currency) of names that a feed does not ask for, since they are in
    another currency than their asset."""
    assets = asset_ids_by_external_id(feed)
    for source in feed.sources.all():
        assets.of(source)
    return assets.left_out


def last_success_at(feed: Feed) -> datetime | None:
    """Return when a feed that came with_recent_entries was answered last."""
    answered = next((one for one in feed.recent if not one.failure), None)  # type: ignore[attr-defined]
    if answered is None:
        answers = Batch.objects.filter(feed=feed, kind=Batch.Kind.QUOTES, failure="").order_by("-seq")
        answered = answers.first()
    return None if answered is None else answered.received_at


def judged_quotes_of(
    batches: Sequence[Batch], *, asset_ids: Iterable[int] | None = None
) -> dict[int, list[tuple[int, int, int]]]:
    """Return batch id -> its quotes that are judged, each list as `judged_quotes` gives it; one statement.

    asset_ids: of these assets only. Batches without such quotes may be absent.
    """
    rows = _quotes_of(batches, asset_ids).filter(late=False).order_by("at", "asset_id")
    found: dict[int, list[tuple[int, int, int]]] = {}
    if connection.vendor == "postgresql":
        rows = rows.annotate(microseconds=_MICROSECONDS, units=_UNITS)
        for batch_id, asset_id, at, units in rows.values_list("batch_id", "asset_id", "microseconds", "units"):
            found.setdefault(batch_id, []).append((asset_id, at, int(units)))
    else:
        for batch_id, asset_id, at, price in rows.values_list("batch_id", "asset_id", "at", "price"):
            found.setdefault(batch_id, []).append((asset_id, epoch_microseconds(at), price_units(price)))
    return found


def asset_ids_of(batches: Sequence[Batch], *, asset_ids: Iterable[int] | None = None) -> dict[int, list[int]]:
    """Return batch id -> the assets that have quotes in it, sorted; one statement. asset_ids: of these assets only."""
    rows = _quotes_of(batches, asset_ids).order_by("batch_id", "asset_id").values_list("batch_id", "asset_id")
    found: dict[int, list[int]] = {}
    for batch_id, asset_id in rows.distinct():
        found.setdefault(batch_id, []).append(asset_id)
    return found


def _quotes_of(batches: Sequence[Batch], asset_ids: Iterable[int] | None) -> QuerySet[Quote]:
    quoted = [batch for batch in batches if batch.first_at is not None and batch.last_at is not None]
    if not quoted:
        return Quote.objects.none()
    first, last = min(batch.first_at for batch in quoted), max(batch.last_at for batch in quoted)
    rows = Quote.objects.filter(batch__in=[batch.pk for batch in quoted], at__gte=first, at__lte=last)
    return rows if asset_ids is None else rows.filter(asset__in=list(asset_ids))


def stored_spans(asset_ids: Iterable[int], *, with_candles: bool = False) -> dict[int, tuple[int, int]]:
    """Return asset id -> times of its first and its newest quote that are stored and not late, in microseconds since
    1970; assets without any are left out. One statement: for each asset, a few steps into indexes.

    with_candles: quotes that are kept as candles alone count too.
    """
    stored = Quote.objects.filter(asset=OuterRef("pk"), late=False)
    days = Candle.objects.filter(asset=OuterRef("pk"), resolution=Candle.Resolution.DAY)
    days = days if with_candles else days.none()
    rows = Asset.objects.filter(pk__in=list(asset_ids)).order_by()
    rows = rows.annotate(
        first=Subquery(stored.order_by("at").values("at")[:1]),
        newest=Subquery(stored.order_by("-at").values("at")[:1]),
        first_told=Subquery(days.order_by("at").values("first_at")[:1]),
        last_told=Subquery(days.order_by("-at").values("last_at")[:1]),
    )
    spans = {}
    for asset_id, *times in rows.values_list("pk", "first", "newest", "first_told", "last_told"):
        known = [epoch_microseconds(at) for at in times if at is not None]
        if known:
            spans[asset_id] = (min(known), max(known))
    return spans


def pace_seconds(feed: Feed) -> float:
    """Return how far the last answers of a feed that came with_recent_entries lie apart by the feed's own clock, in
    which windows are measured: for a film at 60 times its speed that is 60 times the effective interval.

    The interval asked for, where the clock has not moved lately.
    """
    answered = [entry.as_of for entry in feed.recent if not entry.failure]  # type: ignore[attr-defined]
    gaps = [gap for later, earlier in pairwise(answered) if (gap := (later - earlier).total_seconds()) > 0]
    return median(gaps) if gaps else float(feed.interval_seconds)


def has_quotes(batch: Batch) -> bool:
    """Tell whether the first quote of an entry is still kept."""
    return Quote.objects.filter(batch=batch, at=batch.first_at).exists()
