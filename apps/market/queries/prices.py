"""Prices: the newest, those at a moment, and the paths that are drawn."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from math import ceil
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import (
    BigIntegerField,
    Case,
    DateTimeField,
    Exists,
    ExpressionWrapper,
    F,
    Func,
    Max,
    Min,
    Model,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    Value,
    When,
)
from django.db.models.functions import Coalesce

from apps.market import cache, calendars
from apps.market.domain import (
    RUN_LONGEST,
    AdmittedQuote,
    Newest,
    Unconfirmed,
    epoch_microseconds,
    from_epoch_microseconds,
    slot_of,
)
from apps.market.models import Asset, Candle, LatestQuote, Quote, Split, SupersededQuote, UnconfirmedQuote
from apps.market.queries.each import first_of_each
from apps.market.queries.splits import splits_of
from apps.market.splits import Splits
from apps.notation import WIDE
from apps.wording import round_number

_NEWEST_QUOTES = """
    SELECT asset_id, (extract(epoch FROM at) * 1000000)::bigint, price, provider
    FROM market_latestquote JOIN market_asset ON market_asset.id = asset_id WHERE feed_id = %s"""
# Each by a step into the index of its day. A range of times would be read with all that lies between, and of an asset
# that is traded seldom, the last trade is given again for days.
_PRICES_IN = """
    SELECT wanted.asset_id, stored.at, price FROM unnest(%s::bigint[], %s::timestamptz[]) AS wanted (asset_id, at),
    LATERAL (
        SELECT quote.at, price FROM {table} quote
        WHERE quote.asset_id = wanted.asset_id AND quote.at >= wanted.at AND quote.at < wanted.at + %s
          AND quote.at BETWEEN %s AND %s
        LIMIT %s
    ) stored"""
_REACH = timedelta(microseconds=RUN_LONGEST)
_PAIRS_AT_ONCE = 200
# Quotes by spans of so many seconds.
_SPANS = {
    "postgresql": "floor(extract(epoch FROM %(expressions)s) / %(step)s)::bigint",
    "sqlite": "CAST(strftime('%%%%s', %(expressions)s) AS INTEGER) / %(step)s",
}
PATH_POINTS = 400
_MICROSECOND = timedelta(microseconds=1)


def newest_stored(asset_ids: Sequence[int]) -> dict[int, tuple[datetime, Decimal]]:
    """Return asset id -> (at, price) of its newest stored quote that is not late."""
    rows = LatestQuote.objects.filter(asset__in=asset_ids).values_list("asset_id", "at", "price")
    return {asset_id: (at, price) for asset_id, at, price in rows}


def newest_quotes(feed_id: int) -> dict[int, Newest]:
    """Return asset id -> its newest stored quote that is not late, for a feed's assets."""
    if connection.vendor == "postgresql":
        # Every answer asks it of all the feed's assets. Whole numbers are read several times as fast as times, and the
        # cursor's own tuples as fast again as a queryset's.
        with connection.cursor() as cursor:
            cursor.execute(_NEWEST_QUOTES, [feed_id])
            return {asset_id: Newest(at, price, provider) for asset_id, at, price, provider in cursor.fetchall()}
    rows = LatestQuote.objects.filter(asset__feed=feed_id)
    found = rows.values_list("asset_id", "at", "price", "provider")
    return {asset_id: Newest(epoch_microseconds(at), price, provider) for asset_id, at, price, provider in found}


def unconfirmed_quotes(feed_id: int) -> dict[int, Unconfirmed]:
    """Return asset id -> the quote that waits to be confirmed, for a feed's assets."""
    return {
        one.asset_id: Unconfirmed(AdmittedQuote(one.asset_id, one.at, one.price, one.volume), one.provider, one.times)
        for one in UnconfirmedQuote.objects.filter(asset__feed=feed_id)
    }


def latest_prices(asset_ids: Sequence[int], *, now: datetime) -> dict[int, tuple[datetime, Decimal]]:
    """Return asset id -> (at, price), from the cache first and from the rows for what it does not know."""
    known = cache.get_latest(asset_ids, now=now)
    missing = [asset_id for asset_id in asset_ids if asset_id not in known]
    return known | (newest_stored(missing) if missing else {})


def stored_prices(quotes: Sequence[AdmittedQuote]) -> dict[tuple[int, datetime], Decimal]:
    """Return (asset id, at) -> price of what is stored at the times of `quotes` and in the millisecond from each on."""
    return {(asset_id, at): price for asset_id, at, price in _prices_in(Quote, quotes)}


def replaced_prices(quotes: Sequence[AdmittedQuote]) -> dict[tuple[int, datetime], set[Decimal]]:
    """Return (asset id, at) -> prices that corrections have replaced there, at the same times as `stored_prices`."""
    replaced: dict[tuple[int, datetime], set[Decimal]] = {}
    for asset_id, at, price in _prices_in(SupersededQuote, quotes):
        replaced.setdefault((asset_id, at), set()).add(price)
    return replaced


def _prices_in(model: type[Model], quotes: Sequence[AdmittedQuote]) -> Iterator[tuple[int, datetime, Decimal]]:
    """Give (asset id, at, price) of the rows at the times of `quotes` and in the millisecond from each on."""
    pairs = list({(quote.asset_id, quote.at): None for quote in quotes})
    if pairs and connection.vendor == "postgresql":
        asset_ids, times = map(list, zip(*pairs, strict=True))
        bounds = [min(times), max(times) + _REACH]
        with connection.cursor() as cursor:
            statement = _PRICES_IN.format(table=model._meta.db_table)
            cursor.execute(statement, [asset_ids, times, _REACH, *bounds, RUN_LONGEST])
            yield from cursor.fetchall()
        return
    for begin in range(0, len(pairs), _PAIRS_AT_ONCE):
        wanted = Q()
        for asset_id, at in pairs[begin : begin + _PAIRS_AT_ONCE]:
            wanted |= Q(asset=asset_id, at__gte=at, at__lt=at + _REACH)
        yield from model._default_manager.filter(wanted).values_list("asset_id", "at", "price")


class PathPoint(NamedTuple):
    """The lowest and the highest price from one time on; of a single quote both are its price."""

    at: datetime
    low: Decimal
    high: Decimal


def price_path(asset_id: int, *, since: datetime, until: datetime, up_to_entry: int | None = None) -> list[PathPoint]:
    """Return an asset's prices for drawing, oldest first, without late quotes.

    Each quote where they are few, else the lowest and highest of equal spans, so that no peak is lost: of candles where
    the spans are minutes at least, and of quotes where nothing is rolled up yet. What is kept as candles alone comes
    from them. Twice PATH_POINTS rows at most between two splits, in a few statements. up_to_entry: with the splits that
    are known at that entry of the log, by its id; else with all that are known now.
    """
    step = max(ceil((until - since).total_seconds() / (PATH_POINTS - 1)), 1)
    rows = _quotes(asset_id, since=since, until=until, up_to_entry=up_to_entry)
    if rows and not rows[0][2]:
        return _drawn(asset_id, rows, since=since, until=until, step=step, in_minutes=False)
    splits = splits_of([asset_id], after=since, up_to_entry=up_to_entry)
    edges = [from_epoch_microseconds(at) for at in splits.edges(asset_id)]
    cuts = {edge for edge in edges if since < edge <= until}
    # Candles of the day of a split have prices from before and after it; its minutes, which are kept, have not.
    days = {slot_of(at=edge, interval_seconds=Candle.Resolution.DAY) for edge in cuts}
    cuts |= {day for begin in days for day in (begin, begin + timedelta(days=1)) if since < day <= until}
    path: list[PathPoint] = []
    for begin, end in pairwise([since, *sorted(cuts), until + _MICROSECOND]):
        in_minutes = slot_of(at=begin, interval_seconds=Candle.Resolution.DAY) in days
        part = {"since": begin, "until": end - _MICROSECOND}
        rows = _quotes(asset_id, **part, up_to_entry=up_to_entry)
        for at, low, high in _drawn(asset_id, rows, **part, step=step, in_minutes=in_minutes):
            path.append(PathPoint(at, splits.price(asset_id, at, low), splits.price(asset_id, at, high)))
    return path


def _quotes(
    asset_id: int, *, since: datetime, until: datetime, up_to_entry: int | None
) -> list[tuple[datetime, Decimal, bool]]:
    """Return the first PATH_POINTS + 1 quotes of a time, with the prices as they came, and whether some have to be read
    with a split: so who has none, as most, costs no statement for it."""
    splits = Split.objects.filter(asset=asset_id, effective_at__gt=since)
    splits = splits if up_to_entry is None else splits.filter(entry__lte=up_to_entry)
    quotes = Quote.objects.filter(asset=asset_id, late=False, at__gte=since, at__lte=until)
    rows = quotes.annotate(has_split=Exists(splits)).order_by("at")
    return list(rows.values_list("at", "price", "has_split")[: PATH_POINTS + 1])


def _drawn(
    asset_id: int,
    path: Sequence[tuple[datetime, Decimal, bool]],
    *,
    since: datetime,
    until: datetime,
    step: int,
    in_minutes: bool,
) -> list[PathPoint]:
    """Return what price_path does of a time without a split, whose first quotes are `path`, with the prices as they
    came. in_minutes: of candles, only those of minutes."""
    if len(path) <= PATH_POINTS:
        before = path[0][0] if path else until + _MICROSECOND
        older, _ = _candle_path(asset_id, since=since, before=before, step=step, in_minutes=in_minutes)
        return [*older, *(PathPoint(at, price, price) for at, price, _ in path)]
    quotes = Quote.objects.filter(asset=asset_id, late=False, at__gte=since, at__lte=until)
    drawn: list[PathPoint] = []
    reached = None
    if step >= Candle.Resolution.MINUTE:
        drawn, reached = _candle_path(asset_id, since=since, before=None, until=until, step=step, in_minutes=in_minutes)
    rest = quotes if reached is None else quotes.filter(at__gt=reached)
    rows = _by_spans(rest, step=step).annotate(begins=Min("at"), lowest=Min("price"), highest=Max("price"))
    return [*drawn, *(PathPoint(*row) for row in rows.values_list("begins", "lowest", "highest"))]


def _candle_path(
    asset_id: int,
    *,
    since: datetime,
    before: datetime | None,
    step: int,
    until: datetime | None = None,
    in_minutes: bool = False,
) -> tuple[list[PathPoint], datetime | None]:
    """Return what candles say of [since, until], or of what is over by `before`, in spans of `step` seconds; and
    when the last quote in them was.

    Of the coarsest resolution that is no coarser than that, and of a coarser one where minutes are kept no more.
    """
    fitting = max((one for one in Candle.Resolution if one <= step), default=Candle.Resolution.MINUTE)
    usable = [one for one in Candle.Resolution if one >= fitting] if not in_minutes else [Candle.Resolution.MINUTE]
    for resolution in usable:
        candles = Candle.objects.filter(asset=asset_id, resolution=resolution, at__gte=since)
        last = until if before is None else before - timedelta(seconds=resolution)
        rows = _by_spans(candles.filter(at__lte=last), step=max(step, resolution)).annotate(
            begins=Min("first_at"), lowest=Min("low"), highest=Max("high"), ends=Max("last_at")
        )
        found = list(rows.values_list("begins", "lowest", "highest", "ends"))
        if found:
            return [PathPoint(*row[:3]) for row in found], found[-1][3]
    return [], None


def price_known_since(asset_id: int) -> datetime | None:
    """Return when the first price of an asset was quoted that is kept, be it as a candle; None where there is none."""
    quotes = Quote.objects.filter(asset=asset_id, late=False).order_by("at").values_list("at", flat=True)
    days = Candle.objects.filter(asset=asset_id, resolution=Candle.Resolution.DAY).order_by("at")
    firsts = (quotes.first(), days.values_list("at", flat=True).first())
    return min((at for at in firsts if at is not None), default=None)


def _by_spans(rows: QuerySet[Any], *, step: int) -> QuerySet[Any]:
    """Return the rows grouped by spans of so many seconds, in order."""
    span = Func(F("at"), template=_SPANS[connection.vendor], step=step, output_field=BigIntegerField())
    return rows.annotate(span=span).order_by("span").values("span")


def last_quotes(asset_id: int, *, limit: int) -> list[Quote]:
    """Return the newest quotes of an asset, late ones too, with their entries of the log."""
    return list(Quote.objects.filter(asset=asset_id).select_related("entry").order_by("-at")[:limit])


def in_force_at(moments: Mapping[int, datetime]) -> dict[int, tuple[datetime, Decimal]]:
    """Return asset id -> (when it was quoted, the price) in force at its moment, where one that old is stored; late
    quotes do not count.

    From quotes, and from candles where there are none of that hour any more: of minutes, else of hours, else of days.
    With all splits that are known now. One statement, or two, and one where some asset has a split; for each asset, a
    few steps into indexes.
    """
    return _in_force(_at_moments(moments))


def _in_force(rows: QuerySet[Any]) -> dict[int, tuple[datetime, Decimal]]:
    """Return what `in_force_at` does. rows: assets, each with its `moment`."""
    rows = rows.annotate(has_split=Exists(Split.objects.filter(asset=OuterRef("pk"))))
    quoted = Quote.objects.filter(asset=OuterRef("pk"), late=False, at__lte=OuterRef("moment")).order_by("-at")
    rows = rows.annotate(price=Subquery(quoted.values("price")[:1]), since=Subquery(quoted.values("at")[:1]))
    found, split, old = {}, set(), {}
    for pk, moment, price, since, has_split in rows.values_list("pk", "moment", "price", "since", "has_split"):
        split |= {pk} if has_split else set()
        if since is not None:
            found[pk] = (since, price)
        if since is None or moment - since > timedelta(hours=1):
            old[pk] = moment
    if old:
        closes, times = [], []
        for resolution in Candle.Resolution:
            candles = Candle.objects.filter(asset=OuterRef("pk"), resolution=resolution, at__lte=OuterRef("moment"))
            candles = candles.filter(last_at__lte=OuterRef("moment")).order_by("-at")
            closes.append(Subquery(candles.values("close")[:1]))
            times.append(Subquery(candles.values("last_at")[:1]))
        rows = _at_moments(old).annotate(price=Coalesce(*closes), since=Coalesce(*times))
        for pk, price, since in rows.values_list("pk", "price", "since"):
            if since is not None and (pk not in found or since > found[pk][0]):
                found[pk] = (since, price)
    splits = splits_of(split) if split else Splits()
    return {pk: (since, splits.price(pk, since, price)) for pk, (since, price) in found.items()}


def _at_moments(moments: Mapping[int, datetime]) -> QuerySet[Asset]:
    """Return the assets, each with its `moment`."""
    # Assets of one feed have one clock, so there are few.
    together: dict[datetime, list[int]] = {}
    for asset_id, moment in moments.items():
        together.setdefault(moment, []).append(asset_id)
    cases = [When(pk__in=asset_ids, then=Value(moment)) for moment, asset_ids in together.items()]
    moment = Case(*cases, output_field=DateTimeField())
    return Asset.every.filter(pk__in=list(moments)).order_by().annotate(moment=moment)


def clocks_of(asset_ids: Iterable[int], **columns: Any) -> dict[int, datetime]:
    """Return asset id -> the clock of its feed, where it has one. columns: of these assets only."""
    rows = Asset.every.filter(pk__in=list(asset_ids), feed__head__as_of__isnull=False, **columns).order_by()
    return dict(rows.values_list("pk", "feed__head__as_of"))


def variations_over(latest: Mapping[int, Decimal], *, back: timedelta) -> dict[int, Decimal]:
    """Return asset id -> percent by which its newest price differs from the one in force so long before its feed's
    clock.

    latest: asset id -> newest price. Rounded half-even to 4 decimals, or to two significant digits where that would be
    0; without a price that old, and where it is signed, the asset is left out.
    """
    if not latest:
        return {}
    clock = F("feed__head__as_of")
    rows = Asset.every.filter(pk__in=list(latest), signed=False, feed__head__as_of__isnull=False).order_by()
    return _variations(latest, _in_force(rows.annotate(moment=ExpressionWrapper(clock - back, DateTimeField()))))


def variations_since_close(latest: Mapping[int, Decimal]) -> dict[int, Decimal]:
    """Return asset id -> percent by which its newest price differs from that at the last close, like variations_over.

    By its feed's clock: the end of the last session of its calendar; without one, the last midnight in UTC.
    """
    calendar_of = dict(Asset.every.filter(pk__in=list(latest)).exclude(calendar="").values_list("pk", "calendar"))
    moments = {}
    for pk, as_of in clocks_of(latest, signed=False).items():
        code = calendar_of.get(pk)
        close = calendars.previous_close(code, as_of) if code in calendars.CALENDARS else None
        moments[pk] = close or as_of.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return _variations(latest, in_force_at(moments) if moments else {})


def _variations(latest: Mapping[int, Decimal], before: Mapping[int, tuple[datetime, Decimal]]) -> dict[int, Decimal]:
    return {
        asset_id: round_number(WIDE.divide(WIDE.subtract(latest[asset_id], price) * 100, price), decimals=4)
        for asset_id, (_, price) in before.items()
    }


def candles_of(
    asset_ids: Sequence[int], *, resolution: int, chosen: Q, limit: int, is_descending: bool = True
) -> dict[int, list[Candle]]:
    """Return asset id -> its first candles of one resolution among those `chosen`, newest first or oldest first, their
    prices with all splits that are known now; three statements, and one for each candle in which a split was effective.
    """
    candles = Candle.objects.filter(chosen, resolution=resolution)
    found = _first_of_assets(asset_ids, candles, limit=limit, is_descending=is_descending)
    splits = splits_of(asset_ids)
    return {asset_id: [_after_splits(one, splits) for one in rows] for asset_id, rows in found.items()}


def quotes_of(asset_ids: Sequence[int], *, chosen: Q, limit: int, is_descending: bool = True) -> dict[int, list[Quote]]:
    """Return asset id -> its first stored quotes among those `chosen`, newest first or oldest first, as they came, late
    ones too; two statements."""
    return _first_of_assets(asset_ids, Quote.objects.filter(chosen), limit=limit, is_descending=is_descending)


def _first_of_assets(
    asset_ids: Sequence[int], rows: QuerySet[Any], *, limit: int, is_descending: bool
) -> dict[int, list[Any]]:
    assets = Asset.every.filter(pk__in=asset_ids)
    found = first_of_each(assets, rows, parent="asset", by="at", limit=limit, is_descending=is_descending)
    return {asset_id: found.get(asset_id, []) for asset_id in asset_ids}


def _after_splits(candle: Candle, splits: Splits) -> Candle:
    """Return the candle with its prices as they count now. Its volume and its sums stay as they came."""
    asset_id = candle.asset_id
    parts = [candle]
    if splits.lies_within(asset_id, epoch_microseconds(candle.first_at), epoch_microseconds(candle.last_at)):
        end = candle.at + timedelta(seconds=candle.resolution)
        minutes = Candle.objects.filter(asset=asset_id, resolution=Candle.Resolution.MINUTE)
        parts = list(minutes.filter(at__gte=candle.at, at__lt=end).order_by("at")) or parts
    first, last = parts[0], parts[-1]
    candle.open = splits.price(asset_id, first.first_at, first.open)
    candle.close = splits.price(asset_id, last.last_at, last.close)
    candle.low = min(splits.price(asset_id, one.first_at, one.low) for one in parts)
    candle.high = max(splits.price(asset_id, one.first_at, one.high) for one in parts)
    return candle
