"""brapi.dev: shares of B3, several per call. Some answers need a key in BRAPI_TOKEN. Gives the time of the price."""

from collections.abc import Iterable, Sequence
from zoneinfo import ZoneInfo

from apps.market.domain import RawQuote
from apps.sources.providers import http, live
from apps.sources.providers.days import end_of_day
from apps.sources.providers.live import DAY, Ask, Close, LiveProvider
from apps.sources.providers.protocol import HistoryLimits, HistoryRange, Limits, ProviderUnavailable, SearchResult

BRASILIA = ZoneInfo("America/Sao_Paulo")
# How far back each range goes, in days; what is longer is "max".
_RANGES = {"1mo": 28, "3mo": 89, "1y": 365, "5y": 1_825}


class Brapi(LiveProvider):
    """Prices by B3's codes ("PETR4")."""

    slug = "brapi"
    base_url = "https://brapi.dev"
    # Its limits are not published.
    limits = Limits(batch_size=10, shortest_interval_seconds=60, calls_per_minute=10)
    key_variable = "BRAPI_TOKEN"
    key_header = ("Authorization", "Bearer {key}")
    gives_event_time = True
    names_days = True
    asset_kinds = ("share",)
    currency = "BRL"
    history = HistoryLimits(steps=(DAY,), points=3_650)

    def fetch_batch(self, ask: Ask, external_ids: Sequence[str]) -> Sequence[RawQuote]:
        """Return the prices of these shares. One that is unknown is refused with all that are asked for with it."""
        path = "/api/quote/" + ",".join(live.segment(name) for name in external_ids)
        found = {live.text_of(one, "symbol"): one for one in live.rows_of(live.cell(ask(path), "results"))}
        return [
            RawQuote(name, one.get("regularMarketPrice"), one.get("regularMarketTime"))
            for name in external_ids
            for one in [found.get(name, {})]
        ]

    def closes_of(self, ask: Ask, external_id: str, history_range: HistoryRange) -> Iterable[Close]:
        """Give the close of each day at its end; a row has the time at which its session began."""
        back = (http.now() - history_range.since) // DAY + 1
        named = next((name for name, days in _RANGES.items() if back <= days), "max")
        payload = ask(f"/api/quote/{live.segment(external_id)}", {"range": named, "interval": "1d"})
        [found] = live.rows_of(live.cell(payload, "results"))[:1] or [{}]
        for row in live.rows_of(found.get("historicalDataPrice", [])):
            began_at = live.epoch(live.cell(row, "date"), unit=live.SECOND)
            calendar = ask.calendars.get(external_id, "")
            if (close := row.get("close")) is not None:
                yield end_of_day(began_at.astimezone(BRASILIA).date(), zone=BRASILIA, calendar=calendar), close

    def founds_of(self, ask: Ask, text: str) -> Iterable[SearchResult]:
        """Give the codes in which the words stand. It knows no names."""
        codes = live.rows_of(live.cell(ask("/api/available", {"search": text}), "stocks"), str)
        if not all(codes):
            raise ProviderUnavailable("bad_payload")
        return live.best_of([SearchResult(code, code, code, "BRL") for code in codes], text)
