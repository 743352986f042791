"""The splits that prices are read through."""

from collections.abc import Iterable
from datetime import datetime

from apps.market.domain import epoch_microseconds
from apps.market.models import Split
from apps.market.splits import SplitFact, Splits


def splits_of(
    asset_ids: Iterable[int] | None = None,
    *,
    feed_id: int | None = None,
    after: datetime | None = None,
    up_to_entry: int | None = None,
) -> Splits:
    """Return the splits of these assets, of a feed's, or of all. One statement.

    after: only those that change prices of that time or later ones; up_to_entry: as they were known at this entry of
    the log, by its id, and not as they are known now.
    """
    rows = Split.objects.all()
    if asset_ids is not None:
        rows = rows.filter(asset__in=list(asset_ids))
    if feed_id is not None:
        rows = rows.filter(asset__feed=feed_id)
    if after is not None:
        rows = rows.filter(effective_at__gt=after)
    if up_to_entry is not None:
        rows = rows.filter(entry__lte=up_to_entry)
    facts = rows.order_by().values_list("asset_id", "effective_at", "numerator", "denominator", "entry_id")
    return Splits(
        SplitFact(asset_id, epoch_microseconds(effective_at), *ratio_and_entry)
        for asset_id, effective_at, *ratio_and_entry in facts
    )
