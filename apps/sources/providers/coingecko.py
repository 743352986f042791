"""CoinGecko v3: crypto prices with their times, an entry per call. A demo key in COINGECKO_API_KEY is welcome, not
needed."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from apps.market.domain import RawQuote
from apps.sources.providers import live
from apps.sources.providers.live import DAY, HOUR, Ask, Close, LiveProvider
from apps.sources.providers.options import Option
from apps.sources.providers.protocol import HistoryLimits, HistoryRange, Limits, ProviderUnavailable, SearchResult

_CURRENCY = "be a currency in small letters, like usd"


class CoinGecko(LiveProvider):
    """Prices by CoinGecko's ids ("bitcoin") in one currency."""

    slug = "coingecko"
    base_url = "https://api.coingecko.com/api/v3"
    # The public answers are kept for a minute. Published figures differ: these are the more cautious ones.
    limits = Limits(batch_size=250, shortest_interval_seconds=60, calls_per_minute=30, calls_per_day=10_000 / 31)
    key_variable = "COINGECKO_API_KEY"
    key_header = ("x-cg-demo-api-key", "{key}")
    gives_event_time = True
    # It chooses the step itself: hours up to 90 days, else days. What is from before 365 days is refused.
    history = HistoryLimits(steps=(HOUR, DAY), points=90 * 24, reach=364 * DAY)
    more_options = (Option("vs_currency", "Currency", "Like usd.", default="usd", pattern="[a-z]+", must=_CURRENCY),)

    def fetch_batch(self, ask: Ask, external_ids: Sequence[str]) -> Sequence[RawQuote]:
        """Return one quote per id that is in the answer. An id that is unknown has none."""
        vs_currency = ask.options["vs_currency"]
        params = {"ids": ",".join(external_ids), "vs_currencies": vs_currency}
        params |= {"include_last_updated_at": "true", "precision": "full"}
        payload = live.object_of(ask("/simple/price", params))
        items = {id_: payload[id_] if isinstance(payload[id_], dict) else {} for id_ in external_ids if id_ in payload}
        return [RawQuote(id_, item.get(vs_currency), item.get("last_updated_at")) for id_, item in items.items()]

    def check_answer(self, quotes: Sequence[RawQuote]) -> None:
        """Raise ProviderUnavailable("bad_payload") where all ids are unknown."""
        if not quotes:
            raise ProviderUnavailable("bad_payload")

    def closes_of(self, ask: Ask, external_id: str, history_range: HistoryRange) -> Iterable[Close]:
        """Give prices at the times that CoinGecko has for them."""
        params = {"vs_currency": ask.options["vs_currency"], "precision": "full"}
        params["from"] = live.milliseconds(history_range.since) // 1_000
        params["to"] = live.milliseconds(history_range.reached) // 1_000
        payload = ask(f"/coins/{live.segment(external_id)}/market_chart/range", params)
        return live.closes_in(live.cell(payload, "prices"), place=1, unit=live.MILLISECOND)

    def currency_of(self, external_id: str, options: Mapping[str, Any]) -> str:
        """Return the currency of the option, in capitals."""
        return str(options["vs_currency"]).upper()

    def founds_of(self, ask: Ask, text: str) -> Iterable[SearchResult]:
        """Give the coins that CoinGecko finds, the largest first."""
        coins = live.cell(ask("/search", {"query": text}), "coins")
        return map(live.found_of, live.rows_of(coins))
