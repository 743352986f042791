"""What prices did after moments of the past, by their candles: for alerts and for openings of backtests."""

from bisect import bisect_right
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import reduce
from operator import or_
from typing import NamedTuple

from django.db.models import Q

from apps.market.models import Asset, Candle
from apps.market.queries.prices import clocks_of
from apps.market.queries.splits import splits_of
from apps.notation import WIDE

SPANS = {
    "5 minutes": timedelta(minutes=5),
    "1 hour": timedelta(hours=1),
    "1 day": timedelta(days=1),
    "1 week": timedelta(days=7),
}
NOT_YET, NO_PRICE = "not yet", "no newer price is kept"
# A statement has a condition for each.
_PAIRS_AT_ONCE = 200


class Moment(NamedTuple):
    """A moment with the price of then, as it counted then."""

    asset_id: int
    at: datetime
    price: Decimal


class Later(NamedTuple):
    """What a price was later, as it counts now. difference: from that of the moment; percent: None of a signed asset;
    why_unknown: NOT_YET or NO_PRICE where there is no price."""

    price: Decimal | None = None
    difference: Decimal | None = None
    percent: Decimal | None = None
    why_unknown: str = ""


def aftermaths(moments: Sequence[Moment]) -> list[dict[str, Later]]:
    """Return for each moment: name of a span -> what the price in force was then, by the minute.

    Of minutes that are kept no more, by the hour or the day, where the span is longer than that. Four statements, and
    three for each 50 moments at most.
    """
    asset_ids = {one.asset_id for one in moments}
    clocks = clocks_of(asset_ids)
    # A minute is rolled up when it is over.
    ends = {pk: clock - timedelta(minutes=1) for pk, clock in clocks.items()}
    asked = [
        (one, span)
        for one in moments
        for span in SPANS.values()
        if one.asset_id not in ends or one.at + span <= ends[one.asset_id]
    ]
    closes = _closes(asked)
    splits = splits_of(asset_ids)
    signed = set(Asset.every.filter(pk__in=asset_ids, signed=True).order_by().values_list("pk", flat=True))
    known = set(asked)
    found = []
    for one in moments:
        then = splits.price(one.asset_id, one.at, one.price)
        found.append(
            {
                name: _later(then, closes.get((one, span)), is_signed=one.asset_id in signed)
                if (one, span) in known
                else Later(why_unknown=NOT_YET)
                for name, span in SPANS.items()
            }
        )
    return found


def _later(then: Decimal, price: Decimal | None, *, is_signed: bool) -> Later:
    if price is None:
        return Later(why_unknown=NO_PRICE)
    difference = WIDE.subtract(price, then)
    percent = None if is_signed or then <= 0 else WIDE.divide(difference * 100, then)
    return Later(price, difference, percent)


def _closes(asked: Sequence[tuple[Moment, timedelta]]) -> dict[tuple[Moment, timedelta], Decimal]:
    """Return (moment, span) -> the price in force then, as it counts now, where one newer than the moment is kept."""
    found: dict[tuple[Moment, timedelta], Decimal] = {}
    splits = splits_of({one.asset_id for one, _ in asked})
    for resolution in Candle.Resolution:
        left = [pair for pair in asked if pair not in found and pair[1] >= timedelta(seconds=resolution)]
        rows = _candles_before({(one.asset_id, one.at + span) for one, span in left}, resolution=resolution)
        for one, span in left:
            candles = rows.get(one.asset_id, [])
            index = bisect_right(candles, one.at + span, key=lambda candle: candle[0]) - 1
            if index >= 0 and candles[index][0] > one.at:
                found[one, span] = splits.price(one.asset_id, *candles[index])
    return found


def _candles_before(
    pairs: Collection[tuple[int, datetime]], *, resolution: int
) -> dict[int, list[tuple[datetime, Decimal]]]:
    """Return asset id -> (time of the last quote, its price) of the last candle that had ended by each of these times,
    oldest first: each by a step into the index."""
    ordered = sorted(pairs)
    found: dict[int, list[tuple[datetime, Decimal]]] = {}
    candles = Candle.objects.filter(resolution=resolution)
    for begin in range(0, len(ordered), _PAIRS_AT_ONCE):
        conditions = []
        for asset_id, at in ordered[begin : begin + _PAIRS_AT_ONCE]:
            last = candles.filter(asset=asset_id, at__lte=at, last_at__lte=at).order_by("-at").values("at")[:1]
            conditions.append(Q(asset=asset_id, at=last))
        rows = candles.filter(reduce(or_, conditions)).order_by("asset", "at")
        for asset_id, at, close in rows.values_list("asset_id", "last_at", "close"):
            found.setdefault(asset_id, []).append((at, close))
    return found
