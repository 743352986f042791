"""Marks that rules may have other assets by now; triggers write them too, see `AssetsChange`."""

from collections.abc import Collection

from apps.market.models import AssetsChange


def mark_assets_changed() -> None:
    """Have rules look at their assets again, once the caller's transaction has ended."""
    AssetsChange.objects.create()


def forget_assets_changes(change_ids: Collection[int]) -> None:
    """Delete these marks, which rules have followed."""
    AssetsChange.objects.filter(pk__in=change_ids).delete()
