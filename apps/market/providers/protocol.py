"""What the market asks of a provider, and what a provider may answer. No ORM here: values in, values out."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol

from apps.market.domain import RawQuote

# After a long gap a recording or an invented market has much to give: more than this comes with the next slots, so that
# each answer is stored and judged within a task's time.
ROWS_AT_ONCE = 50_000


class ProviderUnavailable(Exception):
    """The provider gave nothing this time; trying again may help.

    reason: short, fixed, fit for a metric label (timeout, connection, http_503, rate_limited, bad_payload, outage).
    retry_after_seconds: what the provider asked for, already a number, or None.
    """

    def __init__(self, reason: str, *, retry_after_seconds: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds


class ProviderRejected(Exception):
    """The provider will never answer this request as it stands (a wrong key, an unknown symbol, a broken file)."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ProviderMisconfigured(ValueError):
    """The options of a feed do not fit its provider. The text is for people: it names the option and what would be
    right."""


@dataclass(frozen=True, slots=True)
class QuoteRequest:
    """What a feed wants for one slot.

    external_ids: the provider's names of the feed's assets, sorted; slot: start of the slot, aware UTC;
    began_at: the slot of the feed's first answer (this slot, on the first); position: the feed's clock up to
    which everything has been given, or None at the beginning; latest: external id -> (at, price) of the newest stored
    quote; interval_seconds: the feed's interval; options: as `validate_options` returned them.
    """

    external_ids: Sequence[str]
    slot: datetime
    began_at: datetime
    position: datetime | None
    latest: Mapping[str, tuple[datetime, Decimal]]
    interval_seconds: int
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider gave for one slot.

    as_of: the feed's clock after this answer: receipt time for a live provider, the film's own time for a recording;
    history: what lies before the first quote, given once, with the feed's first answer: it fills windows and opens
    nothing.
    """

    quotes: Sequence[RawQuote]
    as_of: datetime
    history: Sequence[RawQuote] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """How often a provider lets itself be asked by one address or key.

    batch_size: external ids in one call; shortest_interval_seconds: asking faster gives nothing new or is refused;
    calls_per_minute, calls_per_day: None where it names no such limit; calls_per_round: where a feed's assets take
    more calls than that, they take turns.
    """

    batch_size: int
    shortest_interval_seconds: int
    calls_per_minute: float | None = None
    calls_per_day: float | None = None
    calls_per_round: int | None = None

    def calls_for(self, external_ids: int) -> int:
        """Return how many calls one round of a feed with so many external ids takes."""
        calls = -(-external_ids // self.batch_size)
        return calls if self.calls_per_round is None else min(calls, self.calls_per_round)

    def round_of(self, external_ids: Sequence[str], *, turn: int) -> Sequence[str]:
        """Return those that are asked for in this turn: all, or as many as one round takes, each in its turn."""
        at_once = len(external_ids) if self.calls_per_round is None else self.calls_per_round * self.batch_size
        if len(external_ids) <= at_once:
            return external_ids
        begin = turn * at_once % len(external_ids)
        return [*external_ids[begin:], *external_ids[:begin]][:at_once]

    def batches_of(self, external_ids: Sequence[str]) -> Iterator[Sequence[str]]:
        """Give as many at a time as go into one call."""
        for begin in range(0, len(external_ids), self.batch_size):
            yield external_ids[begin : begin + self.batch_size]

    def interval_seconds_for(self, calls: int) -> int:
        """Return how far apart rounds of so many calls have to lie."""
        paces = [(60, self.calls_per_minute), (86_400, self.calls_per_day)]
        needed = [math.ceil(calls * seconds / allowed) for seconds, allowed in paces if allowed is not None]
        return max([self.shortest_interval_seconds, *needed])


class Provider(Protocol):
    """One source of quotes. A provider is a module-level object without state between calls."""

    slug: str
    # A live provider is asked once after a gap; others give everything since the feed's stored position.
    is_live: bool
    # Those of its public address, the default of its option base_url. None: it may be asked as often as anybody likes.
    limits: Limits | None

    def validate_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return `options` with defaults filled in. Raises ProviderMisconfigured, which names the option."""

    def fetch(self, request: QuoteRequest) -> Answer:
        """Return the quotes for one slot. Raises ProviderUnavailable or ProviderRejected."""
