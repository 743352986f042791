"""Checks of derived feeds and assets."""

from collections.abc import Callable, Collection, Iterable
from datetime import datetime, timedelta

from django.db.models import F, Max, Min, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce

from apps.health.domain import BEHIND_AFTER, Code, Finding, Level, Subject
from apps.market.derived.models import DerivedFeed, LegCursor, SeriesLeg
from apps.market.domain import EARLIEST
from apps.market.models import FeedEntry


def not_derived(*, now: datetime) -> list[Finding]:
    """Return the derived feeds, whoever owns them, whose legs have all gone on for long without a quote being derived.
    One statement where none is behind its legs, else two."""
    going = Q(legs__is_behind=False)
    rows = DerivedFeed.objects.annotate(
        lowest=Min("legs__leg__head__as_of", filter=going), interval=Max("legs__leg__interval_seconds", filter=going)
    )
    rows = rows.filter(Q(lowest__gt=F("feed__head__as_of")) | Q(lowest__isnull=False, feed__head__as_of=None))
    behind = {
        pk: timedelta(seconds=own + legs)
        for pk, own, legs in rows.values_list("pk", "feed__interval_seconds", "interval")
    }
    if not behind:
        return []
    clock = Coalesce(OuterRef("feed__feed__head__as_of"), EARLIEST)
    unread = FeedEntry.objects.filter(feed=OuterRef("leg"), seq__gt=OuterRef("seq"), as_of__gt=clock)
    unread = unread.filter(kind=FeedEntry.Kind.QUOTES).order_by("seq")
    cursors = LegCursor.objects.filter(feed__in=behind, is_behind=False).order_by()
    waiting = cursors.annotate(came=Subquery(unread.values("received_at")[:1])).values_list("feed", "came")
    since: dict[int, datetime] = {}
    for pk, came in waiting:
        # From when on all of them had gone on.
        if came is not None:
            since[pk] = max(came, since.get(pk, came))
    return [
        Finding(Subject.FEED, pk, Code.NOT_DERIVED, Level.STOPPED, since=at)
        for pk, at in since.items()
        if now - at > BEHIND_AFTER + behind[pk]
    ]


def stopped_legs(found: Iterable[Finding]) -> list[Finding]:
    """Return the derived feeds and assets, whoever owns them, of which a leg has stopped, also through other series: no
    statement where nothing has stopped."""
    stopped = [one for one in found if one.level == Level.STOPPED]
    feeds = LegCursor.objects.values_list("feed", "leg", "leg__name").order_by("feed", "leg__name")
    assets = SeriesLeg.objects.values_list("series", "asset", "asset__symbol").order_by("series", "asset__symbol")
    return [
        *_of_stopped_legs(Subject.FEED, stopped, of_legs=lambda ids: feeds.filter(leg__in=ids)),
        *_of_stopped_legs(Subject.ASSET, stopped, of_legs=lambda ids: assets.filter(asset__in=ids)),
    ]


def _of_stopped_legs(
    subject: Subject,
    stopped: Iterable[Finding],
    *,
    of_legs: Callable[[Collection[int]], Iterable[tuple[int, int, str]]],
) -> list[Finding]:
    """Return what is derived from those of this kind that have stopped. of_legs: ids of legs -> (derived, leg, the
    leg's name)."""
    reached = {one.subject_id for one in stopped if one.subject == subject}
    legs, found = reached, {}
    while legs:
        for pk, _, name in of_legs(legs):
            found.setdefault(pk, Finding(subject, pk, Code.LEG_STOPPED, Level.STOPPED, facts={"leg": name}))
        legs = found.keys() - reached
        reached = reached | legs
    return list(found.values())
