"""Coinbase Exchange: last trades by product, one product per call. No key; gives the time of the trade."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from apps.market.domain import RawQuote
from apps.market.providers.live import LiveProvider, best_of, cell, epoch, rows_of, text_of
from apps.market.providers.protocol import (
    DAY,
    HOUR,
    MINUTE,
    Answer,
    Found,
    HistoryLimits,
    HistoryRequest,
    Limits,
    ProviderRejected,
    ProviderUnavailable,
    QuoteRequest,
    Stretch,
)


class Coinbase(LiveProvider):
    """Prices by Coinbase's product ids ("BTC-USD")."""

    slug = "coinbase"
    base_url = "https://api.exchange.coinbase.com"
    limits = Limits(batch_size=1, shortest_interval_seconds=1, calls_per_minute=600, calls_per_round=30)
    gives_event_time = True
    history = HistoryLimits(steps=(MINUTE, HOUR, DAY), points=300)
    has_search = True

    def fetch(self, request: QuoteRequest) -> Answer:
        """Return the last trades, one call after another, all within one deadline.

        A product that is not there has no price and costs no other. Raises ProviderRejected("unknown_symbol") where
        none is there, and what `get_json` raises: any other failed call fails the answer.
        """
        answer = super().fetch(request)
        if answer.quotes and all(quote.price is None for quote in answer.quotes):
            raise ProviderRejected("unknown_symbol")
        return answer

    def fetch_batch(
        self, options: Mapping[str, Any], external_ids: Sequence[str], *, deadline_seconds: float
    ) -> Sequence[RawQuote]:
        """Return the last trade of the one product."""
        [external_id] = external_ids
        try:
            payload = self.ask(options, f"{_path(external_id)}/ticker", deadline_seconds=deadline_seconds)
        except ProviderRejected as rejection:
            if rejection.reason == "http_404":
                return [RawQuote(external_id=external_id, price=None)]
            raise
        # An error is an object too, with a message in it.
        if not isinstance(payload, dict) or "price" not in payload:
            raise ProviderUnavailable("bad_payload")
        # The volume of the answer is that of 24 hours, not of the trade.
        return [RawQuote(external_id=external_id, price=payload["price"], at=payload.get("time"))]

    def closes_of(self, request: HistoryRequest, stretch: Stretch) -> Iterable[tuple[datetime, Any]]:
        """Give the close of each candle; a row is its start, low, high, open, close, volume. Quiet times have none."""
        rows = self.ask(
            request.options,
            f"{_path(request.external_id)}/candles",
            params={
                "granularity": int(stretch.step.total_seconds()),
                # Both ends are inside, and one candle more than 300 is refused.
                "start": stretch.first_start.isoformat(),
                "end": stretch.last_start.isoformat(),
            },
        )
        for row in rows_of(rows, list):
            yield epoch(cell(row, 0), unit=timedelta(seconds=1)) + stretch.step, cell(row, 4)

    def currency_of(self, external_id: str, options: Mapping[str, Any]) -> str | None:
        """Return USD for BTC-USD."""
        return external_id.rpartition("-")[2] if "-" in external_id else None

    def search(self, words: str, options: Mapping[str, Any]) -> Sequence[Found]:
        """Return the products in which the words stand, without those that are traded no more."""
        items = [item for item in rows_of(self.ask(options, "/products")) if item.get("status") != "delisted"]
        founds = [
            Found(id_, text_of(item, "base_currency"), text_of(item, "display_name"), self.currency_of(id_, options))
            for item in items
            if (id_ := text_of(item, "id"))
        ]
        return best_of(founds, words)


def _path(external_id: str) -> str:
    return f"/products/{quote(external_id, safe='')}"
