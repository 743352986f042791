"""Frankfurter v1: the reference rates of the European Central Bank, one call per base currency. Needs no key."""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

from apps.market.domain import RawQuote
from apps.sources.providers import http, live
from apps.sources.providers.live import DAY, Ask, Close, LiveProvider
from apps.sources.providers.protocol import (
    Answer,
    HistoryLimits,
    HistoryRange,
    Limits,
    ProviderRejected,
    ProviderUnavailable,
    QuoteRequest,
    SearchResult,
)

# The central banks agree on the rates at about 14:10 in Frankfurt; they are published at about 16:00.
RATES_TIME = time(14, 15, tzinfo=ZoneInfo("Europe/Berlin"))
# Two different currencies: for a pair of the same one there is no rate.
_PAIR = re.compile(r"([A-Z]{3})/(?!\1)([A-Z]{3})")


class Frankfurter(LiveProvider):
    """Rates by pairs: "EUR/USD" is the price of one euro in dollars. One rate per business day."""

    slug = "frankfurter"
    base_url = "https://api.frankfurter.dev"
    # One call gives all pairs of a base currency. How many that is cannot be known here, so one is the cautious bound.
    limits = Limits(batch_size=1, shortest_interval_seconds=3_600)
    gives_event_time = True
    asset_kinds = ("fx",)
    history = HistoryLimits(steps=(DAY,), points=365)
    currency_mark = "/"

    def fetch(self, request: QuoteRequest) -> Answer:
        """Return the rates of the newest business day, in calls that share one deadline.

        What is no pair, or of unknown currencies, has no price. Raises what `get_json` raises, and
        ProviderUnavailable("bad_payload"): one failed call fails the answer. Only a 404 fails it where all have one.
        """
        ask = self.asking(request.options)
        quotes = [RawQuote(external_id=id_, price=None) for id_ in request.external_ids if not _PAIR.fullmatch(id_)]
        symbols_by_base = _symbols_by_base(request.external_ids)
        not_found = 0
        for base, symbols in symbols_by_base.items():
            rates: Mapping[str, Any] = {}
            at = None
            try:
                payload = ask("/v1/latest", {"base": base, "symbols": ",".join(symbols)})
                rates, at = _rates_of(payload, base=base), _event_time(payload.get("date"))
            except ProviderRejected as rejection:
                # Unknown are this base, or all of its symbols. If all calls say so, the address is probably wrong.
                not_found += 1
                if rejection.reason != "http_404" or not_found == len(symbols_by_base):
                    raise
            quotes += [RawQuote(external_id=f"{base}/{to}", price=rates.get(to), at=at) for to in symbols]
        return Answer(quotes=quotes, as_of=http.now())

    def closes_of(self, ask: Ask, external_id: str, history_range: HistoryRange) -> Iterable[Close]:
        """Give the rate of each business day. Raises ProviderRejected("unknown_symbol") for what is no pair."""
        pair = _PAIR.fullmatch(external_id)
        if pair is None:
            raise ProviderRejected("unknown_symbol")
        path = f"/v1/{history_range.since.date().isoformat()}..{history_range.reached.date().isoformat()}"
        rates = _rates_of(ask(path, {"base": pair[1], "symbols": pair[2]}), base=pair[1])
        for day, of_day in rates.items():
            yield _event_time(day), of_day.get(pair[2]) if isinstance(of_day, dict) else None

    def founds_of(self, ask: Ask, text: str) -> Iterable[SearchResult]:
        """Give the euro in the currencies in which the words stand."""
        names = live.object_of(ask("/v1/currencies"))
        if not all(isinstance(name, str) for name in names.values()):
            raise ProviderUnavailable("bad_payload")
        founds = [SearchResult(f"EUR/{code}", code, name, code) for code, name in names.items() if code != "EUR"]
        return live.best_of(founds, text)


def _symbols_by_base(external_ids: Sequence[str]) -> dict[str, list[str]]:
    symbols: dict[str, list[str]] = {}
    for pair in filter(None, map(_PAIR.fullmatch, external_ids)):
        symbols.setdefault(pair[1], []).append(pair[2])
    return symbols


def _rates_of(payload: Any, *, base: str) -> Mapping[str, Any]:
    # Versions that do not know the parameter answer with the rates of the euro.
    if not isinstance(payload, dict) or payload.get("base") != base or not isinstance(payload.get("rates"), dict):
        raise ProviderUnavailable("bad_payload")
    rates: Mapping[str, Any] = payload["rates"]
    return rates


def _event_time(day: Any) -> datetime:
    """Return when the rates of a day were agreed on."""
    try:
        return datetime.combine(date.fromisoformat(day), RATES_TIME).astimezone(UTC)
    except (TypeError, ValueError):
        pass
    raise ProviderUnavailable("bad_payload")
