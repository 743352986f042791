"""What all live providers share: another address of the same API, a key in the environment, calls with one deadline,
candles, what a search finds."""

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import quote

from apps.market.domain import RawQuote
from apps.sources.providers import apart, http
from apps.sources.providers.options import Option, read_options
from apps.sources.providers.protocol import (  # noqa: F401, the steps of history are for the providers
    DAY,
    FOUND_AT_MOST,
    HOUR,
    MINUTE,
    Answer,
    HistoryPage,
    HistoryRange,
    HistoryRequest,
    Limits,
    PlainProvider,
    ProviderMisconfigured,
    ProviderRejected,
    ProviderUnavailable,
    QuoteRequest,
    SearchResult,
)

SECOND, MILLISECOND = timedelta(seconds=1), timedelta(milliseconds=1)
Close = tuple[datetime, Any]  # When the price stood, and the price as it came.

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Far from the end of what a datetime can hold, so that a step may be added.
_LATEST = datetime(2200, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Ask:
    """How a provider asks for one answer, in as many calls as that takes. seconds_left: for all of them; calendars:
    external id -> the calendar of its trading hours, or ""."""

    provider: "LiveProvider"
    options: Mapping[str, Any]
    seconds_left: Callable[[], float]
    calendars: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, path: str, params: Mapping[str, str | int] | None = None) -> Any:
        """Return what is in the answer at this path of the API, asked once, with the key where there is one.

        Raises ProviderRejected("no_key"), and what `get_json` and the provider's `content_of` raise.
        """
        provider, key = self.provider, self.provider.key()
        headers = {}
        if key and provider.key_header is not None:
            name, form = provider.key_header
            headers[name] = form.format(key=key)
        if key and provider.key_param is not None:
            params = {**(params or {}), provider.key_param: key}
        url = f"{self.options['base_url']}{path}"
        payload = http.get_json(
            url=url,
            params=params,
            headers=headers,
            deadline_seconds=self.seconds_left(),
            ban_status=provider.ban_status,
        )
        return provider.content_of(payload)


class LiveProvider(PlainProvider):
    """A provider that is asked over HTTP.

    base_url: its public address, without a slash at the end; more_options: those that it has besides; key_header,
    key_param: where the key goes, into a header with the form of its value ("Bearer {key}") or into a parameter;
    ban_status: that of a ban, which ends. The currency of a price is `currency`, or stands in the name after
    `currency_mark`, or is that one of `currencies` with which the name ends.
    """

    slug: str
    base_url: str
    limits: Limits
    is_live = True
    gives_event_time = False
    has_search = True
    asset_kinds: tuple[str, ...] = ("crypto",)
    more_options: Sequence[Option] = ()
    key_header: tuple[str, str] | None = None
    key_param: str | None = None
    ban_status: int | None = None
    currency: str | None = None
    currency_mark: str | None = None
    currencies: Collection[str] = ()

    @property
    def options(self) -> Sequence[Option]:  # type: ignore[override]
        """Return base_url and `more_options`."""
        base_url = Option(
            "base_url",
            "Address",
            "Of the API, where it is another than the provider's own, as a proxy's.",
            default=self.base_url,
            must="be an http or https address without user, query or fragment",
            check=http.check_base_url,
        )
        return (base_url, *self.more_options)

    def validate_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return base_url without a slash at its end, and `more_options`. Raises ProviderMisconfigured."""
        complete = read_options(options, self.options, slug=self.slug)
        return complete | {"base_url": complete["base_url"].rstrip("/")}

    def key(self) -> str:
        """Return the key, or "" where there is none. Raises ProviderRejected("no_key") where it is needed."""
        key = os.environ.get(self.key_variable, "").strip() if self.key_variable else ""
        if self.needs_key and not key:
            raise ProviderRejected("no_key")
        return key

    def asking(self, options: Mapping[str, Any], *, calendars: Mapping[str, str] | None = None) -> Ask:
        """Return how to ask for one answer, whose time runs from now on. calendars: external id -> calendar or ""."""
        return Ask(
            provider=self,
            options=options,
            seconds_left=http.time_left(),
            calendars={} if calendars is None else calendars,
        )

    def content_of(self, payload: Any) -> Any:
        """Return what is in an answer; what says that it is none raises ProviderUnavailable or ProviderRejected."""
        return payload

    def fetch(self, request: QuoteRequest) -> Answer:
        """Return the newest prices, in calls that share one deadline.

        A refused name has no price and costs no other. A call that fails otherwise fails the answer.
        """
        ask = self.asking(request.options, calendars=request.calendars)
        together = [name for name in request.external_ids if name not in request.apart]
        alone = [[name] for name in request.external_ids if name in request.apart]
        batches = [*self.batches_of(together), *alone]
        seed = int(request.slot.timestamp())
        gathered = apart.gather(batches, fetch_batch=partial(self.fetch_batch, ask), seed=seed)
        if request.external_ids:
            self.check_answer(gathered.quotes)
        return Answer(
            quotes=[*(RawQuote(name, None) for name in gathered.refused), *gathered.quotes],
            as_of=http.now(),
            refused=gathered.refused,
            extra_calls=gathered.extra_calls + len(alone),
        )

    def batches_of(self, external_ids: Sequence[str]) -> Iterable[Sequence[str]]:
        """Give as many at a time as go into one call."""
        return self.limits.batches_of(external_ids)

    def fetch_batch(self, ask: Ask, external_ids: Sequence[str]) -> Sequence[RawQuote]:
        """Return what one call gives for as many external ids as go into one."""
        raise NotImplementedError

    def check_answer(self, quotes: Sequence[RawQuote]) -> None:
        """Raise where all calls together gave what is no answer: a call of nothing but unknown ids costs no other."""

    def fetch_history(self, request: HistoryRequest) -> HistoryPage:
        """Return one page of the past, without a call where no candle can end in it. Raises as `fetch` does."""
        if self.history is None:
            raise ProviderRejected("no_history")
        now = http.now()
        history_range = self.history.range_of(request, now=now)
        if history_range.is_empty:
            return HistoryPage(quotes=[], reached=history_range.reached)
        ask = self.asking(request.options, calendars={request.external_id: request.calendar})
        closes_given = self.closes_of(ask, request.external_id, history_range)
        # What is not over yet is dated ahead of now. An answer may also have more than was asked for.
        closes = sorted(
            (at, number, price)
            for number, (at, price) in enumerate(closes_given)
            if request.since <= at < history_range.reached and at <= now
        )
        quotes = [RawQuote(external_id=request.external_id, price=price, at=at) for at, _, price in closes]
        return HistoryPage(quotes=quotes, reached=history_range.reached)

    def closes_of(self, ask: Ask, external_id: str, history_range: HistoryRange) -> Iterable[Close]:
        """Ask once for this stretch of the past and give (when the price stood, price), in any order."""
        raise NotImplementedError

    def search(self, text: str, options: Mapping[str, Any]) -> Sequence[SearchResult]:
        """Return what fits these words and has a name to ask by, at most FOUND_AT_MOST. Raises as `fetch` does."""
        if not self.has_search:
            raise ProviderRejected("no_search")
        founds = [found for found in self.founds_of(self.asking(options), text) if found.external_id][:FOUND_AT_MOST]
        return [replace(one, currency=one.currency or self.currency_of(one.external_id, options)) for one in founds]

    def founds_of(self, ask: Ask, text: str) -> Iterable[SearchResult]:
        """Ask once and give what fits these words, the best first. currency: None is what its name tells."""
        raise NotImplementedError

    def currency_of(self, external_id: str, options: Mapping[str, Any]) -> str | None:
        """Return the currency of its prices, None where the name does not tell."""
        if self.currency is not None:
            return self.currency
        if self.currency_mark is None:
            return ending_of(external_id, self.currencies)
        _, mark, ending = external_id.rpartition(self.currency_mark)
        return ending if mark and ending else None


def epoch(value: Any, *, unit: timedelta) -> datetime:
    """Return the moment of a whole number of units since 1970. Raises ProviderUnavailable("bad_payload")."""
    with suppress(OverflowError):
        if type(value) is int and (at := _EPOCH + value * unit) < _LATEST:
            return at
    raise ProviderUnavailable("bad_payload")


def milliseconds(at: datetime) -> int:
    """Return a moment as milliseconds since 1970."""
    return (at - _EPOCH) // MILLISECOND


def rows_of(value: Any, kind: type = dict) -> list[Any]:
    """Return a list that has nothing but items of this kind. Raises ProviderUnavailable("bad_payload")."""
    if not isinstance(value, list) or not all(isinstance(row, kind) for row in value):
        raise ProviderUnavailable("bad_payload")
    return value


def cell(row: Any, place: int | str) -> Any:
    """Return what stands at a place of a row. Raises ProviderUnavailable("bad_payload") where nothing does."""
    with suppress(LookupError, TypeError):
        return row[place]
    raise ProviderUnavailable("bad_payload")


def object_of(value: Any) -> dict[str, Any]:
    """Return an object. Raises ProviderUnavailable("bad_payload") for what is none."""
    if not isinstance(value, dict):
        raise ProviderUnavailable("bad_payload")
    return value


def segment(name: str) -> str:
    """Return a name as one part of a path, whatever is in it."""
    return quote(name, safe="")


def closes_in(rows: Any, *, place: int, unit: timedelta, after: timedelta = timedelta()) -> Iterator[Close]:
    """Give the prices of rows that begin with their times, in whole units since 1970.

    place: of the price in a row; after: how long after that time it stood, of a candle until its end. Raises
    ProviderUnavailable("bad_payload").
    """
    for row in rows_of(rows, list):
        yield epoch(cell(row, 0), unit=unit) + after, cell(row, place)


def best_of(founds: Iterable[SearchResult], text: str) -> list[SearchResult]:
    """Return those in which each of the words stands: first what is called just so."""
    parts = text.casefold().replace("/", " ").split()

    def rank(found: SearchResult) -> tuple[bool, int]:
        return found.symbol.casefold() not in parts, len(found.external_id)

    fitting = [
        found
        for found in founds
        if all(part in f"{found.external_id} {found.symbol} {found.name}".casefold() for part in parts)
    ]
    return sorted(fitting, key=rank)


def quote_of(item: Any, *, name: str, price: str) -> RawQuote:
    """Return the quote of an item. What is no asset has no price either: admission counts it."""
    external_id = item.get(name) if isinstance(item, dict) else None
    return RawQuote(external_id, item.get(price)) if isinstance(external_id, str) else RawQuote("", None)


def found_of(
    item: Mapping[str, Any], *, external_id: str = "id", symbol: str = "symbol", name: str = "name"
) -> SearchResult:
    """Return what was found in an item, whose fields have these names. A text that is not there is ""."""
    return SearchResult(text_of(item, external_id), text_of(item, symbol), text_of(item, name), None)


def text_of(item: Mapping[str, Any], name: str) -> str:
    """Return a text of an item, or "" where there is none."""
    value = item.get(name)
    return value if isinstance(value, str) else ""


def ending_of(name: str, currencies: Iterable[str]) -> str | None:
    """Return the longest of the currencies that the name ends with, or None where it ends with none or is no more."""
    return max((one for one in currencies if name.endswith(one) and name != one), key=len, default=None)
