"""Binance: prices by trading pair, a batch per call, from the host that has market data only. No key; no event time."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from apps.market.domain import RawQuote
from apps.market.providers.live import (
    LiveProvider,
    best_of,
    cell,
    ending_of,
    epoch,
    milliseconds,
    quote_of,
    rows_of,
    text_of,
)
from apps.market.providers.protocol import (
    DAY,
    HOUR,
    MINUTE,
    Found,
    HistoryLimits,
    HistoryRequest,
    Limits,
    ProviderRejected,
    ProviderUnavailable,
    Stretch,
)

WEIGHT_PER_MINUTE = 6_000
WEIGHT_PER_CALL = 4
INTERVALS = {MINUTE: "1m", HOUR: "1h", DAY: "1d"}
# What pairs are traded against; a name has no mark between its two halves.
_MONEY = "USDT USDC FDUSD TUSD BUSD USD1 DAI EUR EURI GBP BRL TRY AUD JPY PLN RON CZK ARS MXN COP ZAR UAH RUB IDR IDRT"
CURRENCIES = [*_MONEY.split(), "BTC", "ETH", "BNB", "TRX", "XRP", "DOGE", "SOL"]


class Binance(LiveProvider):
    """Prices by Binance's symbols ("BTCUSDT"). One symbol that Binance does not list fails its whole call."""

    slug = "binance"
    base_url = "https://data-api.binance.vision"
    limits = Limits(batch_size=100, shortest_interval_seconds=1, calls_per_minute=WEIGHT_PER_MINUTE / WEIGHT_PER_CALL)
    history = HistoryLimits(steps=tuple(INTERVALS), points=1_000)
    has_search = True

    def ask(self, options: Mapping[str, Any], path: str, **call: Any) -> Any:
        """Return the JSON at this path. Raises what `get_json` raises; a ban is rate_limited."""
        try:
            return super().ask(options, path, **call)
        except ProviderRejected as rejection:
            # Here 418 is a ban of the address after many a 429, and it ends.
            if rejection.reason == "http_418":
                raise ProviderUnavailable("rate_limited") from None
            raise

    def fetch_batch(
        self, options: Mapping[str, Any], external_ids: Sequence[str], *, deadline_seconds: float
    ) -> Sequence[RawQuote]:
        """Return the quotes of these. An item without a symbol has no price either: admission counts it."""
        # Some symbols are not ASCII, and Binance reads no \u escapes.
        listed = json.dumps(list(external_ids), separators=(",", ":"), ensure_ascii=False)
        payload = self.ask(
            options, "/api/v3/ticker/price", params={"symbols": listed}, deadline_seconds=deadline_seconds
        )
        if not isinstance(payload, list) or not payload:
            raise ProviderUnavailable("bad_payload")
        wanted = {*external_ids, ""}
        quotes = [quote_of(item, name="symbol", price="price") for item in payload]
        return [quote for quote in quotes if quote.external_id in wanted]

    def closes_of(self, request: HistoryRequest, stretch: Stretch) -> Iterable[tuple[datetime, Any]]:
        """Give the close of each candle; a row is its start, open, high, low, close and more."""
        rows = self.ask(
            request.options,
            "/api/v3/klines",
            params={
                "symbol": request.external_id,
                "interval": INTERVALS[stretch.step],
                "startTime": milliseconds(stretch.first_start),
                "endTime": milliseconds(stretch.last_start),
                "limit": 1_000,
            },
        )
        for row in rows_of(rows, list):
            yield epoch(cell(row, 0), unit=timedelta(milliseconds=1)) + stretch.step, cell(row, 4)

    def currency_of(self, external_id: str, options: Mapping[str, Any]) -> str | None:
        """Return the currency at the end of the symbol, None where it is not a known one."""
        return ending_of(external_id, CURRENCIES)

    def search(self, words: str, options: Mapping[str, Any]) -> Sequence[Found]:
        """Return the symbols in which the words stand: of the prices of all, since the list of symbols is too long."""
        symbols = [text_of(item, "symbol") for item in rows_of(self.ask(options, "/api/v3/ticker/price"))]
        return best_of(map(_found, filter(None, symbols)), words)


def _found(symbol: str) -> Found:
    currency = ending_of(symbol, CURRENCIES)
    base = symbol.removesuffix(currency or "")
    return Found(symbol, base, f"{base}/{currency}" if currency else symbol, currency)
