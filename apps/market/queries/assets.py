"""What assets there are, and what providers call them."""

from collections.abc import Iterable
from datetime import datetime
from itertools import starmap
from typing import NamedTuple

from django.db.models import Case, Exists, IntegerField, OuterRef, Q, QuerySet, Value, When

from apps.canary import is_not_canary
from apps.market.calendars import KNOWN_UNTIL, warning_of
from apps.market.models import Asset, AssetAlias, AssetsChange, WatchedAsset
from apps.market.queries.owners import Reader, assets_of, assets_seen_by, every_asset
from apps.owned_ids import owned_id_of


class ChosenAsset(NamedTuple):
    """The columns of an asset that a rule needs. calendar: "" where it trades around the clock; signed: its price may
    be 0 or less; has_flows: money that comes or goes moves it too."""

    pk: int
    symbol: str
    feed_id: int | None
    calendar: str
    signed: bool
    has_flows: bool


def assets_chosen(
    *, symbols: Iterable[str] = (), tag: str | None = None, feed: str | None = None, owner_id: int | None = None
) -> list[ChosenAsset]:
    """Return the assets that a rule's selector chooses, in order of id; unknown symbols are left out.

    owner_id: the rule's owner. By its symbol they may choose an asset of their own, which precedes the installation's.
    """
    rows = Asset.objects.order_by("pk")
    if tag is not None:
        # JSON containment differs between the databases; tags are few words on few rows, so Python decides.
        found = rows.values_list(*ChosenAsset._fields, "tags").iterator()
        return [ChosenAsset(*asset) for *asset, tags in found if tag in tags]
    if feed is not None:
        return list(starmap(ChosenAsset, rows.filter(feed__name=feed).values_list(*ChosenAsset._fields)))
    # An owner's ids are below the installation's, so theirs is the first of a symbol.
    named = assets_of(owner_id).filter(symbol__in=list(symbols)).order_by("pk")
    found: dict[str, ChosenAsset] = {}
    for asset in starmap(ChosenAsset, named.values_list(*ChosenAsset._fields)):
        found.setdefault(asset.symbol, asset)
    return list(found.values())


class AssetIndex:
    """All assets by what a rule's selector chooses by: for many selectors, with one statement."""

    def __init__(self) -> None:
        self._by_symbol: dict[tuple[int | None, str], ChosenAsset] = {}
        self._by_tag: dict[str, list[ChosenAsset]] = {}
        self._by_feed: dict[str, list[ChosenAsset]] = {}
        rows = every_asset().filter(is_not_canary("pk")).order_by("pk")
        for *columns, owner_id, tags, feed in rows.values_list(*ChosenAsset._fields, "owner", "tags", "feed__name"):
            asset = ChosenAsset(*columns)
            self._by_symbol[owner_id, asset.symbol] = asset
            if owner_id is not None:
                continue
            for tag in set(tags):
                self._by_tag.setdefault(tag, []).append(asset)
            if feed is not None:
                self._by_feed.setdefault(feed, []).append(asset)

    def chosen(
        self,
        *,
        symbols: Iterable[str] = (),
        tag: str | None = None,
        feed: str | None = None,
        owner_id: int | None = None,
    ) -> list[ChosenAsset]:
        """Return what `assets_chosen` returns."""
        if tag is not None:
            return self._by_tag.get(tag, [])
        if feed is not None:
            return self._by_feed.get(feed, [])
        own = (self._by_symbol.get((owner_id, symbol)) or self._by_symbol.get((None, symbol)) for symbol in symbols)
        found = {asset.pk: asset for asset in own if asset is not None}
        return [found[pk] for pk in sorted(found)]


def signed_assets(feed_id: int) -> frozenset[int]:
    """Return the assets of a feed whose price may be 0 or less."""
    return frozenset(Asset.every.filter(feed=feed_id, signed=True).order_by().values_list("pk", flat=True))


def assets_changes() -> list[int]:
    """Return the marks that rules may have other assets than those that they are evaluated on."""
    return list(AssetsChange.objects.order_by("pk").values_list("pk", flat=True))


def known_tags(*, limit: int) -> list[str]:
    """Return tags that assets carry, in order."""
    rows = Asset.objects.exclude(tags=[]).order_by().values_list("tags", flat=True)
    return sorted({tag for tags in rows for tag in tags})[:limit]


def assets_named(names: Iterable[str], *, owner_id: int | None = None) -> dict[str, Asset]:
    """Return name -> asset for symbols and aliases; a symbol goes before an alias, and an asset of `owner_id`, where
    that is given, before the installation's. Two statements."""
    wanted = list(names)
    aliases = AssetAlias.objects.filter(name__in=wanted).select_related("asset")
    by_alias = {alias.name: alias.asset for alias in aliases}
    # The last of a symbol stays: an owner's ids are below the installation's.
    named = assets_of(owner_id).filter(symbol__in=wanted).order_by("-pk")
    return by_alias | {asset.symbol: asset for asset in named}


# How a term may match an asset, the best match first; other matches come last.
_RANKS = ("symbol__iexact", "symbol__istartswith", "name__iexact", "name__istartswith", "symbol__icontains")


def ranked(assets: QuerySet[Asset], term: str) -> QuerySet[Asset]:
    """Return the assets, those first that match a term best."""
    ranks = [When(**{lookup: term}, then=Value(rank)) for rank, lookup in enumerate(_RANKS)]
    rank = Case(*ranks, default=Value(len(_RANKS)), output_field=IntegerField())
    return assets.annotate(rank=rank).order_by("rank", "symbol")


def matching(assets: QuerySet[Asset], term: str) -> QuerySet[Asset]:
    """Return those of the assets whose symbol, name or alias has a term in it, the best match first."""
    return ranked(having(assets, term), term)


def having(assets: QuerySet[Asset], term: str) -> QuerySet[Asset]:
    """Return those of the assets whose symbol, name or alias has a term in it, in their order."""
    aliases = AssetAlias.objects.filter(asset=OuterRef("pk"), name__icontains=term)
    return assets.filter(Q(symbol__icontains=term) | Q(name__icontains=term) | Exists(aliases))


def watched_ids(user: Reader) -> set[int]:
    """Return the assets on somebody's watchlist. One statement; none for a stranger."""
    if not user.is_authenticated:
        return set()
    return set(WatchedAsset.objects.filter(user=user.pk).order_by().values_list("asset_id", flat=True))


def assets_known_as(names: Iterable[str], *, reader: Reader) -> dict[str, Asset]:
    """Return name -> asset that `reader` may see, by the names that clients have for it: ids of owned assets, symbols
    and aliases; their own assets go before the installation's. Three statements."""
    wanted = list(names)
    ids = {name: pk for name in wanted if (pk := owned_id_of(name)) is not None}
    own = {asset.pk: asset for asset in assets_seen_by(reader).filter(pk__in=ids.values())} if ids else {}
    named = assets_named([name for name in wanted if name not in ids], owner_id=reader.pk)
    return named | {name: own[pk] for name, pk in ids.items() if pk in own}


def calendar_warnings(*, now: datetime) -> list[str]:
    """Return what is to be done about calendars of assets that end soon or have ended. At most one statement: none
    while no calendar ends soon."""
    warnings = {code: warning for code in KNOWN_UNTIL if (warning := warning_of(code, now))}
    if not warnings:
        return []
    chosen = Asset.objects.filter(calendar__in=warnings).order_by().values_list("calendar", flat=True)
    return [warnings[code] for code in sorted(set(chosen))]


def aliases_of(asset_ids: Iterable[int]) -> dict[int, list[str]]:
    """Return asset id -> its aliases, sorted."""
    aliases: dict[int, list[str]] = {}
    for asset_id, name in AssetAlias.objects.filter(asset__in=asset_ids).order_by("name").values_list("asset", "name"):
        aliases.setdefault(asset_id, []).append(name)
    return aliases
