"""What all live providers share: another address of the same API, a key in the environment, calls with one deadline,
candles."""

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from apps.market.domain import RawQuote
from apps.market.providers import http
from apps.market.providers.protocol import (
    FOUND_AT_MOST,
    Answer,
    Found,
    HistoryPage,
    HistoryRequest,
    Limits,
    PlainProvider,
    ProviderRejected,
    ProviderUnavailable,
    QuoteRequest,
    Stretch,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Far from the end of what a datetime can hold, so that a step may be added.
_LATEST = datetime(2200, 1, 1, tzinfo=UTC)


class LiveProvider(PlainProvider):
    """A provider that is asked over HTTP. base_url: its public address, without a slash at the end."""

    slug: str
    base_url: str
    limits: Limits
    is_live = True
    gives_event_time = False
    asset_kinds: tuple[str, ...] = ("crypto",)

    def validate_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return {"base_url"} without a slash at its end. Raises ProviderMisconfigured."""
        http.refuse_unknown_options(options, ["base_url"], slug=self.slug)
        return {"base_url": http.read_base_url(options, default=self.base_url)}

    def key(self) -> str:
        """Return the key, or "" where there is none. Raises ProviderRejected("no_key") where it is needed."""
        key = os.environ.get(self.key_variable, "").strip() if self.key_variable else ""
        if self.needs_key and not key:
            raise ProviderRejected("no_key")
        return key

    def ask(
        self,
        options: Mapping[str, Any],
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        deadline_seconds: float | None = None,
    ) -> Any:
        """Return the JSON at this path of the API, asked once. Raises what `get_json` raises."""
        return http.get_json(
            url=f"{options['base_url']}{path}",
            params=params,
            headers=headers,
            deadline_seconds=http.ANSWER_SECONDS if deadline_seconds is None else deadline_seconds,
        )

    def fetch(self, request: QuoteRequest) -> Answer:
        """Return the newest prices, in calls that share one deadline. One failed call fails the answer."""
        left = http.time_left()
        quotes: list[RawQuote] = []
        for external_ids in self.limits.batches_of(request.external_ids):
            quotes += self.fetch_batch(request.options, external_ids, deadline_seconds=left())
        return Answer(quotes=quotes, as_of=http.now())

    def fetch_batch(
        self, options: Mapping[str, Any], external_ids: Sequence[str], *, deadline_seconds: float
    ) -> Sequence[RawQuote]:
        """Return what one call gives for as many external ids as go into one."""
        raise NotImplementedError

    def fetch_history(self, request: HistoryRequest) -> HistoryPage:
        """Return one page of the past, without a call where no candle can end in it. Raises as `fetch` does."""
        if self.history is None:
            raise ProviderRejected("no_history")
        now = http.now()
        stretch = self.history.stretch_of(request, now=now)
        if stretch.is_empty:
            return HistoryPage(quotes=[], reached=stretch.reached)
        # What is not over yet is dated ahead of now. An answer may also have more than was asked for.
        closes = sorted(
            (at, number, price)
            for number, (at, price) in enumerate(self.closes_of(request, stretch))
            if request.since <= at < stretch.reached and at <= now
        )
        quotes = [RawQuote(external_id=request.external_id, price=price, at=at) for at, _, price in closes]
        return HistoryPage(quotes=quotes, reached=stretch.reached)

    def closes_of(self, request: HistoryRequest, stretch: Stretch) -> Iterable[tuple[datetime, Any]]:
        """Ask once for this stretch of the past and give (when the price stood, price), in any order."""
        raise NotImplementedError


def epoch(value: Any, *, unit: timedelta) -> datetime:
    """Return the moment of a whole number of units since 1970. Raises ProviderUnavailable("bad_payload")."""
    with suppress(OverflowError):
        if type(value) is int and (at := _EPOCH + value * unit) < _LATEST:
            return at
    raise ProviderUnavailable("bad_payload")


def milliseconds(at: datetime) -> int:
    """Return a moment as milliseconds since 1970."""
    return (at - _EPOCH) // timedelta(milliseconds=1)


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


def best_of(founds: Iterable[Found], words: str) -> list[Found]:
    """Return those in which each of the words stands, at most FOUND_AT_MOST: first what is called just so."""
    parts = words.casefold().replace("/", " ").split()

    def rank(found: Found) -> tuple[bool, int]:
        return found.symbol.casefold() not in parts, len(found.external_id)

    fitting = [
        found
        for found in founds
        if all(part in f"{found.external_id} {found.symbol} {found.name}".casefold() for part in parts)
    ]
    return sorted(fitting, key=rank)[:FOUND_AT_MOST]


def quote_of(item: Any, *, name: str, price: str) -> RawQuote:
    """Return the quote of an item. What is no asset has no price either: admission counts it."""
    if not isinstance(item, dict) or not isinstance(item.get(name), str):
        return RawQuote(external_id="", price=None)
    return RawQuote(external_id=item[name], price=item.get(price))


def text_of(item: Mapping[str, Any], name: str) -> str:
    """Return a text of an item, or "" where there is none."""
    value = item.get(name)
    return value if isinstance(value, str) else ""


def after_slash(pair: str) -> str | None:
    """Return USD for EUR/USD, or None for what is no pair."""
    return pair.partition("/")[2] or None


def ending_of(name: str, currencies: Iterable[str]) -> str | None:
    """Return the longest of the currencies that the name ends with, or None where it ends with none or is no more."""
    return max((one for one in currencies if name.endswith(one) and name != one), key=len, default=None)
