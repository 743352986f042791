"""Asks a source for a few quotes before its feed is saved, or what it has for some words. Nothing is stored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from apps.market import domain as market_domain
from apps.market.domain import RawQuote
from apps.sources import queries
from apps.sources.models import FeedSource
from apps.sources.providers.failures import failure_of, hint_on
from apps.sources.providers.protocol import QuoteRequest, SearchResult
from apps.sources.providers.registry import PROVIDERS
from apps.sources.services.feeds import describe_left_alone

NAMES_TRIED = 5


@dataclass(frozen=True, slots=True)
class Tried:
    """What a source gave. failure: why it gave nothing, "" where it answered; refused: name -> why it has no price."""

    quotes: Sequence[RawQuote] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    failure: str = ""


def try_source(*, source: FeedSource, external_ids: Sequence[str], interval_seconds: int, now: datetime) -> Tried:
    """Ask a source, which need not be saved, for at most NAMES_TRIED of these names, by the provider's own call with
    its deadline and its checks of the address. A provider that is left alone is not asked. Nothing is stored, and no
    circuit counts it.
    """
    if left_alone := _why_left_alone(source, now=now):
        return Tried(failure=left_alone)
    provider = PROVIDERS[source.provider]
    slot = market_domain.slot_of(at=now, interval_seconds=interval_seconds)
    request = QuoteRequest(
        external_ids=sorted(set(external_ids))[:NAMES_TRIED],
        slot=slot,
        began_at=slot,
        position=None,
        latest={},
        interval_seconds=interval_seconds,
        options=source.options,
    )
    try:
        answer = provider.fetch(request)
    except Exception as error:
        return Tried(failure=_describe(error, source))
    return Tried(quotes=answer.quotes, refused=answer.refused)


@dataclass(frozen=True, slots=True)
class Searched:
    """What a source has. failure: why it gave nothing, "" where it answered."""

    results: Sequence[SearchResult] = ()
    failure: str = ""


def search_source(*, source: FeedSource, text: str, now: datetime) -> Searched:
    """Ask a source, which need not be saved, what it has for a text, as `try_source` does."""
    if left_alone := _why_left_alone(source, now=now):
        return Searched(failure=left_alone)
    try:
        return Searched(PROVIDERS[source.provider].search(text, source.options))
    except Exception as error:
        return Searched(failure=_describe(error, source))


def _why_left_alone(source: FeedSource, *, now: datetime) -> str:
    circuit = queries.circuits_of([source]).get((source.provider, queries.address_of(source)))
    return describe_left_alone([circuit]) if circuit is not None and queries.is_open(circuit, now=now) else ""


def _describe(error: Exception, source: FeedSource) -> str:
    reason = failure_of(error, facts={"provider": source.provider}).reason
    hint = hint_on(reason, key_variables=[PROVIDERS[source.provider].key_variable])
    return f"{reason}: {hint}" if hint else reason
