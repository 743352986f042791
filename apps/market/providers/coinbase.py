"""Coinbase Exchange: last trades by product, one product per call. No key; gives the time of the trade."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from apps.market.domain import RawQuote
from apps.market.providers import http
from apps.market.providers.protocol import Answer, Limits, ProviderRejected, ProviderUnavailable, QuoteRequest

BASE_URL = "https://api.exchange.coinbase.com"


class Coinbase:
    """Prices by Coinbase's product ids ("BTC-USD")."""

    slug = "coinbase"
    is_live = True
    limits = Limits(batch_size=1, shortest_interval_seconds=1, calls_per_minute=600, calls_per_round=30)

    def validate_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return {"base_url"} without a slash at its end. Raises ProviderMisconfigured."""
        http.refuse_unknown_options(options, ["base_url"], slug=self.slug)
        return {"base_url": http.read_base_url(options, default=BASE_URL)}

    def fetch(self, request: QuoteRequest) -> Answer:
        """Return the last trades, one call after another, all within one deadline.

        A product that is not there has no price and costs no other. Raises ProviderRejected("unknown_symbol") where
        none is there, and what `get_json` raises: any other failed call fails the answer.
        """
        left = http.time_left()
        quotes = [
            _fetch_one(request.options["base_url"], external_id=external_id, deadline_seconds=left())
            for external_id in request.external_ids
        ]
        if quotes and all(quote.price is None for quote in quotes):
            raise ProviderRejected("unknown_symbol")
        return Answer(quotes=quotes, as_of=http.now())


def _fetch_one(base_url: str, *, external_id: str, deadline_seconds: float) -> RawQuote:
    try:
        payload = http.get_json(
            url=f"{base_url}/products/{quote(external_id, safe='')}/ticker", deadline_seconds=deadline_seconds
        )
    except ProviderRejected as rejection:
        if rejection.reason == "http_404":
            return RawQuote(external_id=external_id, price=None)
        raise
    # An error is an object too, with a message in it.
    if not isinstance(payload, dict) or "price" not in payload:
        raise ProviderUnavailable("bad_payload")
    # The volume of the answer is that of 24 hours, not of the trade.
    return RawQuote(external_id=external_id, price=payload["price"], at=payload.get("time"))
