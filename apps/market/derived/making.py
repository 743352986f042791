"""Derived series made, changed and ended, each at one place of their feed's log."""

import re
import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from apps.accounts.services import lock_owner
from apps.market import queries
from apps.market.derived import past
from apps.market.derived.deriving import paces_of
from apps.market.derived.models import DerivedFeed, DerivedSeries, LegCursor, SeriesChange, SeriesLeg
from apps.market.derived.queries import is_made_of, levels_above, levels_of
from apps.market.derived.series import (
    LEVELS_MOST,
    SKEW_INTERVALS,
    AnyDefinition,
    Definition,
    Kind,
    Leg,
    SeriesInvalid,
    Written,
)
from apps.market.domain import epoch_microseconds
from apps.market.models import Asset, FeedEntry, FeedHead
from apps.market.services.log import append_entry, lock_head
from apps.market.services.owning import create_asset, create_bare_feed
from apps.notation import SECOND

SERIES_MOST = 1_000  # Of one owner.


class TooDeep(SeriesInvalid):
    """A series, or one that is made of it, would have too many levels. asset_ids: the legs that have the most."""

    def __init__(self, asset_ids: Iterable[int]) -> None:
        super().__init__("legs", f"series are made of series at most {LEVELS_MOST} levels deep")
        self.asset_ids = set(asset_ids)


def define(written: Written, *, owner_id: int | None, asset: Asset | None = None) -> Definition:
    """Return the definition that a written series means now: with the ids of its legs, and the skews that it does not
    say. asset: the series that is changed to it; legs that it has keep their skews. Raises SeriesInvalid."""
    kept = {} if asset is None else {leg.asset_id: leg.max_skew for leg in _stored(asset).legs}
    named = queries.assets_named([leg.symbol for leg in written.legs], owner_id=owner_id)
    assets: list[Asset] = []
    for index, leg in enumerate(written.legs):
        place = f"legs[{index}].asset"
        found = named.get(leg.symbol)
        if found is None:
            raise SeriesInvalid(place, f"there is no asset {leg.symbol}")
        if found.feed_id is None:
            raise SeriesInvalid(place, f"{leg.symbol} is in no feed, so it has no prices")
        if found in assets:
            raise SeriesInvalid(place, f"{leg.symbol} is there twice")
        assets.append(found)
    feeds = {feed.pk: feed for feed in queries.every_feed().filter(pk__in={one.feed_id for one in assets})}
    live = {feed.is_live for feed in feeds.values()}
    if len(live) > 1:
        recorded = next(one for one in assets if not feeds[one.feed_id].is_live)
        raise SeriesInvalid(
            "legs", f"the clock of {recorded.symbol} is a recording's, and that of another leg is this machine's"
        )
    skews = skews_of(list(feeds))
    legs = tuple(
        Leg(
            one.pk,
            leg.max_skew if leg.max_skew is not None else kept.get(one.pk, skews[one.feed_id]),
            leg.weight,
            one.calendar,
        )
        for one, leg in zip(assets, written.legs, strict=True)
    )
    weights = any(leg.weight < 0 for leg in legs)
    signed = written.kind == Kind.SPREAD or weights or any(one.signed for one in assets)
    definition = Definition(written.kind, legs, signed)
    _refuse_too_deep(None if asset is None else asset.pk, definition)
    if asset is not None:
        _refuse_change(asset, definition, written)
    return definition


def _refuse_change(asset: Asset, definition: Definition, written: Written) -> None:
    """Refuse what a series cannot become. Raises SeriesInvalid."""
    for index, leg in enumerate(definition.legs):
        if is_made_of(leg.asset_id, asset.pk):
            is_self = leg.asset_id == asset.pk
            why = "is this series itself" if is_self else f"is made of {asset.symbol} itself"
            raise SeriesInvalid(f"legs[{index}].asset", f"{written.legs[index].symbol} {why}")
    legs = set(LegCursor.objects.filter(feed=asset.feed_id).values_list("leg_id", flat=True))
    if set(_leg_feeds(definition)) != legs:
        raise SeriesInvalid("legs", "must be in the feeds that they are in now; make a new series instead")
    if definition.signed and not asset.signed:
        raise SeriesInvalid("legs", "would make it 0 or less, which it cannot be; make a new series instead")
    if not asset.has_flows and _have_flows(definition):
        # Rules on it may compare it with its past.
        why = "so that deposits would move it, which they do not now; make a new series instead"
        raise SeriesInvalid("legs", f"would be made of the value of a portfolio, {why}")


def _stored(asset: Asset) -> Definition:
    return Definition.of_document(DerivedSeries.objects.values_list("document", flat=True).get(pk=asset.pk))


def skews_of(feed_ids: Sequence[int]) -> dict[int, int]:
    """Return feed id -> the skew of a leg in it that says none."""
    return {feed_id: int(SKEW_INTERVALS * pace * SECOND) for feed_id, pace in paces_of(feed_ids).items()}


def create_series(
    *,
    owner_id: int | None,
    symbol: str,
    written: Written,
    name: str = "",
    currency: str = "",
    tags: Sequence[str] = (),
    now: datetime,
    trace_id: str,
) -> Asset:
    """Return a new asset that is made of others, with its past. owner_id: None for a series of the installation.

    Raises SeriesInvalid, and ValidationError for its symbol, name, currency or tags.
    """
    definition = define(written, owner_id=owner_id)
    leg_feeds = _leg_feeds(definition)
    past.make_days(definition, until=epoch_microseconds(now), now=now)
    columns: dict[str, Any] = {"name": name, "currency": currency, "tags": list(tags), "signed": definition.signed}
    columns["has_flows"] = _have_flows(definition)
    with transaction.atomic():
        if owner_id is not None:
            # Only series of portfolios become deeper later, and those change under this lock too.
            lock_owner(owner_id)
        refuse_too_many(owner_id)
        head = _lock_feed(owner_id, leg_feeds, symbol=symbol)
        feed_id = head.feed_id
        asset = create_asset(owner_id=owner_id, symbol=symbol, feed_id=feed_id, **columns)
        _store(asset.pk, definition)
        _append_change(head, asset.pk, definition, now=now, trace_id=trace_id)
        if head.as_of is not None:
            positions = dict(LegCursor.objects.filter(feed=feed_id).values_list("leg_id", "seq"))
            until = epoch_microseconds(head.as_of)
            given: Mapping[str, Any] = {"positions": positions, "until": until, "now": now, "trace_id": trace_id}
            past.append_past(head, {asset.pk: definition}, **given)
        head.save(update_fields=FeedHead.APPENDED)
    return asset


def change_series(*, asset: Asset, written: Written, now: datetime, trace_id: str) -> bool:
    """Change what a series is made of, from here on, and tell whether that changed anything. What it has been stays.

    Its legs stay in the same feeds. Raises SeriesInvalid.
    """
    with transaction.atomic():
        head = lock_head(asset.feed_id)
        definition = define(written, owner_id=asset.owner_id, asset=asset)
        if _stored(asset) == definition:
            return False
        _store(asset.pk, definition)
        _append_change(head, asset.pk, definition, now=now, trace_id=trace_id)
        head.save(update_fields=FeedHead.APPENDED)
    return True


def end_series(*, asset_id: int, feed_id: int, now: datetime, trace_id: str) -> None:
    """End a series at its place in the log, in the transaction that deletes its asset; nothing where it is none."""
    if not DerivedSeries.objects.filter(pk=asset_id).delete()[0]:
        return
    head = lock_head(feed_id)
    _append_change(head, asset_id, None, now=now, trace_id=trace_id)
    head.save(update_fields=FeedHead.APPENDED)


def refuse_too_many(owner_id: int | None) -> None:
    """Raise SeriesInvalid where an owner has as many series as one may have."""
    if owner_id is not None and DerivedSeries.objects.filter(asset__owner=owner_id).count() >= SERIES_MOST:
        raise SeriesInvalid("series", f"an owner has at most {SERIES_MOST}; delete one first")


def lock_feed_of(key: str, leg_feeds: Collection[int], *, owner_id: int, symbol: str) -> FeedHead:
    """Return the locked head of the derived feed of this key, whose legs may change; it is made where it is not
    there, for a series of this symbol."""
    return _lock_feed(owner_id, sorted(leg_feeds), symbol=symbol, key=key)


def add_series(
    head: FeedHead,
    definition: AnyDefinition,
    *,
    owner_id: int,
    symbol: str,
    before: Sequence[tuple[int, Any]],
    since: int,
    every_seconds: int,
    now: datetime,
    trace_id: str,
    **columns: Any,
) -> Asset:
    """Return a new asset with this definition in a feed whose head is locked, with its past: quotes of before `since`,
    and what is derived from there on. every_seconds: as for `read_legs_of_series`; columns: further ones of the asset.
    Raises TooDeep and ValidationError."""
    asset = create_asset(owner_id=owner_id, symbol=symbol, feed_id=head.feed_id, signed=definition.signed, **columns)
    _store(asset.pk, definition)
    _append_change(head, asset.pk, definition, now=now, trace_id=trace_id)
    read_legs_of_series(head.feed_id, every_seconds=every_seconds)
    positions = dict(LegCursor.objects.filter(feed=head.feed_id).values_list("leg_id", "seq"))
    given: Mapping[str, Any] = {"positions": positions, "now": now, "trace_id": trace_id}
    past.append_past_of(head, asset.pk, definition, before=before, since=since, **given)
    head.save(update_fields=FeedHead.APPENDED)
    return asset


def redefine(head: FeedHead, asset_id: int, definition: AnyDefinition, *, now: datetime, trace_id: str) -> None:
    """Have a series be something else from here on; the head is locked. Its legs may be in other feeds than before:
    call `read_legs_of_series` after the last of a feed's series. Raises TooDeep."""
    _store(asset_id, definition)
    _append_change(head, asset_id, definition, now=now, trace_id=trace_id)
    head.save(update_fields=FeedHead.APPENDED)


def read_legs_of_series(feed_id: int, *, every_seconds: int) -> None:
    """Have a derived feed read the logs of the feeds in which the legs of its series are now: those that are new from
    their end on. every_seconds: how often it has quotes at most."""
    legs = SeriesLeg.objects.filter(series__asset__feed=feed_id, asset__feed__isnull=False)
    wanted = set(legs.order_by().values_list("asset__feed", flat=True))
    cursors = LegCursor.objects.filter(feed=feed_id)
    cursors.exclude(leg__in=wanted).delete()
    new = wanted - set(cursors.values_list("leg", flat=True))
    heads = FeedHead.objects.filter(pk__in=new).values_list("pk", "seq")
    LegCursor.objects.bulk_create(LegCursor(feed_id=feed_id, leg_id=leg_id, seq=seq) for leg_id, seq in heads)
    intervals = queries.every_feed().filter(pk__in=wanted).values_list("interval_seconds", flat=True)
    queries.every_feed().filter(pk=feed_id).update(interval_seconds=max(every_seconds, *intervals, 1))


def _legs_of(definition: Definition) -> QuerySet[Asset]:
    return queries.every_asset().filter(pk__in=[leg.asset_id for leg in definition.legs])


def _have_flows(definition: Definition) -> bool:
    return _legs_of(definition).filter(has_flows=True).exists()


def _leg_feeds(definition: Definition) -> list[int]:
    return sorted(set(_legs_of(definition).values_list("feed_id", flat=True)))


def _lock_feed(owner_id: int | None, leg_feeds: Collection[int], *, symbol: str, key: str = "") -> FeedHead:
    """Return the locked head of the derived feed of these legs, which is made where it is not there. symbol: of the
    series that needs it; key: of a feed whose legs may change."""
    key = key or f"{owner_id or 0}:{','.join(map(str, leg_feeds))}"
    known = DerivedFeed.objects.filter(key=key).first()
    if known is None:
        try:
            with transaction.atomic():
                known = _make_feed(owner_id, leg_feeds, symbol=symbol, key=key)
        except (IntegrityError, ValidationError):
            # Two at once.
            known = DerivedFeed.objects.get(key=key)
    return lock_head(known.pk)


def _name_of(symbol: str) -> str:
    """Return a new name of a feed, by which people know its first series again, like derived-usdc-usd-3fa9c1."""
    slug = re.sub(r"[^a-z0-9]+", "-", symbol.lower())[:48].strip("-")
    return f"derived-{slug}-{secrets.token_hex(3)}"


def _make_feed(owner_id: int | None, leg_feeds: Collection[int], *, symbol: str, key: str) -> DerivedFeed:
    legs = list(queries.every_feed().filter(pk__in=leg_feeds).order_by("pk"))
    feed = create_bare_feed(
        owner_id=owner_id,
        name=_name_of(symbol),
        interval_seconds=max(leg.interval_seconds for leg in legs),
        jump_percent=0,
    )
    queries.every_feed().filter(pk=feed.pk).update(is_live=legs[0].is_live)
    derived = DerivedFeed.objects.create(feed=feed, key=key)
    heads = list(FeedHead.objects.filter(pk__in=leg_feeds))
    LegCursor.objects.bulk_create(LegCursor(feed=derived, leg_id=head.feed_id, seq=head.seq) for head in heads)
    clocks = [head.as_of for head in heads if head.as_of is not None]
    if len(clocks) == len(heads):
        FeedHead.objects.filter(pk=feed.pk).update(as_of=min(clocks))
    return derived


def _store(asset_id: int, definition: AnyDefinition) -> None:
    """Store what a series is from here on: every definition comes by here. Raises TooDeep."""
    _refuse_too_deep(asset_id, definition)
    columns = {"document": definition.document(), "state": None}
    series, _ = DerivedSeries.objects.update_or_create(asset_id=asset_id, defaults=columns)
    series.legs.all().delete()
    SeriesLeg.objects.bulk_create(SeriesLeg(series=series, asset_id=leg.asset_id) for leg in definition.legs)


def _refuse_too_deep(asset_id: int | None, definition: AnyDefinition) -> None:
    below = levels_of(leg.asset_id for leg in definition.legs)
    above = 0 if asset_id is None else levels_above(asset_id)
    if below + 1 + above > LEVELS_MOST:
        raise TooDeep(leg.asset_id for leg in definition.legs if levels_of([leg.asset_id]) == below)


def _append_change(
    head: FeedHead, asset_id: int, definition: AnyDefinition | None, *, now: datetime, trace_id: str
) -> FeedEntry:
    """Append a change of a series; the caller saves the head."""
    entry = append_entry(head, kind=FeedEntry.Kind.SERIES, now=now, trace_id=trace_id)
    document = None if definition is None else definition.document()
    SeriesChange.objects.create(entry=entry, asset_id=asset_id, document=document)
    derived = DerivedFeed.objects.get(pk=head.feed_id)
    derived.version += 1
    derived.save(update_fields=["version"])
    return entry
