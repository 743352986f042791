"""CoinCap v3: crypto prices in dollars, a batch per call. Needs a key in COINCAP_API_KEY; gives no event time."""

import os
from collections.abc import Mapping
from typing import Any

from apps.market.domain import RawQuote
from apps.market.providers import http
from apps.market.providers.protocol import Answer, Limits, ProviderRejected, ProviderUnavailable, QuoteRequest

BASE_URL = "https://rest.coincap.io/v3"
KEY_VARIABLE = "COINCAP_API_KEY"


class CoinCap:
    """Prices by CoinCap's asset ids ("bitcoin"). A free key has about 4 000 calls a month."""

    slug = "coincap"
    is_live = True
    limits = Limits(batch_size=200, shortest_interval_seconds=1, calls_per_minute=600, calls_per_day=4_000 / 31)

    def validate_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return {"base_url"} without a slash at its end. Raises ProviderMisconfigured."""
        http.refuse_unknown_options(options, ["base_url"], slug=self.slug)
        return {"base_url": http.read_base_url(options, default=BASE_URL)}

    def fetch(self, request: QuoteRequest) -> Answer:
        """Return the newest prices, without event times, in calls of 200 ids that share one deadline.

        Raises ProviderRejected("no_key") without a key, and what `get_json` raises: one failed call fails the answer.
        """
        key = os.environ.get(KEY_VARIABLE, "").strip()
        if not key:
            raise ProviderRejected("no_key")
        left = http.time_left()
        quotes: list[RawQuote] = []
        for ids in self.limits.batches_of(request.external_ids):
            payload = http.get_json(
                url=f"{request.options['base_url']}/assets",
                headers={"Authorization": f"Bearer {key}"},
                params={"ids": ",".join(ids), "limit": len(ids)},
                deadline_seconds=left(),
            )
            quotes += _quotes_of(payload)
        return Answer(quotes=quotes, as_of=http.now())


def _quotes_of(payload: Any) -> list[RawQuote]:
    """Return one quote per item of `data`. An item that is no asset has no price either: admission counts it."""
    # The retired v2 still answers 200, with an object in `data` that says so.
    if not isinstance(payload, dict) or not isinstance(payload.get("data"), list):
        raise ProviderUnavailable("bad_payload")
    return [_quote_of(item) for item in payload["data"]]


def _quote_of(item: Any) -> RawQuote:
    if not isinstance(item, dict) or not isinstance(item.get("id"), str):
        return RawQuote(external_id="", price=None)
    return RawQuote(external_id=item["id"], price=item.get("priceUsd"))
