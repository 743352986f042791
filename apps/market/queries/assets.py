"""What assets there are, and what providers call them."""

from collections.abc import Iterable, Mapping, Sequence

from django.db import connection
from django.db.models import Q

from apps.market.models import Asset, AssetAlias, Feed, FeedSource, Listing
from apps.market.providers.registry import PROVIDERS


def asset_ids_by_external_id(feed: Feed) -> "AssetIds":
    """Return, per source, external id -> asset id for the assets of `feed`; two statements."""
    # Every fetch asks it: in no order, and as the cursor's own tuples, it is there in less than half the time.
    with connection.cursor() as cursor:
        cursor.execute("SELECT id, symbol, currency FROM market_asset WHERE feed_id = %s", [feed.pk])
        assets = {asset_id: (symbol, currency) for asset_id, symbol, currency in cursor.fetchall()}
    listings = Listing.objects.filter(asset__feed=feed).values_list("provider", "asset_id", "external_id")
    return AssetIds(assets, list(listings))


class AssetIds:
    """What each source of a feed is asked for; an asset without a listing goes by its symbol.

    Only names in one currency are paired: where an asset says no currency, it is that of the first source that tells.
    So ask for the sources in their order. assets: asset id -> (symbol, currency or ""); asset_ids: all of them.
    """

    def __init__(self, assets: Mapping[int, tuple[str, str]], listings: Sequence[tuple[str, int, str]]) -> None:
        self.asset_ids = assets.keys()
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


def known_tags(*, limit: int) -> list[str]:
    """Return tags that assets carry, in order."""
    rows = Asset.objects.exclude(tags=[]).order_by().values_list("tags", flat=True)
    return sorted({tag for tags in rows for tag in tags})[:limit]


def assets_named(names: Iterable[str]) -> dict[str, Asset]:
    """Return name -> asset for symbols and aliases; a symbol goes before an alias. Two statements."""
    wanted = list(names)
    aliases = AssetAlias.objects.filter(name__in=wanted).select_related("asset")
    by_alias = {alias.name: alias.asset for alias in aliases}
    return by_alias | {asset.symbol: asset for asset in Asset.objects.filter(symbol__in=wanted)}


def aliases_of(asset_ids: Iterable[int]) -> dict[int, list[str]]:
    """Return asset id -> its aliases, sorted."""
    aliases: dict[int, list[str]] = {}
    for asset_id, name in AssetAlias.objects.filter(asset__in=asset_ids).order_by("name").values_list("asset", "name"):
        aliases.setdefault(asset_id, []).append(name)
    return aliases


def left_out_of(feed: Feed) -> list[tuple[str, str, int, str]]:
    """Return (provider, external id, asset id, currency) of names that a feed does not ask for, since they are in
    another currency than their asset, sorted."""
    assets = asset_ids_by_external_id(feed)
    for source in feed.sources.all():
        assets.of(source)
    return sorted(assets.left_out)
