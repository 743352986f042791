"""The logs as those read them who follow prices: on from the place at which they stand."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from django.db.models import Max, Min, Q, QuerySet

from apps.canary import is_not_canary
from apps.market.models import Asset, FeedEntry, FeedHead, Quote
from apps.owned_ids import is_owned

# Feed id -> number of the last entry that was read.
Place = Mapping[int, int]


class FollowedQuote(NamedTuple):
    """A quote, and the place of its entry."""

    feed_id: int
    seq: int
    asset: Asset
    at: datetime
    price: Decimal
    volume: Decimal | None


def ends_of_logs() -> dict[int, int]:
    """Return feed id -> number of the last entry, of all feeds, whoever's. Numbers have no gaps, and are given under a
    lock that is held until the commit, so nothing comes before an end that was read."""
    return dict(FeedHead.objects.filter(is_not_canary("feed")).values_list("feed_id", "seq"))


def feeds_read_for(feed_ids: Iterable[int], *, asset_ids: Collection[int]) -> set[int]:
    """Return those of some feeds in which quotes of these assets are looked for: all of the installation's, and of
    those of owners the assets' own. A statement where there are assets of owners, else none."""
    owned = [asset_id for asset_id in asset_ids if is_owned(asset_id)]
    own = set(Asset.every.filter(pk__in=owned).values_list("feed_id", flat=True)) if owned else set()
    return {feed_id for feed_id in feed_ids if not is_owned(feed_id) or feed_id in own}


def quotes_followed(
    after: Place, up_to: Place, *, asset_ids: Collection[int], limit: int
) -> tuple[list[FollowedQuote], dict[int, int]]:
    """Return the quotes of these assets that stand behind one place and not behind another, those of a feed in the
    order of its log, and the place that was reached, after so many entries. Four statements at most.

    Late ones are left out, and those of history and corrections, which are of the past.
    """
    entries = list(_entries_between(after, up_to, asset_ids=asset_ids).order_by("feed_id", "seq")[:limit])
    reached = dict(up_to)
    if len(entries) == limit:
        last = entries[-1]
        reached |= {feed_id: after.get(feed_id, 0) for feed_id in up_to if feed_id > last.feed_id}
        reached[last.feed_id] = last.seq
    if not entries or not asset_ids:
        return [], reached
    places = {entry.pk: (entry.feed_id, entry.seq) for entry in entries}
    first, last_at = min(entry.first_at for entry in entries), max(entry.last_at for entry in entries)
    rows = Quote.objects.filter(
        entry__in=places, late=False, at__gte=first, at__lte=last_at, asset__in=list(asset_ids)
    ).values_list("entry_id", "asset_id", "at", "price", "volume")
    found = sorted((places[entry_id], at, asset_id, price, volume) for entry_id, asset_id, at, price, volume in rows)
    assets = Asset.every.in_bulk({asset_id for _, _, asset_id, _, _ in found})
    return [
        FollowedQuote(*place, assets[asset_id], at, price, volume)
        for place, at, asset_id, price, volume in found
        if asset_id in assets
    ], reached


def missed_quotes(
    after: Place, up_to: Place, *, asset_ids: Sequence[int], before: datetime, limit: int
) -> tuple[bool, int]:
    """Return whether there is a quote of these assets behind one place, and not behind another, whose entry was
    received before a time; and how many there are, counted up to the limit. Four statements at most."""
    entries = _entries_between(after, up_to, asset_ids=asset_ids)
    bounds = entries.aggregate(first=Min("first_at"), last=Max("last_at"))
    if bounds["first"] is None:
        return False, 0
    rows = Quote.objects.filter(
        entry__in=entries.order_by().values("pk"),
        late=False,
        at__gte=bounds["first"],
        at__lte=bounds["last"],
        asset__in=asset_ids,
    )
    is_older = rows.filter(entry__received_at__lt=before).exists()
    return is_older, rows.order_by().values("at")[:limit].count()


def _entries_between(after: Place, up_to: Place, *, asset_ids: Collection[int]) -> QuerySet[FeedEntry]:
    chosen = Q(pk__in=[])
    for feed_id in feeds_read_for(up_to, asset_ids=asset_ids):
        if up_to[feed_id] > after.get(feed_id, 0):
            chosen |= Q(feed=feed_id, seq__gt=after.get(feed_id, 0), seq__lte=up_to[feed_id])
    return FeedEntry.objects.filter(chosen, kind=FeedEntry.Kind.QUOTES, first_at__isnull=False)
