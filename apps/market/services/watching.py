"""Watchlists: which assets a person follows."""

from django.contrib.auth.models import AbstractBaseUser

from apps.market.models import Asset, WatchedAsset


def watch(asset: Asset, *, user: AbstractBaseUser) -> None:
    """Put an asset on somebody's watchlist; nothing where it is there already."""
    WatchedAsset.objects.bulk_create([WatchedAsset(user_id=user.pk, asset=asset)], ignore_conflicts=True)


def unwatch(asset: Asset, *, user: AbstractBaseUser) -> None:
    """Take an asset off somebody's watchlist; nothing where it is not there."""
    WatchedAsset.objects.filter(user=user.pk, asset=asset).delete()
