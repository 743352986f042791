"""Frankfurter v1: the reference rates of the European Central Bank, one call per base currency. Needs no key."""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

from apps.market.domain import RawQuote
from apps.sources.providers import live
from apps.sources.providers.live import DAY, Ask, Close, LiveProvider
from apps.sources.providers.protocol import (
    HistoryLimits,
    HistoryRange,
    Limits,
    ProviderRejected,
    ProviderUnavailable,
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
    names_days = True
    asset_kinds = ("fx",)
    history = HistoryLimits(steps=(DAY,), points=365)
    currency_mark = "/"

    def batches_of(self, external_ids: Sequence[str]) -> Iterable[Sequence[str]]:
        """Give the pairs of each base currency, and each name that is no pair by itself."""
        batches: dict[str, list[str]] = {}
        for name in external_ids:
            pair = _PAIR.fullmatch(name)
            batches.setdefault(pair[1] if pair else f"no pair: {name}", []).append(name)
        return batches.values()

    def fetch_batch(self, ask: Ask, external_ids: Sequence[str]) -> Sequence[RawQuote]:
        """Return the rates of the newest business day for pairs of one base currency.

        A 404 says that the base is unknown, or all of the other currencies; one of those that is unknown has no price.
        Raises ProviderRejected("unknown_symbol") for what is no pair, without a call.
        """
        pairs = [_pair_of(name) for name in external_ids]
        base = pairs[0][0]
        payload = ask("/v1/latest", {"base": base, "symbols": ",".join(to for _, to in pairs)})
        rates, at = _rates_of(payload, base=base), _event_time(payload.get("date"))
        return [RawQuote(f"{base}/{to}", rates.get(to), at) for _, to in pairs]

    def closes_of(self, ask: Ask, external_id: str, history_range: HistoryRange) -> Iterable[Close]:
        """Give the rate of each business day. Raises ProviderRejected("unknown_symbol") for what is no pair."""
        base, symbol = _pair_of(external_id)
        path = f"/v1/{history_range.since.date().isoformat()}..{history_range.reached.date().isoformat()}"
        rates = _rates_of(ask(path, {"base": base, "symbols": symbol}), base=base)
        for day, of_day in rates.items():
            yield _event_time(day), of_day.get(symbol) if isinstance(of_day, dict) else None

    def founds_of(self, ask: Ask, text: str) -> Iterable[SearchResult]:
        """Give the euro in the currencies in which the words stand."""
        names = live.object_of(ask("/v1/currencies"))
        if not all(isinstance(name, str) for name in names.values()):
            raise ProviderUnavailable("bad_payload")
        founds = [SearchResult(f"EUR/{code}", code, name, code) for code, name in names.items() if code != "EUR"]
        return live.best_of(founds, text)


def _pair_of(name: str) -> tuple[str, str]:
    """Return the two currencies of a pair. Raises ProviderRejected("unknown_symbol") for what is none."""
    pair = _PAIR.fullmatch(name)
    if pair is None:
        raise ProviderRejected("unknown_symbol")
    return pair[1], pair[2]


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
