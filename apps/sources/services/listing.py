"""What providers call assets, noted."""

from typing import NamedTuple

from django.core.exceptions import ValidationError
from django.db import transaction

from apps.market.models import Asset, Feed
from apps.sources.models import Listing


class ListingRefused(ValueError):
    """A listing, or its asset, cannot be made; the text is for people."""


class Listed(NamedTuple):
    """A listing, and what of it is new."""

    listing: Listing
    is_new: bool
    is_new_asset: bool


@transaction.atomic
def add_listing(
    *, provider: str, external_id: str, symbol: str, feed_name: str | None = None, name: str = "", currency: str = ""
) -> Listed:
    """Note what a provider calls an asset. What is noted already stays as it is.

    An asset that is not there is made, in the feed `feed_name`, with this name and currency. Raises ListingRefused.
    """
    feed = Feed.objects.filter(name=feed_name).first() if feed_name is not None else None
    if feed_name is not None and feed is None:
        raise ListingRefused(f"there is no feed {feed_name}")
    asset = Asset.objects.select_related("feed").filter(symbol=symbol).first()
    is_new_asset = asset is None
    if asset is None:
        if feed is None:
            raise ListingRefused(f"there is no asset {symbol}; say its feed too, and it is made")
        asset = Asset(symbol=symbol, feed=feed, name=name, currency=currency)
        _clean(asset)
        asset.save()
    elif feed is not None and asset.feed != feed:
        where = f"in the feed {asset.feed}" if asset.feed else "in no feed"
        raise ListingRefused(f"{symbol} is {where}; its page in the admin moves it")
    known = Listing.objects.select_related("asset").filter(provider=provider)
    if (of_asset := known.filter(asset=asset).first()) is not None and of_asset.external_id != external_id:
        raise ListingRefused(f"{symbol} is {of_asset} already; its page in the admin changes that")
    if (taken := known.filter(external_id=external_id).first()) is not None and taken.asset_id != asset.pk:
        raise ListingRefused(f"{taken} is {taken.asset} already")
    if of_asset is not None:
        return Listed(of_asset, is_new=False, is_new_asset=False)
    listing = Listing(asset=asset, provider=provider, external_id=external_id)
    _clean(listing)
    listing.save()
    return Listed(listing, is_new=True, is_new_asset=is_new_asset)


def _clean(row: Asset | Listing) -> None:
    try:
        row.full_clean()
    except ValidationError as error:
        raise ListingRefused(" ".join(error.messages)) from None
