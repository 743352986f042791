"""The market: assets with their prices, and for operators the feeds."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import graphene
from django.db.models import Model, Q
from django.utils import timezone
from django.utils.module_loading import import_string

from apps.api.graphql.connections import (
    NameOrder,
    Page,
    Paging,
    TimeOrder,
    connection,
    order_of,
    page,
    pages_by,
    pages_of,
)
from apps.api.graphql.context import Context
from apps.api.graphql.nodes import Node, is_node
from apps.api.graphql.scalars import JSON, AssetId, DateTime, Decimal, FeedId, enum
from apps.api.graphql.types.health import Health, asset_health, feed_health
from apps.market.models import Asset as AssetRow
from apps.market.models import Candle as CandleRow
from apps.market.models import Feed as FeedRow
from apps.market.models import FeedEntry as FeedEntryRow
from apps.market.models import Quote as QuoteRow
from apps.market.queries import (
    aliases_of,
    assets_known_as,
    assets_seen_by,
    candles_of,
    entries_of,
    entry_providers,
    feeds_seen_by,
    having,
    latest_prices,
    quotes_of,
    variations_over,
    variations_since_close,
)
from apps.replica import from_replica
from apps.sources.queries import refused_listings_of


class CandleResolution(graphene.Enum):
    """How long a candle is."""

    MINUTE = CandleRow.Resolution.MINUTE.value
    HOUR = CandleRow.Resolution.HOUR.value
    DAY = CandleRow.Resolution.DAY.value


class Candle(graphene.ObjectType):
    """The quotes of an asset in one minute, hour or day, without late ones."""

    at = graphene.Field(DateTime, required=True, description="When it begins.")
    open = graphene.Field(Decimal, required=True, description="The first price.")
    high = graphene.Field(Decimal, required=True, description="The highest price.")
    low = graphene.Field(Decimal, required=True, description="The lowest price.")
    close = graphene.Field(Decimal, required=True, description="The last price.")
    count = graphene.Int(required=True, description="How many quotes are in it.")
    volume = graphene.Field(Decimal, description="Their volumes together, where there are any.")


CandleConnection = connection(Candle, fields=["at"], by=TimeOrder, is_descending=True)


class Quote(graphene.ObjectType):
    """A price of an asset, as it came."""

    at = graphene.Field(DateTime, required=True, description="Since when the price is valid.")
    price = graphene.Field(Decimal, required=True, description="The price, not divided by splits that came later.")
    volume = graphene.Field(Decimal, description="Null if the provider gives none.")
    late = graphene.Boolean(
        required=True, description="It came when a newer one was there already: no rule was evaluated on it."
    )
    provider = graphene.String(description="Where it came from; empty where no provider gave it.")

    def resolve_provider(quote: QuoteRow, info: Any) -> Any:
        return info.context.load(_providers, quote.entry_id)


QuoteConnection = connection(Quote, fields=["at"], by=TimeOrder, is_descending=True)


class RefusedListing(graphene.ObjectType):
    """A name that a provider refuses, while it gives prices for others: it is not asked for it for a while."""

    provider = graphene.String(required=True, description="The provider that refuses it.")
    external_id = graphene.String(required=True, description="The name there.")
    reason = graphene.String(required=True, description="A code, like http_400 or unknown_symbol.")
    since = graphene.Field(DateTime, required=True, description="Since when.")
    next_ask_at = graphene.Field(DateTime, required=True, description="When it is asked for again.")


class Asset(graphene.ObjectType):
    """Anything with a price over time."""

    class Meta:
        interfaces = (Node,)

    id = graphene.Field(AssetId, required=True, description="Its symbol; of one that has an owner, a random name.")
    symbol = graphene.String(required=True, description="Its name in rules and feeds, like BTC-USD.")
    name = graphene.String(required=True, description="What people call it; may be empty.")
    aliases = graphene.List(graphene.NonNull(graphene.String), description="Other names by which `asset` finds it.")
    tags = graphene.List(
        graphene.NonNull(graphene.String),
        required=True,
        description="Tags, by which a rule can name several assets at once.",
    )
    signed = graphene.Boolean(required=True, description="Its price may be 0 or less.")
    price = graphene.Field(Decimal, description="The newest; null before the first.")
    price_at = graphene.Field(DateTime, description="Since when the newest price is true.")
    variation24h = graphene.Field(
        Decimal,
        description="Percent by which the newest price differs from the one in force 24 hours before its feed's "
        "clock; null where nothing that old is stored, and of a signed asset.",
    )

    variation1h = graphene.Field(Decimal, description="The same over the last hour before its feed's clock.")
    variation7d = graphene.Field(Decimal, description="The same over the last 7 days before its feed's clock.")
    variation_since_close = graphene.Field(
        Decimal,
        description="Percent by which the newest price differs from the one at the last close by its feed's "
        "clock: that of its trading hours, or without these midnight in UTC; null as for `variation24h`.",
    )
    health = graphene.Field(Health, description="How it is, by itself and by its feed.")
    refused_listings = graphene.List(
        graphene.NonNull(RefusedListing), description="Of the providers of its feed, those that refuse its name."
    )
    candles = pages_of(
        CandleConnection,
        resolution=CandleResolution(
            required=True, default_value=CandleResolution.HOUR, description="Of a minute, an hour or a day."
        ),
        description="Its prices of minutes that are over, newest first. Minutes are kept for a while.",
    )
    quotes = pages_of(
        QuoteConnection,
        since=DateTime(description="Only those from this moment on."),
        until=DateTime(description="Only those before this moment."),
        description="Its single prices, newest first, late ones too. They are kept for some days.",
    )
    # By name: alerts stand downstream, and know assets.
    alerts = pages_of(
        "apps.api.graphql.types.alerts.AlertConnection",
        by=TimeOrder,
        is_open=graphene.Boolean(description="Only those that are not over, or only those that are."),
        state=graphene.Argument("apps.api.graphql.types.alerts.AlertState", description="Only those that stand there."),
        description="Your alerts on it, newest first; a superuser's are everybody's.",
    )

    def resolve_id(asset: AssetRow, info: Any) -> str:
        return asset.external_id

    def resolve_aliases(asset: AssetRow, info: Any) -> Any:
        return info.context.load(_aliases, asset.pk)

    def resolve_price(asset: AssetRow, info: Any) -> Any:
        return info.context.load(_prices, asset.pk)

    def resolve_price_at(asset: AssetRow, info: Any) -> Any:
        return info.context.load(_price_times, asset.pk)

    def resolve_variation24h(asset: AssetRow, info: Any) -> Any:
        return info.context.load(_variations, asset.pk, timedelta(hours=24))

    def resolve_variation1h(asset: AssetRow, info: Any) -> Any:
        return info.context.load(_variations, asset.pk, timedelta(hours=1))

    def resolve_variation7d(asset: AssetRow, info: Any) -> Any:
        return info.context.load(_variations, asset.pk, timedelta(days=7))

    def resolve_variation_since_close(asset: AssetRow, info: Any) -> Any:
        return info.context.load(_variations_since_close, asset.pk)

    def resolve_health(asset: AssetRow, info: Any) -> Any:
        return info.context.load(asset_health, asset.pk)

    def resolve_refused_listings(asset: AssetRow, info: Any) -> Any:
        return info.context.load(_refused_listings, asset.pk)

    def resolve_candles(asset: AssetRow, info: Any, resolution: Any, **paging: Any) -> Any:
        return info.context.load(_candles_of_assets, asset.pk, resolution.value, Paging(**paging))

    def resolve_quotes(
        asset: AssetRow, info: Any, since: datetime | None = None, until: datetime | None = None, **paging: Any
    ) -> Any:
        return info.context.load(_quotes_of_assets, asset.pk, since, until, Paging(**paging))

    def resolve_alerts(
        asset: AssetRow, info: Any, is_open: bool | None = None, state: Any = None, **paging: Any
    ) -> Any:
        reader = import_string("apps.api.graphql.types.alerts.alerts_of_assets")
        return info.context.load(reader, asset.pk, is_open, state, Paging(**paging))


is_node(
    Asset,
    AssetRow,
    lambda context, name: context.in_market().load(assets_by_name, name),
    form=AssetId,
    id_of=lambda asset: asset.external_id,
)
AssetConnection = connection(Asset, fields=["symbol", "pk"], by=NameOrder)


EntryKind = enum("EntryKind", FeedEntryRow.Kind.values, description="What an entry of a feed's log brought.")


class FeedEntry(graphene.ObjectType):
    """An entry of a feed's log."""

    feed = graphene.String(required=True, description="The feed's name.")
    seq = graphene.Int(required=True, description="Its number in the log.")
    kind = graphene.Field(EntryKind, required=True, description="What it brought.")
    as_of = graphene.Field(DateTime, required=True, description="The feed's clock there.")
    slot = graphene.Field(DateTime, description="When its fetch was due; null where none was.")
    received_at = graphene.Field(DateTime, required=True, description="When it came, by the wall clock.")
    evaluated_at = graphene.Field(DateTime, description="When rules were evaluated on it; null: not yet.")
    provider = graphene.String(required=True, description="The provider that answered; empty where none was asked.")
    failure = graphene.String(required=True, description="Why there was no answer, as a code; else empty.")
    accepted = graphene.Int(required=True, description="How many quotes were stored, late ones aside.")
    late = graphene.Int(
        required=True, description="How many quotes were stored that came when a newer one was there already."
    )
    repeated = graphene.Int(required=True, description="How many quotes said what was stored already.")
    unconfirmed = graphene.Int(required=True, description="How many prices jumped, and wait for the next to confirm.")
    rejected = graphene.Field(JSON, required=True, description="How many quotes were rejected, by code of the reason.")
    missed_slots = graphene.Int(required=True, description="How many fetches before this one did not happen.")
    trace_id = graphene.String(required=True, description="The trace that it belongs to, which its log lines have too.")

    def resolve_feed(entry: FeedEntryRow, info: Any) -> str:
        return entry.feed.name


FeedEntryConnection = connection(FeedEntry, fields=["seq"], by=TimeOrder, is_descending=True)


class Feed(graphene.ObjectType):
    """A set of assets asked for together, and its log. For operators."""

    class Meta:
        interfaces = (Node,)

    id = graphene.Field(FeedId, required=True, description="Its name.")
    name = graphene.String(required=True, description="Its name.")
    interval_seconds = graphene.Int(required=True, description="Seconds between two fetches.")
    is_enabled = graphene.Boolean(required=True, description="False: it is paused.")
    seq = graphene.Int(required=True, description="Number of the last entry of its log.")
    evaluated_seq = graphene.Int(required=True, description="Number of the last entry that was evaluated.")
    as_of = graphene.Field(DateTime, description="Its clock: for a recording, the recording's own time.")
    next_slot = graphene.Field(DateTime, required=True, description="When it is due.")
    failures = graphene.Int(required=True, description="Answers missing in a row.")
    health = graphene.Field(Health, description="Its health.")
    assets = pages_of(AssetConnection, description="Its assets, by symbol.")
    entries = pages_of(FeedEntryConnection, description="The entries of its log, newest first.")

    def resolve_health(feed: FeedRow, info: Any) -> Any:
        return info.context.load(feed_health, feed.pk)

    def resolve_id(feed: FeedRow, info: Any) -> str:
        return feed.name

    def resolve_seq(feed: FeedRow, info: Any) -> int:
        return feed.head.seq

    def resolve_evaluated_seq(feed: FeedRow, info: Any) -> int:
        return feed.evaluation_cursor.seq

    def resolve_as_of(feed: FeedRow, info: Any) -> Any:
        return feed.head.as_of

    def resolve_next_slot(feed: FeedRow, info: Any) -> Any:
        return feed.head.next_slot

    def resolve_failures(feed: FeedRow, info: Any) -> int:
        return feed.head.failures

    def resolve_assets(feed: FeedRow, info: Any, **paging: Any) -> Any:
        return info.context.load(_assets_of_feeds, feed.pk, Paging(**paging))

    def resolve_entries(feed: FeedRow, info: Any, **paging: Any) -> Any:
        return info.context.load(_entries_of_feeds, feed.pk, Paging(**paging))


is_node(Feed, FeedRow, lambda context, name: _feed_named(context, name), form=FeedId, id_of=lambda feed: feed.name)
FeedConnection = connection(Feed, fields=["name"], by=NameOrder)


class Listing(graphene.ObjectType):
    """What a provider calls an asset; without one, it is asked for the asset's symbol."""

    provider = graphene.String(required=True, description="The provider.")
    external_id = graphene.String(required=True, description="The name there.")
    asset = graphene.Field(Asset, required=True, description="The asset.")


class MarketQuery(graphene.ObjectType):
    assets = pages_of(
        AssetConnection,
        search=graphene.String(description="Only those whose symbol, name or alias has this text in it."),
        feed=FeedId(description="Only those of this feed."),
        description="All assets, by symbol, your own among them.",
    )
    asset = graphene.Field(
        Asset,
        id=AssetId(
            required=True,
            description="Its id, a symbol or an alias: your own assets first, then symbols, then aliases.",
        ),
        description="An asset by its id, symbol or alias; null where it is none, or not yours.",
    )
    feeds = pages_of(FeedConnection, description="All feeds for operators, by name, and your own.")
    feed = graphene.Field(
        Feed,
        id=FeedId(required=True, description="Its name."),
        description="A feed by its name; null where it is none, or not for you.",
    )

    def resolve_assets(
        root: None, info: Any, search: str | None = None, feed: str | None = None, **paging: Any
    ) -> Page:
        rows = assets_seen_by(info.context.in_market().user)
        if search is not None:
            rows = having(rows, search)
        if feed is not None:
            rows = rows.filter(feed__in=feeds_seen_by(info.context.user).filter(name=feed))
        return page(AssetConnection, rows, info.context, **paging)

    def resolve_asset(root: None, info: Any, id: str) -> Any:
        return info.context.in_market().load(assets_by_name, id)

    def resolve_feeds(root: None, info: Any, **paging: Any) -> Page:
        return page(FeedConnection, feeds_seen_by(info.context.owner()), info.context, **paging)

    def resolve_feed(root: None, info: Any, id: str) -> Any:
        return _feed_named(info.context, id)


def _feed_named(context: Context, name: str) -> FeedRow | None:
    return feeds_seen_by(context.owner()).filter(name=name).first()


def assets_by_name(context: Context, names: list[str]) -> Mapping[str, AssetRow]:
    """Return name -> asset, of the ids, symbols and aliases of those that the reader may see."""
    return assets_known_as(names, reader=context.user)


def _aliases(context: Context, asset_ids: list[int]) -> Mapping[int, Sequence[str]]:
    return dict.fromkeys(asset_ids, ()) | aliases_of(asset_ids)


def _refused_listings(context: Context, asset_ids: list[int]) -> Mapping[int, Any]:
    return refused_listings_of(asset_ids)


def _latest(context: Context, asset_ids: list[int]) -> Mapping[int, Any]:
    return context.once(_latest_now, asset_ids)


def _latest_now(asset_ids: list[int]) -> Mapping[int, Any]:
    return latest_prices(asset_ids, now=timezone.now())


def _prices(context: Context, asset_ids: list[int]) -> Mapping[int, Any]:
    return {asset_id: price for asset_id, (_, price) in _latest(context, asset_ids).items()}


def _price_times(context: Context, asset_ids: list[int]) -> Mapping[int, Any]:
    return {asset_id: at for asset_id, (at, _) in _latest(context, asset_ids).items()}


def _variations(context: Context, asset_ids: list[int], back: timedelta) -> Mapping[int, Any]:
    return variations_over(_prices(context, asset_ids), back=back)


def _variations_since_close(context: Context, asset_ids: list[int]) -> Mapping[int, Any]:
    return variations_since_close(_prices(context, asset_ids))


def _candles_of_assets(context: Context, asset_ids: list[int], resolution: int, paging: Paging) -> Mapping[int, Page]:
    read = partial(candles_of, asset_ids, resolution=resolution)
    return _first_pages(CandleConnection, read, context, keys=asset_ids, paging=paging)


def _quotes_of_assets(
    context: Context, asset_ids: list[int], since: datetime | None, until: datetime | None, paging: Paging
) -> Mapping[int, Page]:
    chosen = Q(at__gte=since) if since is not None else Q()
    if until is not None:
        chosen &= Q(at__lt=until)
    read = partial(quotes_of, asset_ids)
    return _first_pages(QuoteConnection, read, context, keys=asset_ids, paging=paging, chosen=chosen)


def _providers(context: Context, entry_ids: list[int]) -> Mapping[int, str]:
    return entry_providers(entry_ids)


def _entries_of_feeds(context: Context, feed_ids: list[int], paging: Paging) -> Mapping[int, Page]:
    read = partial(entries_of, feed_ids)
    return _first_pages(FeedEntryConnection, read, context, keys=feed_ids, paging=paging)


def _first_pages(
    connection_type: Any,
    read: Callable[..., Mapping[int, Sequence[Model]]],
    context: Context,
    *,
    keys: Iterable[int],
    paging: Paging,
    chosen: Q | None = None,
) -> Mapping[int, Page]:
    """Return key -> a page of its rows, of which there may be very many. read: gives key -> its first rows."""
    order = order_of(connection_type, paging.order)
    behind = order.behind(paging.after, context)
    chosen = behind if chosen is None else behind & chosen
    reading = partial(read, chosen=chosen, limit=paging.limit, is_descending=order.is_descending)
    rows = from_replica(reading) if context.from_replica else reading()
    return {key: Page(rows.get(key, ()), order=order, context=context, paging=paging) for key in keys}


def _assets_of_feeds(context: Context, feed_ids: list[int], paging: Paging) -> Mapping[int, Page]:
    rows = assets_seen_by(context.user).filter(feed__in=feed_ids)
    return pages_by("feed_id", AssetConnection, rows, context, keys=feed_ids, paging=paging)


class QuoteUpdate(graphene.ObjectType):
    """A quote that is new in the log of its feed."""

    cursor = graphene.String(required=True, description="Where to go on behind it: the argument `after`.")
    asset = graphene.Field(Asset, required=True, description="The asset that it is of.")
    at = graphene.Field(DateTime, required=True, description="Since when the price is valid.")
    price = graphene.Field(Decimal, required=True, description="The price.")
    volume = graphene.Field(Decimal, description="Null if the provider gives none.")


class MarketSubscription(graphene.ObjectType):
    quote_updated = graphene.Field(
        QuoteUpdate,
        assets=graphene.List(
            graphene.NonNull(AssetId),
            required=True,
            description="1 to 100 symbols, aliases or ids; your own assets, and no others that have an owner.",
        ),
        after=graphene.String(description="A cursor: quotes behind it come first. Else those from now on."),
        conflate=graphene.Boolean(
            required=True,
            default_value=False,
            description="Of several quotes of an asset that wait to be sent, send the newest alone.",
        ),
        description="Each new quote of these assets, those of a feed in the order of its log, each at least once. Late "
        "ones do not come, and none from the past.",
    )

    def resolve_quote_updated(update: QuoteUpdate, info: Any, **arguments: Any) -> QuoteUpdate:
        return update
