"""Alpha Vantage: shares and exchange rates, one symbol per call. Needs a key in ALPHAVANTAGE_API_KEY."""

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from apps.market.domain import RawQuote
from apps.market.providers import http
from apps.market.providers.protocol import Answer, Limits, ProviderRejected, ProviderUnavailable, QuoteRequest

BASE_URL = "https://www.alphavantage.co"
KEY_VARIABLE = "ALPHAVANTAGE_API_KEY"


class AlphaVantage:
    """Shares by their symbols ("MSFT"), exchange rates by pairs ("EUR/USD"). A free key has 25 calls a day."""

    slug = "alphavantage"
    is_live = True
    # One call per round, since a free key is also refused where it asks more than once a second.
    limits = Limits(batch_size=1, shortest_interval_seconds=1, calls_per_minute=5, calls_per_day=25, calls_per_round=1)

    def validate_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return {"base_url"} without a slash at its end. Raises ProviderMisconfigured."""
        http.refuse_unknown_options(options, ["base_url"], slug=self.slug)
        return {"base_url": http.read_base_url(options, default=BASE_URL)}

    def fetch(self, request: QuoteRequest) -> Answer:
        """Return the newest prices, in calls of one symbol that share one deadline.

        An unknown symbol has no price. Raises ProviderRejected("no_key") without a key, what `get_json` raises, and
        what an answer says in its text: rate_limited, premium, unauthorized. One failed call fails the answer.
        """
        key = os.environ.get(KEY_VARIABLE, "").strip()
        if not key:
            raise ProviderRejected("no_key")
        left = http.time_left()
        quotes: list[RawQuote] = []
        for external_id in request.external_ids:
            payload = http.get_json(
                url=f"{request.options['base_url']}/query",
                params={**_params_for(external_id), "apikey": key},
                deadline_seconds=left(),
            )
            quotes.append(_quote_of(payload, external_id=external_id))
        return Answer(quotes=quotes, as_of=http.now())


def _params_for(external_id: str) -> dict[str, str]:
    from_currency, slash, to_currency = external_id.partition("/")
    if not slash:
        return {"function": "GLOBAL_QUOTE", "symbol": external_id}
    return {"function": "CURRENCY_EXCHANGE_RATE", "from_currency": from_currency, "to_currency": to_currency}


def _quote_of(payload: Any, *, external_id: str) -> RawQuote:
    if "/" in external_id:
        rate = _item_of(payload, name="Realtime Currency Exchange Rate")
        return RawQuote(external_id=external_id, price=rate.get("5. Exchange Rate"), at=_event_time(rate))
    # Of a share it tells the trading day, and no time.
    return RawQuote(external_id=external_id, price=_item_of(payload, name="Global Quote").get("05. price"))


def _item_of(payload: Any, *, name: str) -> Mapping[str, Any]:
    """Return the object `name` of an answer, empty where the symbol is unknown. Every error comes with status 200."""
    if not isinstance(payload, dict):
        raise ProviderUnavailable("bad_payload")
    notices = [str(payload[notice]).lower() for notice in ("Note", "Information") if notice in payload]
    # Not only "premium": whoever asks too often is told of "premium plans" and "all premium endpoints" too.
    if any("a premium endpoint" in notice for notice in notices):
        raise ProviderRejected("premium")
    if notices:
        raise ProviderUnavailable("rate_limited")
    if "apikey" in str(payload.get("Error Message")).lower():
        raise ProviderRejected("unauthorized")
    if "Error Message" in payload or not payload:
        return {}
    item = payload.get(name)
    if not isinstance(item, dict):
        raise ProviderUnavailable("bad_payload")
    return item


def _event_time(rate: Mapping[str, Any]) -> datetime | None:
    if rate.get("7. Time Zone") != "UTC":
        return None
    try:
        return datetime.strptime(rate["6. Last Refreshed"], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    except (KeyError, TypeError, ValueError):
        return None
