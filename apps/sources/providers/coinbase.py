"""Coinbase Exchange: last trades by product, one product per call. No key; gives the time of the trade."""

from collections.abc import Iterable, Sequence

from apps.market.domain import RawQuote
from apps.sources.providers import live
from apps.sources.providers.live import DAY, HOUR, MINUTE, Ask, Close, LiveProvider
from apps.sources.providers.protocol import HistoryLimits, HistoryRange, Limits, ProviderRejected, SearchResult


class Coinbase(LiveProvider):
    """Prices by Coinbase's product ids ("BTC-USD")."""

    slug = "coinbase"
    base_url = "https://api.exchange.coinbase.com"
    limits = Limits(batch_size=1, shortest_interval_seconds=1, calls_per_minute=600, calls_per_round=30)
    gives_event_time = True
    history = HistoryLimits(steps=(MINUTE, HOUR, DAY), points=300)
    currency_mark = "-"

    def fetch_batch(self, ask: Ask, external_ids: Sequence[str]) -> Sequence[RawQuote]:
        """Return the last trade of the one product. Raises ProviderRejected("unknown_symbol") where it is not there."""
        [external_id] = external_ids
        try:
            trade = live.object_of(ask(f"/products/{live.segment(external_id)}/ticker"))
        except ProviderRejected as rejection:
            if rejection.reason != "http_404":
                raise
            raise ProviderRejected("unknown_symbol") from None
        # An error is an object too, with a message in it. The volume is that of 24 hours, not of the trade.
        return [RawQuote(external_id=external_id, price=live.cell(trade, "price"), at=trade.get("time"))]

    def closes_of(self, ask: Ask, external_id: str, history_range: HistoryRange) -> Iterable[Close]:
        """Give the close of each candle; a row is its start, low, high, open, close, volume. Quiet times have none."""
        # Both ends are inside, and one candle more than 300 is refused.
        span = {"start": history_range.first_start.isoformat(), "end": history_range.last_start.isoformat()}
        path = f"/products/{live.segment(external_id)}/candles"
        rows = ask(path, {"granularity": history_range.step // live.SECOND, **span})
        return live.closes_in(rows, place=4, unit=live.SECOND, after=history_range.step)

    def founds_of(self, ask: Ask, text: str) -> Iterable[SearchResult]:
        """Give the products in which the words stand, without those that are traded no more."""
        traded = [product for product in live.rows_of(ask("/products")) if product.get("status") != "delisted"]
        founds = [live.found_of(product, symbol="base_currency", name="display_name") for product in traded]
        return live.best_of(founds, text)
