"""Which backfills workers go on with, and how far those of assets are."""

from collections.abc import Collection
from datetime import datetime

from apps.leases import IS_FREE
from apps.sources.models import Backfill

# Each takes a call of a provider.
DISPATCHED_AT_ONCE = 20


def backfills_due(*, now: datetime) -> list[int]:
    """Return the backfills whose next page workers may ask for, the one that has waited longest first."""
    due = Backfill.objects.filter(IS_FREE, is_asked=True, finished_at=None, next_call_at__lte=now)
    return list(due.order_by("next_call_at", "pk").values_list("pk", flat=True)[:DISPATCHED_AT_ONCE])


def newest_backfills(asset_ids: Collection[int]) -> dict[int, Backfill]:
    """Return asset id -> its newest backfill. One statement."""
    rows = Backfill.objects.filter(asset__in=asset_ids).order_by("pk")
    return {one.asset_id: one for one in rows}
