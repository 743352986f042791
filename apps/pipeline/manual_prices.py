"""Prices of manual assets, typed or uploaded: each is an entry of their feed's log, and takes the place of what is
stored at its time."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from apps.market.domain import RawQuote
from apps.market.models import Asset
from apps.market.queries import every_feed
from apps.pipeline import corrections
from apps.pipeline.corrections import Corrected
from apps.tracing import new_trace_id


def store_prices(asset: Asset, quotes: Iterable[RawQuote], *, now: datetime) -> Corrected:
    """Store prices of a manual asset, and return what that changed."""
    feed = every_feed().get(pk=asset.feed_id)
    admitted = corrections.admit_file(feed, quotes, now=now)
    return corrections.replace_quotes(feed, admitted, now=now, trace_id=new_trace_id())


def delete_price(asset: Asset, *, at: datetime, now: datetime) -> Corrected:
    """Delete the price of a manual asset at a time. Raises CorrectionRefused."""
    until = at + timedelta(microseconds=1)
    return corrections.delete_quotes(asset, since=at, until=until, now=now, trace_id=new_trace_id())
