"""Quotes and candles as spans of one asset's prices, and spans merged into wider ones. Pure."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import groupby, pairwise
from operator import attrgetter
from typing import NamedTuple

from apps.market import domain
from apps.market.domain import ONE, Switch, price_units, scaled


class Span(NamedTuple):
    """The quotes of one asset in a span that begins at `at`; a quote is the smallest one. Fields as in `Candle`, times
    in microseconds: PostgreSQL's driver takes ten times as long for a time as for an integer."""

    asset_id: int
    at: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    count: int
    first_at: int
    last_at: int
    low_at: int
    high_at: int
    volume: Decimal | None
    price_time: int
    square_time: int
    seen: Sequence[int] | None = None


def by_span(parts: Iterable[Span], resolution: int) -> Iterable[tuple[tuple[int, int], list[Span]]]:
    """Group parts, sorted by asset and time, by asset and the beginning of the candle that they fall into.

    One group at a time: with tens of thousands of lists the garbage collector takes a third of the time.
    """
    span = resolution * 1_000_000
    for key, group in groupby(parts, lambda one: (one.asset_id, one.at - one.at % span)):
        yield key, list(group)


def merged(parts: Sequence[Span], *, at: int) -> Span:
    """Return the span that is made of these of one asset, oldest first."""
    first, last = parts[0], parts[-1]
    if len(parts) == 1:
        return first if first.at == at else first._replace(at=at)
    low = high = first
    for part in parts:
        if part.low <= low.low:
            low = part
        if part.high >= high.high:
            high = part
    price_time, square_time = sum(part.price_time for part in parts), sum(part.square_time for part in parts)
    # From one part's last quote to the next part's first its closing price was in force.
    for before, after in pairwise(parts):
        units = price_units(before.close)
        weighted = units * (after.first_at - before.last_at)
        price_time += weighted
        square_time += units * weighted
    volumes = [part.volume for part in parts if part.volume is not None]
    return Span(
        asset_id=first.asset_id,
        at=at,
        open=first.open,
        high=high.high,
        low=low.low,
        close=last.close,
        count=sum(part.count for part in parts),
        first_at=first.first_at,
        last_at=last.last_at,
        low_at=low.low_at,
        high_at=high.high_at,
        volume=min(sum(volumes, Decimal(0)), domain.VOLUME_HIGHEST) if volumes else None,
        price_time=price_time,
        square_time=square_time,
        seen=_seen_in(parts) if any(part.seen is not None for part in parts) else None,
    )


def _seen_in(parts: Sequence[Span]) -> Sequence[int]:
    """Return what windows see of these parts together, as `Candle.seen` has it."""
    views = [one.seen or _as_given(one) for one in parts]
    low_at, low = views[0][1:3]
    high_at, high = views[0][3:5]
    price_time = square_time = 0
    for part, after, view in zip(parts, [*parts[1:], None], views, strict=True):
        if view[2] <= low:
            low_at, low = view[1:3]
        if view[4] >= high:
            high_at, high = view[3:5]
        # From its last quote to the next part's first its closing price was in force.
        weighted = view[5] * (after.first_at - part.last_at) if after is not None else 0
        price_time += view[6] + weighted
        square_time += view[7] + view[5] * weighted
    return (views[0][0], low_at, low, high_at, high, views[-1][5], price_time, square_time)


def _as_given(one: Span) -> Sequence[int]:
    opened, low, high, closed = (price_units(price) for price in (one.open, one.low, one.high, one.close))
    return (opened, one.low_at, low, one.high_at, high, closed, one.price_time, one.square_time)


def seen_at(at: int, price: Decimal, switches: Sequence[Switch]) -> Sequence[int] | None:
    """Return what windows see of a quote, where that is not its price."""
    place = bisect_right(switches, at, key=attrgetter("at"))
    factor = switches[place - 1].factor if place else ONE
    if factor == ONE:
        return None
    seen = scaled(price_units(price), *factor)
    return (seen, at, seen, at, seen, seen, 0, 0)
