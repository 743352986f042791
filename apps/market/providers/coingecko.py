"""CoinGecko v3: crypto prices with their times, a batch per call. A demo key in COINGECKO_API_KEY is welcome, not
needed."""

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from apps.market.domain import RawQuote
from apps.market.providers import http
from apps.market.providers.protocol import Answer, Limits, ProviderMisconfigured, ProviderUnavailable, QuoteRequest

BASE_URL = "https://api.coingecko.com/api/v3"
KEY_VARIABLE = "COINGECKO_API_KEY"
VS_CURRENCY = "usd"


class CoinGecko:
    """Prices by CoinGecko's ids ("bitcoin") in one currency."""

    slug = "coingecko"
    is_live = True
    # The public answers are kept for a minute. Published figures differ: these are the more cautious ones.
    limits = Limits(batch_size=250, shortest_interval_seconds=60, calls_per_minute=30, calls_per_day=10_000 / 31)

    def validate_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return {"base_url", "vs_currency"}, the address without a slash at its end. Raises ProviderMisconfigured."""
        http.refuse_unknown_options(options, ["base_url", "vs_currency"], slug=self.slug)
        vs_currency = options.get("vs_currency", VS_CURRENCY)
        if not isinstance(vs_currency, str) or not re.fullmatch("[a-z]+", vs_currency):
            raise ProviderMisconfigured("vs_currency must be a currency in small letters, like usd")
        return {"base_url": http.read_base_url(options, default=BASE_URL), "vs_currency": vs_currency}

    def fetch(self, request: QuoteRequest) -> Answer:
        """Return the newest prices in calls of 250 ids that share one deadline. An id that is unknown has no quote.

        Raises what `get_json` raises, and ProviderUnavailable("bad_payload"): one failed call fails the answer.
        """
        key = os.environ.get(KEY_VARIABLE, "").strip()
        vs_currency = request.options["vs_currency"]
        left = http.time_left()
        quotes: list[RawQuote] = []
        for ids in self.limits.batches_of(request.external_ids):
            payload = http.get_json(
                url=f"{request.options['base_url']}/simple/price",
                headers={"x-cg-demo-api-key": key} if key else None,
                params={
                    "ids": ",".join(ids),
                    "vs_currencies": vs_currency,
                    "include_last_updated_at": "true",
                    "precision": "full",
                },
                deadline_seconds=left(),
            )
            quotes += _quotes_of(payload, ids=ids, vs_currency=vs_currency)
        # Judged over all calls: a last batch of nothing but unknown ids costs no other.
        if request.external_ids and not quotes:
            raise ProviderUnavailable("bad_payload")
        return Answer(quotes=quotes, as_of=http.now())


def _quotes_of(payload: Any, *, ids: Sequence[str], vs_currency: str) -> list[RawQuote]:
    """Return one quote per id that was asked for and is in the answer."""
    if not isinstance(payload, dict):
        raise ProviderUnavailable("bad_payload")
    return [_quote_of(payload[id_], external_id=id_, vs_currency=vs_currency) for id_ in ids if id_ in payload]


def _quote_of(item: Any, *, external_id: str, vs_currency: str) -> RawQuote:
    if not isinstance(item, dict):
        return RawQuote(external_id=external_id, price=None)
    return RawQuote(external_id=external_id, price=item.get(vs_currency), at=item.get("last_updated_at"))
