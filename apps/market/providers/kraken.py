"""Kraken: last trades by pair, a batch per call. No key; no event time. Errors come with status 200."""

from collections.abc import Mapping, Sequence
from typing import Any

from apps.market.domain import RawQuote
from apps.market.providers import http
from apps.market.providers.protocol import Answer, Limits, ProviderRejected, ProviderUnavailable, QuoteRequest

BASE_URL = "https://api.kraken.com"


class Kraken:
    """Prices by Kraken's pairs ("XBTUSD" or "XXBTZUSD"). One pair that Kraken does not know fails its whole call."""

    slug = "kraken"
    is_live = True
    limits = Limits(batch_size=100, shortest_interval_seconds=1, calls_per_minute=60)

    def validate_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return {"base_url"} without a slash at its end. Raises ProviderMisconfigured."""
        http.refuse_unknown_options(options, ["base_url"], slug=self.slug)
        return {"base_url": http.read_base_url(options, default=BASE_URL)}

    def fetch(self, request: QuoteRequest) -> Answer:
        """Return one quote per pair, without event times, in calls of 100 pairs that share one deadline.

        A pair that Kraken answers under a name of its own has no price. Raises ProviderRejected("unknown_symbol"),
        ProviderUnavailable (rate_limited, provider_error) and what `get_json` raises: one failed call fails the answer.
        """
        left = http.time_left()
        quotes: list[RawQuote] = []
        for pairs in self.limits.batches_of(request.external_ids):
            payload = http.get_json(
                url=f"{request.options['base_url']}/0/public/Ticker",
                params={"pair": ",".join(pairs)},
                deadline_seconds=left(),
            )
            quotes += _quotes_of(payload, pairs=pairs)
        return Answer(quotes=quotes, as_of=http.now())


def _quotes_of(payload: Any, *, pairs: Sequence[str]) -> list[RawQuote]:
    if not isinstance(payload, dict) or not isinstance(payload.get("error"), list):
        raise ProviderUnavailable("bad_payload")
    _refuse_errors(payload["error"])
    tickers = payload.get("result")
    if not isinstance(tickers, dict) or not tickers:
        raise ProviderUnavailable("bad_payload")
    # A name as it was sent goes before one that is made.
    named = {_short_name(key): ticker for key, ticker in tickers.items()} | tickers
    return [RawQuote(external_id=pair, price=_last_price(named.get(pair))) for pair in pairs]


def _refuse_errors(errors: Sequence[Any]) -> None:
    if not errors:
        return
    text = "\n".join(map(str, errors))
    if "Rate limit" in text or "Too many requests" in text:
        raise ProviderUnavailable("rate_limited")
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
