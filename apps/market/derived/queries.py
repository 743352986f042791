"""Reads of derived series: what they are, the clocks of their legs, and the legs' price paths at places of logs."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import chain
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import Count, Exists, F, Max, Min, OuterRef, Q, QuerySet

from apps.leases import may_dispatch
from apps.market.derived.models import DerivedFeed, DerivedSeries, LegCursor, SeriesLeg
from apps.market.derived.series import AnyDefinition, Kind, State, definition_of
from apps.market.domain import epoch_microseconds, from_epoch_microseconds, price_units
from apps.market.models import Candle, FeedEntry, Quote, Split, SupersededQuote
from apps.market.queries.owners import Reader, assets_seen_by
from apps.market.queries.splits import splits_of

# Paths of so few assets are read by their ids; of more, all quotes of an entry are read and chosen here.
READ_BY_ID = 200

Points = dict[int, list[tuple[int, int]]]


class LegPlace(NamedTuple):
    """A place in the log of a leg's feed: its number, and the id of its entry."""

    seq: int
    entry_id: int


def series_of(feed_id: int) -> dict[int, tuple[AnyDefinition, State | None]]:
    """Return asset id -> its definition and state, of the series in a derived feed, in order of id."""
    rows = DerivedSeries.objects.filter(asset__feed=feed_id).order_by("pk").values_list("pk", "document", "state")
    return {pk: (definition_of(document), state) for pk, document, state in rows}


def knows_all_splits(definitions: Iterable[AnyDefinition]) -> bool:
    """Tell whether those series that have to know the splits of their legs know all. No statement where none has to."""
    new = Q()
    for one in definitions:
        if one.splits_known is not None:
            new |= Q(asset__in=[leg.asset_id for leg in one.legs], pk__gt=one.splits_known)
    return not new or not Split.objects.filter(new).exists()


def series_seen_by(user: Reader) -> QuerySet[DerivedSeries]:
    """Return the ratios, spreads and baskets that have an owner and that `user` may see, with their assets: their own,
    all for a superuser. In order of symbol."""
    rows = DerivedSeries.objects.select_related("asset__feed__head", "asset__latest", "asset__owner")
    shown = rows.filter(asset__in=assets_seen_by(user), asset__owner__isnull=False, document__kind__in=list(Kind))
    return shown.order_by("asset__symbol", "pk")


class Past(NamedTuple):
    """The quotes that are kept of an asset: how many, and the times of the first and the last, None without any."""

    count: int
    first_at: datetime | None
    last_at: datetime | None


def past_of(asset_id: int) -> Past:
    """Return what is kept of an asset. One statement."""
    found = Quote.objects.filter(asset=asset_id).aggregate(count=Count("pk"), first=Min("at"), last=Max("at"))
    return Past(found["count"], found["first"], found["last"])


def is_made_of(asset_id: int, leg_id: int) -> bool:
    """Tell whether an asset is `leg_id` or, through any number of series, made of it."""
    seen: set[int] = set()
    current = {asset_id}
    while current:
        if leg_id in current:
            return True
        seen |= current
        current = set(SeriesLeg.objects.filter(series__in=current).values_list("asset_id", flat=True)) - seen
    return False


def feeds_made_of(*feed_ids: int) -> list[int]:
    """Return the derived feeds that have one of these feeds among those of their legs."""
    # By hand: each fetch asks it, and Django would take longer to build it than PostgreSQL to run it.
    marks = ", ".join(["%s"] * len(feed_ids))
    statement = f"SELECT DISTINCT feed_id FROM market_legcursor WHERE leg_id IN ({marks}) ORDER BY feed_id"  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(statement, feed_ids)
        return [derived_id for (derived_id,) in cursor.fetchall()]


def feeds_to_derive(*, now: datetime, standing_longer_than: timedelta | None = None) -> QuerySet[DerivedFeed]:
    """Return the derived feeds whose legs are ahead of them, and that nobody was dispatched for lately.

    standing_longer_than: also those of which one leg stands so much longer than another that it may be left behind.
    """
    waits = LegCursor.objects.filter(feed=OuterRef("pk"), is_behind=False, leg__head__as_of=None)
    rows = DerivedFeed.objects.filter(may_dispatch(now=now)).exclude(Exists(waits))
    going = Q(legs__is_behind=False)
    rows = rows.annotate(
        lowest=Min("legs__leg__head__as_of", filter=going), newest=Max("legs__leg__head__as_of", filter=going)
    )
    is_ahead = Q(lowest__gt=F("feed__head__as_of"))
    if standing_longer_than is not None:
        is_ahead |= Q(newest__gt=F("lowest") + standing_longer_than)
    return rows.filter(is_ahead)


def levels_of(asset_ids: Iterable[int]) -> int:
    """Return of how many levels of derived series these assets are made: 0 where none is derived."""
    levels, current = 0, set(asset_ids)
    while current := set(DerivedSeries.objects.filter(pk__in=current).values_list("pk", flat=True)):
        levels += 1
        current = set(SeriesLeg.objects.filter(series__in=current).values_list("asset_id", flat=True))
    return levels


def levels_above(asset_id: int) -> int:
    """Return how many levels of derived series are made of an asset."""
    levels, current = 0, {asset_id}
    while current := set(SeriesLeg.objects.filter(asset__in=current).values_list("series_id", flat=True)):
        levels += 1
    return levels


def place_in(leg_id: int, *, seq: int) -> LegPlace:
    """Return the place of an entry in a log; before the first there is none."""
    entry = FeedEntry.objects.filter(feed=leg_id, seq__lte=seq).order_by("-seq").values_list("pk", flat=True).first()
    return LegPlace(seq, entry or 0)


def paths_since(asset_ids: Collection[int], *, since: int, place: LegPlace) -> Points:
    """Return asset id -> its path from the quote in force at `since` on, as the log of its feed has it at this place,
    with the splits that are known there.

    since: microseconds. Late quotes are not in it.
    """
    stored: list[QuerySet[Any]] = [Quote.objects.filter(late=False, entry__lte=place.entry_id)]
    superseded = SupersededQuote.objects.filter(
        late=False, entry__lte=place.entry_id, until_entry__gt=place.entry_id, asset__in=asset_ids
    )
    corrected = set(superseded.order_by().values_list("asset_id", flat=True).distinct())
    splits = splits_of(asset_ids, up_to_entry=place.entry_id)
    edge = from_epoch_microseconds(since)
    paths: Points = {}
    for asset_id in sorted(asset_ids):
        sources = [*stored, superseded] if asset_id in corrected else stored
        rows = [source.filter(asset=asset_id).values_list("at", "price") for source in sources]
        # Of several tables, the newest of what each has in force.
        in_force = sorted(chain.from_iterable(one.filter(at__lte=edge).order_by("-at")[:1] for one in rows))[-1:]
        later = sorted(set(chain.from_iterable(one.filter(at__gt=edge) for one in rows)))
        points = [(epoch_microseconds(at), price_units(price)) for at, price in [*in_force, *later]]
        if points:
            paths[asset_id] = [(at, splits.units(asset_id, at, units)) for at, units in points]
    return paths


def first_quoted(asset_ids: Collection[int]) -> dict[int, int]:
    """Return asset id -> the time of its oldest stored quote that is not late, in microseconds."""
    rows = Quote.objects.filter(asset__in=asset_ids, late=False).order_by().values_list("asset_id")
    return {asset_id: epoch_microseconds(at) for asset_id, at in rows.annotate(first=Min("at"))}


def time_of_quote_before(asset_id: int, *, until: int, count: int) -> int:
    """Return the time of the quote with which the last `count` up to a time begin, 0 where there are not so many; in
    microseconds."""
    edge = from_epoch_microseconds(until)
    rows = Quote.objects.filter(asset=asset_id, late=False, at__lte=edge).order_by("-at").values_list("at", flat=True)
    found = list(rows[count - 1 : count])
    return epoch_microseconds(found[0]) if found else 0


def closes_before(
    asset_ids: Sequence[int], *, before: int, resolution: int
) -> Mapping[int, Mapping[int, tuple[int, int]]]:
    """Return asset id -> begin of the candle -> (time of its last quote, units as they count now), of the candles of a
    resolution that end before a time; all in microseconds."""
    edge = from_epoch_microseconds(before)
    rows = Candle.objects.filter(asset__in=asset_ids, resolution=resolution, last_at__lt=edge).order_by("asset", "at")
    splits = splits_of(asset_ids)
    closes: dict[int, dict[int, tuple[int, int]]] = {}
    for asset_id, begin, at, close in rows.values_list("asset_id", "at", "last_at", "close"):
        moment = epoch_microseconds(at)
        units = splits.units(asset_id, moment, price_units(close))
        closes.setdefault(asset_id, {})[epoch_microseconds(begin)] = (moment, units)
    return closes


def resolutions_of(asset_ids: Collection[int], *, before: int) -> list[int]:
    """Return the resolutions of which all of these assets have candles before a time, the coarsest first."""
    edge = from_epoch_microseconds(before)
    rows = Candle.objects.filter(asset__in=asset_ids, last_at__lt=edge).order_by().values_list("resolution", "asset_id")
    found: dict[int, set[int]] = {}
    for resolution, asset_id in rows.distinct():
        found.setdefault(resolution, set()).add(asset_id)
    return sorted((one for one, having in found.items() if having == set(asset_ids)), reverse=True)
