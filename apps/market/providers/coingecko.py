"""CoinGecko v3: crypto prices with their times, a batch per call. A demo key in COINGECKO_API_KEY is welcome, not
needed."""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from apps.market.domain import RawQuote
from apps.market.providers import http
from apps.market.providers.live import LiveProvider, cell, epoch, milliseconds, rows_of, text_of
from apps.market.providers.protocol import (
    DAY,
    FOUND_AT_MOST,
    HOUR,
    Answer,
    Found,
    HistoryLimits,
    HistoryRequest,
    Limits,
    ProviderMisconfigured,
    ProviderUnavailable,
    QuoteRequest,
    Stretch,
)

VS_CURRENCY = "usd"


class CoinGecko(LiveProvider):
    """Prices by CoinGecko's ids ("bitcoin") in one currency."""

    slug = "coingecko"
    base_url = "https://api.coingecko.com/api/v3"
    # The public answers are kept for a minute. Published figures differ: these are the more cautious ones.
    limits = Limits(batch_size=250, shortest_interval_seconds=60, calls_per_minute=30, calls_per_day=10_000 / 31)
    key_variable = "COINGECKO_API_KEY"
    gives_event_time = True
    # It chooses the step itself: hours up to 90 days, else days. What is from before 365 days is refused.
    history = HistoryLimits(steps=(HOUR, DAY), points=90 * 24, reach=364 * DAY)
    has_search = True

    def validate_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return {"base_url", "vs_currency"}, the address without a slash at its end. Raises ProviderMisconfigured."""
        http.refuse_unknown_options(options, ["base_url", "vs_currency"], slug=self.slug)
        vs_currency = options.get("vs_currency", VS_CURRENCY)
        if not isinstance(vs_currency, str) or not re.fullmatch("[a-z]+", vs_currency):
            raise ProviderMisconfigured("vs_currency must be a currency in small letters, like usd")
        return {"base_url": http.read_base_url(options, default=self.base_url), "vs_currency": vs_currency}

    def ask(self, options: Mapping[str, Any], path: str, **call: Any) -> Mapping[str, Any]:
        """Return the object at this path. Raises what `get_json` raises."""
        key = self.key()
        payload = super().ask(options, path, headers={"x-cg-demo-api-key": key} if key else None, **call)
        if not isinstance(payload, dict):
            raise ProviderUnavailable("bad_payload")
        return payload

    def fetch(self, request: QuoteRequest) -> Answer:
        """Return the newest prices in calls of 250 ids that share one deadline. An id that is unknown has no quote.

        Raises what `get_json` raises, and ProviderUnavailable("bad_payload"): one failed call fails the answer.
        """
        answer = super().fetch(request)
        # Judged over all calls: a last batch of nothing but unknown ids costs no other.
        if request.external_ids and not answer.quotes:
            raise ProviderUnavailable("bad_payload")
        return answer

    def fetch_batch(
        self, options: Mapping[str, Any], external_ids: Sequence[str], *, deadline_seconds: float
    ) -> Sequence[RawQuote]:
        """Return one quote per id that is in the answer."""
        vs_currency = options["vs_currency"]
        params = {"ids": ",".join(external_ids), "vs_currencies": vs_currency}
        params |= {"include_last_updated_at": "true", "precision": "full"}
        payload = self.ask(options, "/simple/price", params=params, deadline_seconds=deadline_seconds)
        return [_quote_of(payload[id_], id_, vs_currency=vs_currency) for id_ in external_ids if id_ in payload]

    def closes_of(self, request: HistoryRequest, stretch: Stretch) -> Iterable[tuple[datetime, Any]]:
        """Give prices at the times that CoinGecko has for them."""
        payload = self.ask(
            request.options,
            f"/coins/{quote(request.external_id, safe='')}/market_chart/range",
            params={
                "vs_currency": request.options["vs_currency"],
                "from": milliseconds(stretch.since) // 1_000,
                "to": milliseconds(stretch.reached) // 1_000,
                "precision": "full",
            },
        )
        for point in rows_of(payload.get("prices"), list):
            yield epoch(cell(point, 0), unit=timedelta(milliseconds=1)), cell(point, 1)

    def currency_of(self, external_id: str, options: Mapping[str, Any]) -> str:
        """Return the currency of the option, in capitals."""
        return str(options["vs_currency"]).upper()

    def search(self, words: str, options: Mapping[str, Any]) -> Sequence[Found]:
        """Return the coins that CoinGecko finds, the largest first."""
        coins = rows_of(self.ask(options, "/search", params={"query": words}).get("coins"))
        currency = self.currency_of("", options)
        return [
            Found(external_id, text_of(coin, "symbol"), text_of(coin, "name"), currency)
            for coin in coins
            if (external_id := text_of(coin, "id"))
        ][:FOUND_AT_MOST]


def _quote_of(item: Any, external_id: str, *, vs_currency: str) -> RawQuote:
    if not isinstance(item, dict):
        return RawQuote(external_id=external_id, price=None)
    return RawQuote(external_id=external_id, price=item.get(vs_currency), at=item.get("last_updated_at"))
