"""The feeds' logs: their entries, and the quotes in them."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from operator import itemgetter
from typing import Any

from django.db import connection
from django.db.models import BigIntegerField, F, PositiveBigIntegerField, Q, QuerySet, TextField
from django.db.models.expressions import RawSQL
from django.db.models.functions import Coalesce

from apps.leases import CLOCKS_DIFFER_AT_MOST
from apps.market.domain import UNITS_PER_ONE, epoch_microseconds, price_units
from apps.market.models import Correction, EvaluationCursor, FeedEntry, Quote, SupersededQuote
from apps.market.queries.each import first_of_each
from apps.market.queries.owners import every_feed
from apps.market.queries.splits import splits_of

# The engine's units, worked out exactly by PostgreSQL (its extract() is numeric).
_MICROSECONDS = RawSQL("(extract(epoch FROM at) * 1000000)::bigint", [], output_field=BigIntegerField())
_UNITS = RawSQL(f"(price * {UNITS_PER_ONE})::numeric(31, 0)::text", [], output_field=TextField())  # noqa: S611
# By hand, as below: each evaluation asks both, and Django would take longer to build them than PostgreSQL to run them.
_WITH_PENDING = """
    SELECT evaluated.feed_id FROM market_evaluationcursor evaluated JOIN market_feedhead head USING (feed_id)
    WHERE evaluated.feed_id IN ({marks}) AND head.seq > evaluated.seq"""
_QUOTES_OF_ENTRY = f"""
    SELECT
        asset_id, (extract(epoch FROM at) * 1000000)::bigint, (price * {UNITS_PER_ONE})::numeric(31, 0)::text,
        EXISTS (SELECT FROM market_split WHERE effective_at > %(first)s AND entry_id <= %(entry)s)
    FROM market_quote
    WHERE entry_id = %(entry)s AND NOT late AND at BETWEEN %(first)s AND %(last)s
    ORDER BY at, asset_id"""  # noqa: S608 (constants)


def has_pending(feed_id: int) -> bool:
    """Tell whether the feed's log goes on behind the evaluation cursor."""
    return bool(feeds_with_pending([feed_id]))


def feeds_with_pending(feed_ids: Collection[int]) -> list[int]:
    """Return those of these feeds whose log goes on behind the evaluation cursor."""
    if not feed_ids:
        return []
    with connection.cursor() as cursor:
        cursor.execute(_WITH_PENDING.format(marks=", ".join(["%s"] * len(feed_ids))), list(feed_ids))
        return sorted(feed_id for (feed_id,) in cursor.fetchall())


def feeds_to_roll_up() -> list[int]:
    """Return the feeds whose log is evaluated further than it is rolled up."""
    rolled_up = Coalesce("feed__rollup_cursor__seq", 0, output_field=PositiveBigIntegerField())
    # Annotated first: a filter alone would leave out the feeds that have no cursor yet.
    rows = EvaluationCursor.objects.annotate(rolled_up=rolled_up).filter(seq__gt=F("rolled_up"))
    return list(rows.order_by("pk").values_list("pk", flat=True))


def feeds_behind(*, before: datetime, now: datetime) -> list[int]:
    """Return the feeds whose oldest entry that was not evaluated came before `before`, or before the clock was set
    back."""
    is_late = Q(received_at__lt=before) | Q(received_at__gt=now + CLOCKS_DIFFER_AT_MOST)
    late = FeedEntry.objects.filter(is_late, evaluated_at=None)
    return sorted(set(late.order_by().values_list("feed_id", flat=True)))


def feeds_pushed_to() -> list[int]:
    """Return the feeds with an entry of pushed quotes that was not evaluated: it belongs to no slot."""
    pushed = FeedEntry.objects.filter(evaluated_at=None, kind=FeedEntry.Kind.QUOTES, slot=None)
    return sorted(set(pushed.order_by().values_list("feed_id", flat=True)))


def evaluated_quotes(entry: FeedEntry) -> list[tuple[int, int, int]]:
    """Return the quotes of one entry that are evaluated, in the order in which they are: (asset id, microseconds,
    units), with the splits that are known there."""
    if not entry.accepted:
        return []
    if connection.vendor == "postgresql" and not entry.is_superseded:
        with connection.cursor() as cursor:
            cursor.execute(_QUOTES_OF_ENTRY, {"entry": entry.pk, "first": entry.first_at, "last": entry.last_at})
            rows = cursor.fetchall()
        found = [(asset_id, at, int(units)) for asset_id, at, units, _ in rows]
        # Most entries are behind all splits, which are not read then.
        is_split = bool(rows) and rows[0][3]
        return splits_of(after=entry.first_at, up_to_entry=entry.pk).quotes(found) if is_split else found
    quotes = Quote.objects.filter(entry=entry, late=False, at__gte=entry.first_at, at__lte=entry.last_at)
    stored = _in_units(quotes.order_by("at", "asset_id"))
    if entry.is_superseded:
        # For this entry, a quote that was corrected later counts as it came.
        stored = _in_order([*stored, *_in_units(SupersededQuote.objects.filter(entry=entry, late=False))])
    return splits_of(after=entry.first_at, up_to_entry=entry.pk).quotes(stored)


def asset_ids_in(entry: FeedEntry) -> list[int]:
    """Return the assets that an entry of history, or a correction, is about."""
    return asset_ids_of([entry]).get(entry.pk, [])


def quotes_between(asset_ids: Sequence[int], *, since: datetime, until: datetime) -> list[tuple[int, int, int]]:
    """Return (asset id, microseconds, units) of the stored quotes of [since, until) that are not late, oldest first,
    with all splits that are known now."""
    quotes = Quote.objects.filter(asset__in=asset_ids, late=False, at__gte=since, at__lt=until)
    return splits_of(asset_ids, after=since).quotes(_in_units(quotes.order_by("at", "asset_id")))


def has_more_quotes(asset_id: int, *, since: datetime, until: datetime, than: int) -> bool:
    """Tell whether an asset has more than so many quotes of [since, until]; no more of them are looked at."""
    quotes = Quote.objects.filter(asset=asset_id, late=False, at__gte=since, at__lte=until).order_by("at")
    return quotes[than : than + 1].exists()


def released_between(asset_ids: Sequence[int], *, since: datetime, until: datetime) -> list[tuple[int, int, int, int]]:
    """Return (asset id, microseconds, units, released) of the stored quotes of [since, until) that are not late, with
    all splits that are known now.

    released: the feed's clock when the quote came, in microseconds; of history and corrections its own time.
    """
    quotes = Quote.objects.filter(asset__in=asset_ids, late=False, at__gte=since, at__lt=until)
    rows = quotes.values_list("asset_id", "at", "price", "entry__kind", "entry__as_of")
    splits = splits_of(asset_ids, after=since)
    return [
        (
            asset_id,
            epoch_microseconds(at),
            splits.units(asset_id, epoch_microseconds(at), price_units(price)),
            epoch_microseconds(max(as_of, at) if kind == FeedEntry.Kind.QUOTES else at),
        )
        for asset_id, at, price, kind, as_of in rows
    ]


def clocks_between(feed_id: int, *, since: datetime, until: datetime) -> list[int]:
    """Return the clocks of a feed's entries of quotes in [since, until), in microseconds, oldest first."""
    entries = FeedEntry.objects.filter(feed=feed_id, kind=FeedEntry.Kind.QUOTES, as_of__gte=since, as_of__lt=until)
    return [epoch_microseconds(as_of) for as_of in entries.order_by("as_of").values_list("as_of", flat=True)]


def _in_order(quotes: Iterable[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Return quotes in the order in which they are evaluated. One that a correction moves while they are read may be
    among them twice."""
    return sorted(set(quotes), key=itemgetter(1, 0))


def _in_units(quotes: QuerySet[Any]) -> list[tuple[int, int, int]]:
    if connection.vendor == "postgresql":
        rows = quotes.annotate(microseconds=_MICROSECONDS, units=_UNITS)
        return [
            (asset_id, at, int(units)) for asset_id, at, units in rows.values_list("asset_id", "microseconds", "units")
        ]
    stored = quotes.values_list("asset_id", "at", "price")
    return [(asset_id, epoch_microseconds(at), price_units(price)) for asset_id, at, price in stored]


def last_entries(feed_id: int, *, limit: int) -> list[FeedEntry]:
    """Return the end of a feed's log, newest entry first."""
    return list(FeedEntry.objects.filter(feed=feed_id).order_by("-seq")[:limit])


def quotes_in(entry: FeedEntry, *, limit: int) -> list[Quote | SupersededQuote]:
    """Return quotes that came with one entry, late ones and those that were corrected later too, oldest first, with
    their assets."""
    if entry.first_at is None:
        return []
    stored = Quote.objects.filter(entry=entry, at__gte=entry.first_at, at__lte=entry.last_at)
    found: list[Quote | SupersededQuote] = [*stored.select_related("asset").order_by("at", "asset_id")[:limit]]
    if entry.is_superseded:
        superseded = SupersededQuote.objects.filter(entry=entry)
        found += superseded.select_related("asset", "until_entry__feed").order_by("at", "asset_id")[:limit]
        found.sort(key=lambda quote: (quote.at, quote.asset_id))
    return found[:limit]


def quotes_removed_by(entry: FeedEntry, *, limit: int) -> list[SupersededQuote]:
    """Return the quotes that a correction replaced or deleted, late ones too, oldest first, with their assets and the
    entries that had brought them."""
    rows = SupersededQuote.objects.filter(until_entry=entry).select_related("asset", "entry__feed")
    return list(rows.order_by("at", "asset_id")[:limit])


def corrected_in(entry: FeedEntry) -> dict[int, dict[datetime, tuple[Decimal | None, Decimal | None]]]:
    """Return asset id -> time -> (price before, price after) of the quotes that are not late and that a correction
    replaced, deleted or added, as they came. Three statements."""
    changed: dict[int, dict[datetime, tuple[Decimal | None, Decimal | None]]] = {}
    removed = SupersededQuote.objects.filter(until_entry=entry, late=False).values_list("asset_id", "at", "price")
    for asset_id, at, price in removed:
        changed.setdefault(asset_id, {})[at] = (price, None)
    for model in (Quote, SupersededQuote):
        for asset_id, at, price in (
            _quotes_of([entry], None, model).filter(late=False).values_list("asset_id", "at", "price")
        ):
            of_asset = changed.setdefault(asset_id, {})
            of_asset[at] = (of_asset.get(at, (None, None))[0], price)
    return changed


def entries_of(
    feed_ids: Sequence[int], *, chosen: Q, limit: int, is_descending: bool = True
) -> dict[int, list[FeedEntry]]:
    """Return feed id -> the first entries of its log among those `chosen`, newest first or oldest first, with the feed;
    two statements."""
    rows, feeds = FeedEntry.objects.filter(chosen).select_related("feed"), every_feed().filter(pk__in=feed_ids)
    return first_of_each(feeds, rows, parent="feed", by="seq", limit=limit, is_descending=is_descending)


def entry_providers(entry_ids: Iterable[int]) -> dict[int, str]:
    """Return entry id -> the provider of its quotes; "" where it is none's."""
    return dict(FeedEntry.objects.filter(pk__in=list(entry_ids)).order_by().values_list("pk", "provider"))


def entries_by_id(entry_ids: Iterable[int]) -> dict[int, FeedEntry]:
    """Return entry id -> entry of a log, with its feed."""
    return FeedEntry.objects.select_related("feed").in_bulk(list(entry_ids))


def last_switches(feed_id: int, *, limit: int) -> list[FeedEntry]:
    """Return the newest entries since which quotes come from another provider."""
    return list(FeedEntry.objects.filter(feed=feed_id, switched__isnull=False).order_by("-seq")[:limit])


def evaluated_quotes_of(
    entries: Sequence[FeedEntry], *, asset_ids: Iterable[int] | None = None
) -> dict[int, list[tuple[int, int, int]]]:
    """Return entry id -> its quotes that are evaluated, each list as `evaluated_quotes` gives it; three statements.

    asset_ids: of these assets only. Batches without such quotes may be absent.
    """
    found: dict[int, list[tuple[int, int, int]]] = {}
    for entry_id, *quote in _with_entries(_quotes_of(entries, asset_ids, Quote)):
        found.setdefault(entry_id, []).append((quote[0], quote[1], quote[2]))
    # Read after them, since a correction beside moves them there.
    corrected: dict[int, list[tuple[int, int, int]]] = {}
    for entry_id, *quote in _with_entries(_quotes_of(entries, asset_ids, SupersededQuote)):
        corrected.setdefault(entry_id, []).append((quote[0], quote[1], quote[2]))
    found |= {pk: _in_order([*found.get(pk, ()), *quotes]) for pk, quotes in corrected.items()}
    first = min((entry.first_at for entry in entries if entry.first_at is not None), default=None)
    splits = splits_of(after=first, up_to_entry=max(found)) if found else None
    return {entry_id: splits.up_to(entry_id).quotes(one) for entry_id, one in found.items()} if splits else found


def _with_entries(quotes: QuerySet[Any]) -> Iterable[tuple[int, int, int, int]]:
    """Give (entry id, asset id, microseconds, units) of those that are evaluated, in order."""
    rows = quotes.filter(late=False).order_by("at", "asset_id")
    if connection.vendor == "postgresql":
        rows = rows.annotate(microseconds=_MICROSECONDS, units=_UNITS)
        for entry_id, asset_id, at, units in rows.values_list("entry_id", "asset_id", "microseconds", "units"):
            yield entry_id, asset_id, at, int(units)
    else:
        for entry_id, asset_id, at, price in rows.values_list("entry_id", "asset_id", "at", "price"):
            yield entry_id, asset_id, epoch_microseconds(at), price_units(price)


def asset_ids_of(entries: Sequence[FeedEntry], *, asset_ids: Iterable[int] | None = None) -> dict[int, list[int]]:
    """Return entry id -> the assets that have quotes in it, or that it corrects, sorted; three statements.

    asset_ids: of these assets only.
    """
    wanted = None if asset_ids is None else set(asset_ids)
    found: dict[int, set[int]] = {}
    for model in (Quote, SupersededQuote):
        rows = _quotes_of(entries, wanted, model).order_by().values_list("entry_id", "asset_id")
        for entry_id, asset_id in rows.distinct():
            found.setdefault(entry_id, set()).add(asset_id)
    corrections = Correction.objects.filter(entry__in=[entry.pk for entry in entries])
    for entry_id, corrected in corrections.values_list("pk", "asset_ids"):
        found.setdefault(entry_id, set()).update(one for one in corrected if wanted is None or one in wanted)
    return {entry_id: sorted(assets) for entry_id, assets in found.items() if assets}


def _quotes_of(
    entries: Sequence[FeedEntry], asset_ids: Iterable[int] | None, model: type[Quote] | type[SupersededQuote]
) -> QuerySet[Any]:
    quoted = [entry for entry in entries if entry.first_at is not None and entry.last_at is not None]
    if not quoted:
        return model.objects.none()
    first, last = min(entry.first_at for entry in quoted), max(entry.last_at for entry in quoted)
    rows = model.objects.filter(entry__in=[entry.pk for entry in quoted], at__gte=first, at__lte=last)
    return rows if asset_ids is None else rows.filter(asset__in=list(asset_ids))


def has_quotes(entry: FeedEntry) -> bool:
    """Tell whether the first quote of an entry is still kept, as it came or as one that was corrected later."""
    models = (Quote, SupersededQuote)
    return any(model.objects.filter(entry=entry, at=entry.first_at).exists() for model in models)
