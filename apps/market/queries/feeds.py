"""How feeds are: their health and rhythm, the limits of their providers, what became of their quotes."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import pairwise, takewhile
from statistics import median
from typing import NamedTuple

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db import connection
from django.db.models import Count, F, OuterRef, Prefetch, Q, QuerySet, Subquery, Sum
from django.db.models.expressions import RawSQL
from django.db.models.functions import Now, TruncMinute

from apps.market.models import Asset, Backfill, Batch, Circuit, Feed, FeedSource
from apps.market.providers.failures import hint_on
from apps.market.providers.registry import PROVIDERS

RECENT_ENTRIES = 20
# By a step into the index for each feed: of a join with the heads, PostgreSQL would expect a third of every log.
_RECENT_ENTRIES = RawSQL(
    """
    SELECT recent.id FROM market_feedhead head, LATERAL (
        SELECT id FROM market_batch WHERE feed_id = head.feed_id AND seq > head.seq - %s ORDER BY seq DESC LIMIT %s
    ) recent""",
    [RECENT_ENTRIES, RECENT_ENTRIES],
)
HOURS_SHOWN = 24
# Failures of rounds in which nobody was called.
NOT_ASKED = ("circuit_open", "no_key", "no_provider", "misconfigured")
ADDRESS_LENGTH = 200
BACKFILL_GOES_ON = timedelta(hours=1)
# What is put off for longer than this is behind: ticks come each second, and a wake-up that is lost is sent again.
BEHIND = timedelta(seconds=30)


def with_recent_entries(feeds: QuerySet[Feed]) -> QuerySet[Feed]:
    """Return the feeds with head, judge's position, sources and `recent`, the quotes among their last entries, newest
    first: three statements, however many feeds there are and however long their logs."""
    recent = Batch.objects.filter(kind=Batch.Kind.QUOTES)
    if connection.vendor == "postgresql":
        recent = recent.filter(pk__in=_RECENT_ENTRIES)
    else:
        recent = recent.filter(seq__gt=F("feed__head__seq") - RECENT_ENTRIES)
    return feeds.select_related("head", "judged").prefetch_related(
        "sources", Prefetch("batches", queryset=recent.order_by("-seq"), to_attr="recent")
    )


def seconds_between_rounds(providers: Iterable[str], *, backfills_more: int = 0) -> int:
    """Return how far apart the rounds of a feed that asks these providers have to lie, so that all feeds together keep
    the limits of each: two statements, or none where none has limits.

    Nothing is counted while it runs, so nothing is forgotten by a restart: were every enabled feed that names the
    provider asked this often, and every backfill that was called within the last hour or is about to be, its limits
    would be used up and not passed. They are those of its public address. backfills_more: as if so many more went on.
    """
    limits = {slug: PROVIDERS[slug].limits for slug in providers if slug in PROVIDERS}
    limited = {slug: its for slug, its in limits.items() if its is not None}
    if not limited:
        return 0
    addresses = {slug: PROVIDERS[slug].validate_options({})["base_url"] for slug in limited}
    assets_of = Asset.objects.filter(feed=OuterRef("feed")).order_by().values("feed").annotate(count=Count("pk"))
    sources = FeedSource.objects.filter(provider__in=limited).annotate(assets=Subquery(assets_of.values("count")))
    facts = sources.order_by().values_list("provider", "feed", "feed__is_enabled", "options__base_url", "assets")
    calls: Counter[str] = Counter()
    elsewhere = set()
    for slug, feed_id, is_enabled, address, assets in facts:
        if address not in (None, addresses[slug]):
            elsewhere.add((slug, feed_id))
        elif is_enabled:
            calls[slug] += limited[slug].calls_for(assets or 0)
    going_on = Backfill.objects.filter(finished_at=None, next_call_at__gt=Now() - BACKFILL_GOES_ON)
    called = going_on.filter(provider__in=limited).order_by().values_list("provider", "asset__feed")
    # Only those at an address of their feed's own ask nothing of the public one.
    calls.update(slug for slug, feed_id in called if (slug, feed_id) not in elsewhere)
    calls.update({slug: backfills_more for slug in limited if backfills_more})
    return max((limited[slug].interval_seconds_for(count) for slug, count in calls.items()), default=0)


def circuits_of(sources: Iterable[FeedSource]) -> dict[tuple[str, str], Circuit]:
    """Return (provider, address) -> its circuit, for those of `sources` that have failed some time; one statement."""
    asked = Q()
    for source in sources:
        asked |= Q(provider=source.provider, address=address_of(source))
    return {(one.provider, one.address): one for one in Circuit.objects.filter(asked)} if asked else {}


def address_of(source: FeedSource) -> str:
    """Return the address that a source is asked at, "" where it is none."""
    address = source.options.get("base_url", "") if isinstance(source.options, dict) else ""
    return str(address)[:ADDRESS_LENGTH]


def narrowest_limit(provider: str) -> str:
    """Return in words which of a provider's limits holds its feeds back most."""
    limits = PROVIDERS[provider].limits
    if limits is None:
        return "no limits"
    paces = [(float(limits.shortest_interval_seconds), "asking faster gives nothing new")]
    if limits.calls_per_minute is not None:
        paces.append((60 / limits.calls_per_minute, f"{limits.calls_per_minute:.4g} calls a minute"))
    if limits.calls_per_day is not None:
        paces.append((86_400 / limits.calls_per_day, f"{limits.calls_per_day:.3g} calls a day"))
    return max(paces)[1]


def effective_interval_seconds(feed: Feed) -> float | None:
    """Return the median gap between the last answers of a feed that came with_recent_entries, by the wall clock."""
    answered = [entry.received_at for entry in feed.recent if not entry.failure]  # type: ignore[attr-defined]
    return median((later - earlier).total_seconds() for later, earlier in pairwise(answered)) if answered[1:] else None


class Health(NamedTuple):
    """How a feed is, in one word and in a sentence."""

    state: str
    words: str


def health_of(feed: Feed, *, now: datetime) -> Health:
    """Return how a feed is that came with_recent_entries: paused, new, failing, finished, behind or fresh."""
    recent: list[Batch] = feed.recent  # type: ignore[attr-defined]
    due = feed.head.next_slot
    pending = feed.judged.seq < feed.head.seq
    if not feed.is_enabled:
        return Health("paused", "Nothing is fetched until it is resumed.")
    if feed.head.failures and recent:
        row = list(takewhile(lambda entry: entry.failure, recent))
        since = f"{'before ' if len(row) < feed.head.failures else ''}{_written(row[-1].received_at if row else due)}"
        times = "" if feed.head.failures == 1 else f", {feed.head.failures} times in a row"
        reason = row[0].failure if row else "unknown"
        asked = [PROVIDERS[one.provider] for one in feed.sources.all() if one.provider in PROVIDERS]
        hint = hint_on(reason, key_variables=[one.key_variable for one in asked])
        means = f": {hint}" if hint else ""
        return Health("failing", f"{reason} since {since}{times}{means}. Asked again at {_written(due)}.")
    if _is_over(feed, recent):
        return Health("finished", f"The recording ended at {_written(recent[0].as_of)}.")
    interval = timedelta(seconds=feed.interval_seconds)
    if due > now + interval + BEHIND:
        return Health("behind", f"Due at {_written(due)}, ahead of the clock. Was this machine's clock set back?")
    if now - due > max(interval, BEHIND):
        return Health("behind", f"Due since {_written(due)}, and nobody has fetched it. Does a watcher run?")
    if pending and recent and any(one.evaluated_at is None and now - one.received_at > BEHIND for one in recent):
        return Health(
            "behind", f"Entries that wait for the judge: {feed.head.seq - feed.judged.seq}. Does an analyzer run?"
        )
    if feed.head.began_at is None:
        return Health("new", "Never fetched. It is due now." if due <= now else f"Due at {_written(due)}.")
    return Health("fresh", f"Last answer at {_written(recent[0].received_at)}." if recent else "")


def _is_over(feed: Feed, recent: Sequence[Batch]) -> bool:
    """Tell whether a recording has ended: the answers are empty and its clock stands. A live market only rests."""
    last = recent[:3]
    if len(last) < 3 or any(PROVIDERS[one.provider].is_live for one in feed.sources.all() if one.provider in PROVIDERS):
        return False
    return all(not (one.accepted or one.late or one.rejected) and one.as_of == last[0].as_of for one in last)


def _written(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}"


def feeds_seen_by(user: AbstractBaseUser | AnonymousUser) -> QuerySet[Feed]:
    """Return the feeds with head and judge's position for those who may look at feeds in the admin, none for others."""
    is_operator = user.is_active and getattr(user, "is_staff", False) and user.has_perm("market.view_feed")
    rows = Feed.objects.select_related("head", "judged")
    return rows if is_operator else rows.none()


class QuoteCounts(NamedTuple):
    """What became of the quotes of a while; `rejected` counts those of every reason."""

    accepted: int
    late: int
    rejected: int


def quote_counts(feed_ids: Iterable[int], *, since: datetime) -> dict[int, QuoteCounts]:
    """Return feed id -> what became of the quotes that came from `since` on, without history; two statements."""
    entries = Batch.objects.filter(feed__in=list(feed_ids), kind=Batch.Kind.QUOTES, received_at__gte=since).order_by()
    rejected: dict[int, int] = {}
    for feed_id, reasons in entries.exclude(rejected={}).values_list("feed_id", "rejected").iterator():
        rejected[feed_id] = rejected.get(feed_id, 0) + sum(reasons.values())
    rows = entries.values_list("feed_id").annotate(Sum("accepted"), Sum("late"))
    return {feed_id: QuoteCounts(accepted, late, rejected.get(feed_id, 0)) for feed_id, accepted, late in rows}


def hourly_counts(feed_id: int, *, now: datetime) -> dict[str, list[int]]:
    """Return what became of a feed's quotes in the last HOURS_SHOWN hours: name -> count per hour, the newest last.

    Names are accepted, late, repeated and held, which are always there, and the reasons of what was rejected. Two
    statements.
    """
    begin = now - timedelta(hours=HOURS_SHOWN)
    entries = Batch.objects.filter(feed=feed_id, kind=Batch.Kind.QUOTES, received_at__gt=begin, received_at__lte=now)
    counts: dict[str, list[int]] = {name: [0] * HOURS_SHOWN for name in ("accepted", "late", "repeated", "held")}

    def count(name: str, at: datetime, quotes: int) -> None:
        hour = max(HOURS_SHOWN - 1 - (now - at) // timedelta(hours=1), 0)
        counts.setdefault(name, [0] * HOURS_SHOWN)[hour] += quotes

    # By the minute, so that little leaves the database and the hours end now.
    minutes = entries.annotate(minute=TruncMinute("received_at")).order_by().values("minute")
    sums = minutes.annotate(*(Sum(name) for name in tuple(counts)))
    for row in sums:
        for name in ("accepted", "late", "repeated", "held"):
            count(name, row["minute"], row[f"{name}__sum"])
    rejections = entries.exclude(rejected={}).order_by().values_list("received_at", "rejected")
    for at, reasons in rejections.iterator():
        for reason, quotes in reasons.items():
            count(reason, at, quotes)
    return counts


class Budget(NamedTuple):
    """Calls that a provider allows in a day, and about how many of them the last 24 hours have left."""

    allowed: int
    left: int


def budget_of(provider: str, *, now: datetime) -> Budget | None:
    """Return what is left of a provider's calls of a day at its public address, by the logs of all feeds that name it;
    None where it has no such limit. Three statements.

    About: a round that failed counts for the first source of its feed, and what another machine asks is not known.
    """
    limits = PROVIDERS[provider].limits if provider in PROVIDERS else None
    if limits is None or limits.calls_per_day is None:
        return None
    since = now - timedelta(days=1)
    address = PROVIDERS[provider].validate_options({})["base_url"]
    sources = FeedSource.objects.filter(provider=provider).filter(
        Q(options__base_url=address) | Q(options__base_url__isnull=True)
    )
    calls = {
        feed_id: (limits.calls_for(assets), position)
        for feed_id, position, assets in sources.annotate(assets=Count("feed__assets")).values_list(
            "feed_id", "position", "assets"
        )
    }
    rounds = Batch.objects.filter(feed__in=calls, slot__isnull=False, received_at__gte=since).order_by()
    answered = rounds.filter(provider=provider).values_list("feed_id").annotate(Count("pk"))
    failed = rounds.exclude(failure="").exclude(failure__in=NOT_ASKED).values_list("feed_id").annotate(Count("pk"))
    used = sum(calls[feed_id][0] * count for feed_id, count in answered)
    used += sum(calls[feed_id][0] * count for feed_id, count in failed if calls[feed_id][1] == 1)
    used += Backfill.objects.filter(provider=provider, created_at__gte=since).aggregate(Sum("calls"))["calls__sum"] or 0
    allowed = int(limits.calls_per_day)
    return Budget(allowed, max(allowed - used, 0))


def last_success_at(feed: Feed) -> datetime | None:
    """Return when a feed that came with_recent_entries was answered last."""
    answered = next((one for one in feed.recent if not one.failure), None)  # type: ignore[attr-defined]
    if answered is None:
        answers = Batch.objects.filter(feed=feed, kind=Batch.Kind.QUOTES, failure="").order_by("-seq")
        answered = answers.first()
    return None if answered is None else answered.received_at


def pace_seconds(feed: Feed) -> float:
    """Return how far the last answers of a feed that came with_recent_entries lie apart by the feed's own clock, in
    which windows are measured: for a film at 60 times its speed that is 60 times the effective interval.

    The interval asked for, where the clock has not moved lately.
    """
    answered = [entry.as_of for entry in feed.recent if not entry.failure]  # type: ignore[attr-defined]
    gaps = [gap for later, earlier in pairwise(answered) if (gap := (later - earlier).total_seconds()) > 0]
    return median(gaps) if gaps else float(feed.interval_seconds)
