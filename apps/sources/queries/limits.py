"""Providers' limits and circuit breakers: how often a feed may be fetched, and which provider is left alone."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db.models import Count, OuterRef, Q, Subquery, Sum
from django.db.models.functions import Now

from apps.market.models import Asset, Feed, FeedEntry
from apps.sources.models import Backfill, Circuit, FeedSource
from apps.sources.providers.registry import PROVIDERS

# Failures of rounds in which nobody was called.
_BAN = ("provider", "address", "open_until")
NOT_ASKED = ("circuit_open", "no_key", "no_provider", "misconfigured")


ADDRESS_LENGTH = 200


BACKFILL_GOES_ON = timedelta(hours=1)


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


def seconds_after_extra_calls(source: FeedSource, *, calls: int) -> int:
    """Return how much longer a feed waits for its next round after so many calls beyond those of a round: 0 at an
    address of its own, where no limit holds."""
    provider = PROVIDERS.get(source.provider)
    if not calls or provider is None or provider.limits is None:
        return 0
    is_public = address_of(source) in ("", provider.validate_options({})["base_url"])
    return provider.limits.seconds_for(calls) if is_public else 0


def circuits_of(sources: Iterable[FeedSource]) -> dict[tuple[str, str], Circuit]:
    """Return (provider, address) -> its circuit, for those of `sources` that have failed some time; one statement, or
    none where no source is live: others have no circuit."""
    asked = Q()
    for source in sources:
        if source.provider in PROVIDERS and PROVIDERS[source.provider].is_live:
            asked |= Q(provider=source.provider, address=address_of(source))
    return {(one.provider, one.address): one for one in Circuit.objects.filter(asked)} if asked else {}


# A failure is dated when the call ended, which may be as long after another worker's beginning.
SET_BACK_BY = timedelta(minutes=1)


def left_alone(feed: Feed, *, now: datetime) -> list[Circuit]:
    """Return the open circuits of a feed's sources, in the order of the sources."""
    sources = list(feed.sources.all())
    circuits = circuits_of(sources)
    found = [circuits.get((source.provider, address_of(source))) for source in sources]
    return [one for one in found if one is not None and is_open(one, now=now)]


def is_open(circuit: Circuit, *, now: datetime) -> bool:
    """Tell whether a provider is left alone now. It is not where that was decided before the clock was set back."""
    if circuit.failed_at is not None and circuit.failed_at > now + SET_BACK_BY:
        return False
    return circuit.open_until is not None and circuit.open_until > now


def is_all_left_alone(feed: Feed, circuits: Sequence[Circuit]) -> bool:
    """Tell whether these open circuits are those of all sources of a feed, so that nobody would be asked."""
    return bool(circuits) and len(circuits) == len(feed.sources.all())


def bans(*, now: datetime) -> dict[tuple[str, str], datetime]:
    """Return (provider, address) -> until when it takes no calls, for those that have said so; one statement."""
    rows = Circuit.objects.filter(reason="rate_limited", open_until__gt=now)
    return {(provider, address): until for provider, address, until in rows.values_list(*_BAN)}


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
    rounds = FeedEntry.objects.filter(feed__in=calls, slot__isnull=False, received_at__gte=since).order_by()
    answered = rounds.filter(provider=provider).values_list("feed_id").annotate(Count("pk"))
    failed = rounds.exclude(failure="").exclude(failure__in=NOT_ASKED).values_list("feed_id").annotate(Count("pk"))
    used = sum(calls[feed_id][0] * count for feed_id, count in answered)
    used += sum(calls[feed_id][0] * count for feed_id, count in failed if calls[feed_id][1] == 1)
    used += Backfill.objects.filter(provider=provider, created_at__gte=since).aggregate(Sum("calls"))["calls__sum"] or 0
    allowed = int(limits.calls_per_day)
    return Budget(allowed, max(allowed - used, 0))
