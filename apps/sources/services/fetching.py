"""Providers asked for one slot of a feed, under a fenced lease, and what they gave."""

import logging
import time
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from math import ceil
from typing import NamedTuple

from django.utils.functional import SimpleLazyObject

from apps.market import domain as market_domain
from apps.market import queries as market_queries
from apps.market.models import FeedEntry, FeedHead
from apps.market.services.in_step import InStep
from apps.sources import queries
from apps.sources.models import Circuit, FeedSource
from apps.sources.providers.failures import Failure, failure_of
from apps.sources.providers.protocol import Answer, Limits, QuoteRequest
from apps.sources.providers.registry import PROVIDERS, provider_named
from apps.sources.services.answers import Part, admit_answer, in_step, record_answers, record_failure
from apps.sources.services.circuits import is_let_through, note_failure, note_success
from apps.sources.services.feeds import REDISPATCH_AFTER
from apps.sources.services.leasing import FETCH_LEASE, FetchLease, take_fetch_lease

logger = logging.getLogger(__name__)

FETCH_AT_MOST_SECONDS = 15  # No further provider is asked after that: its answer might come after the lease.


class _Names(NamedTuple):
    """The names for one call to a provider.

    asset_ids: ids of all assets that the provider has a name for; asked: external id -> asset id; waiting: ids of
    assets that still have no price and whose name the provider refuses, until it is asked for them again.
    """

    asset_ids: set[int]
    asked: Mapping[str, int]
    waiting: set[int]
    refusals: queries.Refusals


class _Given(NamedTuple):
    """not_given: ids of assets that were asked for in vain."""

    part: Part
    not_given: set[int]
    extra_calls: int


def fetch(*, feed_id: int, slot: datetime, now: datetime, trace_id: str) -> FeedEntry | None:
    """Ask the feed's providers for `slot`, append what they give to its log and return the first entry of it. None:
    answered already, or under way, or the feed is paused.

    What the first provider that answers does not give is asked of the next, and stands in a further entry. A failure is
    an entry too, with its reason; the feed is due again later the longer it fails. Who comes late fetches the slot that
    has begun meanwhile.
    """
    lease = take_fetch_lease(feed_id=feed_id, slot=slot)
    if lease is None:
        return None
    fetched = Round(lease, now=now)
    fetched.ask_all()
    return fetched.record(trace_id=trace_id)


class Round:
    """The providers of a feed, asked one after the other for one slot, and what has come of it so far.

    now: when it begins, by the clock of the caller; assets, newest: the names of the feed's assets, and asset id ->
    (at, price) of its newest quote, where they are read already. sources: in the order in which they are to be asked;
    parts: what each provider gave; missing: ids of the assets that none of them gave a price for.
    """

    def __init__(
        self,
        lease: FetchLease,
        *,
        now: datetime,
        assets: queries.AssetIds | None = None,
        newest: Mapping[int, tuple[datetime, Decimal]] | None = None,
    ) -> None:
        slot_now = market_domain.slot_of(at=now, interval_seconds=lease.feed.interval_seconds)
        if slot_now - lease.slot > REDISPATCH_AFTER:
            # While no watcher ran, a wake-up was sent again and again, each for its own slot: one of them shall fetch,
            # and what it is given is no price of the past.
            lease = replace(lease, slot=slot_now)
        self.sources = lease.sources
        self._lease = lease
        self._now = now
        self._began = time.monotonic()
        self._assets = assets or queries.asset_ids_by_external_id(lease.feed)
        self._newest = newest
        self._circuits = queries.circuits_of(self.sources)
        self._refused = queries.refused_rows_of(lease.feed, providers=[source.provider for source in self.sources])
        self._turn = lease.head.turn
        self._least_seconds = 0  # until the next round, by the limits of those that were asked
        self._is_asked = False
        self._failure = Failure("no_provider")
        self.parts: list[Part] = []
        self.missing = set(self._assets.asset_ids)

    @property
    def is_complete(self) -> bool:
        """There is an answer, and nothing to ask the next provider for."""
        return bool(self.parts) and not self.missing

    def ask_all(self) -> None:
        """Ask the providers in their order, until there is nothing to ask the next one for."""
        for source in self.sources:
            self.ask(source)
            if self.is_complete:
                break

    def ask(self, source: FeedSource) -> None:
        """Ask one provider for what is missing, unless it has no name for it, is left alone, or it is too late."""
        names = self._names_of(source)
        if self._seconds() > FETCH_AT_MOST_SECONDS or (self.missing and not names.asked):
            return
        circuit = self._circuits.get((source.provider, queries.address_of(source)))
        if self._is_left_alone(circuit):
            return
        self._is_asked = True
        between_rounds = queries.seconds_between_rounds([source.provider])
        self._keep_limits(between_rounds)
        given = self._call(source, names)
        more_seconds = queries.seconds_after_extra_calls(source, calls=given.extra_calls)
        self._least_seconds = max(self._least_seconds, between_rounds + more_seconds)
        if isinstance(given, Failure):
            self._failure = given
            return
        if circuit is not None and (circuit.failures or circuit.open_until):
            note_success(source=source, asked_at=self._now)
        self._take(given, names)
        limits = PROVIDERS[source.provider].limits
        if limits is not None:
            # Of what it does not give in each of its turns, another may be the next one's each time.
            self._turn //= limits.turns_until_again(len(names.asked))

    def record(self, *, trace_id: str) -> FeedEntry | None:
        """Append what was given, or the last failure, and return the first entry; None where the lease was lost."""
        columns = {"now": self._now, "trace_id": trace_id, "least_seconds": self._least_seconds}
        if not self.parts:
            failed = self._failure
            columns |= {"failure": failed.reason, "retry_after_seconds": failed.retry_after_seconds}
            return record_failure(lease=self._lease, **columns)
        entries = record_answers(lease=self._lease, parts=self.parts, **columns)
        return entries[0] if entries else None

    def in_step(self, *, trace_id: str) -> InStep | None:
        """Return the answer as it is to be stored if it is in step; None where it cannot be."""
        if len(self.parts) != 1:
            return None
        columns = {"now": self._now, "trace_id": trace_id, "least_seconds": self._least_seconds}
        return in_step(lease=self._lease, part=self.parts[0], **columns)

    def _seconds(self) -> float:
        return time.monotonic() - self._began

    def _names_of(self, source: FeedSource) -> _Names:
        named = self._assets.of(source)
        refusals = queries.refusals_of(self._refused, provider=source.provider, named=named, now=self._now)
        wanted = {external_id: asset_id for external_id, asset_id in named.items() if asset_id in self.missing}
        asked = {name: asset_id for name, asset_id in wanted.items() if name not in refusals.waiting}
        waiting = {asset_id for name, asset_id in wanted.items() if name in refusals.waiting}
        return _Names(set(named.values()), asked, waiting, refusals)

    def _is_left_alone(self, circuit: Circuit | None) -> bool:
        if circuit is None or not queries.is_open(circuit, now=self._now):
            return False
        if is_let_through(circuit, feed=self._lease.feed):
            return False
        if not self._is_asked:
            self._failure = Failure("circuit_open", ceil((circuit.open_until - self._now).total_seconds()))
        return True

    def _keep_limits(self, between_rounds: int) -> None:
        self._least_seconds = max(self._least_seconds, between_rounds)
        if self._least_seconds > FETCH_LEASE.total_seconds():
            # A worker that is killed from here on may have made its call: none is made before the next is allowed.
            FeedHead.objects.filter(pk=self._lease.feed.pk, fence=self._lease.fence).update(
                redispatch_at=self._now + timedelta(seconds=self._least_seconds)
            )

    def _call(self, source: FeedSource, names: _Names) -> _Given | Failure:
        """Return what the provider gives, or why it gives nothing, which its circuit counts."""
        facts = {"feed": self._lease.feed.pk, "provider": source.provider}
        try:
            provider = provider_named(source.provider)
            facts_asked = {"limits": provider.limits, "turn": self._turn, "apart": names.refusals.due}
            asked = _request(self._lease, source, names.asked, newest=self._newest, **facts_asked)
            answer = provider.fetch(asked)
        except Exception as error:
            failure = failure_of(error, facts=facts)
        else:
            # Of a recording or an invented market, what it does not give is not there.
            external_ids = asked.external_ids if provider.limits is not None else ()
            return self._admitted(source.provider, answer, names, external_ids=external_ids)
        logger.warning("provider failed", extra=facts | {"reason": failure.reason})
        if source.provider in PROVIDERS and provider.is_live:
            # It is left alone from when it said so, which may be long after the fetch began.
            at = self._now + timedelta(seconds=round(self._seconds()))
            how = {"reason": failure.reason, "is_refusal": failure.is_refusal}
            note_failure(source=source, retry_after_seconds=failure.retry_after_seconds, now=at, **how)
        return failure

    def _admitted(self, provider: str, answer: Answer, names: _Names, *, external_ids: Collection[str]) -> _Given:
        """external_ids: those that were asked for and can be missing."""
        signed = self._assets.signed
        part = admit_answer(lease=self._lease, provider=provider, answer=answer, asset_ids=names.asked, signed=signed)
        silent = {*external_ids}.difference(quote.external_id for quote in answer.quotes)
        if silent:
            part.quotes.rejected["missing"] += len(silent)
        priced = {names.asked.get(quote.external_id) for quote in answer.quotes if quote.price is not None}
        part = replace(
            part,
            refused={names.asked[name]: (name, reason) for name, reason in answer.refused.items()},
            answered=priced.intersection(names.refusals.asset_ids),
        )
        priced_ids = {quote.asset_id for quote in part.quotes.quotes}
        return _Given(part, {names.asked[name] for name in external_ids} - priced_ids, answer.extra_calls)

    def _take(self, given: _Given, names: _Names) -> None:
        if names.waiting:
            given.part.quotes.rejected["missing"] += len(names.waiting)
        self.parts.append(given.part)
        # The provider could not be asked for assets that it has no name for in the right currency.
        self.missing = self.missing.difference(names.asset_ids) | given.not_given | names.waiting


def _request(
    lease: FetchLease,
    source: FeedSource,
    asset_ids: Mapping[str, int],
    *,
    newest: Mapping[int, tuple[datetime, Decimal]] | None,
    limits: Limits | None,
    turn: int,
    apart: Collection[str],
) -> QuoteRequest:
    external_ids = sorted(asset_ids)
    if limits is not None:
        external_ids = list(limits.round_of(external_ids, turn=turn))

    def latest() -> dict[str, tuple[datetime, Decimal]]:
        known = market_queries.newest_stored(list(asset_ids.values())) if newest is None else newest
        return {external_id: known[asset_id] for external_id, asset_id in asset_ids.items() if asset_id in known}

    def calendars() -> dict[str, str]:
        known = dict(lease.feed.assets.values_list("pk", "calendar"))
        return {external_id: known.get(asset_id, "") for external_id, asset_id in asset_ids.items()}

    return QuoteRequest(
        external_ids=external_ids,
        slot=lease.slot,
        began_at=lease.head.began_at or lease.slot,
        position=lease.head.as_of if lease.head.began_at else None,
        # Few providers want it, and it is a row per asset.
        latest=SimpleLazyObject(latest),
        interval_seconds=lease.feed.interval_seconds,
        options=source.options,
        apart=apart,
        calendars=SimpleLazyObject(calendars),
    )
