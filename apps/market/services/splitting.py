"""Splits entered into a feed's log: quotes stay as they came, and are read as they count from then on."""

import logging
from datetime import datetime, timedelta
from fractions import Fraction

from django.db import connection, transaction

from apps.market import domain, queries
from apps.market.domain import slot_of
from apps.market.models import Asset, Candle, FeedEntry, LatestQuote, Quote, Split
from apps.market.services.log import append_entry, lock_head
from apps.market.splits import multiplied, refuse_ratio
from apps.wording import format_number

logger = logging.getLogger(__name__)

# Any number; whoever enters a split holds this lock until the end of the transaction.
_ADVISORY_LOCK = 7_301_002


class SplitRefused(ValueError):
    """A split cannot be entered; the text is for people."""


def append_split(
    *, asset_id: int, effective_at: datetime, numerator: int, denominator: int, now: datetime, trace_id: str
) -> Split | None:
    """Enter a split into the log of the asset's feed, and return it; None where it is there already.

    Prices from before `effective_at` count denominator / numerator of what they were. Raises SplitRefused.
    """
    try:
        refuse_ratio(numerator, denominator)
    except ValueError as error:
        raise SplitRefused(str(error)) from None
    if slot_of(at=effective_at, interval_seconds=Candle.Resolution.MINUTE) != effective_at:
        raise SplitRefused("a split is effective from a whole minute on, like 13:30:00")
    if effective_at < domain.EARLIEST:
        raise SplitRefused(f"a split is effective in {domain.EARLIEST.year} or later")
    ratio = Fraction(numerator, denominator)
    terms = {"effective_at": effective_at, "numerator": ratio.numerator, "denominator": ratio.denominator}
    with transaction.atomic():
        _wait_for_other_splits()
        asset = Asset.objects.select_related("feed").get(pk=asset_id)
        if asset.feed is None:
            raise SplitRefused(f"{asset} is in no feed, so there is no log that its split could stand in")
        head = lock_head(asset.feed.pk)
        if not Asset.objects.filter(pk=asset_id, feed=asset.feed).exists():
            raise SplitRefused(f"{asset} was moved to another feed at this moment; try again")
        if Split.objects.filter(asset=asset, **terms).exists():
            return None
        if effective_at > (head.as_of or now):
            raise SplitRefused(
                f"the clock of the feed {asset.feed} is at {head.as_of or now:%Y-%m-%d %H:%M:%S} UTC; enter the split "
                "when it is effective"
            )
        _refuse_within_candle(asset, effective_at)
        entry = append_entry(head, kind=FeedEntry.Kind.SPLIT, now=now, trace_id=trace_id)
        split = Split.objects.create(asset=asset, entry=entry, **terms)
        if _multiply_latest(asset, effective_at=effective_at, ratio=ratio):
            # The cache is written by `sweep`, once the caller's transaction has ended.
            head.is_cache_stale = True
        head.save(update_fields=[*head.APPENDED, "is_cache_stale"])
    facts = {"asset": asset.symbol, "feed": asset.feed.name, "ratio": str(split), "effective_at": effective_at}
    logger.info("split entered", extra=facts)
    return split


def _wait_for_other_splits() -> None:
    """Have splits committed in the order of their ids, of whatever feeds they are: portfolios and their series know
    them up to an id. Before the log is locked, so that nobody who waits here has one."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_ADVISORY_LOCK])


def _refuse_within_candle(asset: Asset, effective_at: datetime) -> None:
    """Raise SplitRefused where an hour or a day with prices from before and after it is kept without its minutes."""
    for resolution in (Candle.Resolution.HOUR, Candle.Resolution.DAY):
        begin = slot_of(at=effective_at, interval_seconds=resolution)
        candles = Candle.objects.filter(asset=asset, at__gte=begin, at__lt=begin + timedelta(seconds=resolution))
        mixed = candles.filter(resolution=resolution, first_at__lt=effective_at, last_at__gte=effective_at).first()
        if mixed is not None and not candles.filter(resolution=Candle.Resolution.MINUTE).exists():
            raise SplitRefused(
                f"of {asset}, one candle is kept of {mixed.first_at:%Y-%m-%d %H:%M:%S} to "
                f"{mixed.last_at:%Y-%m-%d %H:%M:%S} UTC, and its minutes are kept no more; a split cannot be effective "
                "between the two"
            )


def _multiply_latest(asset: Asset, *, effective_at: datetime, ratio: Fraction) -> bool:
    """Make the newest price of an asset what it is after the split that was just entered; tell whether it is another.

    An unconfirmed quote stays as it came and is compared as adjusted: once confirmed, it is a quote like others.
    """
    latest = LatestQuote.objects.filter(asset=asset, at__lt=effective_at).first()
    if latest is None:
        return False
    stored = Quote.objects.filter(asset=asset, at=latest.at, late=False).first()
    if stored is not None:
        price = queries.splits_of([asset.pk]).price(asset.pk, stored.at, stored.price)
    else:
        price = multiplied(latest.price, 1 / ratio)
    if price and not domain.PRICE_LOWEST <= abs(price) <= domain.PRICE_HIGHEST:
        before, after = format_number(latest.price), format_number(price)
        raise SplitRefused(f"the newest price of {asset}, {before}, would be {after}, which is out of range")
    LatestQuote.objects.filter(asset=asset).update(price=price)
    return True
