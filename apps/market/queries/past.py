"""The price paths that windows are filled from: of quotes, and of candles where quotes are kept no more."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from heapq import merge
from typing import Any

from django.db.models import Exists, Max, Min, OuterRef, QuerySet, Subquery
from django.db.models.functions import TruncDate, TruncMinute

from apps.market import partitions
from apps.market.domain import (
    Given,
    PathCandle,
    PathItem,
    epoch_microseconds,
    from_epoch_microseconds,
    price_units,
    slot_of,
)
from apps.market.models import Asset, Candle, FeedEntry, LatestQuote, Quote, SupersededQuote
from apps.market.queries.grouped import Needs, grouped_paths
from apps.market.queries.splits import splits_of
from apps.market.queries.switches import switches_before, switches_up_to, with_switches
from apps.market.splits import Splits


def stored_path(
    needs: Mapping[int, Needs], *, with_sums: bool, feed_id: int, up_to_seq: int, coarse: int
) -> dict[int, list[PathItem]]:
    """Return the path of these assets as quoted_path does, as windows with these grids see it: with candles where they
    say the same, and of those days whose quotes are kept no more, and with the splits and the changes of provider that
    are known at that place.

    needs: asset id -> (grid, how far back) of its windows, finest grid first, in microseconds; with_sums: one of them
    sums prices over time. Without that, candles may have 0 for their sums, which are half of the work.
    coarse: minutes are given for so many hours before the newest quote, hours for so many days, and days before that.
    """
    place = _place(feed_id, up_to_seq=up_to_seq)
    if place is None:
        return {}
    needs = {asset_id: needs[asset_id] for asset_id in ever_quoted(needs)}
    grouped = grouped_paths(needs, with_sums=with_sums, feed_id=feed_id, up_to_entry=place)
    reach = {
        asset_id: max((back for _, back in grids), default=0)
        for asset_id, grids in needs.items()
        if asset_id not in grouped
    }
    quoted = _quoted(reach, up_to_entry=place)
    clock = FeedEntry.objects.filter(feed=feed_id, seq__lte=up_to_seq).order_by("-seq").values_list("as_of", flat=True)
    now = clock.first()
    paths: dict[int, list[tuple[int, int] | PathCandle]] = {}
    looking_back = [asset_id for asset_id, microseconds in reach.items() if microseconds]
    lost = _lost_until(looking_back, now=now) if looking_back and now is not None else {}
    for asset_id, microseconds in reach.items():
        quotes = quoted.get(asset_id, [])
        if now is not None and asset_id in lost:
            span = timedelta(microseconds=microseconds)
            paths[asset_id] = _with_candles(asset_id, quotes, reach=span, until=lost[asset_id], now=now, coarse=coarse)
        else:
            paths[asset_id] = list(quotes)
    counted = _multiplied(paths, splits_of(reach, up_to_entry=place))
    switches = switches_up_to(place, {asset_id: _begin_of(path) for asset_id, path in counted.items()})
    return grouped | {asset_id: with_switches(path, switches.get(asset_id, ())) for asset_id, path in counted.items()}


def _begin_of(path: Sequence[tuple[int, int] | PathCandle]) -> int:
    return path[0].first_at if isinstance(path[0], PathCandle) else path[0][0]


def ever_quoted(asset_ids: Iterable[int]) -> set[int]:
    """Return those of these assets that have, or had before a correction, a quote that is not late."""
    has_one, had_one = (Exists(model.objects.filter(asset=OuterRef("pk"))) for model in (LatestQuote, SupersededQuote))
    assets = Asset.every.filter(pk__in=list(asset_ids)).order_by()
    return set(assets.filter(has_one | had_one).values_list("pk", flat=True))


def _lost_until(asset_ids: Sequence[int], *, now: datetime) -> dict[int, datetime]:
    """Return asset id -> the end of the newest day whose quotes are kept no more, for those that have such a day.

    By the rows, since a day that was dropped may be made again for quotes of the past. One statement, that looks at as
    many days of an asset as are kept.
    """
    its_first = Quote.objects.filter(asset=OuterRef("asset"), late=False, at=OuterRef("first_at"))
    days = Candle.objects.filter(asset=OuterRef("pk"), resolution=Candle.Resolution.DAY, first_at__lte=now)
    newest = days.exclude(Exists(its_first)).order_by("-at").values("at")[:1]
    rows = Asset.every.filter(pk__in=asset_ids).order_by().annotate(lost=Subquery(newest))
    return {pk: at + timedelta(days=1) for pk, at in rows.values_list("pk", "lost") if at is not None}


def lost_days(asset_ids: Iterable[int], *, since: datetime, until: datetime) -> set[tuple[int, date]]:
    """Return (asset id, day) of the days with a moment in [since, until) whose quotes are kept no more, but as candles
    alone."""
    first = slot_of(at=since, interval_seconds=Candle.Resolution.DAY)
    days = Candle.objects.filter(
        asset__in=list(asset_ids), resolution=Candle.Resolution.DAY, at__gte=first, at__lt=until
    )
    its_first = Quote.objects.filter(asset=OuterRef("asset"), late=False, at=OuterRef("first_at"))
    rows = days.exclude(Exists(its_first)).order_by().values_list("asset_id", "at")
    return {(asset_id, at.astimezone(UTC).date()) for asset_id, at in rows}


def _with_candles(
    asset_id: int, quotes: list[tuple[int, int]], *, reach: timedelta, until: datetime, now: datetime, coarse: int
) -> list[tuple[int, int] | PathCandle]:
    """Return the path of an asset from the price in force that long before its newest quote on.

    until: up to when its quotes are kept no more.
    """
    candles = Candle.objects.filter(asset=asset_id)
    rest = [one for one in quotes if one[0] >= epoch_microseconds(until)]
    # What is asked for a place in the log that is long past does not see what came after it.
    until = min(until, slot_of(at=now, interval_seconds=Candle.Resolution.MINUTE))
    if rest:
        newest = from_epoch_microseconds(rest[-1][0])
    else:
        lasts = (candles.filter(resolution=one, at__lt=until, last_at__lt=until) for one in Candle.Resolution)
        known = [last.last_at for rows in lasts if (last := rows.order_by("at").last()) is not None]
        if not known:
            return list(quotes)
        newest = max(known)
    edge = newest - reach
    if rest and from_epoch_microseconds(rest[0][0]) <= edge:
        return list(rest)
    return [*_candles_since(asset_id, edge=edge, newest=newest, until=until, coarse=coarse), *rest]


def _candles_since(
    asset_id: int, *, edge: datetime, newest: datetime, until: datetime, coarse: int
) -> list[PathCandle]:
    """Return the candles of an asset before `until`, from that with the price in force at `edge` on."""
    minute, hour, day = Candle.Resolution
    hours_from = slot_of(at=newest - coarse * timedelta(seconds=day), interval_seconds=day)
    minutes_from = slot_of(at=newest - coarse * timedelta(seconds=hour), interval_seconds=hour)
    candles = Candle.objects.filter(asset=asset_id)
    # Where minutes are kept for less long than that, hours are given instead.
    its_first = candles.filter(resolution=minute, at=OuterRef("minute"))
    whole_days = candles.filter(resolution=day, at__gte=minutes_from - timedelta(days=1), at__lt=until)
    whole_days = whole_days.annotate(minute=TruncMinute("first_at", tzinfo=UTC))
    gone = whole_days.exclude(Exists(its_first)).order_by("-at").first()
    if gone is not None:
        minutes_from = max(minutes_from, gone.at + timedelta(days=1))
    found: list[Candle] = []
    for resolution, since, before in (
        (minute, minutes_from, until),
        (hour, hours_from, min(minutes_from, until)),
        (day, None, min(hours_from, until)),
    ):
        part = candles.filter(resolution=resolution, at__lt=before).order_by("at")
        part = part if since is None else part.filter(at__gte=since)
        # A day that is not over at that place in the log is told by its hours or minutes.
        part = part.filter(last_at__lt=until)
        in_force = part.filter(at__lte=edge, last_at__lte=edge).last()
        found = [*(part if in_force is None else part.filter(at__gte=in_force.at)), *found]
        if in_force is not None:
            break
    return [_path_candle(one) for one in found]


def _path_candle(candle: Candle) -> PathCandle:
    given = Given(*(price_units(price) for price in (candle.open, candle.low, candle.high, candle.close)))
    opened, low_at, low, high_at, high, closed, price_time, square_time = candle.seen or (
        given.open,
        epoch_microseconds(candle.low_at),
        given.low,
        epoch_microseconds(candle.high_at),
        given.high,
        given.close,
        candle.price_time,
        candle.square_time,
    )
    return PathCandle(
        resolution=candle.resolution * 1_000_000,
        first_at=epoch_microseconds(candle.first_at),
        open=opened,
        low_at=low_at,
        low=low,
        high_at=high_at,
        high=high,
        last_at=epoch_microseconds(candle.last_at),
        close=closed,
        price_time=price_time,
        square_time=square_time,
        given=given,
    )


def quoted_path(reach: Mapping[int, int], *, feed_id: int, up_to_seq: int) -> dict[int, list[tuple[int, int]]]:
    """Return asset id -> (microseconds, units), oldest first, as it is stored up to one place in the feed's log, with
    the splits that are known there.

    reach: asset id -> microseconds. The path begins with the quote in force that long before the newest one,
    and holds at least the two newest. Late quotes are not in it.
    """
    place = _place(feed_id, up_to_seq=up_to_seq)
    if place is None:
        return {}
    splits = splits_of(reach, up_to_entry=place)
    return {
        asset_id: [(at, splits.units(asset_id, at, units)) for at, units in path]
        for asset_id, path in _quoted(reach, up_to_entry=place).items()
    }


def _place(feed_id: int, *, up_to_seq: int) -> int | None:
    """Return the id of the last entry up to this one; None before the first. Ids rise within a feed: they are given
    under its head's lock."""
    entries = FeedEntry.objects.filter(feed=feed_id, seq__lte=up_to_seq).order_by("-seq")
    return entries.values_list("pk", flat=True).first()


def _quoted(reach: Mapping[int, int], *, up_to_entry: int) -> dict[int, list[tuple[int, int]]]:
    """Return what quoted_path does, with the prices as they came."""
    quoted = set(LatestQuote.objects.filter(asset__in=reach).values_list("asset_id", flat=True))
    # Quotes that a later correction replaced or deleted were there at this place.
    superseded = SupersededQuote.objects.filter(late=False, entry__lte=up_to_entry, until_entry__gt=up_to_entry)
    corrected = set(superseded.filter(asset__in=reach).order_by().values_list("asset_id", flat=True).distinct())
    paths = {}
    # Asset by asset, each from its own edge, so that neither a quiet asset nor a long history makes others read more.
    for asset_id in sorted(quoted | corrected):
        stored: list[QuerySet[Any]] = [Quote.objects.filter(asset=asset_id, late=False, entry__lte=up_to_entry)]
        if asset_id in corrected:
            stored.append(superseded.filter(asset=asset_id))
        paths[asset_id] = _path_in(*stored, reach=reach[asset_id])
    return {asset_id: path for asset_id, path in paths.items() if path}


def _path_in(*stored: QuerySet[Any], reach: int) -> list[tuple[int, int]]:
    """Return the path of one asset, whose quotes stand in these rows together."""
    sources = [quotes.values_list("at", "price") for quotes in stored]
    path = sorted({row for rows in sources for row in rows.order_by("-at")[:2]})[-2:]
    if path and reach:
        edge = from_epoch_microseconds(max(epoch_microseconds(path[-1][0]) - reach, 0))
        in_force = sorted(row for rows in sources for row in rows.filter(at__lte=edge).order_by("-at")[:1])[-1:]
        later = (rows.filter(at__gt=edge).order_by("at").iterator(chunk_size=10_000) for rows in sources)
        path = [*in_force, *merge(*later)]
    # One that a correction moves while they are read may be among them twice.
    return [(epoch_microseconds(at), price_units(price)) for at, price in (dict.fromkeys(path) if stored[1:] else path)]


def in_force_since(asset_id: int, *, at: datetime, up_to_entry: int) -> datetime | None:
    """Return the time of the quote whose price was in force at a moment, as the log has it at this entry, by its id;
    None where none is kept."""
    quotes = Quote.objects.filter(entry__lte=up_to_entry)
    superseded = SupersededQuote.objects.filter(entry__lte=up_to_entry, until_entry__gt=up_to_entry)
    stored: list[QuerySet[Any]] = [quotes, superseded]
    known = [rows.filter(asset=asset_id, late=False, at__lte=at).order_by("-at") for rows in stored]
    return max((last for rows in known for last in rows.values_list("at", flat=True)[:1]), default=None)


def path_before(reach: Mapping[int, int], *, before: datetime) -> dict[int, list[PathItem]]:
    """Return the stored path of these assets up to `before`, with all splits and changes of provider that are known
    now."""
    paths: dict[int, list[tuple[int, int]]] = {}
    splits = splits_of(reach)
    for asset_id, microseconds in reach.items():
        stored = Quote.objects.filter(asset=asset_id, late=False, at__lt=before)
        path = _path_in(stored, reach=microseconds)
        paths[asset_id] = [(at, splits.units(asset_id, at, units)) for at, units in path]
    # A change that lies before all that is known holds there too.
    end = epoch_microseconds(before) - 1
    since = {asset_id: _begin_of(path) if path else end for asset_id, path in paths.items()}
    switches = switches_before(before, since)
    found = {asset_id: with_switches(path, switches.get(asset_id, ())) for asset_id, path in paths.items()}
    return {asset_id: path for asset_id, path in found.items() if path}


def _multiplied(
    paths: Mapping[int, list[tuple[int, int] | PathCandle]], splits: Splits
) -> dict[int, list[tuple[int, int] | PathCandle]]:
    """Return those of these stored paths that hold something, with the splits."""
    return {
        asset_id: splits.path(asset_id, [part for one in path for part in _parts(asset_id, one, splits)])
        for asset_id, path in paths.items()
        if path
    }


def _parts(asset_id: int, one: tuple[int, int] | PathCandle, splits: Splits) -> Sequence[tuple[int, int] | PathCandle]:
    """Return a part of a path; of a candle in which a split was effective, those of its minutes, which are kept."""
    if not isinstance(one, PathCandle) or not splits.lies_within(asset_id, one.first_at, one.last_at):
        return [one]
    begin = one.first_at - one.first_at % one.resolution
    minutes = Candle.objects.filter(
        asset=asset_id,
        resolution=Candle.Resolution.MINUTE,
        at__gte=from_epoch_microseconds(begin),
        at__lt=from_epoch_microseconds(begin + one.resolution),
    )
    return [_path_candle(minute) for minute in minutes.order_by("at")]


def forgotten_before(feed_id: int) -> datetime | None:
    """Return from when on the quotes of a feed's entries are all kept: the end of the newest day of which they are not,
    or None where nothing is forgotten.

    By the feed's own rows: other feeds keep days of their own, and a day that was dropped may be made again for quotes
    of the past.
    """
    entries = FeedEntry.objects.filter(feed=feed_id, accepted__gt=0).order_by()
    oldest_of_each_day = entries.values(day=TruncDate("first_at", tzinfo=UTC)).annotate(oldest=Min("pk"))
    forgotten = FeedEntry.objects.filter(pk__in=oldest_of_each_day.values("oldest"))
    for model in (Quote, SupersededQuote):
        forgotten = forgotten.exclude(Exists(model.objects.filter(entry=OuterRef("pk"), at=OuterRef("first_at"))))
    newest = forgotten.aggregate(newest=Max("first_at"))["newest"]
    if newest is None:
        return None
    kept = next((day for day in partitions.days() if day > newest.date()), newest.date() + timedelta(days=1))
    return datetime(kept.year, kept.month, kept.day, tzinfo=UTC)


def stored_spans(asset_ids: Iterable[int], *, with_candles: bool = False) -> dict[int, tuple[int, int]]:
    """Return asset id -> times of its first and its newest quote that are stored and not late, in microseconds since
    1970; assets without any are left out. One statement: for each asset, a few steps into indexes.

    with_candles: quotes that are kept as candles alone count too.
    """
    stored = Quote.objects.filter(asset=OuterRef("pk"), late=False)
    days = Candle.objects.filter(asset=OuterRef("pk"), resolution=Candle.Resolution.DAY)
    days = days if with_candles else days.none()
    rows = Asset.every.filter(pk__in=list(asset_ids)).order_by()
    rows = rows.annotate(
        first=Subquery(stored.order_by("at").values("at")[:1]),
        newest=Subquery(stored.order_by("-at").values("at")[:1]),
        first_candle=Subquery(days.order_by("at").values("first_at")[:1]),
        last_candle=Subquery(days.order_by("-at").values("last_at")[:1]),
    )
    spans = {}
    for asset_id, *times in rows.values_list("pk", "first", "newest", "first_candle", "last_candle"):
        known = [epoch_microseconds(at) for at in times if at is not None]
        if known:
            spans[asset_id] = (min(known), max(known))
    return spans
