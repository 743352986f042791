"""Banco Central do Brasil, time series (SGS): CDI, Selic and IPCA as indices, and the dollar. Needs no key."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal, InvalidOperation
from typing import Any

from apps.market.domain import RawQuote
from apps.sources.providers import http, live
from apps.sources.providers.days import end_of_day
from apps.sources.providers.live import DAY, Ask, Close, LiveProvider
from apps.sources.providers.options import Option
from apps.sources.providers.protocol import (
    HistoryLimits,
    HistoryRange,
    Limits,
    ProviderMisconfigured,
    ProviderRejected,
    ProviderUnavailable,
)

# Rates in percent, of a business day or of a month, and prices.
DAILY, MONTHLY, PRICES = frozenset({"11", "12"}), frozenset({"433"}), frozenset({"1"})
_YEARS_AT_ONCE = 10
_PRECISE = Context(prec=34)
_SHOWN = Decimal("1e-10")


class BcbSgs(LiveProvider):
    """Series by their codes: "12" is the CDI, "433" the IPCA. A series of rates is an index: 100 before the first rate
    from `since` on, times 1 + rate / 100 with each."""

    slug = "bcb_sgs"
    base_url = "https://api.bcb.gov.br"
    # An index is computed from all of its rates, at most 10 years of which come in one call.
    limits = Limits(batch_size=1, shortest_interval_seconds=3_600)
    gives_event_time = True
    names_days = True
    has_search = False
    asset_kinds = ("index", "fx")
    currency = "BRL"
    history = HistoryLimits(steps=(DAY,), points=3_650)
    more_options = (
        Option(
            "since",
            "Since",
            "The day before whose rate an index is 100, like 2000-01-03.",
            default="2000-01-03",
            pattern=r"\d{4}-\d{2}-\d{2}",
            must="be a day like 2000-01-03",
            check=lambda text: _check_day(text),
        ),
    )

    def fetch_batch(self, ask: Ask, external_ids: Sequence[str]) -> Sequence[RawQuote]:
        """Return the newest value of the one series. Raises ProviderRejected("unknown_symbol") for another one."""
        [code] = external_ids
        values = [*self._values(ask, code, until=http.now())][-1:]
        return [RawQuote(code, value, min(at, http.now())) for at, value in values] or [RawQuote(code, None)]

    def closes_of(self, ask: Ask, external_id: str, history_range: HistoryRange) -> Iterable[Close]:
        """Give each value. Raises ProviderRejected("unknown_symbol") for a series that is not one of these."""
        return self._values(ask, external_id, until=history_range.reached)

    def _values(self, ask: Ask, code: str, *, until: datetime) -> Iterator[Close]:
        """Give the values of a series in order, each at the end of its day or month in UTC."""
        if code not in DAILY | MONTHLY | PRICES:
            raise ProviderRejected("unknown_symbol")
        since = date.fromisoformat(ask.options["since"])
        begin = since.replace(day=1) if code in MONTHLY else since
        index = Decimal(100)
        for day, written in _rows(ask, code, begin=begin, end=until.astimezone(UTC).date()):
            index = _PRECISE.multiply(index, 1 + written / 100)
            value = written if code in PRICES else index.quantize(_SHOWN, context=_PRECISE)
            yield end_of_day(_last_day(day) if code in MONTHLY else day, zone=UTC), value


def _rows(ask: Ask, code: str, *, begin: date, end: date) -> Iterator[tuple[date, Decimal]]:
    """Give the rows of some days in order, in as many calls as that takes."""
    while begin <= end:
        last = min(end, date(begin.year + _YEARS_AT_ONCE - 1, 12, 31))
        days = {"dataInicial": f"{begin:%d/%m/%Y}", "dataFinal": f"{last:%d/%m/%Y}"}
        try:
            rows = live.rows_of(ask(f"/dados/serie/bcdata.sgs.{code}/dados", {"formato": "json", **days}))
        except ProviderRejected as rejection:
            # It has no value in these days.
            if rejection.reason != "http_404":
                raise
            rows = []
        yield from sorted(_row(one) for one in rows)
        begin = last + timedelta(days=1)


def _row(row: Mapping[str, Any]) -> tuple[date, Decimal]:
    """Return day and number of a row like {"data": "02/01/2024", "valor": "0.043739"}."""
    try:
        number = Decimal(live.text_of(row, "valor"))
        day = datetime.strptime(live.text_of(row, "data"), "%d/%m/%Y").replace(tzinfo=UTC).date()
    except (ValueError, InvalidOperation):
        raise ProviderUnavailable("bad_payload") from None
    # No rate is a loss of everything, and none a gain of a thousand times.
    if not (number.is_finite() and -100 < number < 100_000):
        raise ProviderUnavailable("bad_payload")
    return day, number


def _last_day(day: date) -> date:
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1) - timedelta(days=1)


def _check_day(text: str) -> None:
    try:
        date.fromisoformat(text)
    except ValueError:
        raise ProviderMisconfigured("since must be a day like 2000-01-03") from None
