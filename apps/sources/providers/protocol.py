"""The interface of providers: what they are asked for, and what they may answer. Values in, values out: no ORM."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

from apps.market.domain import RawQuote

if TYPE_CHECKING:
    from apps.sources.providers.options import Option

# After a long gap a recording or an invented market has much to give: more than this comes with the next slots, so that
# each answer is stored and evaluated within a task's time.
ROWS_AT_ONCE = 50_000
FOUND_AT_MOST = 20

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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
    """The provider will never answer this request as it stands (a wrong key, an unknown symbol, a broken file).

    extra_calls: those that were made to find out which name is refused.
    """

    def __init__(self, reason: str, *, extra_calls: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.extra_calls = extra_calls


class ProviderMisconfigured(ValueError):
    """The options of a feed do not fit its provider. The text is for people: it names the option and what would be
    right. faults: option -> the sentence about it, of all that are wrong; none where it is about no single option."""

    def __init__(self, text: str = "", *, faults: Mapping[str, str] | None = None) -> None:
        super().__init__(text or "; ".join((faults or {}).values()))
        self.faults = dict(faults or {})


@dataclass(frozen=True, slots=True)
class QuoteRequest:
    """What a feed wants for one slot.

    external_ids: the provider's names of the feed's assets, sorted; slot: start of the slot, aware UTC;
    began_at: the slot of the feed's first answer (this slot, on the first); position: the feed's clock up to
    which everything has been given, or None at the beginning; latest: external id -> (at, price) of the newest stored
    quote; interval_seconds: the feed's interval; options: as `validate_options` returned them; apart: those of the
    external ids that were refused lately, each of which is asked for in a call of its own; calendars: external id ->
    the calendar of its trading hours, or "".
    """

    external_ids: Sequence[str]
    slot: datetime
    began_at: datetime
    position: datetime | None
    latest: Mapping[str, tuple[datetime, Decimal]]
    interval_seconds: int
    options: Mapping[str, Any]
    apart: Collection[str] = ()
    calendars: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider gave for one slot.

    as_of: the feed's clock after this answer: receipt time for a live provider, the recording's own time for a
    recording; history: what lies before the first quote, given once, with the feed's first answer: it fills windows and
    opens nothing; refused: external id -> why the provider refuses it, while it gave a price for another; extra_calls:
    those beyond the calls of a round.
    """

    quotes: Sequence[RawQuote]
    as_of: datetime
    history: Sequence[RawQuote] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    extra_calls: int = 0


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
        at_once = self._at_once(len(external_ids))
        if len(external_ids) <= at_once:
            return external_ids
        begin = turn * at_once % len(external_ids)
        return [*external_ids[begin:], *external_ids[:begin]][:at_once]

    def turns_until_again(self, external_ids: int) -> int:
        """Return after how many turns the same ones of so many are asked for together again."""
        at_once = self._at_once(external_ids)
        return 1 if external_ids <= at_once else external_ids // math.gcd(external_ids, at_once)

    def _at_once(self, external_ids: int) -> int:
        return external_ids if self.calls_per_round is None else self.calls_per_round * self.batch_size

    def batches_of(self, external_ids: Sequence[str]) -> Iterator[Sequence[str]]:
        """Give as many at a time as go into one call."""
        for begin in range(0, len(external_ids), self.batch_size):
            yield external_ids[begin : begin + self.batch_size]

    def interval_seconds_for(self, calls: int) -> int:
        """Return how far apart rounds of so many calls have to lie."""
        return max(self.shortest_interval_seconds, self.seconds_for(calls))

    def seconds_for(self, calls: int) -> int:
        """Return in how many seconds so many calls are allowed."""
        paces = [(60, self.calls_per_minute), (86_400, self.calls_per_day)]
        return max([0, *(math.ceil(calls * seconds / allowed) for seconds, allowed in paces if allowed is not None)])


@dataclass(frozen=True, slots=True)
class HistoryRequest:
    """A request for the past prices of one asset in [since, until), both aware and UTC.

    options: as `validate_options` returns them; calendar: the code of the asset's trading calendar, "" without one.
    """

    external_id: str
    since: datetime
    until: datetime
    options: Mapping[str, Any]
    calendar: str = ""


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """What one call told of the past. quotes: oldest first; reached: up to where the past is known now, after since."""

    quotes: Sequence[RawQuote]
    reached: datetime


@dataclass(frozen=True, slots=True)
class HistoryRange:
    """What one call asks of the past: [since, reached), in candles of one step."""

    since: datetime
    reached: datetime
    step: timedelta

    @property
    def first_start(self) -> datetime:
        """Return the start of the first candle: it is over at `since` or after it."""
        return _aligned(self.since, step=self.step) - self.step

    @property
    def last_start(self) -> datetime:
        """Return the start of the last candle: it is over before `reached`."""
        return _aligned(self.reached, step=self.step) - 2 * self.step

    @property
    def is_empty(self) -> bool:
        """Tell whether no candle ends inside."""
        return self.last_start < self.first_start


def _aligned(at: datetime, *, step: timedelta) -> datetime:
    """Return the first multiple of the step, counted from 1970, that is not before `at`."""
    return _EPOCH - (_EPOCH - at) // step * step


@dataclass(frozen=True, slots=True)
class HistoryLimits:
    """How a provider gives the past.

    steps: how far apart its prices may lie, shortest first; points: how many of them one call gives; reach: how far
    back it goes, None where that is not known.
    """

    steps: Sequence[timedelta]
    points: int
    reach: timedelta | None = None

    def page_for(self, span: timedelta) -> timedelta:
        """Return how much of a span so long one call covers."""
        return step_for(span, self.steps) * self.points

    def range_of(self, request: HistoryRequest, *, now: datetime) -> HistoryRange:
        """Return what the next call asks: as much as one gives, and nothing from before the provider's reach."""
        since = request.since if self.reach is None else max(request.since, now - self.reach)
        whole = HistoryRange(since=since, reached=request.until, step=step_for(request.until - since, self.steps))
        page_end = whole.first_start + (self.points + 1) * whole.step
        return replace(whole, reached=min(request.until, page_end))


def step_for(span: timedelta, steps: Sequence[timedelta]) -> timedelta:
    """Return in which of these steps so long a span is asked: minutes up to 2 days, hours up to 60, else days.

    Where that step is not among them, it is the next longer one, or the longest.
    """
    wanted = MINUTE if span <= 2 * DAY else HOUR if span <= 60 * DAY else DAY
    return min((step for step in steps if step >= wanted), default=max(steps))


@dataclass(frozen=True, slots=True)
class SearchResult:
    """One asset that a search found. symbol, name: as the provider says; currency: of its prices, None if not told."""

    external_id: str
    symbol: str
    name: str
    currency: str | None


@dataclass(frozen=True, slots=True)
class SplitFound:
    """A split that a provider knows of: numerator new shares for denominator old ones, from effective_at on."""

    effective_at: datetime
    numerator: int
    denominator: int


class Provider(Protocol):
    """One source of quotes. A provider is a module-level object without state between calls.

    key_variable: the environment variable of its key, None where it takes none; needs_key: nothing is given without
    one; gives_event_time: each quote has a time of its own; names_days: of some prices it names only the day;
    asset_kinds: of "crypto", "share", "fx" and "index", none where they are whatever the operator makes them;
    options: those that it takes; history: how it gives the past, None where it does not; has_search: it can be searched
    by words; has_splits: it knows the splits of shares; is_computed: its answers are worked out here, without a call or
    a file, so it keeps nobody waiting.
    """

    slug: str
    # A live provider is asked once after a gap; others give everything since the feed's stored position.
    is_live: bool
    # Those of its public address, the default of its option base_url. None: it may be asked as often as anybody likes.
    limits: Limits | None
    key_variable: str | None
    needs_key: bool
    gives_event_time: bool
    names_days: bool
    asset_kinds: tuple[str, ...]
    options: Sequence["Option"]
    history: HistoryLimits | None
    has_search: bool
    has_splits: bool
    is_computed: bool

    def validate_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return `options` with defaults filled in. Raises ProviderMisconfigured, which names all that are wrong."""

    def fetch(self, request: QuoteRequest) -> Answer:
        """Return the quotes for one slot. Raises ProviderUnavailable or ProviderRejected."""

    def currency_of(self, external_id: str, options: Mapping[str, Any]) -> str | None:
        """Return the currency of the prices of this name ("USD"), or None where the name does not tell."""

    def fetch_history(self, request: HistoryRequest) -> HistoryPage:
        """Return the first part of what is wanted of the past, in one call, or none where nothing can be there.

        A candle is one price: that of its close, at the time of its close; one that is not over is left out. Raises
        ProviderUnavailable or ProviderRejected, the latter with the reason no_history where there is none.
        """

    def search(self, text: str, options: Mapping[str, Any]) -> Sequence[SearchResult]:
        """Return what fits these words, at most FOUND_AT_MOST. Raises as `fetch` does; no_search where it cannot."""

    def fetch_splits(self, external_id: str, options: Mapping[str, Any]) -> Sequence[SplitFound]:
        """Return the splits of a share, in one call. Raises as `fetch` does; no_splits where it knows none of any."""


class PlainProvider:
    """What a provider is that says no more of itself: it wants no key, has no past and cannot be searched."""

    is_live = False
    limits: Limits | None = None
    key_variable: str | None = None
    needs_key = False
    gives_event_time = True
    names_days = False
    asset_kinds: tuple[str, ...] = ()
    options: Sequence["Option"] = ()
    history: HistoryLimits | None = None
    has_search = False
    has_splits = False
    is_computed = False

    def currency_of(self, external_id: str, options: Mapping[str, Any]) -> str | None:
        """Return None: its names say nothing."""
        return None

    def fetch_history(self, request: HistoryRequest) -> HistoryPage:
        """Raise ProviderRejected("no_history")."""
        raise ProviderRejected("no_history")

    def search(self, text: str, options: Mapping[str, Any]) -> Sequence[SearchResult]:
        """Raise ProviderRejected("no_search")."""
        raise ProviderRejected("no_search")

    def fetch_splits(self, external_id: str, options: Mapping[str, Any]) -> Sequence[SplitFound]:
        """Raise ProviderRejected("no_splits")."""
        raise ProviderRejected("no_splits")
