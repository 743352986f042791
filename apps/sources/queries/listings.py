"""What each provider calls the assets of a feed."""

from collections.abc import Collection, Mapping, Sequence

from django.db import connection

from apps.market.models import Asset, Feed
from apps.sources.models import FeedSource, Listing
from apps.sources.providers.registry import PROVIDERS

_NAMES_OF_ASSETS = """
    SELECT feed_id, asset.id, symbol, currency, signed, listing.provider, external_id
    FROM market_asset asset LEFT JOIN sources_listing listing ON listing.asset_id = asset.id
    WHERE feed_id IN ({marks})"""


def asset_ids_by_external_id(feed: Feed) -> "AssetIds":
    """Return, per source, external id -> asset id for the assets of `feed`; one statement."""
    return asset_ids_of_feeds([feed.pk])[feed.pk]


def asset_ids_of_feeds(feed_ids: Sequence[int]) -> dict[int, "AssetIds"]:
    """Do the same for several feeds: feed id -> the names of its assets; one statement."""
    assets: dict[int, dict[int, tuple[str, str]]] = {feed_id: {} for feed_id in feed_ids}
    signed: dict[int, set[int]] = {feed_id: set() for feed_id in feed_ids}
    listings: dict[int, list[tuple[str, int, str]]] = {feed_id: [] for feed_id in feed_ids}
    # Every fetch asks it: in no order, and as the cursor's own tuples, it is there in less than half the time.
    with connection.cursor() as cursor:
        cursor.execute(_NAMES_OF_ASSETS.format(marks=", ".join(["%s"] * len(feed_ids))), list(feed_ids))
        for feed_id, asset_id, symbol, currency, is_signed, provider, external_id in cursor.fetchall():
            assets[feed_id][asset_id] = symbol, currency
            if is_signed:
                signed[feed_id].add(asset_id)
            if provider is not None:
                listings[feed_id].append((provider, asset_id, external_id))
    return {feed_id: AssetIds(assets[feed_id], listings[feed_id], signed=signed[feed_id]) for feed_id in feed_ids}


class AssetIds:
    """What each source of a feed is asked for; an asset without a listing goes by its symbol.

    Only names in one currency are paired: where an asset says no currency, it is that of the first source that tells.
    So ask for the sources in their order. assets: asset id -> (symbol, currency or ""); asset_ids: all of them; signed:
    those whose price may be 0 or less.
    """

    def __init__(
        self,
        assets: Mapping[int, tuple[str, str]],
        listings: Sequence[tuple[str, int, str]],
        *,
        signed: Collection[int] = (),
    ) -> None:
        self.asset_ids = assets.keys()
        self.signed = signed
        self._assets = assets
        self._listings = listings
        self._currencies = {asset_id: currency for asset_id, (_, currency) in assets.items() if currency}
        # (provider, external id, asset id, its currency): names that are in another currency than their asset.
        self.left_out: list[tuple[str, str, int, str]] = []

    def of(self, source: FeedSource) -> dict[str, int]:
        """Return external id -> asset id for one source."""
        listed = {asset_id: external_id for slug, asset_id, external_id in self._listings if slug == source.provider}
        named = {symbol: asset_id for asset_id, (symbol, _) in self._assets.items() if asset_id not in listed}
        # Where another asset is called by that symbol there, the listing says whose price it is.
        named |= {external_id: asset_id for asset_id, external_id in listed.items() if asset_id in self._assets}
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


def left_out_of(feed: Feed) -> list[tuple[str, str, int, str]]:
    """Return (provider, external id, asset id, currency) of names that a feed does not ask for, since they are in
    another currency than their asset, sorted."""
    assets = asset_ids_by_external_id(feed)
    for source in feed.sources.all():
        assets.of(source)
    return sorted(assets.left_out)


def assets_listed(provider: str, external_ids: Collection[str]) -> dict[str, Asset]:
    """Return external id -> the first asset that a provider calls so. One statement."""
    rows = Listing.objects.filter(provider=provider, external_id__in=external_ids).select_related("asset")
    return {one.external_id: one.asset for one in rows.order_by("-asset_id")}
