"""Assets moved from one feed to another, at one place in the logs of both."""

from collections.abc import Collection
from datetime import timedelta

from django.db import transaction

from apps.leases import IS_LEASED
from apps.market import domain
from apps.market.derived.models import DerivedFeed, DerivedSeries, SeriesLeg
from apps.market.models import Asset, EvaluationCursor, Feed, FeedHead, LatestQuote
from apps.market.queries import every_asset, every_feed
from apps.market.services.candles import roll_up_last
from apps.market.services.log import lock_head, move_clock


class AssetStays(ValueError):
    """An asset cannot be moved now; the text is for people."""


def refuse_to_move(asset: Asset, *, feed: Feed | None, is_ending: bool = False) -> None:
    """Raise AssetStays where the asset cannot leave its feed for this one at this moment. is_ending: it is about to be
    deleted, and `lock_settled` has its feed.

    Binding under the locks of `move_asset`; before, it is a good guess.
    """
    old = asset.feed
    if SeriesLeg.objects.filter(asset=asset.pk).exists():
        raise AssetStays(f"{asset} is a leg of derived series, which read the log of its feed; delete these first.")
    if not is_ending and DerivedSeries.objects.filter(pk=asset.pk).exists():
        raise AssetStays(f"{asset} is made of other series, so it stays in its feed; delete it instead.")
    if feed is not None and DerivedFeed.objects.filter(pk=feed.pk).exists():
        raise AssetStays(f"{feed} has derived series alone.")
    if old is not None:
        if not is_ending:
            _refuse_unsettled(old)
        # The lease is measured by the database's clock, as where it is taken.
        if FeedHead.objects.filter(IS_LEASED, pk=old.pk).exists():
            raise AssetStays(f"{_name_of(old)} is being fetched at this moment; try again in a moment.")
    latest = LatestQuote.objects.filter(asset=asset).first()
    clock = FeedHead.objects.values_list("as_of", flat=True).get(pk=feed.pk) if feed is not None else None
    if feed is not None and latest is not None and clock is not None and not feed.is_live:
        # A feed whose next answer is still older than that would give nothing but late quotes.
        reach = timedelta(seconds=feed.interval_seconds) + domain.FUTURE_TOLERANCE
        if latest.at > clock + reach:
            raise AssetStays(
                f"The newest quote of {asset} is of {latest.at:%Y-%m-%d %H:%M:%S}, ahead of the clock of {feed}."
            )


def _refuse_unsettled(feed: Feed) -> None:
    pending = FeedHead.objects.get(pk=feed.pk).seq - EvaluationCursor.objects.get(pk=feed.pk).seq
    if pending:
        entries = "1 entry" if pending == 1 else f"{pending} entries"
        raise AssetStays(f"{_name_of(feed)} has {entries} to evaluate; try again in a moment.")


def _name_of(feed: Feed) -> str:
    """Return what people know a feed by: of one that has an owner, who never named it, what is in it."""
    if feed.owner_id is None:
        return f"The feed {feed}"
    symbols = every_asset().filter(feed=feed.pk).order_by("symbol").values_list("symbol", flat=True)
    return f"The feed of {', '.join(symbols)}"


def lock_settled(feed_ids: Collection[int]) -> None:
    """Lock feeds that assets are about to be deleted from, until the caller's transaction ends. Raises AssetStays where
    one has entries to evaluate. Those that the deletions append need not be evaluated in between."""
    lock_logs(feed_ids)
    for feed in every_feed().filter(pk__in=feed_ids).order_by("pk"):
        _refuse_unsettled(feed)


def lock_logs(feed_ids: Collection[int]) -> dict[int, FeedHead]:
    """Return the locked heads of feeds. Until the caller's transaction ends, nothing is appended to their logs and
    nothing evaluated there."""
    # First the analyzers, who may take a while and never ask for a head: so no fetch of the feeds waits for them here.
    list(EvaluationCursor.objects.select_for_update(no_key=True).filter(pk__in=feed_ids).order_by("pk"))
    return {one: lock_head(one) for one in sorted(feed_ids)}


@transaction.atomic
def move_asset(*, asset_id: int, feed_id: int | None, is_ending: bool = False) -> int | None:
    """Move an asset to another feed, or to none, and return the feed that it was in. Its quotes stay as they are.

    Where rules may be evaluated on it, call that of `alerts.owned`: it enters their change in both logs in the
    same transaction. Both feeds are locked until that ends. Raises AssetStays.
    """
    old_id = every_asset().values_list("feed_id", flat=True).get(pk=asset_id)
    if old_id == feed_id:
        return old_id
    heads = lock_logs({one for one in (old_id, feed_id) if one is not None})
    asset = every_asset().select_for_update(no_key=True).get(pk=asset_id)
    if asset.feed_id != old_id:
        raise AssetStays(f"{asset} was moved by somebody else at this moment.")
    feed = every_feed().get(pk=feed_id) if feed_id is not None else None
    refuse_to_move(asset, feed=feed, is_ending=is_ending)
    if old_id is not None and not roll_up_last(old_id):
        # Quotes that are not in candles yet are read from the log of the asset's feed, which would be another.
        raise AssetStays(f"The quotes of the feed {asset.feed} are being rolled up; try again in some minutes.")
    if old_id is not None:
        # Whoever has lost the lease and still fetches had asked for this asset too.
        heads[old_id].fence += 1
        heads[old_id].save(update_fields=["fence"])
    latest = LatestQuote.objects.filter(asset=asset).first()
    if feed is not None and latest is not None and feed.is_live:
        move_clock(heads[feed.pk], as_of=latest.at)
        heads[feed.pk].save(update_fields=["as_of"])
    every_asset().filter(pk=asset_id).update(feed=feed)
    return old_id
