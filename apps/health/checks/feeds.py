"""Checks of feeds and their assets."""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db.models import Count, DateTimeField, DurationField, Exists, Func, Min, OuterRef, Q, Subquery, Value

from apps.canary import is_not_canary
from apps.health.checks.derived import not_derived, stopped_legs
from apps.health.domain import BEHIND_AFTER, SILENT_AT_LEAST, Code, Finding, Level, Subject, silent_after
from apps.market import calendars
from apps.market.domain import epoch_microseconds
from apps.market.models import Asset, Feed, FeedEntry
from apps.notation import read_duration
from apps.sources import queries as sources
from apps.sources.models import FeedSource, RefusedListing, SenderClock
from apps.sources.providers.failures import hint_on
from apps.sources.providers.registry import PROVIDERS

PUSH = "push"
AHEAD_LATELY = timedelta(hours=1)
AHEAD_LEAST_SECONDS = 5
# Where a provider names only the day, a weekend and holidays lie between two prices.
BETWEEN_DAILY_PRICES = timedelta(days=5)


class _Feed(NamedTuple):
    """One enabled feed as it is checked. sources: (provider, options), in their order."""

    pk: int
    is_live: bool
    interval: timedelta
    next_slot: datetime
    failures: int
    began_at: datetime | None
    created_at: datetime
    silent_after_seconds: int | None
    assets: int
    sources: Sequence[tuple[str, Mapping[str, Any]]]

    @property
    def providers(self) -> tuple[str, ...]:
        """Return its known providers, in the order of its sources."""
        return tuple(slug for slug, _ in self.sources if slug in PROVIDERS)

    def patience(self, between: timedelta) -> timedelta:
        """Return after how long it is silent whose prices come that far apart: as is set, or by default."""
        if self.silent_after_seconds is not None:
            return timedelta(seconds=self.silent_after_seconds)
        return silent_after(between)

    def banned(self, bans: Mapping[tuple[str, str], datetime]) -> list[tuple[datetime, str]]:
        """Return (until when, provider) of those of its sources that take no calls."""
        asked = [FeedSource(provider=slug, options=options) for slug, options in self.sources]
        keys = [(source.provider, sources.address_of(source)) for source in asked]
        return [(bans[key], key[0]) for key in keys if key in bans]


class _Seconds(Func):
    """A column of whole seconds as a duration."""

    template = "make_interval(secs => %(expressions)s)"
    output_field = DurationField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="(%(expressions)s * 1000000)", **context)


class _Paces:
    """How far apart the prices of feeds come by the limits of their providers, which are read once for each set."""

    def __init__(self) -> None:
        self._rounds: dict[tuple[str, ...], timedelta] = {}

    def between_rounds(self, feed: _Feed) -> timedelta:
        """Return how far apart the rounds of a feed lie."""
        if feed.providers not in self._rounds:
            self._rounds[feed.providers] = timedelta(seconds=sources.seconds_between_rounds(feed.providers))
        return max(feed.interval, self._rounds[feed.providers])

    def between_prices(self, feed: _Feed) -> timedelta:
        """Return how far apart the prices of one asset come, where not every round asks for each."""
        limits = [limits for slug in feed.providers if (limits := PROVIDERS[slug].limits) is not None]
        return self.between_rounds(feed) * max([one.turns_until_again(feed.assets) for one in limits], default=1)


def feed_findings(*, now: datetime) -> list[Finding]:
    """Return the problems of feeds and assets, in the same few statements for any number of them, and one for each
    feed that fails. Only those are read of which something may be wrong."""
    bans = sources.bans(now=now)
    rows = _unusual(bans, now=now)
    found = [Finding(Subject.FEED, pk, Code.PAUSED, Level.STOPPED) for pk, is_enabled, _ in rows if not is_enabled]
    shortest = min([SILENT_AT_LEAST.seconds, *(seconds for _, _, seconds in rows if seconds is not None)])
    quiet, paces = _quiet_assets(now=now, patience=timedelta(seconds=shortest)), _Paces()
    feeds = _feeds({pk for pk, *_ in rows} | {feed_id for _, feed_id, *_ in quiet})
    failing = _failing([feed for feed in feeds if feed.failures], bans, paces=paces, now=now)
    waiting = _waiting(before=now - BEHIND_AFTER)
    fetched = []
    for feed in feeds:
        setup = _settings_wrong(feed)
        if setup is not None:
            found.append(setup)
            if setup.level == Level.STOPPED:
                continue
        wrong = failing.get(feed.pk) or _schedule_wrong(feed, paces=paces, now=now)
        banned = feed.banned(bans)
        if wrong is not None:
            found.append(wrong)
        elif banned:
            # Another source gives the prices, or it was not asked since.
            found.append(_banned(feed, banned, level=Level.DEGRADED))
        if wrong is None and feed.is_live and feed.began_at is not None:
            fetched.append(feed)
    unfed = Asset.objects.filter(feed=None).order_by().values_list("pk", flat=True)
    found += [Finding(Subject.ASSET, pk, Code.NO_FEED, Level.STOPPED) for pk in unfed]
    for pk, since in waiting.items():
        found.append(Finding(Subject.FEED, pk, Code.NOT_EVALUATED, Level.STOPPED, since=since))
    found += _senders_ahead(now=now)
    found += _pushed_too_seldom(fetched, now=now) + _assets_wrong(quiet, fetched, paces=paces, now=now)
    found += not_derived(now=now)
    return found + stopped_legs(found)


def _unusual(bans: Iterable[tuple[str, str]], *, now: datetime) -> list[tuple[int, bool, int | None]]:
    """Return (id, whether it is enabled, after how many seconds it is silent, if that is set) of the feeds that are
    paused, are silent sooner than others, or are set up or scheduled such that something may be wrong."""
    latest = Value(now + BEHIND_AFTER, output_field=DateTimeField()) + _Seconds("interval_seconds")
    behind = Q(head__next_slot__lt=now - BEHIND_AFTER) | Q(head__next_slot__gt=latest) | Q(head__failures__gt=0)
    its_sources = FeedSource.objects.filter(feed=OuterRef("pk"))
    bare = ~Exists(its_sources) | ~Exists(Asset.objects.filter(feed=OuterRef("pk")))
    # Of these providers, more than the schedule says whether something is wrong.
    unsure = [PUSH, *(slug for slug in PROVIDERS if not _has_key(slug)), *(slug for slug, _ in bans)]
    set_otherwise = Q(is_enabled=False) | Q(silent_after_seconds__lt=SILENT_AT_LEAST.seconds)
    # Nobody fetches derived feeds: their legs are checked.
    feeds = Feed.objects.filter(derived=None).filter(
        set_otherwise | behind | bare | Exists(its_sources.filter(provider__in=unsure))
    )
    return list(feeds.order_by().values_list("pk", "is_enabled", "silent_after_seconds"))


def _feeds(ids: Collection[int]) -> list[_Feed]:
    """Return those of the feeds that are enabled."""
    if not ids:
        return []
    its_sources: dict[int, list[tuple[str, Mapping[str, Any]]]] = {}
    rows = FeedSource.objects.filter(feed__in=ids).order_by("feed", "position")
    rows = rows.values_list("feed", "provider", "options")
    for feed_id, provider, options in rows:
        its_sources.setdefault(feed_id, []).append((provider, options))
    feeds = Feed.objects.filter(pk__in=ids, is_enabled=True, derived=None).order_by("pk")
    feeds = feeds.annotate(count=Count("assets"))
    columns = ("head__next_slot", "head__failures", "head__began_at", "created_at", "silent_after_seconds", "count")
    return [
        _Feed(pk, is_live, timedelta(seconds=seconds), *rest, sources=its_sources.get(pk, ()))
        for pk, is_live, seconds, *rest in feeds.values_list("pk", "is_live", "interval_seconds", *columns)
    ]


def _settings_wrong(feed: _Feed) -> Finding | None:
    """Return why nothing can come of a feed as it is set up."""
    if not feed.sources:
        return Finding(Subject.FEED, feed.pk, Code.NO_SOURCE, Level.STOPPED)
    if not feed.assets:
        return Finding(Subject.FEED, feed.pk, Code.NO_FEED_ASSET, Level.STOPPED)
    missing = [slug for slug in feed.providers if not _has_key(slug)]
    if not missing:
        return None
    # Another source may give the prices; then the feed works, and only the order of its sources is not kept.
    level = Level.STOPPED if len(missing) == len(feed.sources) else Level.DEGRADED
    facts = {"provider": missing[0], "variable": PROVIDERS[missing[0]].key_variable}
    return Finding(Subject.FEED, feed.pk, Code.NO_KEY, level, facts=facts)


def _has_key(slug: str) -> bool:
    provider = PROVIDERS[slug]
    return not provider.needs_key or bool(os.environ.get(provider.key_variable or "", "").strip())


def _banned(feed: _Feed, banned: Sequence[tuple[datetime, str]], *, level: Level, **more: Any) -> Finding:
    """Return that providers of a feed take no calls, by the one that does so again first."""
    until, provider = min(banned)
    facts = {"provider": provider, "until": until.isoformat()}
    return Finding(Subject.FEED, feed.pk, Code.BANNED, level, facts=facts, **more)


def _failing(
    feeds: Sequence[_Feed], bans: Mapping[tuple[str, str], datetime], *, paces: _Paces, now: datetime
) -> dict[int, Finding]:
    """Return feed id -> that its providers do not answer. It has stopped once that lasts long for its interval."""
    if not feeds:
        return {}
    last = FeedEntry.objects.filter(feed=OuterRef("pk"), kind=FeedEntry.Kind.QUOTES).order_by("-seq")
    rows = Feed.objects.filter(pk__in=[feed.pk for feed in feeds]).annotate(
        reason=Subquery(last.values("failure")[:1]),
        answered=Subquery(last.filter(failure="").values("received_at")[:1]),
    )
    facts_of = {pk: (reason, answered) for pk, reason, answered in rows.values_list("pk", "reason", "answered")}
    found = {}
    for feed in feeds:
        reason, answered = facts_of.get(feed.pk, ("", None))
        since = answered or feed.created_at
        patience = feed.patience(paces.between_rounds(feed))
        is_over = now - since > patience
        keys = [PROVIDERS[slug].key_variable for slug in feed.providers]
        facts = {"reason": reason or "unknown", "hint": hint_on(reason or "", key_variables=keys)}
        level = Level.STOPPED if is_over else Level.DEGRADED
        banned = feed.banned(bans)
        if banned and len(banned) == len(feed.sources):
            found[feed.pk] = _banned(feed, banned, level=level, since=since, patience=patience)
            continue
        found[feed.pk] = Finding(
            *(Subject.FEED, feed.pk, Code.FAILING, level), since=since, facts=facts, patience=patience
        )
    return found


def _schedule_wrong(feed: _Feed, *, paces: _Paces, now: datetime) -> Finding | None:
    """Return whether nobody fetches a feed when it is due."""
    ahead = feed.next_slot - now
    # Calls that look for a refused name put the next round off for a while.
    if ahead > BEHIND_AFTER + feed.interval and ahead > BEHIND_AFTER + 3 * paces.between_rounds(feed):
        facts = {"due": feed.next_slot.isoformat()}
        return Finding(Subject.FEED, feed.pk, Code.DUE_TOO_LATE, Level.STOPPED, facts=facts)
    if now - feed.next_slot > max(feed.interval, BEHIND_AFTER):
        return Finding(Subject.FEED, feed.pk, Code.NOT_FETCHED, Level.STOPPED, since=feed.next_slot)
    return None


def _waiting(*, before: datetime) -> dict[int, datetime]:
    """Return feed id -> when its oldest entry came that has waited to be evaluated since before `before`."""
    late = FeedEntry.objects.filter(is_not_canary("feed"), evaluated_at=None, received_at__lt=before).order_by()
    return dict(late.values_list("feed").annotate(Min("received_at")))


def _pushed_too_seldom(feeds: Sequence[_Feed], *, now: datetime) -> list[Finding]:
    """Return the feeds that expect a push more often than one comes."""
    expected = {
        feed.pk: timedelta(microseconds=read_duration(options["expect_every"]))
        for feed in feeds
        for slug, options in feed.sources
        if slug == PUSH and "expect_every" in options
    }
    if not expected:
        return []
    pushed = FeedEntry.objects.filter(feed=OuterRef("pk"), kind=FeedEntry.Kind.QUOTES, slot=None).order_by("-seq")
    rows = Feed.objects.filter(pk__in=expected).annotate(pushed=Subquery(pushed.values("received_at")[:1]))
    found = []
    for pk, created_at, pushed_at in rows.values_list("pk", "created_at", "pushed"):
        since = pushed_at or created_at
        if now - since > expected[pk]:
            facts = {"expect_every": int(expected[pk].total_seconds())}
            found.append(
                Finding(
                    *(Subject.FEED, pk, Code.NOTHING_PUSHED, Level.STOPPED),
                    since=since,
                    facts=facts,
                    patience=max(expected[pk], SILENT_AT_LEAST),
                )
            )
    return found


def _senders_ahead(*, now: datetime) -> list[Finding]:
    """Return the feeds into which a sender pushes whose clock was ahead lately, each with the one that is most."""
    lately = now - AHEAD_LATELY
    clocks = SenderClock.objects.filter(Q(ahead_at__gt=lately) | Q(refused_at__gt=lately), feed__is_enabled=True)
    found: dict[int, tuple[int, bool]] = {}
    columns = ("feed", "skew_seconds", "refused_seconds", "refused_at")
    for feed_id, skew, refused, refused_at in clocks.order_by("feed").values_list(*columns):
        is_refused = refused is not None and refused_at > lately
        seconds = refused if is_refused else skew
        if seconds >= AHEAD_LEAST_SECONDS:
            found[feed_id] = max(found.get(feed_id, (0, False)), (seconds, is_refused))
    return [
        Finding(
            *(Subject.FEED, pk, Code.SENDER_AHEAD, Level.DEGRADED),
            facts={"seconds": seconds, "is_refused": is_refused},
        )
        for pk, (seconds, is_refused) in found.items()
    ]


def _quiet_assets(*, now: datetime, patience: timedelta) -> list[tuple[int, int, str, str, datetime | None]]:
    """Return (id, feed id, currency, calendar, time of its newest price) of the assets of live feeds whose price is so
    old that some feed would be silent."""
    # While an exchange is closed, all of its assets are that old by the clock, and none by its open hours.
    used = Asset.objects.exclude(calendar="").order_by().values_list("calendar", flat=True).distinct()
    hours = [code for code in used if code in calendars.CALENDARS]
    old = Q(latest=None) | Q(latest__at__lt=now - patience) & ~Q(calendar__in=hours)
    for code in hours:
        old |= Q(calendar=code, latest__at__lt=calendars.open_since(code, now, patience))
    rows = Asset.objects.filter(old, feed__is_enabled=True, feed__is_live=True).order_by()
    return list(rows.values_list("pk", "feed", "currency", "calendar", "latest__at"))


def _assets_wrong(
    quiet: Sequence[tuple[int, int, str, str, datetime | None]],
    feeds: Sequence[_Feed],
    *,
    paces: _Paces,
    now: datetime,
) -> list[Finding]:
    """Return the assets without a price although their feed is answered. Pushed prices come when they come."""
    asked = {feed.pk: feed for feed in feeds if PUSH not in feed.providers}
    silent = {}
    for pk, feed_id, currency, calendar, at in quiet:
        feed = asked.get(feed_id)
        if feed is None:
            continue
        between = paces.between_prices(feed)
        patience = feed.patience(between)
        if _is_silent(feed, at=at, calendar=calendar, between=between, patience=patience, now=now):
            silent[pk] = (feed_id, currency, at, patience)
    if not silent:
        return []
    refused = {row.asset_id: row for row in RefusedListing.objects.filter(asset__in=silent).order_by("-provider")}
    left_out = _left_out({feed_id for feed_id, *_ in silent.values()})
    found = []
    for pk, (_, currency, at, patience) in silent.items():
        code, since, facts = Code.SILENT if at is not None else Code.NO_PRICE, at, {}
        if pk in refused:
            row = refused[pk]
            code, since = Code.REFUSED, row.since
            facts = {"provider": row.provider, "name": row.external_id, "reason": row.reason}
        elif pk in left_out:
            code, facts = Code.NO_LISTING, {"currency": currency or left_out[pk]}
        found.append(Finding(Subject.ASSET, pk, code, Level.STOPPED, since=since, facts=facts, patience=patience))
    return found


def _is_silent(
    feed: _Feed, *, at: datetime | None, calendar: str, between: timedelta, patience: timedelta, now: datetime
) -> bool:
    """Tell whether an asset has had no price for longer than that, in the open hours of its calendar.

    between: how far apart its prices come. The first after an opening may come as late as that, a minute at least,
    however long before the close the last one came.
    """
    since = at or feed.began_at
    if since is None:
        return False
    if any(PROVIDERS[slug].names_days for slug in feed.providers):
        least = BETWEEN_DAILY_PRICES if feed.silent_after_seconds is None else timedelta(0)
        return now - since > max(patience, least)
    if now - since <= patience or calendar not in calendars.CALENDARS:
        return now - since > patience
    opened = calendars.last_open(calendar, now)
    has_just_opened = opened is not None and since < opened and now - opened <= max(between, SILENT_AT_LEAST)
    until = opened if has_just_opened and opened is not None else now
    quiet_for = calendars.open_between(calendar, epoch_microseconds(since), epoch_microseconds(until))
    return timedelta(microseconds=quiet_for) > patience


def _left_out(feed_ids: Collection[int]) -> dict[int, str]:
    """Return asset id -> the currency of the only name that its feed has for it, where that is another than its own."""
    found = {}
    for feed in Feed.objects.filter(pk__in=feed_ids).prefetch_related("sources"):
        found.update({asset_id: currency for _, _, asset_id, currency in sources.left_out_of(feed)})
    return found
