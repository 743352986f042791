"""Alpha Vantage: shares and exchange rates, one symbol per call. Needs a key in ALPHAVANTAGE_API_KEY."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from apps.market.domain import RawQuote
from apps.sources.providers import http, live
from apps.sources.providers.days import end_of_day
from apps.sources.providers.live import DAY, Ask, Close, LiveProvider
from apps.sources.providers.protocol import (
    HistoryLimits,
    HistoryRange,
    Limits,
    ProviderRejected,
    ProviderUnavailable,
    SearchResult,
    SplitFound,
)

# Where a day of its series ends. One of another zone ends as New York's does: rather late than before it was known.
NEW_YORK = ZoneInfo("America/New_York")
ZONES = {"UTC": UTC}
# Of a factor with four decimals there is always a ratio of so many parts.
SPLIT_PARTS_MOST = 10_000


class AlphaVantage(LiveProvider):
    """Shares by their symbols ("MSFT"), exchange rates by pairs ("EUR/USD"). A free key has 25 calls a day."""

    slug = "alphavantage"
    base_url = "https://www.alphavantage.co"
    # One call per round, since a free key is also refused where it asks more than once a second.
    limits = Limits(batch_size=1, shortest_interval_seconds=1, calls_per_minute=5, calls_per_day=25, calls_per_round=1)
    key_variable = "ALPHAVANTAGE_API_KEY"
    needs_key = True
    names_days = True
    key_param = "apikey"
    asset_kinds = ("share", "fx")
    # A free key has the last 100 trading days, all in one call.
    history = HistoryLimits(steps=(DAY,), points=140, reach=140 * DAY)
    currency_mark = "/"
    has_splits = True

    def content_of(self, payload: Any) -> dict[str, Any]:
        """Return the object, empty where the symbol is unknown. Every error comes with status 200.

        Raises what an answer says in its text: rate_limited, premium, unauthorized.
        """
        content = live.object_of(payload)
        notices = [str(content[notice]).lower() for notice in ("Note", "Information") if notice in content]
        # Not only "premium": whoever asks too often is told of "premium plans" and "all premium endpoints" too.
        if any("a premium endpoint" in notice for notice in notices):
            raise ProviderRejected("premium")
        if notices:
            seconds = http.wait_said_in(" ".join(notices), now=http.now())
            raise ProviderUnavailable("rate_limited", retry_after_seconds=seconds)
        if "apikey" in str(content.get("Error Message")).lower():
            raise ProviderRejected("unauthorized")
        return {} if "Error Message" in content else content

    def fetch_batch(self, ask: Ask, external_ids: Sequence[str]) -> Sequence[RawQuote]:
        """Return the price of the one symbol. An unknown one has none."""
        [external_id] = external_ids
        from_currency, slash, to_currency = external_id.partition("/")
        if slash:
            params = {"function": "CURRENCY_EXCHANGE_RATE", "from_currency": from_currency, "to_currency": to_currency}
            rate = _item_of(ask("/query", params), name="Realtime Currency Exchange Rate")
            return [
                RawQuote(
                    external_id, rate.get("5. Exchange Rate"), _event_time(rate, ask.calendars.get(external_id, ""))
                )
            ]
        share = _item_of(ask("/query", {"function": "GLOBAL_QUOTE", "symbol": external_id}), name="Global Quote")
        # Of a share it tells the trading day, and no time.
        day = share.get("07. latest trading day")
        return [
            RawQuote(external_id, share.get("05. price"), _known_at(day, NEW_YORK, ask.calendars.get(external_id, "")))
        ]

    def closes_of(self, ask: Ask, external_id: str, history_range: HistoryRange) -> Iterable[Close]:
        """Give the close of each day at the end of the day. Raises ProviderRejected("unknown_symbol") too."""
        from_symbol, slash, to_symbol = external_id.partition("/")
        if slash:
            params = {"function": "FX_DAILY", "from_symbol": from_symbol, "to_symbol": to_symbol}
        else:
            params = {"function": "TIME_SERIES_DAILY", "symbol": external_id}
        payload = ask("/query", {**params, "outputsize": "compact"})
        if not payload:
            raise ProviderRejected("unknown_symbol")
        facts = _item_of(payload, name="Meta Data")
        zone = ZONES.get(str(facts.get("6. Time Zone" if slash else "5. Time Zone")), NEW_YORK)
        for day, prices in _item_of(payload, name="Time Series FX (Daily)" if slash else "Time Series (Daily)").items():
            at = _end_of(day, zone, ask.calendars.get(external_id, ""))
            if at is None:
                raise ProviderUnavailable("bad_payload")
            yield at, live.cell(prices, "4. close")

    def founds_of(self, ask: Ask, text: str) -> Iterable[SearchResult]:
        """Give the shares that Alpha Vantage finds, best match first. It is one of the key's calls."""
        payload = ask("/query", {"function": "SYMBOL_SEARCH", "keywords": text})
        for match in live.rows_of(payload.get("bestMatches")):
            found = live.found_of(match, external_id="1. symbol", symbol="1. symbol", name="2. name")
            yield replace(found, currency=live.text_of(match, "8. currency") or None)

    def fetch_splits(self, external_id: str, options: Mapping[str, Any]) -> Sequence[SplitFound]:
        """Return the splits of a share, each effective as its day begins in New York. It is one of the key's calls.

        Raises ProviderRejected("no_splits") for a pair, ("unknown_symbol") too.
        """
        if "/" in external_id:
            raise ProviderRejected("no_splits")
        payload = self.asking(options)("/query", {"function": "SPLITS", "symbol": external_id})
        if not payload:
            raise ProviderRejected("unknown_symbol")
        return [_split_of(row) for row in live.rows_of(live.cell(payload, "data"))]


def _split_of(row: Mapping[str, Any]) -> SplitFound:
    """Return the split in a row like {"effective_date": "2020-08-31", "split_factor": "4.0000"}: the simplest ratio
    that is written so. Raises ProviderUnavailable("bad_payload")."""
    with suppress(ValueError, InvalidOperation):
        day = datetime.strptime(live.text_of(row, "effective_date"), "%Y-%m-%d")
        factor = Decimal(live.text_of(row, "split_factor"))
        if factor.is_finite() and factor > 0:
            written, half = Fraction(factor), Fraction(1, 2 * 10 ** -min(int(factor.as_tuple().exponent), 0))
            for denominator in range(1, SPLIT_PARTS_MOST + 1):
                numerator = round(written * denominator)
                if numerator and abs(Fraction(numerator, denominator) - written) <= half:
                    return SplitFound(day.replace(tzinfo=NEW_YORK).astimezone(UTC), numerator, denominator)
    raise ProviderUnavailable("bad_payload")


def _item_of(payload: Mapping[str, Any], *, name: str) -> Mapping[str, Any]:
    """Return the object `name` of an answer, empty where the symbol is unknown."""
    item = payload.get(name, {} if not payload else None)
    if not isinstance(item, dict):
        raise ProviderUnavailable("bad_payload")
    return item


def _end_of(day: Any, zone: tzinfo, calendar: str) -> datetime | None:
    """Return when the price of a day stood, None for what is no day."""
    with suppress(TypeError, ValueError, OverflowError):
        return end_of_day(datetime.strptime(day, "%Y-%m-%d").date(), zone=zone, calendar=calendar)
    return None


def _known_at(day: Any, zone: tzinfo, calendar: str) -> Any:
    """Return when a price stood of which only the day is named: now at the latest. What is no day stays as it is:
    admission says what is wrong with it."""
    at = _end_of(day, zone, calendar)
    return day if at is None else min(at, http.now())


def _event_time(rate: Mapping[str, Any], calendar: str) -> datetime | None:
    refreshed = rate.get("6. Last Refreshed")
    if rate.get("7. Time Zone") != "UTC":
        return None
    with suppress(TypeError, ValueError):
        return datetime.strptime(refreshed, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    at = _end_of(refreshed, UTC, calendar)
    return None if at is None else min(at, http.now())
