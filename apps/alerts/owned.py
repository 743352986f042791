"""Assets moved between feeds, and series of owners deleted, with the rules on them and the alerts about them, at one
place of the logs."""

import logging
from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime

from django.db import transaction

from apps.alerts.models import AlertEvent
from apps.alerts.services import end_episodes
from apps.market import queries as market_queries
from apps.market import services as market
from apps.market.derived.making import end_series
from apps.market.derived.models import SeriesLeg
from apps.market.models import EvaluationCursor
from apps.portfolios import services as portfolios
from apps.portfolios.models import Portfolio
from apps.rules import services as rules
from apps.totals import Totals, added
from apps.tracing import new_trace_id

logger = logging.getLogger(__name__)


def totals_of_events(events: Sequence[AlertEvent]) -> Totals:
    """Return event -> how many, by the kind of the event, and the kind and severity of its alert."""
    return dict(Counter(f"{event.kind}:{event.alert.kind}:{event.alert.severity}" for event in events))


def move_asset(*, asset_id: int, feed_id: int | None, now: datetime, is_ending: bool = False) -> list[AlertEvent]:
    """Move an asset to another feed, or to none, with the rules on it, in the caller's transaction, and return the
    events of alerts that resolve. Raises AssetStays. is_ending: it is about to be deleted.

    One entry in each of the two logs marks where the old feed stops evaluating it and the new one starts.
    """
    trace_id = new_trace_id()
    watching = rules.lock_rules_on(asset_id)
    left_feed_id = market.move_asset(asset_id=asset_id, feed_id=feed_id, is_ending=is_ending)
    ended = rules.follow_moved_asset(
        asset_id=asset_id, rules=watching, left_feed_id=left_feed_id, now=now, trace_id=trace_id
    )
    events = end_episodes(asset_id=asset_id, ended=ended)
    if events:
        # Locked by the move, which has the cursor of each log.
        cursor = EvaluationCursor.objects.get(pk=left_feed_id)
        cursor.totals = added(cursor.totals, totals_of_events(events))
        cursor.save(update_fields=["totals"])
    logger.info("asset moved", extra={"asset": asset_id, "from": left_feed_id, "to": feed_id, "rules": len(watching)})
    return events


def delete_series(*, asset_ids: Collection[int], now: datetime) -> None:
    """Delete assets that have an owner, all or none, with their quotes and candles, the alerts about them, and their
    feeds' logs where nothing else is in these. Raises AssetStays. Their rules end first, as where an asset leaves its
    feed."""
    with transaction.atomic():
        rows = market_queries.every_asset().filter(pk__in=asset_ids, owner__isnull=False)
        feeds: dict[int, int | None] = dict(rows.values_list("pk", "feed"))
        # Assets that are legs of other series are refused first, before it waits for any lock.
        legs_of_others = SeriesLeg.objects.filter(asset__in=feeds).exclude(series__in=feeds)
        for asset in market_queries.every_asset().filter(pk__in=legs_of_others.values("asset")).order_by("symbol"):
            market.refuse_to_move(asset, feed=None, is_ending=True)
        rules.lock_rules_on(*feeds)
        market.lock_settled({feed_id for feed_id in feeds.values() if feed_id is not None})
        left = set(feeds)
        while left:
            # Those first of which no other is made.
            legs = set(SeriesLeg.objects.filter(asset__in=left).values_list("asset", flat=True))
            for asset_id in sorted(left - legs or left):
                _delete(asset_id, feeds[asset_id], now=now)
                left.remove(asset_id)
    for asset_id in feeds:
        logger.info("series deleted", extra={"asset": asset_id})


def _delete(asset_id: int, feed_id: int | None, *, now: datetime) -> None:
    move_asset(asset_id=asset_id, feed_id=None, now=now, is_ending=True)
    if feed_id is not None:
        end_series(asset_id=asset_id, feed_id=feed_id, now=now, trace_id=new_trace_id())
    market.delete_asset(asset_id=asset_id, feed_id=feed_id)


def delete_series_of(*, owner_id: int, now: datetime) -> int:
    """Delete all assets of an owner, who is about to be deleted, and return how many. Raises AssetStays."""
    own = list(market_queries.every_asset().filter(owner=owner_id).values_list("pk", flat=True))
    delete_series(asset_ids=own, now=now)
    return len(own)


def delete_portfolio(*, portfolio: Portfolio, now: datetime) -> None:
    """Delete a portfolio with its transactions and its series. Raises PortfolioStays."""
    with transaction.atomic():
        # Before rules and heads, as where a transaction changes.
        portfolios.lock_portfolios(portfolio)
        try:
            delete_series(asset_ids=list(portfolio.series.values_list("pk", flat=True)), now=now)
        except market.AssetStays as error:
            raise portfolios.PortfolioStays(str(error)) from None
        portfolios.delete_portfolio(portfolio=portfolio)
