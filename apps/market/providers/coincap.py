"""CoinCap v3: crypto prices in dollars, a batch per call. Needs a key in COINCAP_API_KEY; gives no event time."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from apps.market.domain import RawQuote
from apps.market.providers.live import LiveProvider, cell, epoch, milliseconds, quote_of, rows_of, text_of
from apps.market.providers.protocol import (
    DAY,
    FOUND_AT_MOST,
    HOUR,
    MINUTE,
    Found,
    HistoryLimits,
    HistoryRequest,
    Limits,
    ProviderUnavailable,
    Stretch,
)

INTERVALS = {MINUTE: "m1", HOUR: "h1", DAY: "d1"}


class CoinCap(LiveProvider):
    """Prices by CoinCap's asset ids ("bitcoin"). A free key has about 4 000 calls a month."""

    slug = "coincap"
    base_url = "https://rest.coincap.io/v3"
    limits = Limits(batch_size=200, shortest_interval_seconds=1, calls_per_minute=600, calls_per_day=4_000 / 31)
    key_variable = "COINCAP_API_KEY"
    needs_key = True
    history = HistoryLimits(steps=tuple(INTERVALS), points=720)
    has_search = True

    def ask(self, options: Mapping[str, Any], path: str, **call: Any) -> list[Any]:
        """Return the list in `data`. Raises what `get_json` raises, and ProviderRejected("no_key")."""
        payload = super().ask(options, path, headers={"Authorization": f"Bearer {self.key()}"}, **call)
        # The retired v2 still answers 200, with an object in `data` that says so.
        if not isinstance(payload, dict) or not isinstance(payload.get("data"), list):
            raise ProviderUnavailable("bad_payload")
        items: list[Any] = payload["data"]
        return items

    def fetch_batch(
        self, options: Mapping[str, Any], external_ids: Sequence[str], *, deadline_seconds: float
    ) -> Sequence[RawQuote]:
        """Return one quote per item. An item that is no asset has no price either: admission counts it."""
        params: dict[str, str | int] = {"ids": ",".join(external_ids), "limit": len(external_ids)}
        items = self.ask(options, "/assets", params=params, deadline_seconds=deadline_seconds)
        return [quote_of(item, name="id", price="priceUsd") for item in items]

    def closes_of(self, request: HistoryRequest, stretch: Stretch) -> Iterable[tuple[datetime, Any]]:
        """Give the prices of minutes and hours at their times, and those of days, which are averages, at their end."""
        passed = DAY if stretch.step == DAY else timedelta()
        rows = self.ask(
            request.options,
            f"/assets/{quote(request.external_id, safe='')}/history",
            params={
                "interval": INTERVALS[stretch.step],
                "start": milliseconds(stretch.first_start),
                "end": milliseconds(stretch.reached),
            },
        )
        for row in rows_of(rows):
            yield epoch(cell(row, "time"), unit=timedelta(milliseconds=1)) + passed, row.get("priceUsd")

    def currency_of(self, external_id: str, options: Mapping[str, Any]) -> str:
        """Return USD."""
        return "USD"

    def search(self, words: str, options: Mapping[str, Any]) -> Sequence[Found]:
        """Return what CoinCap finds, by id or symbol."""
        items = rows_of(self.ask(options, "/assets", params={"search": words, "limit": FOUND_AT_MOST}))
        return [
            Found(external_id, text_of(item, "symbol"), text_of(item, "name"), "USD")
            for item in items
            if (external_id := text_of(item, "id"))
        ][:FOUND_AT_MOST]
