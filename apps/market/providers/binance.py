"""Binance: prices by trading pair, a batch per call, from the host that has market data only. No key; no event time."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from apps.market.domain import RawQuote
from apps.market.providers import http
from apps.market.providers.protocol import Answer, Limits, ProviderRejected, ProviderUnavailable, QuoteRequest

BASE_URL = "https://data-api.binance.vision"
WEIGHT_PER_MINUTE = 6_000
WEIGHT_PER_CALL = 4


class Binance:
    """Prices by Binance's symbols ("BTCUSDT"). One symbol that Binance does not list fails its whole call."""

    slug = "binance"
    is_live = True
    limits = Limits(batch_size=100, shortest_interval_seconds=1, calls_per_minute=WEIGHT_PER_MINUTE / WEIGHT_PER_CALL)

    def validate_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return {"base_url"} without a slash at its end. Raises ProviderMisconfigured."""
        http.refuse_unknown_options(options, ["base_url"], slug=self.slug)
        return {"base_url": http.read_base_url(options, default=BASE_URL)}

    def fetch(self, request: QuoteRequest) -> Answer:
        """Return the newest prices, without event times, in calls of 100 symbols that share one deadline.

        Raises what `get_json` raises: one failed call fails the answer.
        """
        left = http.time_left()
        quotes: list[RawQuote] = []
        for symbols in self.limits.batches_of(request.external_ids):
            quotes += _quotes_of(_ask(request, symbols=symbols, deadline_seconds=left()), symbols=symbols)
        return Answer(quotes=quotes, as_of=http.now())


def _ask(request: QuoteRequest, *, symbols: Sequence[str], deadline_seconds: float) -> Any:
    # Some symbols are not ASCII, and Binance reads no \u escapes.
    listed = json.dumps(list(symbols), separators=(",", ":"), ensure_ascii=False)
    try:
        return http.get_json(
            url=f"{request.options['base_url']}/api/v3/ticker/price",
            params={"symbols": listed},
            deadline_seconds=deadline_seconds,
        )
    except ProviderRejected as rejection:
        # Here 418 is a ban of the address after many a 429, and it ends.
        if rejection.reason == "http_418":
            raise ProviderUnavailable("rate_limited") from None
        raise


def _quotes_of(payload: Any, *, symbols: Sequence[str]) -> list[RawQuote]:
    """Return the quotes of `symbols`. An item without a symbol has no price either: admission counts it."""
    if not isinstance(payload, list) or not payload:
        raise ProviderUnavailable("bad_payload")
    wanted = {*symbols, ""}
    return [quote for quote in map(_quote_of, payload) if quote.external_id in wanted]


def _quote_of(item: Any) -> RawQuote:
    if not isinstance(item, dict) or not isinstance(item.get("symbol"), str):
        return RawQuote(external_id="", price=None)
    return RawQuote(external_id=item["symbol"], price=item.get("price"))
