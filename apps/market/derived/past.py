"""The past of derived series: one entry of history, from the quotes of the legs, and before those from closes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from apps.market import partitions
from apps.market.derived.models import Derivation, DerivedSeries
from apps.market.derived.queries import (
    closes_before,
    first_quoted,
    paths_since,
    place_in,
    resolutions_of,
    time_of_quote_before,
)
from apps.market.derived.series import AnyDefinition, Definition, derive, derive_closes
from apps.market.domain import Admission, AdmittedQuote, days_of, epoch_microseconds, from_epoch_microseconds
from apps.market.models import FeedHead
from apps.market.queries import every_asset
from apps.market.services.log import append_history, retention

# Of the quotes of the leg that has the most; what lies before is taken from closes.
QUOTES_MOST = 20_000


def _raw_from(definition: Definition, *, until: int) -> int:
    """Return from when on the past of a series is made of quotes: all legs have them, and they are not too many."""
    asset_ids = [leg.asset_id for leg in definition.legs]
    first = first_quoted(asset_ids)
    if len(first) < len(asset_ids):
        return until
    return max(*first.values(), *(time_of_quote_before(pk, until=until, count=QUOTES_MOST) for pk in asset_ids))


def _by_closes(definition: Definition, *, before: int) -> list[tuple[int, Any]]:
    asset_ids = [leg.asset_id for leg in definition.legs]
    resolutions = resolutions_of(asset_ids, before=before)
    if not resolutions:
        return []
    # Quotes of before are closes of their own candle: the one in which the quotes begin may have both.
    closes = closes_before(asset_ids, before=before, resolution=resolutions[0])
    return [(at, price) for at, price in derive_closes(definition, closes).quotes if at < before]


def make_days(definition: Definition, *, until: int, now: datetime) -> None:
    """Create the partitions that the past of a series needs. Call it before anything is locked."""
    quotes = _by_closes(definition, before=_raw_from(definition, until=until))
    days = days_of([AdmittedQuote(0, from_epoch_microseconds(at), price) for at, price in quotes])
    partitions.ensure(days, months_before=(now - retention()).date())


def append_past(
    head: FeedHead,
    definitions: Mapping[int, Definition],
    *,
    positions: Mapping[int, int],
    until: int,
    now: datetime,
    trace_id: str,
) -> None:
    """Append what series were up to `until` as one entry of history, in the caller's transaction, which has the head's
    lock; nothing where there is nothing. positions: leg feed id -> the last entry that is read."""
    quotes: list[AdmittedQuote] = []
    rejected: Counter[str] = Counter()
    for asset_id, definition in definitions.items():
        begin = _raw_from(definition, until=until)
        paths = _paths(definition, positions, since=begin - 1)
        derived = derive(definition, paths, after=begin - 1, until=until)
        points = _by_closes(definition, before=begin) + derived.quotes
        quotes += (AdmittedQuote(asset_id, from_epoch_microseconds(at), price) for at, price in points)
        rejected += derived.rejected
    if not quotes:
        return
    quotes.sort(key=lambda quote: (quote.at, quote.asset_id))
    admitted = Admission(quotes=quotes, rejected=rejected)
    entry = append_history(head, admitted, provider="derived", now=now, trace_id=trace_id)
    Derivation.objects.create(entry=entry, positions={str(leg_id): seq for leg_id, seq in positions.items()})


def append_past_of(
    head: FeedHead,
    asset_id: int,
    definition: AnyDefinition,
    *,
    before: Sequence[tuple[int, Any]],
    since: int,
    positions: Mapping[int, int],
    now: datetime,
    trace_id: str,
) -> None:
    """Append what one series was up to the feed's clock as one entry of history: the given quotes of before `since`,
    and those derived from there on, with the state that follows. In the caller's transaction, which has the head's
    lock."""
    until = epoch_microseconds(head.as_of)
    derived = definition.derive(
        _paths(definition, positions, since=since - 1), after=since - 1, until=until, state=None
    )
    points = [*before, *derived.quotes]
    quotes = [AdmittedQuote(asset_id, from_epoch_microseconds(at), price) for at, price in points]
    entry = append_history(
        head, Admission(quotes=quotes, rejected=derived.rejected), provider="derived", now=now, trace_id=trace_id
    )
    DerivedSeries.objects.filter(pk=asset_id).update(state=derived.state)
    Derivation.objects.create(
        entry=entry,
        positions={str(leg_id): seq for leg_id, seq in positions.items()},
        states={} if derived.state is None else {str(asset_id): derived.state},
    )


def raw_from(asset_ids: Sequence[int], *, until: int) -> int:
    """Return from when on the quotes of these assets are those of which a past is made: those in feeds have some, and
    they are not too many; in microseconds."""
    first = first_quoted(asset_ids)
    count = max(QUOTES_MOST // max(len(first), 1), 1)
    begins = [max(at, time_of_quote_before(pk, until=until, count=count)) for pk, at in first.items()]
    return max(begins, default=until)


def _paths(
    definition: AnyDefinition, positions: Mapping[int, int], *, since: int
) -> dict[int, Sequence[tuple[int, int]]]:
    asset_ids = [leg.asset_id for leg in definition.legs]
    of_feed: dict[int, list[int]] = {}
    for asset_id, feed_id in every_asset().filter(pk__in=asset_ids).order_by("pk").values_list("pk", "feed_id"):
        of_feed.setdefault(feed_id, []).append(asset_id)
    paths: dict[int, Sequence[tuple[int, int]]] = {}
    for feed_id, its_ids in of_feed.items():
        paths |= paths_since(its_ids, since=since, place=place_in(feed_id, seq=positions[feed_id]))
    return paths
