"""What is dropped when it is older than it is kept for, and what is made ahead."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

from django.conf import settings
from django.db.models import Exists, OuterRef
from django.db.models.functions import TruncDate

from apps.market import partitions
from apps.market.models import (
    Candle,
    FeedEntry,
    FeedHead,
    ProviderSwitch,
    RollupCursor,
    Split,
    SupersededQuote,
)
from apps.market.queries import every_asset, every_feed
from apps.market.services.log import retention

DAY = timedelta(days=1)
DAYS_AHEAD = 2
# Pieces of one import, or pages of one provider, share minutes and hours: so long they wait for each other.
HISTORY_GRACE = timedelta(days=1)
PAST = (FeedEntry.Kind.HISTORY, FeedEntry.Kind.CORRECTION)
PRUNED_AT_ONCE = 5_000
ASSETS_AT_ONCE = 500


def prune_quotes(*, now: datetime, dry_run: bool = False) -> dict[date, int]:
    """Drop the days of raw quotes that every feed has left behind for longer than they are kept, by its own clock, and
    that are rolled up, and what corrections took out of them. Return the days with the number of their quotes; dry_run:
    nothing is dropped.

    LatestQuote keeps the newest price of each asset.
    """
    is_over = _left_behind(for_longer_than=retention())
    over = _days_over(is_over, now=now)
    counts = partitions.count_by_day(over)
    if not dry_run:
        partitions.drop(over)
        kept_days = set(partitions.days())
        superseded = SupersededQuote.objects.order_by().values_list(TruncDate("at", tzinfo=UTC), flat=True).distinct()
        for day in [day for day in superseded if is_over(day) and day not in kept_days]:
            SupersededQuote.objects.filter(at__gte=_midnight(day), at__lt=_midnight(day + DAY)).delete()
    return counts


def tables_of_old_quotes(*, older_than: timedelta, now: datetime) -> list[str]:
    """Return the tables of PostgreSQL that hold only quotes of days that every feed has left behind for longer than
    that, by its own clock, and that are rolled up: a backup can do without their rows."""
    return partitions.tables(_days_over(_left_behind(for_longer_than=older_than), now=now))


def _left_behind(*, for_longer_than: timedelta) -> Callable[[date], bool]:
    """Return what says of a day whether every feed has left it behind for longer than that, by its own clock."""
    clocks = [as_of for as_of in FeedHead.objects.values_list("as_of", flat=True) if as_of is not None]

    def is_over(day: date) -> bool:
        # A feed whose clock is before that day (a replayed recording beside a live market) has no quotes in it. One at
        # least has passed it: a day that nobody has reached yet was made for quotes that are about to be stored.
        passed = [clock.date() - for_longer_than > day for clock in clocks]
        return any(passed) and all(is_past or clock.date() < day for clock, is_past in zip(clocks, passed, strict=True))

    return is_over


def _days_over(is_over: Callable[[date], bool], *, now: datetime) -> list[date]:
    """Return the days that are over and that nothing is still to be made of, of a month only all."""
    over = [day for day in partitions.days() if is_over(day)]
    wanted = _days_wanted(now=now) if over else []
    return partitions.droppable([day for day in over if not any(first <= day <= last for first, last in wanted)])


def _days_wanted(*, now: datetime) -> list[tuple[date, date]]:
    """Return the spans of days whose quotes are still to be rolled up, or to be joined by others that follow."""
    cursors = dict(RollupCursor.objects.values_list("feed_id", "seq"))
    quoted = FeedEntry.objects.filter(accepted__gt=0).order_by()
    found = []
    # Feed by feed, by its indexes: over all feeds together every log would be read.
    for feed_id in every_feed().values_list("pk", flat=True):
        log = quoted.filter(feed=feed_id)
        found.append(log.filter(seq__gt=cursors.get(feed_id, 0)))
        found.append(log.filter(kind__in=PAST, received_at__gte=now - HISTORY_GRACE))
    ends = {"first": TruncDate("first_at", tzinfo=UTC), "last": TruncDate("last_at", tzinfo=UTC)}
    return sorted({span for rows in found for span in rows.values_list(*ends.values()).distinct()})


def prune_minute_candles(*, dry_run: bool = False) -> int:
    """Drop the minute candles that are older than they are kept for, by their feed's clock, and return how many; hours
    and days stay. dry_run: nothing is dropped.

    By whole days, so that an hour is made of all of its minutes or of none; and not those of a day whose quotes are
    kept: an import may add to it. The minutes of an asset on the day of its split stay: its hours and days have prices
    from before and after it.
    """
    dropped = 0
    days_kept = partitions.days()
    for feed_id, as_of in FeedHead.objects.exclude(as_of=None).values_list("feed_id", "as_of"):
        before = _midnight(as_of.date() - timedelta(days=settings.MINUTE_CANDLE_RETENTION_DAYS))
        # What lies between the kept days.
        edges = [_midnight(date.min + DAY), *(_midnight(day) for day in days_kept), before]
        for begin, end in pairwise(edges):
            since = begin if begin == edges[0] else begin + DAY
            until = min(end, before)
            if since < until:
                dropped += _prune_minutes(feed_id, since=since, until=until, dry_run=dry_run)
    return dropped


def _prune_minutes(feed_id: int, *, since: datetime, until: datetime, dry_run: bool) -> int:
    rows = Candle.objects.filter(resolution=Candle.Resolution.MINUTE, at__gte=since, at__lt=until).order_by()
    for asset_id, effective_at in Split.objects.filter(asset__feed=feed_id).values_list("asset_id", "effective_at"):
        day = _midnight(effective_at.date())
        rows = rows.exclude(asset=asset_id, at__gte=day, at__lt=day + DAY)
    asset_ids = list(every_asset().filter(feed=feed_id).order_by("pk").values_list("pk", flat=True))
    dropped = 0
    # A step into the primary key for each asset; in parts, each well within the statement's time limit.
    for begin in range(0, len(asset_ids), ASSETS_AT_ONCE):
        some = rows.filter(asset__in=asset_ids[begin : begin + ASSETS_AT_ONCE])
        if dry_run:
            dropped += some.count()
            continue
        while pks := list(some.values_list("pk", flat=True)[:PRUNED_AT_ONCE]):
            dropped += Candle.objects.filter(pk__in=pks).delete()[0]
    return dropped


def prune_switches(*, dry_run: bool = False) -> int:
    """Drop the changes of provider from before what is kept of quotes, by their feed's clock, and return how many. The
    last one from each provider of an asset stays: its factor may be in force, or come back. dry_run: nothing is
    dropped."""
    dropped = 0
    for feed_id, as_of in FeedHead.objects.exclude(as_of=None).values_list("feed_id", "as_of"):
        old = ProviderSwitch.objects.filter(at__lt=as_of - retention())
        later = old.filter(asset=OuterRef("asset"), before=OuterRef("before"), at__gt=OuterRef("at"))
        over = old.filter(Exists(later), asset__feed=feed_id).order_by("pk")
        if dry_run:
            dropped += over.count()
            continue
        while pks := list(over.values_list("pk", flat=True)[:PRUNED_AT_ONCE]):
            dropped += ProviderSwitch.objects.filter(pk__in=pks).delete()[0]
    return dropped


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def make_days_ahead(*, now: datetime) -> list[date]:
    """Create the partitions of today and the next days by our clock and the one of each live feed, and return the days:
    then no first quote of a day waits for them."""
    live = FeedHead.objects.filter(feed__is_enabled=True, feed__is_live=True, as_of__isnull=False)
    clocks = [now, *live.values_list("as_of", flat=True)]
    days = sorted({clock.date() + ahead * DAY for clock in clocks for ahead in range(DAYS_AHEAD + 1)})
    partitions.ensure(days)
    return days
