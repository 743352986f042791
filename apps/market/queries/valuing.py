"""Prices for what people hold: the newest with its provider, those at many times, and the closes of days."""

from bisect import bisect_right
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from django.db.models import OuterRef, Subquery

from apps.market.domain import epoch_microseconds
from apps.market.models import Asset, Candle, LatestQuote
from apps.market.queries.prices import in_force_at
from apps.market.queries.splits import splits_of
from apps.market.splits import Splits, multiplied

_HOUR = timedelta(hours=1)
# The candles of so many hours are read at once.
_HOURS_AT_ONCE = 500
# A moment whose last close is older than this is looked up among quotes and shorter candles.
_CLOSE_IS_NEAR = timedelta(days=2)
# How often they are asked, each time for one moment of every asset.
_ROUNDS = 20


class HeldPrice(NamedTuple):
    """A price with its time and, of the newest quote, its provider."""

    at: datetime
    price: Decimal
    provider: str = ""


def rate_assets() -> list[Asset]:
    """Return the assets that are exchange rates. One statement."""
    return list(Asset.objects.exclude(base_currency="").order_by("symbol"))


def known_currencies() -> set[str]:
    """Return the currencies that assets' prices are in. One statement."""
    return set(Asset.objects.exclude(currency="").order_by().values_list("currency", flat=True).distinct())


def held_prices(asset_ids: Collection[int], *, splits: Splits | None = None) -> dict[int, HeldPrice]:
    """Return asset id -> its newest stored price, as it counts now. splits: those of these assets, where they are known
    already. One statement, and one for the splits."""
    rows = LatestQuote.objects.filter(asset__in=asset_ids).values_list("asset_id", "at", "price", "provider")
    splits = splits_of(asset_ids) if splits is None else splits
    return {
        asset_id: HeldPrice(at, splits.price(asset_id, at, price), provider) for asset_id, at, price, provider in rows
    }


def day_closes(
    asset_ids: Collection[int], *, splits: Splits, since: datetime, until: datetime
) -> dict[int, list[tuple[datetime, Decimal]]]:
    """Return asset id -> (time of the last quote, its price as it counts now) of each day, oldest first; and the last
    one before `since`. splits: those of these assets. Two statements."""
    days = Candle.objects.filter(resolution=Candle.Resolution.DAY)
    found: dict[int, list[tuple[datetime, Decimal]]] = {}
    # The day of `since` may have ended after it, or before.
    begin = since - timedelta(days=1)
    last = days.filter(asset=OuterRef("pk"), at__lt=begin).order_by("-at")
    before = Asset.every.filter(pk__in=asset_ids).order_by()
    before = before.annotate(last_at=Subquery(last.values("last_at")[:1]), close=Subquery(last.values("close")[:1]))
    for asset_id, at, close in before.values_list("pk", "last_at", "close"):
        if at is not None:
            found[asset_id] = [(at, splits.price(asset_id, at, close))]
    rows = days.filter(asset__in=asset_ids, at__gte=begin, at__lte=until).order_by("asset", "at")
    for asset_id, at, close in rows.values_list("asset_id", "last_at", "close"):
        found.setdefault(asset_id, []).append((at, splits.price(asset_id, at, close)))
    return found


def first_prices(asset_ids: Collection[int]) -> dict[int, datetime]:
    """Return asset id -> the beginning of the first day of which a price is stored; what has none is left out. One
    statement."""
    days = Candle.objects.filter(resolution=Candle.Resolution.DAY, asset=OuterRef("pk")).order_by("at")
    rows = Asset.every.filter(pk__in=asset_ids).order_by().annotate(first_at=Subquery(days.values("at")[:1]))
    return {asset_id: at for asset_id, at in rows.values_list("pk", "first_at") if at is not None}


def prices_then(wanted: Iterable[tuple[int, datetime]]) -> dict[tuple[int, datetime], HeldPrice]:
    """Return (asset id, moment) -> the price in force, per unit of that time; what is not known is left out.

    It is the last close of that hour or the one before, with its age, else that of the last day that had ended; where
    none is near, that of any candle, or a quote. A statement for some hundred hours, and few besides, however many
    moments there are.
    """
    moments: dict[int, list[datetime]] = {}
    for asset_id, at in sorted(set(wanted), key=lambda one: one[1]):
        moments.setdefault(asset_id, []).append(at)
    if not moments:
        return {}
    times = [at for each in moments.values() for at in each]
    splits = splits_of(list(moments))
    closes = day_closes(list(moments), splits=splits, since=min(times), until=max(times))
    found: dict[tuple[int, datetime], HeldPrice] = {}
    for asset_id, each in moments.items():
        days = closes.get(asset_id, [])
        ends = [at for at, _ in days]
        for at in each:
            index = bisect_right(ends, at) - 1
            if index >= 0:
                found[asset_id, at] = HeldPrice(*days[index])
    hours = _hour_closes(((asset_id, at) for asset_id, each in moments.items() for at in each), splits=splits)
    left: dict[int, list[datetime]] = {}
    for asset_id, each in moments.items():
        for at in each:
            # Of a day that is not over yet, the close may be newer.
            for key in _hours_of(asset_id, at):
                close = hours.get(key)
                before = found.get((asset_id, at))
                if close is not None and close.at <= at and (before is None or before.at < close.at):
                    found[asset_id, at] = close
            if (asset_id, at) not in found or at - found[asset_id, at].at > _CLOSE_IS_NEAR:
                left.setdefault(asset_id, []).append(at)
    for number in range(min(max(map(len, left.values()), default=0), _ROUNDS)):
        # The newest first: of older ones, the days are there.
        asked = {asset_id: each[-1 - number] for asset_id, each in left.items() if len(each) > number}
        for asset_id, (at, price) in in_force_at(asked).items():
            known = found.get((asset_id, asked[asset_id]))
            if known is None or known.at < at:
                found[asset_id, asked[asset_id]] = HeldPrice(at, price)
    return {
        (asset_id, at): one._replace(price=_per_unit(one.price, splits.factor(asset_id, epoch_microseconds(at))))
        for (asset_id, at), one in found.items()
    }


def _hours_of(asset_id: int, at: datetime) -> list[tuple[int, datetime]]:
    """Return the hour of a moment and the one before, each with the asset."""
    hour = at.replace(minute=0, second=0, microsecond=0)
    return [(asset_id, hour), (asset_id, hour - _HOUR)]


def _hour_closes(wanted: Iterable[tuple[int, datetime]], *, splits: Splits) -> dict[tuple[int, datetime], HeldPrice]:
    """Return (asset id, hour) -> its last price as it counts now, for the hours of these moments and those before.
    splits: those of these assets."""
    of_hour: dict[datetime, set[int]] = {}
    for one in wanted:
        for asset_id, hour in _hours_of(*one):
            of_hour.setdefault(hour, set()).add(asset_id)
    hours, found = sorted(of_hour), {}
    for first in range(0, len(hours), _HOURS_AT_ONCE):
        chosen = hours[first : first + _HOURS_AT_ONCE]
        # Mostly they are exchange rates, of which each hour needs all.
        assets = set().union(*(of_hour[hour] for hour in chosen))
        rows = Candle.objects.filter(asset__in=assets, resolution=Candle.Resolution.HOUR, at__in=chosen).order_by()
        for asset_id, hour, at, close in rows.values_list("asset_id", "at", "last_at", "close"):
            if asset_id in of_hour[hour]:
                found[asset_id, hour] = HeldPrice(at, splits.price(asset_id, at, close))
    return found


def _per_unit(price: Decimal, factor: Fraction) -> Decimal:
    """Return a price as it counted before the splits of this factor."""
    return price if factor == 1 else multiplied(price, 1 / factor)
