"""Frankfurter v1: the reference rates of the European Central Bank, one call per base currency. Needs no key."""

import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

from apps.market.domain import RawQuote
from apps.market.providers import http
from apps.market.providers.protocol import Answer, Limits, ProviderRejected, ProviderUnavailable, QuoteRequest

BASE_URL = "https://api.frankfurter.dev"
# The central banks agree on the rates at about 14:10 in Frankfurt; they are published at about 16:00.
RATES_TIME = time(14, 15, tzinfo=ZoneInfo("Europe/Berlin"))
# Two different currencies: for a pair of the same one there is no rate.
_PAIR = re.compile(r"([A-Z]{3})/(?!\1)([A-Z]{3})")


class Frankfurter:
    """Rates by pairs: "EUR/USD" is the price of one euro in dollars. One rate per business day."""

    slug = "frankfurter"
    is_live = True
    # One call gives all pairs of a base currency. How many that is cannot be known here, so one is the cautious bound.
    limits = Limits(batch_size=1, shortest_interval_seconds=3_600)

    def validate_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return {"base_url"} without a slash at its end. Raises ProviderMisconfigured."""
        http.refuse_unknown_options(options, ["base_url"], slug=self.slug)
        return {"base_url": http.read_base_url(options, default=BASE_URL)}

    def fetch(self, request: QuoteRequest) -> Answer:
        """Return the rates of the newest business day, in calls that share one deadline.

        What is no pair, or of unknown currencies, has no price. Raises what `get_json` raises, and
        ProviderUnavailable("bad_payload"): one failed call fails the answer. Only a 404 fails it where all have one.
        """
        left = http.time_left()
        quotes = [RawQuote(external_id=id_, price=None) for id_ in request.external_ids if not _PAIR.fullmatch(id_)]
        symbols_by_base = _symbols_by_base(request.external_ids)
        not_found = 0
        for base, symbols in symbols_by_base.items():
            rates: Mapping[str, Any] = {}
            at = None
            try:
                payload = http.get_json(
                    url=f"{request.options['base_url']}/v1/latest",
                    params={"base": base, "symbols": ",".join(symbols)},
                    deadline_seconds=left(),
                )
                rates, at = _rates_of(payload, base=base), _event_time(payload)
            except ProviderRejected as rejection:
                # Unknown are this base, or all of its symbols. If all calls say so, the address is probably wrong.
                not_found += 1
                if rejection.reason != "http_404" or not_found == len(symbols_by_base):
                    raise
            quotes += [RawQuote(external_id=f"{base}/{to}", price=rates.get(to), at=at) for to in symbols]
        return Answer(quotes=quotes, as_of=http.now())


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


def _event_time(payload: Mapping[str, Any]) -> datetime:
    """Return when the rates of the answer's day were agreed on."""
    try:
        return datetime.combine(date.fromisoformat(payload["date"]), RATES_TIME)
    except (KeyError, TypeError, ValueError):
        pass
    raise ProviderUnavailable("bad_payload")
