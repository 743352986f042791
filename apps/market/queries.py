"""What is asked of the market's rows."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal

from django.db import connection
from django.db.models import BigIntegerField, F, Q, TextField
from django.db.models.expressions import RawSQL

from apps.market import cache
from apps.market.domain import AdmittedQuote, epoch_microseconds, from_epoch_microseconds, price_units
from apps.market.models import Asset, Batch, Feed, JudgePosition, LatestQuote, Listing, Quote

# The engine's units, worked out exactly by PostgreSQL (its extract() is numeric).
_MICROSECONDS = RawSQL("(extract(epoch FROM at) * 1000000)::bigint", [], output_field=BigIntegerField())
_UNITS = RawSQL("(price * 10000000000)::numeric(33, 0)::text", [], output_field=TextField())


def asset_ids_by_external_id(feed: Feed) -> "AssetIds":
    """Return, per provider, external id -> asset id for the assets of `feed`; two statements."""
    symbols = dict(feed.assets.values_list("pk", "symbol"))
    listings = Listing.objects.filter(asset__feed=feed).values_list("provider", "asset_id", "external_id")
    return AssetIds(symbols, list(listings))


class AssetIds:
    """provider -> {external id: asset id}; an asset without a listing goes by its symbol."""

    def __init__(self, symbols: Mapping[int, str], listings: Sequence[tuple[str, int, str]]) -> None:
        self._symbols = symbols
        self._listings = listings

    def __getitem__(self, provider: str) -> dict[str, int]:
        listed = {asset_id: external_id for slug, asset_id, external_id in self._listings if slug == provider}
        if not listed:
            return {symbol: asset_id for asset_id, symbol in self._symbols.items()}
        return {listed.get(asset_id, symbol): asset_id for asset_id, symbol in self._symbols.items()}


def newest_stored(asset_ids: Sequence[int]) -> dict[int, tuple[datetime, Decimal]]:
    """Return asset id -> (at, price) of its newest stored quote that is not late."""
    rows = LatestQuote.objects.filter(asset__in=asset_ids).values_list("asset_id", "at", "price")
    return {asset_id: (at, price) for asset_id, at, price in rows}


def newest_times(feed_id: int) -> dict[int, int]:
    """Return asset id -> microseconds since 1970 of its newest stored quote that is not late, for a feed's assets."""
    rows = LatestQuote.objects.filter(asset__feed=feed_id)
    if connection.vendor == "postgresql":
        # Whole numbers are read several times as fast as times.
        return dict(rows.annotate(microseconds=_MICROSECONDS).values_list("asset_id", "microseconds"))
    return {asset_id: epoch_microseconds(at) for asset_id, at in rows.values_list("asset_id", "at")}


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


def feeds_behind(*, before: datetime) -> list[int]:
    """Return the feeds whose oldest entry that was not judged came before `before`."""
    late = Batch.objects.filter(evaluated_at=None, received_at__lt=before)
    return sorted(set(late.order_by().values_list("feed_id", flat=True)))


def judged_quotes(batch: Batch) -> list[tuple[int, int, int]]:
    """Return the quotes of one entry that are judged, in the order in which they are: (asset id, microseconds,
    units)."""
    if not batch.accepted:
        return []
    quotes = Quote.objects.filter(batch=batch, late=False, at__gte=batch.first_at, at__lte=batch.last_at)
    if connection.vendor == "postgresql":
        rows = quotes.annotate(microseconds=_MICROSECONDS, units=_UNITS).order_by("at", "asset_id")
        return [
            (asset_id, at, int(units)) for asset_id, at, units in rows.values_list("asset_id", "microseconds", "units")
        ]
    rows = quotes.order_by("at", "asset_id").values_list("asset_id", "at", "price")
    return [(asset_id, epoch_microseconds(at), price_units(price)) for asset_id, at, price in rows]


def asset_ids_in(batch: Batch) -> list[int]:
    """Return the assets that have quotes in one entry."""
    if batch.first_at is None:
        return []
    rows = Quote.objects.filter(batch=batch, at__gte=batch.first_at, at__lte=batch.last_at)
    return sorted(set(rows.order_by().values_list("asset_id", flat=True)))


def stored_path(reach: Mapping[int, int], *, feed_id: int, up_to_seq: int) -> dict[int, list[tuple[int, int]]]:
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
    stored = Quote.objects.filter(asset=asset_id, late=False, batch__lte=up_to_batch).values_list("at", "price")
    path = list(reversed(stored.order_by("-at")[:2]))
    if path and reach:
        edge = from_epoch_microseconds(max(epoch_microseconds(path[-1][0]) - reach, 0))
        in_force = stored.filter(at__lte=edge).order_by("-at")[:1]
        path = [*in_force, *stored.filter(at__gt=edge).order_by("at").iterator(chunk_size=10_000)]
    return [(epoch_microseconds(at), price_units(price)) for at, price in path]


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


def quotes_in(batch: Batch, *, limit: int) -> list[Quote]:
    """Return quotes of one entry, late ones too, oldest first, with their assets."""
    if batch.first_at is None:
        return []
    rows = Quote.objects.filter(batch=batch, at__gte=batch.first_at, at__lte=batch.last_at)
    return list(rows.select_related("asset").order_by("at", "asset_id")[:limit])
