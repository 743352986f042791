"""CoinCap v3: crypto prices in dollars, an entry per call. Needs a key in COINCAP_API_KEY; gives no event time."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from apps.market.domain import RawQuote
from apps.sources.providers import live
from apps.sources.providers.live import DAY, FOUND_AT_MOST, HOUR, MINUTE, Ask, Close, LiveProvider
from apps.sources.providers.protocol import HistoryLimits, HistoryRange, Limits, SearchResult

INTERVALS = {MINUTE: "m1", HOUR: "h1", DAY: "d1"}


# Of a free key's credits a call takes one, and one more for each 2.5 KB of its answer: of ten assets, three in all.
CREDITS_A_MONTH, CREDITS_A_CALL = 4_000, 3


class CoinCap(LiveProvider):
    """Prices by CoinCap's asset ids ("bitcoin")."""

    slug = "coincap"
    base_url = "https://rest.coincap.io/v3"
    limits = Limits(
        batch_size=10,
        shortest_interval_seconds=1,
        calls_per_minute=600,
        calls_per_day=CREDITS_A_MONTH / CREDITS_A_CALL / 31,
    )
    key_variable = "COINCAP_API_KEY"
    needs_key = True
    key_header = ("Authorization", "Bearer {key}")
    history = HistoryLimits(steps=tuple(INTERVALS), points=720)
    currency = "USD"

    def content_of(self, payload: Any) -> list[Any]:
        """Return the list in `data`."""
        # The retired v2 still answers 200, with an object in `data` that says so.
        return live.rows_of(live.cell(payload, "data"), object)

    def fetch_batch(self, ask: Ask, external_ids: Sequence[str]) -> Sequence[RawQuote]:
        """Return one quote per item. An item that is no asset has no price either: admission counts it."""
        items = ask("/assets", {"ids": ",".join(external_ids), "limit": len(external_ids)})
        return [live.quote_of(item, name="id", price="priceUsd") for item in items]

    def closes_of(self, ask: Ask, external_id: str, history_range: HistoryRange) -> Iterable[Close]:
        """Give the prices of minutes and hours at their times, and those of days, which are averages, at their end."""
        passed = DAY if history_range.step == DAY else timedelta()
        span = {"start": live.milliseconds(history_range.first_start), "end": live.milliseconds(history_range.reached)}
        rows = ask(f"/assets/{live.segment(external_id)}/history", {"interval": INTERVALS[history_range.step], **span})
        for row in live.rows_of(rows):
            yield live.epoch(live.cell(row, "time"), unit=live.MILLISECOND) + passed, row.get("priceUsd")

    def founds_of(self, ask: Ask, text: str) -> Iterable[SearchResult]:
        """Give what CoinCap finds, by id or symbol."""
        items = ask("/assets", {"search": text, "limit": FOUND_AT_MOST})
        return map(live.found_of, live.rows_of(items))
