"""The past of one asset, asked of a provider page by page, under a fenced lease and within the provider's limits."""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

from django.db import transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from apps.leases import IS_FREE, IS_LEASED
from apps.locales import STANDARD, Reader
from apps.market.domain import EARLIEST, Admission
from apps.market.models import Asset, Feed
from apps.sources import queries
from apps.sources.models import Backfill, FeedSource
from apps.sources.providers.protocol import (
    HistoryLimits,
    HistoryPage,
    HistoryRequest,
    Provider,
    ProviderMisconfigured,
    ProviderRejected,
    ProviderUnavailable,
)
from apps.sources.providers.registry import PROVIDERS, provider_named
from apps.sources.services.circuits import note_failure, note_success
from apps.sources.services.history import append_past
from apps.wording import TO_SECONDS, format_day, format_number

logger = logging.getLogger(__name__)

# Beyond the next call: longer than a call (10 s) and the storing of its page may take.
BACKFILL_LEASE = timedelta(seconds=60)
LEAST_BETWEEN_CALLS = timedelta(seconds=1)


class BackfillRefused(ValueError):
    """A past that cannot be asked for; the text is for people."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an asset's past comes from: one provider, at one address, by one name. calendar: the asset's, or ""."""

    feed: Feed
    source: FeedSource
    provider: Provider
    external_id: str
    history: HistoryLimits
    calendar: str

    def request(self, *, since: datetime, until: datetime) -> HistoryRequest:
        """Return what asks for [since, until)."""
        return HistoryRequest(self.external_id, since, until, self.source.options, self.calendar)


def origin_of(asset: Asset, *, provider: str | None = None) -> Origin:
    """Return where the asset's past comes from: the first source of its feed that has one, or this provider.

    A provider that is no source of the feed is asked with its defaults. Raises BackfillRefused.
    """
    if asset.feed is None:
        raise BackfillRefused(f"{asset} is in no feed, so there is no log that its past could stand in")
    assets = queries.asset_ids_by_external_id(asset.feed)
    # In their order, since the first that tells sets the currency.
    named = [(source, assets.of(source)) for source in asset.feed.sources.all()]
    chosen = [pair for pair in named if _has_past(pair[0]) and provider in (None, pair[0].provider)]
    if not chosen and provider is None:
        raise BackfillRefused(
            f"no source of the feed {asset.feed} gives the past: add a source that does to the feed, or name a provider"
        )
    if not chosen:
        source = _source_of(provider or "")
        chosen = [(source, assets.of(source))]
    source, asset_ids = chosen[0]
    external_id = next((name for name, asset_id in asset_ids.items() if asset_id == asset.pk), None)
    if external_id is None:
        raise BackfillRefused(f"what {source.provider} calls {asset} is in another currency")
    its = provider_named(source.provider)
    if its.history is None:
        raise BackfillRefused(f"{its.slug} gives no past")
    return Origin(asset.feed, source, its, external_id, its.history, asset.calendar)


def _has_past(source: FeedSource) -> bool:
    return source.provider in PROVIDERS and PROVIDERS[source.provider].history is not None


def _source_of(slug: str) -> FeedSource:
    try:
        return FeedSource(provider=slug, options=provider_named(slug).validate_options({}))
    except ProviderMisconfigured as error:
        raise BackfillRefused(str(error)) from None


def calls_needed(origin: Origin, *, since: datetime, until: datetime, now: datetime) -> int:
    """Return how many calls the past of [since, until) takes."""
    calls = 0
    while since < until:
        history_range = origin.history.range_of(origin.request(since=since, until=until), now=now)
        calls += not history_range.is_empty
        since = history_range.reached
    return calls


def begin_or_resume(*, asset_id: int, provider: str, since: datetime, until: datetime, now: datetime) -> Backfill:
    """Return the backfill of [since, until): the one that was begun with the same beginning, which goes on where it
    stopped, or a new one.

    Of one asset and provider at most one is not over, which the database holds; another range takes its place. Raises
    BackfillRefused: somebody is at it.
    """
    columns = {"since": since, "until": until, "reached": since, "next_call_at": now}
    key = {"asset_id": asset_id, "provider": provider, "finished_at": None}
    with transaction.atomic():
        Backfill.objects.bulk_create([Backfill(**key, **columns)], ignore_conflicts=True)
        backfill = Backfill.objects.select_for_update(no_key=True).get(**key)
        if Backfill.objects.filter(IS_LEASED, pk=backfill.pk).exists():
            raise BackfillRefused(
                f"another process is at the past of {backfill.asset} from {provider}; where it was killed, try again "
                f"after {backfill.lease_until:%H:%M:%S} UTC"
            )
        if backfill.since == since:
            backfill.until = max(until, backfill.reached)
        else:
            backfill.since, backfill.reached, backfill.until = since, since, until
            backfill.accepted = backfill.calls = 0
        backfill.save(update_fields=["since", "reached", "until", "accepted", "calls"])
    return backfill


def ask_for_past(*, asset: Asset, since: datetime, now: datetime) -> Backfill:
    """Return the backfill of an asset from `since` to now, with which workers go on. What its provider does not reach
    back to is left out. Raises BackfillRefused."""
    origin = origin_of(asset)
    reach = origin.history.reach
    begin = max(since, EARLIEST) if reach is None else max(since, EARLIEST, now - reach)
    if begin >= now:
        raise BackfillRefused("there is nothing to fetch before now")
    given = {"asset_id": asset.pk, "provider": origin.provider.slug, "now": now}
    backfill = begin_or_resume(**given, since=begin, until=now)
    Backfill.objects.filter(pk=backfill.pk).update(is_asked=True)
    return backfill


def go_on_with_backfill(*, backfill_id: int, now: datetime, trace_id: str) -> None:
    """Take the next step of a backfill that was asked for. Workers leave it once it will never succeed."""
    try:
        step = take_backfill_step(backfill_id=backfill_id, fence=0, now=now, trace_id=trace_id)
    except BackfillRefused:
        Backfill.objects.filter(pk=backfill_id).update(is_asked=False, failure="refused")
        return
    if step.outcome is Outcome.REFUSED:
        Backfill.objects.filter(pk=backfill_id).update(is_asked=False)
    if step.outcome is not Outcome.LOST:
        release_backfill(backfill_id=backfill_id, fence=step.fence)


class Outcome(Enum):
    """What became of one step of a backfill."""

    STORED = "stored"
    FINISHED = "finished"
    WAITS = "waits"  # The provider is left alone for now: its circuit is open.
    FAILED = "failed"  # Trying again may help.
    REFUSED = "refused"  # It never will.
    LOST = "lost"  # Somebody else is at it, or it is not time yet.


@dataclass(frozen=True, slots=True)
class Step:
    """One step: what became of it, and the row after it. fence: gives the right to the next step.

    repeated, rejected: of the page's quotes; retry_after_seconds: what the provider asked for.
    """

    outcome: Outcome
    backfill: Backfill
    fence: int
    repeated: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    retry_after_seconds: int | None = None


def take_backfill_step(*, backfill_id: int, fence: int, now: datetime, trace_id: str) -> Step:
    """Ask the provider for the next page of a backfill, once, and append it to the feed's log; return what came of it.

    fence: that of the step before, or 0: who takes steps keeps the lease between them. The row says when the next call
    is allowed; to wait until then is the caller's business. Raises BackfillRefused where the asset has lost its feed,
    or its name there.
    """
    mine = IS_FREE | Q(fence=fence)
    taken = Backfill.objects.filter(mine, pk=backfill_id, finished_at=None, next_call_at__lte=now).update(
        fence=F("fence") + 1, lease_until=Now() + BACKFILL_LEASE
    )
    backfill = Backfill.objects.select_related("asset__feed").get(pk=backfill_id)
    if not taken:
        return Step(Outcome.LOST, backfill, fence)
    try:
        return _take(backfill, now=now, trace_id=trace_id)
    except BaseException:
        # Also where it is stopped by hand: whoever begins again need not wait for the lease.
        release_backfill(backfill_id=backfill_id, fence=backfill.fence)
        raise


def release_backfill(*, backfill_id: int, fence: int) -> None:
    """Give the lease of a backfill back, where it is still this one's."""
    Backfill.objects.filter(pk=backfill_id, fence=fence).update(lease_until=None)


def _take(backfill: Backfill, *, now: datetime, trace_id: str) -> Step:
    origin = origin_of(backfill.asset, provider=backfill.provider)
    circuit = next(iter(queries.circuits_of([origin.source]).values()), None)
    if circuit is not None and queries.is_open(circuit, now=now):
        return _note(backfill, Outcome.WAITS, failure="circuit_open", next_call_at=circuit.open_until)
    reason, is_refusal, retry_after = "", False, None
    try:
        page = origin.provider.fetch_history(origin.request(since=backfill.reached, until=backfill.until))
    except ProviderUnavailable as error:
        reason, retry_after = error.reason, error.retry_after_seconds
    except ProviderRejected as error:
        reason, is_refusal = error.reason, True
    except Exception:
        # A provider is the world's edge, as in a fetch.
        logger.exception("provider raised", extra={"backfill": backfill.pk, "provider": backfill.provider})
        reason, is_refusal = "crashed", True
    if reason:
        note_failure(
            source=origin.source, reason=reason, is_refusal=is_refusal, retry_after_seconds=retry_after, now=now
        )
        wait = max(timedelta(seconds=retry_after or 0), pause_between_calls(backfill.provider))
        outcome = Outcome.REFUSED if is_refusal else Outcome.FAILED
        step = _note(backfill, outcome, failure=reason, next_call_at=now + wait, calls=1)
        return Step(step.outcome, step.backfill, step.fence, retry_after_seconds=retry_after)
    if circuit is not None and (circuit.failures or circuit.open_until):
        note_success(source=origin.source, asked_at=now)
    return _store(backfill, origin, page, now=now, trace_id=trace_id)


def _note(backfill: Backfill, outcome: Outcome, *, failure: str, next_call_at: datetime, calls: int = 0) -> Step:
    """Note why a step gave nothing, and keep the lease."""
    noted = Backfill.objects.filter(pk=backfill.pk, fence=backfill.fence).update(
        failure=failure,
        next_call_at=next_call_at,
        calls=F("calls") + calls,
        lease_until=None if outcome is Outcome.REFUSED else next_call_at + BACKFILL_LEASE,
    )
    backfill.refresh_from_db()
    return Step(outcome if noted else Outcome.LOST, backfill, backfill.fence)


def _store(backfill: Backfill, origin: Origin, page: HistoryPage, *, now: datetime, trace_id: str) -> Step:
    pause = pause_between_calls(backfill.provider)
    fence = backfill.fence
    written = False

    def move_on(past: Admission) -> bool:
        nonlocal backfill, written
        locked = Backfill.objects.select_for_update(no_key=True).get(pk=backfill.pk)
        if locked.fence != fence:
            return False
        if origin.feed.pk != locked.asset.feed_id:
            # It moved to another feed meanwhile, and its past belongs into that feed's log: the page is asked again.
            return False
        locked.accepted += len(past.quotes)
        locked.calls += 1
        locked.reached = page.reached
        locked.failure = ""
        locked.next_call_at = now + pause
        locked.finished_at = now if page.reached >= locked.until else None
        locked.lease_until = None if locked.finished_at else locked.next_call_at + BACKFILL_LEASE
        locked.save()
        backfill, written = locked, True
        return True

    past = append_past(
        origin.feed,
        page.quotes,
        asset_ids={origin.external_id: backfill.asset_id},
        provider=backfill.provider,
        now=now,
        trace_id=trace_id,
        beside=move_on,
    )
    if not written:
        backfill.refresh_from_db()
        return Step(Outcome.LOST, backfill, fence)
    outcome = Outcome.FINISHED if backfill.finished_at else Outcome.STORED
    return Step(outcome, backfill, fence, repeated=past.repeated, rejected=Counter(past.rejected))


def pause_between_calls(provider: str, *, backfills_more: int = 0) -> timedelta:
    """Return how far apart a backfill's calls lie, so that it and all feeds together keep the provider's limits.

    backfills_more: as if so many more went on.
    """
    seconds = queries.seconds_between_rounds([provider], backfills_more=backfills_more)
    return max(timedelta(seconds=seconds), LEAST_BETWEEN_CALLS)


def describe_state(backfill: Backfill, *, now: datetime, reader: Reader = STANDARD) -> str:
    """Return whether a backfill goes on, and what stopped it. Its times are in UTC."""
    form = reader.locale.form(TO_SECONDS)
    if backfill.finished_at is not None:
        return f"Done at {backfill.finished_at:{form}}."
    failed = f" Last failure: {backfill.failure}." if backfill.failure else ""
    if backfill.is_asked or (backfill.lease_until is not None and backfill.lease_until > now):
        return f"Goes on; next call at {backfill.next_call_at:{form}}.{failed}"
    return f"Stopped; asked for again, or by the same command, it goes on.{failed}"


def describe_backfill(backfill: Backfill, *, reader: Reader = STANDARD) -> str:
    """Return how far it is: "2026-01-05, 12 %, 3 400 quotes, 5 calls"."""
    whole = (backfill.until - backfill.since).total_seconds()
    part = int(100 * (backfill.reached - backfill.since).total_seconds() / whole)
    quotes = format_number(backfill.accepted, reader=reader)
    return f"{format_day(backfill.reached, reader=reader)}, {part} %, {quotes} quotes, {backfill.calls} calls"
