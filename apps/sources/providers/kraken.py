"""Kraken: last trades by pair, an entry per call. No key; no event time. Errors come with status 200."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from apps.market.domain import RawQuote
from apps.sources.providers import http, live
from apps.sources.providers.live import DAY, HOUR, MINUTE, Ask, Close, LiveProvider
from apps.sources.providers.protocol import (
    HistoryLimits,
    HistoryRange,
    HistoryRequest,
    Limits,
    ProviderRejected,
    ProviderUnavailable,
    SearchResult,
)

POINTS = 720
# What pairs end with, and what everybody else calls it.
_MONEY = "USD EUR GBP CAD JPY AUD CHF USDT USDC DAI ETH"
CURRENCIES = {**{code: code for code in _MONEY.split()}, "XBT": "BTC"}
# What everybody else calls it, and how it is found here.
NAMES = {"btc": "xbt", "doge": "xdg"}


@dataclass(frozen=True, slots=True)
class RecentPoints(HistoryLimits):
    """The newest points only: a step that reaches back to where the request begins."""

    def range_of(self, request: HistoryRequest, *, now: datetime) -> HistoryRange:
        """Return all that is wanted, in the shortest step that goes back so far."""
        age = now - request.since
        # One of the points is the candle that is not over yet.
        step = next((step for step in self.steps if age <= step * (self.points - 1)), self.steps[-1])
        return HistoryRange(since=request.since, reached=request.until, step=step)


class Kraken(LiveProvider):
    """Prices by Kraken's pairs ("XBTUSD" or "XXBTZUSD"). One that Kraken does not know fails its whole call."""

    slug = "kraken"
    base_url = "https://api.kraken.com"
    limits = Limits(batch_size=100, shortest_interval_seconds=1, calls_per_minute=60)
    history = RecentPoints(
        steps=(MINUTE, 5 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 4 * HOUR, DAY), points=POINTS, reach=POINTS * DAY
    )
    currencies = CURRENCIES

    def content_of(self, payload: Any) -> Mapping[str, Any]:
        """Return the object in `result`.

        Raises ProviderRejected("unknown_symbol") and ProviderUnavailable (rate_limited, provider_error, bad_payload).
        """
        _refuse_errors(live.rows_of(live.cell(payload, "error"), object))
        result = live.object_of(live.cell(payload, "result"))
        if not result:
            raise ProviderUnavailable("bad_payload")
        return result

    def fetch_batch(self, ask: Ask, external_ids: Sequence[str]) -> Sequence[RawQuote]:
        """Return one quote per pair. A pair that Kraken answers under a name of its own has no price."""
        tickers = ask("/0/public/Ticker", {"pair": ",".join(external_ids)})
        # A name as it was sent goes before one that is made.
        named = {_short_name(key): ticker for key, ticker in tickers.items()} | {**tickers}
        return [RawQuote(external_id=pair, price=_last_price(named.get(pair))) for pair in external_ids]

    def closes_of(self, ask: Ask, external_id: str, history_range: HistoryRange) -> Iterable[Close]:
        """Give the close of each candle; a row is its start, open, high, low, close and more."""
        result = ask("/0/public/OHLC", {"pair": external_id, "interval": history_range.step // MINUTE})
        # Beside `last` there is one pair, under a name of Kraken's own.
        rows = [value for name, value in result.items() if name != "last"]
        return live.closes_in(live.cell(rows, 0), place=4, unit=live.SECOND, after=history_range.step)

    def currency_of(self, external_id: str, options: Mapping[str, Any]) -> str | None:
        """Return the currency at the end of the pair, None where it is not a known one."""
        ending = super().currency_of(_short_name(external_id), options)
        return CURRENCIES[ending] if ending else None

    def founds_of(self, ask: Ask, text: str) -> Iterable[SearchResult]:
        """Give the pairs in which the words stand; bitcoin is found as BTC too."""
        pairs = {key: pair for key, pair in ask("/0/public/AssetPairs").items() if isinstance(pair, dict)}
        names = {_short_name(key): live.text_of(pair, "wsname") for key, pair in pairs.items()}
        founds = [SearchResult(key, name.partition("/")[0], name, None) for key, name in names.items()]
        parts = text.casefold().replace("/", " ").split()
        return live.best_of(founds, " ".join(NAMES.get(part, part) for part in parts))


def _refuse_errors(errors: Sequence[Any]) -> None:
    if not errors:
        return
    text = "\n".join(map(str, errors))
    if "Rate limit" in text or "Too many requests" in text:
        raise ProviderUnavailable("rate_limited", retry_after_seconds=http.wait_said_in(text, now=http.now()))
    if "EQuery:Unknown asset pair" in text:
        raise ProviderRejected("unknown_symbol")
    raise ProviderUnavailable("provider_error")


def _short_name(key: str) -> str:
    """Return XBTUSD for XXBTZUSD: old pairs are asked by names without the class letters (X crypto, Z money)."""
    if len(key) == 8 and key[0] in "XZ" and key[4] in "XZ":
        return key[1:4] + key[5:]
    return key


def _last_price(ticker: Any) -> Any:
    """Return the price of the last trade, the first item of `c`, or None where there is none to be found."""
    last_trade = ticker.get("c") if isinstance(ticker, dict) else None
    return last_trade[0] if isinstance(last_trade, list) and last_trade else None
