"""CoinCap v3: crypto prices in dollars, a batch per call. Needs a key in COINCAP_API_KEY; gives no event time."""

import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from apps.market.domain import RawQuote
from apps.market.providers.http import get_json
from apps.market.providers.protocol import (
    Answer,
    ProviderMisconfigured,
    ProviderRejected,
    ProviderUnavailable,
    QuoteRequest,
)

BASE_URL = "https://rest.coincap.io/v3"
KEY_VARIABLE = "COINCAP_API_KEY"
BATCH_SIZE = 200
DEADLINE_SECONDS = 10.0


class CoinCap:
    """Prices by CoinCap's asset ids ("bitcoin"). A free key has about 4 000 calls a month: ask every 20 min at most."""

    slug = "coincap"
    is_live = True

    def validate_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return {"base_url"} without a slash at its end. Raises ProviderMisconfigured."""
        unknown = sorted(options.keys() - {"base_url"})
        if unknown:
            raise ProviderMisconfigured(f"coincap knows no option {unknown[0]!r}; it knows base_url")
        base_url = options.get("base_url", BASE_URL)
        if not _is_base_url(base_url):
            raise ProviderMisconfigured("base_url must be an http or https address without user, query or fragment")
        return {"base_url": base_url.rstrip("/")}

    def fetch(self, request: QuoteRequest) -> Answer:
        """Return the newest prices, without event times, in calls of 200 ids that share one deadline of 10 s.

        Raises ProviderRejected("no_key") without a key, and what `get_json` raises: one failed call fails the answer.
        """
        key = os.environ.get(KEY_VARIABLE, "").strip()
        if not key:
            raise ProviderRejected("no_key")
        ends_at = time.monotonic() + DEADLINE_SECONDS
        quotes: list[RawQuote] = []
        for start in range(0, len(request.external_ids), BATCH_SIZE):
            ids = request.external_ids[start : start + BATCH_SIZE]
            payload = get_json(
                url=f"{request.options['base_url']}/assets",
                headers={"Authorization": f"Bearer {key}"},
                params={"ids": ",".join(ids), "limit": len(ids)},
                deadline_seconds=ends_at - time.monotonic(),
            )
            quotes += _quotes_of(payload)
        return Answer(quotes=quotes, as_of=_now())


def _is_base_url(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not any(mark in value for mark in "@?#")


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


def _now() -> datetime:
    return datetime.now(UTC)
