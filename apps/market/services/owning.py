"""Assets and feeds of one owner: made with ids that say so, and deleted with all that was stored of them."""

from datetime import UTC, datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from apps.market import cache
from apps.market.models import (
    Asset,
    Candle,
    EvaluationCursor,
    Feed,
    FeedHead,
    Quote,
    Split,
    SupersededQuote,
)
from apps.market.queries import assets_of, every_asset, every_feed
from apps.market.services.moving import AssetStays
from apps.owned_ids import new_owned_id

# When a feed is due that nothing fetches.
_NEVER = datetime(9999, 12, 31, tzinfo=UTC)


def create_asset(*, owner_id: int | None, symbol: str, **columns: Any) -> Asset:
    """Return a new asset of an owner, or of the installation.

    columns: further ones of the asset. Raises ValidationError, also where the owner knows the symbol already: as
    another asset of theirs or as the installation's.
    """
    asset = Asset(pk=None if owner_id is None else new_owned_id(), owner_id=owner_id, symbol=symbol, **columns)
    asset.full_clean(exclude=["id", "owner"])
    taken = ValidationError({"symbol": ValidationError("There is an asset of this symbol already.", code="unique")})
    if assets_of(owner_id).filter(symbol=symbol).exists():
        raise taken
    try:
        with transaction.atomic():
            asset.save(force_insert=True)
    except IntegrityError:
        # Two at once.
        raise taken from None
    return asset


def create_bare_feed(*, owner_id: int | None, name: str, interval_seconds: int, **columns: Any) -> Feed:
    """Return a new feed without sources, which nothing fetches, with its head and evaluation cursor, in the caller's
    transaction. columns: further ones of the feed. Raises ValidationError."""
    pk = None if owner_id is None else new_owned_id()
    feed = Feed(pk=pk, owner_id=owner_id, name=name, interval_seconds=interval_seconds, **columns)
    feed.full_clean(exclude=["id", "owner"])
    feed.save(force_insert=True)
    FeedHead.objects.create(feed=feed, next_slot=_NEVER)
    EvaluationCursor.objects.create(feed=feed)
    return feed


def delete_asset(*, asset_id: int, feed_id: int | None) -> None:
    """Delete an asset that is in no feed any more with its quotes and candles, and the feed that it was in with its log
    where no other asset is left there; in the caller's transaction. Raises AssetStays where rows of people name it."""
    asset = every_asset().get(pk=asset_id)
    for model in (Quote, SupersededQuote, Candle, Split):
        model.objects.filter(asset=asset_id).delete()
    try:
        asset.delete()
    except ProtectedError as error:
        kinds = sorted({str(row._meta.verbose_name_plural) for row in error.protected_objects})
        raise AssetStays(f"{asset.symbol} stays: {' and '.join(kinds)} name it. Delete these first.") from None
    transaction.on_commit(lambda: cache.forget_latest([asset_id]))
    if feed_id is not None and not every_asset().filter(feed=feed_id).exists():
        every_feed().filter(pk=feed_id).delete()
