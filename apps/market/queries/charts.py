"""What charts draw: candles of any width, and the few points of a sparkline."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from django.db.models import Q

from apps.market.domain import epoch_microseconds, from_epoch_microseconds
from apps.market.models import Asset, Candle, Quote
from apps.market.queries.prices import candles_of, clocks_of
from apps.market.queries.splits import splits_of
from apps.wording import decimals_of

# Widths of the candles that are drawn, in seconds.
WIDTHS = (5, 60, 300, 3_600, 4 * 3_600, 86_400, 7 * 86_400, 28 * 86_400)
BARS_MOST = 400
# Narrow candles are made of quotes, and so are those that are not rolled up yet.
QUOTES_MOST = 5_000
SPARKLINE = timedelta(days=1)
_MICROSECOND = timedelta(microseconds=1)


class Bar(NamedTuple):
    """A candle that is drawn. at: its beginning; volume: None where no quote of it has one."""

    at: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal | None


def clock_of(asset: Asset) -> datetime | None:
    """Return the time of the asset's feed, or without a feed that of its newest price. It reads `feed__head` and
    `latest`, where these did not come with it."""
    if asset.feed is not None and asset.feed.head.as_of is not None:
        return asset.feed.head.as_of
    return asset.latest.at if hasattr(asset, "latest") else None


def width_of(span: timedelta) -> int:
    """Return the width of candles, in seconds, of which BARS_MOST cover this span."""
    return next((width for width in WIDTHS if span <= BARS_MOST * timedelta(seconds=width)), WIDTHS[-1])


def bars_of(asset_id: int, *, since: datetime, until: datetime, width: int) -> list[Bar]:
    """Return an asset's candles of `width` seconds that touch [since, until], oldest first, without late quotes.

    With all splits that are known now. Those that no candle has yet are made of the newest QUOTES_MOST quotes. Twelve
    statements at most, and one for each candle in which a split was effective.
    """
    bars: list[Bar] = []
    if width >= Candle.Resolution.MINUTE or _has_more_quotes(asset_id, since=since, until=until):
        width = max(width, Candle.Resolution.MINUTE)
        bars, reached = _stored_bars(asset_id, since=since, until=until, width=width)
        since = since if reached is None else reached + _MICROSECOND
    for at, price, volume in newest_quotes_between(asset_id, since=since, until=until, limit=QUOTES_MOST):
        bars.append(Bar(at, price, price, price, price, volume))
    return list(_merged(bars, width=width))


def _has_more_quotes(asset_id: int, *, since: datetime, until: datetime) -> bool:
    quotes = Quote.objects.filter(asset=asset_id, late=False, at__gte=since, at__lte=until).order_by("-at")
    return quotes[QUOTES_MOST : QUOTES_MOST + 1].exists()


def _stored_bars(asset_id: int, *, since: datetime, until: datetime, width: int) -> tuple[list[Bar], datetime | None]:
    """Return the stored candles of the coarsest resolution that fits, or of a coarser one where that is kept no more,
    and when the last quote in them was."""
    fitting = max(one for one in Candle.Resolution if one <= width)
    for resolution in (one for one in Candle.Resolution if one >= fitting):
        chosen = Q(at__gt=since - timedelta(seconds=resolution), at__lte=until)
        rows = candles_of(
            [asset_id], resolution=resolution, chosen=chosen, limit=(until - since) // timedelta(seconds=resolution) + 2
        )[asset_id]
        if rows:
            found = [Bar(one.at, one.open, one.high, one.low, one.close, one.volume) for one in reversed(rows)]
            return found, rows[0].last_at
    return [], None


def _merged(bars: Iterable[Bar], *, width: int) -> Iterator[Bar]:
    """Give one candle for each span of `width` seconds that has some, in order."""
    last: Bar | None = None
    for bar in bars:
        microseconds = epoch_microseconds(bar.at)
        begin = from_epoch_microseconds(microseconds - microseconds % (width * 1_000_000))
        if last is None or last.at != begin:
            if last is not None:
                yield last
            last = bar._replace(at=begin)
            continue
        volumes = [one for one in (last.volume, bar.volume) if one is not None]
        last = Bar(
            begin,
            last.open,
            max(last.high, bar.high),
            min(last.low, bar.low),
            bar.close,
            sum(volumes, Decimal(0)) if volumes else None,
        )
    if last is not None:
        yield last


class Sparkline(NamedTuple):
    """The last day of an asset by its feed's clock. points: (time, price), oldest first, of the close of each hour, and
    in the last hour of each minute; decimals: of these prices as they were quoted, which a split does not change."""

    points: list[tuple[datetime, Decimal]]
    decimals: int


def sparklines(asset_ids: Sequence[int]) -> dict[int, Sparkline]:
    """Return asset id -> its sparkline; three statements."""
    clocks = clocks_of(asset_ids)
    together: dict[datetime, list[int]] = {}
    for asset_id, clock in clocks.items():
        together.setdefault(clock, []).append(asset_id)
    wanted = Q(pk__in=[])
    for clock, ids in together.items():
        hours, minutes = Candle.Resolution.HOUR, Candle.Resolution.MINUTE
        edge = clock - timedelta(hours=1)
        of_hours = Q(resolution=hours, at__gte=clock - SPARKLINE, last_at__lte=edge)
        of_minutes = Q(resolution=minutes, at__gt=edge)
        wanted |= Q(asset__in=ids) & (of_hours | of_minutes)
    closes: dict[int, list[tuple[datetime, Decimal]]] = {asset_id: [] for asset_id in asset_ids}
    if not together:
        return {asset_id: Sparkline([], 0) for asset_id in asset_ids}
    splits = splits_of(asset_ids)
    rows = Candle.objects.filter(wanted).order_by("asset", "last_at")
    for asset_id, at, close in rows.values_list("asset_id", "last_at", "close"):
        closes[asset_id].append((at, close))
    return {
        asset_id: Sparkline(
            [(at, splits.price(asset_id, at, close)) for at, close in found], decimals_of(close for _, close in found)
        )
        for asset_id, found in closes.items()
    }


def newest_quotes_between(
    asset_id: int, *, since: datetime, until: datetime, limit: int
) -> list[tuple[datetime, Decimal, Decimal | None]]:
    """Return (time, price, volume) of the newest quotes of [since, until], oldest first, without late quotes and with
    all splits that are known now. Two statements."""
    quotes = Quote.objects.filter(asset=asset_id, late=False, at__gte=since, at__lte=until).order_by("-at")
    rows = list(quotes.values_list("at", "price", "volume")[:limit])
    splits = splits_of([asset_id], after=since)
    return [(at, splits.price(asset_id, at, price), volume) for at, price, volume in reversed(rows)]
