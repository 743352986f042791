"""Listings that a provider refuses while it gives prices for others, noted and forgotten."""

import logging
from collections.abc import Collection, Mapping
from datetime import datetime

from apps.market.models import Asset
from apps.sources import domain
from apps.sources.models import RefusedListing

logger = logging.getLogger(__name__)


def note_refusals(
    *, feed_id: int, provider: str, refused: Mapping[int, tuple[str, str]], answered: Collection[int], now: datetime
) -> None:
    """Write what a provider refused in one round, and delete what it has answered again.

    refused: asset id -> (name, reason); answered: ids of assets with a row here that have a price now. Call it in the
    transaction of the round's entry, under the head's lock.
    """
    if answered:
        RefusedListing.objects.filter(provider=provider, asset__in=answered).delete()
    if not refused:
        return
    known = {row.asset_id: row for row in RefusedListing.objects.filter(provider=provider, asset__in=refused)}
    # An asset may be gone, or in another feed, since the provider was asked.
    here = Asset.objects.filter(pk__in=refused, feed=feed_id).order_by("pk").values_list("pk", flat=True)
    rows = []
    for asset_id in here:
        name, reason = refused[asset_id]
        before = known.get(asset_id)
        since = before.since if before is not None and before.external_id == name else now
        next_ask_at = domain.ask_again_after(since=since, now=now)
        key = {"asset_id": asset_id, "provider": provider}
        rows.append(RefusedListing(**key, external_id=name, reason=reason, since=since, next_ask_at=next_ask_at))
        if since == now:
            logger.warning("listing refused", extra={"feed": feed_id, **key, "name_there": name, "reason": reason})
    RefusedListing.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["asset", "provider"],
        update_fields=["external_id", "reason", "since", "next_ask_at"],
    )
