"""The quotes of derived series, appended to their feed's log up to the watermark of their legs, one entry at a time.

An entry says up to which entry of each leg's log it has read (`Derivation`), so its quotes can be computed again from
the logs alone. What a process remembers of the legs is only a way to read less.
"""

import logging
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db import transaction
from django.db.models import Min

from apps.market import queries
from apps.market.derived.models import Derivation, DerivedFeed, DerivedSeries, LegCursor, SeriesChange
from apps.market.derived.past import append_past
from apps.market.derived.queries import (
    READ_BY_ID,
    Points,
    feeds_to_derive,
    knows_all_splits,
    paths_since,
    place_in,
    series_of,
)
from apps.market.derived.series import (
    TIMEOUT_INTERVALS,
    TIMEOUT_LEAST,
    AnyDefinition,
    Definition,
    LegClock,
    State,
    Watermark,
    watermark,
)
from apps.market.domain import Admission, AdmittedQuote, epoch_microseconds, from_epoch_microseconds
from apps.market.models import FeedEntry, FeedHead
from apps.market.services.log import append_entry, append_quotes, cache_latest, move_clock
from apps.notation import SECOND
from apps.owned_ids import label_of

logger = logging.getLogger(__name__)

PROVIDER = "derived"
# Of one leg's log, so many entries are read for one entry of ours: what waits for long is read in pieces.
ENTRIES_AT_ONCE = 1_000
REDISPATCH_AFTER = timedelta(seconds=30)
# A leg is looked at for being left behind only once it stands longer than any timeout.
STANDS_AT_LEAST = timedelta(microseconds=TIMEOUT_LEAST)
_FORWARD = (FeedEntry.Kind.QUOTES, FeedEntry.Kind.RULES, FeedEntry.Kind.SERIES)


class _Legs(NamedTuple):
    """What is fixed about the legs of a derived feed until one of its series changes.

    timeouts: leg feed id -> how long it may stand; calendars: leg feed id -> those of its assets; assets: leg feed id
    -> the assets of it that are legs; interval_seconds: how often the feed's quotes are expected.
    """

    definitions: Mapping[int, AnyDefinition]
    timeouts: Mapping[int, int]
    calendars: Mapping[int, Sequence[str]]
    assets: Mapping[int, Sequence[int]]
    interval_seconds: int


class _Known(NamedTuple):
    """What this process remembers of a derived feed after it has derived.

    positions: leg feed id -> the last entry read; paths: of the legs, from the quotes in force at the watermark on;
    states: of the series that have one.
    """

    version: int
    until: int
    positions: Mapping[int, int]
    legs: _Legs
    paths: Points
    states: dict[int, State]


_warm: dict[int, _Known] = {}


def claim_feeds_to_derive(*, now: datetime, with_standing: bool = False) -> list[int]:
    """Return the derived feeds whose legs are ahead of them, and mark them as dispatched. with_standing: also those one
    leg of which may have to be left behind."""
    rows = feeds_to_derive(now=now, standing_longer_than=STANDS_AT_LEAST if with_standing else None)
    wanted = list(rows.order_by("pk").values_list("pk", flat=True))
    if not wanted:
        return []
    with transaction.atomic():
        locked = DerivedFeed.objects.select_for_update(skip_locked=True, no_key=True).filter(pk__in=wanted)
        claimed = list(locked.order_by("pk").values_list("pk", flat=True))
        DerivedFeed.objects.filter(pk__in=claimed).update(redispatch_at=now + REDISPATCH_AFTER)
    return claimed


def derive_next(*, feed_id: int, now: datetime, trace_id: str) -> FeedEntry | None:
    """Append the quotes of a derived feed up to the watermark of its legs as one entry, and return it; None where the
    watermark has not moved, or another worker is at it."""
    with transaction.atomic():
        head = FeedHead.objects.select_for_update(skip_locked=True, no_key=True).filter(pk=feed_id).first()
        if head is None:
            return None
        cursors = {one.leg_id: one for one in LegCursor.objects.select_for_update(no_key=True).filter(feed=feed_id)}
        version = DerivedFeed.objects.values_list("version", flat=True).get(pk=feed_id)
        known = _warm.pop(feed_id, None)
        if known is not None and not _is_current(known, version=version, head=head, cursors=cursors):
            known = None
        legs, states = (known.legs, known.states) if known is not None else _legs_of(feed_id, cursors)
        ends = _ends_of(cursors)
        mark = _watermark_of(ends, legs)
        _note_left_behind(head, cursors, mark, now=now, trace_id=trace_id)
        after = epoch_microseconds(head.as_of) if head.as_of is not None else None
        is_ahead = mark.until is not None and (after is None or mark.until > after)
        if is_ahead and not _may_go_on(legs.definitions, states, until=mark.until):
            # Ticks ask again when that is over, and not each second.
            if known is not None:
                _warm[feed_id] = known
            return None
        DerivedFeed.objects.filter(pk=feed_id, redispatch_at__isnull=False).update(redispatch_at=None)
        if mark.until is None or not is_ahead:
            return None
        positions = {leg_id: end.seq for leg_id, end in ends.items()}
        begin = after if after is not None else _begin(positions, until=mark.until)
        if after is None:
            move_clock(head, as_of=from_epoch_microseconds(begin))
            given = {"positions": positions, "now": now, "trace_id": trace_id}
            formulas = {pk: one for pk, one in legs.definitions.items() if isinstance(one, Definition)}
            append_past(head, formulas, until=begin, **given)
        paths = _paths(known, cursors, positions, legs=legs, since=begin)
        entry, fresh, states = _append(
            head, legs.definitions, states, paths, begin, mark.until, now=now, trace_id=trace_id
        )
        places = {str(leg_id): seq for leg_id, seq in positions.items()}
        Derivation.objects.create(entry=entry, positions=places, states={str(pk): one for pk, one in states.items()})
        DerivedSeries.objects.bulk_update((DerivedSeries(pk=pk, state=one) for pk, one in states.items()), ["state"])
        for leg_id, cursor in cursors.items():
            cursor.seq = positions[leg_id]
        LegCursor.objects.bulk_update(cursors.values(), ["seq"])
    rest = {asset_id: _from_in_force(path, mark.until) for asset_id, path in paths.items()}
    _warm[feed_id] = _Known(version, mark.until, positions, legs, rest, states)
    newest = {one.asset_id: (one.at, one.price) for one in fresh}
    cache_latest(feed_ids=[head.pk], newest=newest, interval_seconds=legs.interval_seconds, now=now)
    return entry


def _is_current(known: _Known, *, version: int, head: FeedHead, cursors: Mapping[int, LegCursor]) -> bool:
    is_same = head.as_of is not None and known.until == epoch_microseconds(head.as_of) and known.version == version
    return is_same and known.positions == {leg_id: cursor.seq for leg_id, cursor in cursors.items()}


def _may_go_on(definitions: Mapping[int, AnyDefinition], states: Mapping[int, State], *, until: int | None) -> bool:
    """Tell whether some series may have a quote up to this time, and no split is there that one has yet to know. A
    feed without series has entries all the same."""
    due = [one.due_at(states.get(pk)) for pk, one in definitions.items()]
    is_due = until is None or not due or any(at is None or at <= until for at in due)
    return is_due and knows_all_splits(definitions.values())


def _legs_of(feed_id: int, cursors: Mapping[int, LegCursor]) -> tuple[_Legs, dict[int, State]]:
    series = series_of(feed_id)
    definitions = {pk: definition for pk, (definition, _) in series.items()}
    wanted = {leg.asset_id for definition in definitions.values() for leg in definition.legs}
    assets: dict[int, list[int]] = {leg_id: [] for leg_id in cursors}
    calendars: dict[int, set[str]] = {leg_id: set() for leg_id in cursors}
    rows = queries.every_asset().filter(pk__in=wanted, feed__in=list(cursors)).order_by("pk")
    for asset_id, leg_id, calendar in rows.values_list("pk", "feed_id", "calendar"):
        assets[leg_id].append(asset_id)
        calendars[leg_id].add(calendar)
    timeouts = timeouts_of(cursors)
    shown = {leg_id: sorted(codes) or [""] for leg_id, codes in calendars.items()}
    interval_seconds = queries.every_feed().values_list("interval_seconds", flat=True).get(pk=feed_id)
    states = {pk: state for pk, (_, state) in series.items() if state is not None}
    return _Legs(definitions, timeouts, shown, assets, interval_seconds), states


def paces_of(feed_ids: Mapping[int, object] | Sequence[int]) -> dict[int, float]:
    """Return feed id -> how far its answers lie apart by its own clock, in seconds."""
    feeds = queries.with_recent_entries(queries.every_feed().filter(pk__in=list(feed_ids)))
    return {feed.pk: queries.pace_seconds(feed) for feed in feeds}


def timeouts_of(feed_ids: Mapping[int, object] | Sequence[int]) -> dict[int, int]:
    """Return feed id -> how long its clock may stand while others go on before it is left behind, in microseconds."""
    paces = paces_of(feed_ids)
    return {feed_id: max(int(TIMEOUT_INTERVALS * pace * SECOND), TIMEOUT_LEAST) for feed_id, pace in paces.items()}


class _End(NamedTuple):
    """How far the log of a leg is read now: the last entry, and the feed's clock there; as_of: its clock at the end of
    the log. Clocks are None before the first entry."""

    seq: int
    read_to: datetime | None
    as_of: datetime | None


def _ends_of(cursors: Mapping[int, LegCursor]) -> dict[int, _End]:
    """Return leg feed id -> how far its log is read now."""
    heads = FeedHead.objects.filter(pk__in=list(cursors)).values_list("pk", "seq", "as_of")
    ends: dict[int, _End] = {}
    for leg_id, seq, as_of in heads:
        last = min(seq, cursors[leg_id].seq + ENTRIES_AT_ONCE)
        read_to = as_of
        if seq > last:
            read_to = FeedEntry.objects.values_list("as_of", flat=True).get(feed=leg_id, seq=last)
        ends[leg_id] = _End(last, read_to, as_of)
    return ends


def _watermark_of(ends: Mapping[int, _End], legs: _Legs) -> Watermark:
    """Return the legs that are left behind by the ends of their logs, and up to when the others are read now."""
    mark = watermark(
        LegClock(
            leg_id,
            epoch_microseconds(end.as_of) if end.as_of is not None else None,
            legs.timeouts[leg_id],
            legs.calendars[leg_id],
        )
        for leg_id, end in ends.items()
    )
    if mark.until is None:
        return mark
    read_to = [one.read_to for leg_id, one in ends.items() if leg_id not in mark.behind and one.read_to is not None]
    return mark._replace(until=min(mark.until, *map(epoch_microseconds, read_to)))


def _note_left_behind(
    head: FeedHead, cursors: Mapping[int, LegCursor], mark: Watermark, *, now: datetime, trace_id: str
) -> None:
    """Enter the log where legs are left behind; that they have come back, their entries say."""
    left = [one for one in cursors.values() if one.leg_id in mark.behind and not one.is_behind]
    if left:
        entry = append_entry(head, kind=FeedEntry.Kind.SERIES, now=now, trace_id=trace_id)
        SeriesChange.objects.bulk_create(SeriesChange(entry=entry, left_behind_id=one.leg_id) for one in left)
        head.save(update_fields=FeedHead.APPENDED)
        for one in left:
            facts = {"feed": head.feed_id, "leg": label_of(one.leg_id)}
            logger.warning("leg left behind", extra=facts)
    for one in cursors.values():
        if one.is_behind != (one.leg_id in mark.behind):
            one.is_behind = one.leg_id in mark.behind
            one.save(update_fields=["is_behind"])


def _paths(
    known: _Known | None,
    cursors: Mapping[int, LegCursor],
    positions: Mapping[int, int],
    *,
    legs: _Legs,
    since: int,
) -> Points:
    """Return asset id -> the path of each leg from the quote in force at `since` on, as the logs have it at these
    positions."""
    paths: Points = {}
    for leg_id, seq in positions.items():
        news = (
            None if known is None else _news(leg_id, after_seq=cursors[leg_id].seq, seq=seq, assets=legs.assets[leg_id])
        )
        if known is None or news is None:
            paths |= paths_since(legs.assets[leg_id], since=since, place=place_in(leg_id, seq=seq))
            continue
        for asset_id in legs.assets[leg_id]:
            if asset_id in news:
                # A quote may be older than one of before, where a leg's feed was slow.
                path = sorted([*known.paths.get(asset_id, ()), *news[asset_id]])
                paths[asset_id] = _from_in_force(path, since)
            elif asset_id in known.paths:
                paths[asset_id] = known.paths[asset_id]
    return paths


def _news(leg_id: int, *, after_seq: int, seq: int, assets: Sequence[int]) -> Points | None:
    """Return asset id -> the quotes that came in the entries of a leg's log since; None where the past was changed."""
    if after_seq == seq:
        return {}
    entries = list(FeedEntry.objects.filter(feed=leg_id, seq__gt=after_seq, seq__lte=seq).order_by("seq"))
    if any(entry.kind not in _FORWARD for entry in entries):
        return None
    chosen = set(assets)
    quoted = [entry for entry in entries if entry.accepted]
    found = queries.evaluated_quotes_of(quoted, asset_ids=assets if len(assets) <= READ_BY_ID else None)
    news: Points = {}
    for quotes in found.values():
        for asset_id, at, units in quotes:
            if asset_id in chosen:
                news.setdefault(asset_id, []).append((at, units))
    return news


def _from_in_force(path: Sequence[tuple[int, int]], since: int) -> list[tuple[int, int]]:
    index = bisect_right(path, since, key=lambda point: point[0]) - 1
    return list(path[max(index, 0) :])


def _begin(positions: Mapping[int, int], *, until: int) -> int:
    """Return the end of the past of a feed whose legs had no clock before: the time before their first quote that came
    in its time."""
    answers = FeedEntry.objects.filter(feed__in=list(positions), kind=FeedEntry.Kind.QUOTES, accepted__gt=0)
    first = answers.aggregate(first=Min("first_at"))["first"]
    return until if first is None else min(epoch_microseconds(first) - 1, until)


def _append(
    head: FeedHead,
    definitions: Mapping[int, AnyDefinition],
    states: Mapping[int, State],
    paths: Points,
    after: int,
    until: int,
    *,
    now: datetime,
    trace_id: str,
) -> tuple[FeedEntry, list[AdmittedQuote], dict[int, State]]:
    """Append the quotes of (after, until] in the caller's transaction, and return also the states after them."""
    quotes: list[AdmittedQuote] = []
    rejected: Counter[str] = Counter()
    later: dict[int, State] = {}
    for asset_id, definition in definitions.items():
        derived = definition.derive(paths, after=after, until=until, state=states.get(asset_id))
        quotes += (AdmittedQuote(asset_id, from_epoch_microseconds(at), price) for at, price in derived.quotes)
        rejected += derived.rejected
        if derived.state is not None:
            later[asset_id] = derived.state
    quotes.sort(key=lambda quote: (quote.at, quote.asset_id))
    admitted = Admission(quotes=quotes, rejected=rejected)
    given = {"provider": PROVIDER, "jump_percent": 0, "now": now, "trace_id": trace_id}
    entry, fresh = append_quotes(head, admitted, as_of=from_epoch_microseconds(until), **given)
    head.save(update_fields=[*FeedHead.APPENDED, "as_of"])
    return entry, fresh, later
