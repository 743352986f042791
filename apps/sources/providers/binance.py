"""Binance: prices by trading pair, an entry per call, from the host that has market data only. No key; no event
time."""

import json
from collections.abc import Iterable, Sequence

from apps.market.domain import RawQuote
from apps.sources.providers import live
from apps.sources.providers.live import DAY, HOUR, MINUTE, Ask, Close, LiveProvider
from apps.sources.providers.protocol import HistoryLimits, HistoryRange, Limits, ProviderUnavailable, SearchResult

WEIGHT_PER_MINUTE = 6_000
WEIGHT_PER_CALL = 4
INTERVALS = {MINUTE: "1m", HOUR: "1h", DAY: "1d"}
# What pairs are traded against; a name has no mark between its two halves.
_MONEY = "USDT USDC FDUSD TUSD BUSD USD1 DAI EUR EURI GBP BRL TRY AUD JPY PLN RON CZK ARS MXN COP ZAR UAH RUB IDR IDRT"


class Binance(LiveProvider):
    """Prices by Binance's symbols ("BTCUSDT"). One symbol that Binance does not list fails its whole call."""

    slug = "binance"
    base_url = "https://data-api.binance.vision"
    limits = Limits(batch_size=100, shortest_interval_seconds=1, calls_per_minute=WEIGHT_PER_MINUTE / WEIGHT_PER_CALL)
    # Here 418 is a ban of the address after many a 429, and it ends.
    ban_status = 418
    history = HistoryLimits(steps=tuple(INTERVALS), points=1_000)
    currencies = (*_MONEY.split(), "BTC", "ETH", "BNB", "TRX", "XRP", "DOGE", "SOL")

    def fetch_batch(self, ask: Ask, external_ids: Sequence[str]) -> Sequence[RawQuote]:
        """Return the quotes of these. An item without a symbol has no price either: admission counts it."""
        # Some symbols are not ASCII, and Binance reads no \u escapes.
        listed = json.dumps(list(external_ids), separators=(",", ":"), ensure_ascii=False)
        items = live.rows_of(ask("/api/v3/ticker/price", {"symbols": listed}), object)
        if not items:
            raise ProviderUnavailable("bad_payload")
        wanted = {*external_ids, ""}
        quotes = [live.quote_of(item, name="symbol", price="price") for item in items]
        return [quote for quote in quotes if quote.external_id in wanted]

    def closes_of(self, ask: Ask, external_id: str, history_range: HistoryRange) -> Iterable[Close]:
        """Give the close of each candle; a row is its start, open, high, low, close and more."""
        asked: dict[str, str | int] = {"symbol": external_id, "interval": INTERVALS[history_range.step], "limit": 1_000}
        asked["startTime"] = live.milliseconds(history_range.first_start)
        asked["endTime"] = live.milliseconds(history_range.last_start)
        rows = ask("/api/v3/klines", asked)
        return live.closes_in(rows, place=4, unit=live.MILLISECOND, after=history_range.step)

    def founds_of(self, ask: Ask, text: str) -> Iterable[SearchResult]:
        """Give the symbols in which the words stand: of the prices of all, since the list of symbols is too long."""
        symbols = [live.text_of(item, "symbol") for item in live.rows_of(ask("/api/v3/ticker/price"))]
        return live.best_of(map(self._found, symbols), text)

    def _found(self, symbol: str) -> SearchResult:
        currency = self.currency_of(symbol, {})
        base = symbol.removesuffix(currency or "")
        return SearchResult(symbol, base, f"{base}/{currency}" if currency else symbol, currency)
