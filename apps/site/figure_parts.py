"""The parts of the figures of a period."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import NamedTuple

from apps.market.models import Asset
from apps.portfolios.comparing import Comparison, compare_with
from apps.portfolios.domain.inflation import IndexOn
from apps.portfolios.domain.returns import is_traded
from apps.portfolios.domain.xirr import NoRate, net_present_value, present_values
from apps.portfolios.models import Portfolio
from apps.portfolios.valuing import Performance
from apps.reader import TO_MINUTES, show_day, write_time
from apps.site.brazil import after_inflation, beside_cdi
from apps.site.figures import UNKNOWN, figure, money, percent
from apps.site.portfolios import path_of

ROWS_SHOWN = 366
WHY_NO_RATE = {
    "no_flows": "No money has moved.",
    "one_day": "All money moved on one day.",
    "everything_lost": "Everything is lost: −100 %.",
    "no_sign_change": "Money only came in, or only went out.",
    "no_root": "No annual rate fits these flows.",
}


class Period(NamedTuple):
    """How a portfolio, or what it holds of one asset, did, and the asset that it is compared with, if any."""

    portfolio: Portfolio
    found: Performance
    benchmark: Asset | None
    now: datetime
    asset: Asset | None = None


class Shown(NamedTuple):
    """The rows of one page, the newest first. older: how many rows are older than these; before: the day that the
    address of the older ones names."""

    rows: Sequence[tuple[date, Sequence[str]]]
    older: int
    before: date | None


@dataclass(frozen=True)
class Parts:
    """The parts of a figure. facts: name, figure and what it is; columns: names of the columns after the day; rows: a
    day and its cells, the oldest first."""

    title: str
    figure: str
    text: str
    facts: Sequence[tuple[str, str, str]] = ()
    columns: Sequence[str] = ()
    rows: Sequence[tuple[date, Sequence[str]]] = ()

    def shown(self, before: date | None) -> Shown:
        """Return a page of the rows, of those before a day where one is given."""
        rows = [one for one in self.rows if before is None or one[0] < before]
        page = rows[-ROWS_SHOWN:]
        older = len(rows) - len(page)
        return Shown(page[::-1], older, page[0][0] if older else None)


def _twr(period: Period) -> Parts:
    found = period.found
    befores = [found.start, *(one.value for one in found.days)]
    rows = [
        (
            day.day,
            [
                *(money(before), money(day.inflow), money(day.outflow), money(day.value)),
                *(percent(one.rate), figure(index * 100)),
            ],
        )
        for day, before, one, index in zip(found.days, befores, found.returns, found.index, strict=False)
    ]
    return Parts(
        "Time-weighted return",
        percent(found.twr),
        "The return of a day is (value at its end + out) ÷ (value before + in) − 1: money that comes in counts at the "
        "start of the day, money that goes out at its end. The index begins at 100, and each day multiplies it by 1 + "
        "its return. The return of the period is the last index ÷ 100 − 1.",
        columns=("Value before", "In", "Out", "Value", "Return", "Index"),
        rows=rows,
    )


def _xirr(period: Period) -> Parts:
    found, roots = period.found, period.found.rates
    worths = [present_values(root, found.flows) for root in roots]
    facts = []
    for root in roots:
        nothing = net_present_value(root, found.flows)
        facts.append((f"All flows at {percent(root)} per year", money(nothing), "the sum of what they are worth"))
    if roots and not found.is_year:
        rates = ", ".join(percent(found.of_period(root)) for root in roots)
        facts.append(
            (f"Over {len(found.days)} days", rates, "(1 + rate)^(days ÷ 365) − 1: under a year, not annualised")
        )
    shown = ", ".join(percent(found.of_period(root)) for root in roots)
    if not roots:
        shown = WHY_NO_RATE[found.xirr.reason] if isinstance(found.xirr, NoRate) else UNKNOWN
    rows = [
        (day, [money(amount), *(money(worth[number]) for worth in worths)])
        for number, (day, amount) in enumerate(found.flows)
    ]
    return Parts(
        "Money-weighted return (XIRR)",
        f"not unique: {shown}" if len(roots) > 1 else shown,
        "Money that is paid in is a negative flow, money that comes back is a positive one. The value before the first "
        "day counts as paid in on the day before it; the value at the end of the last day counts as paid back on that "
        "day. Each flow is worth amount ÷ (1 + annual rate)^(days since the first flow ÷ 365). The annual rate is the "
        "one at which these worths add up to 0.",
        facts=facts,
        columns=("Flow", *(f"Worth at {percent(root)}" for root in roots)),
        rows=rows,
    )


def _volatility(period: Period) -> Parts:
    found, one = period.found, period.found.volatility
    facts = []
    if one is not None:
        facts = [
            ("Days of trading", str(one.days), "weekdays, and weekends on which something moved"),
            ("Mean", percent(one.mean), "of their log returns"),
            ("Standard deviation", percent(one.daily), "of a day, with n − 1"),
            ("Of the period", percent(one.period), f"× √{one.days}"),
        ]
        if found.is_year:
            facts.append(("Of a year", percent(one.yearly), "× √252"))
    rows = [
        (day.day, [percent(day.rate), _log(day.rate) if is_traded(day) else "left out: a weekend, and nothing moved"])
        for day in found.returns
    ]
    shown = None if one is None else one.yearly if found.is_year else one.period
    return Parts(
        "Volatility",
        percent(shown),
        "The standard deviation of the log returns of days. The log return of a day is ln(1 + its return).",
        facts=facts,
        columns=("Return", "Log return"),
        rows=rows,
    )


def _log(rate: Decimal) -> str:
    return percent(math.log1p(rate)) if rate > -1 else "everything was lost"


def _drawdown(period: Period) -> Parts:
    found, fall = period.found, period.found.fall
    facts, rows = [], []
    if fall is not None:
        for name, position in (("Peak", fall.peak), ("Trough", fall.trough)):
            text = f"the index at the end of {found.day_of(position)}"
            facts.append((name, figure(found.index_at(position) * 100), text))
        for position in range(fall.peak, fall.trough + 1):
            day, index = found.day_of(position), found.index_at(position)
            if day is not None:
                rows.append((day, [figure(index * 100), percent(index / found.index_at(fall.peak) - 1)]))
    return Parts(
        "Largest fall from a peak",
        percent(found.drawdown),
        "1 − trough ÷ peak of the time-weighted index, which is 100 before the first day. The table has the days from "
        "the peak to the trough.",
        facts=facts,
        columns=("Index", "From the peak"),
        rows=rows,
    )


def _benchmark(period: Period) -> Parts | None:
    base = period.portfolio.base_currency
    if period.benchmark is None:
        return None
    gave = compare_with(period.benchmark, period.found, base=base, now=period.now)
    if gave is None:
        return None
    text = "The value of one unit at the end ÷ its value at the start − 1, without income."
    return Parts(f"Benchmark: {gave.asset.symbol}", percent(gave.returned), text, facts=_ends(gave, base))


def _cdi(period: Period) -> Parts | None:
    beside = beside_cdi(period.portfolio, period.found, now=period.now)
    if beside is None:
        return None
    facts = [
        ("Time-weighted return", percent(period.found.twr), "of the portfolio"),
        ("CDI", percent(beside.cdi.returned), "its index at the end ÷ at the start − 1"),
        *_ends(beside.cdi, "BRL"),
    ]
    text = "The time-weighted return ÷ the return of the CDI over the same days."
    return Parts("% of CDI", percent(beside.part), text, facts=facts)


def _real(period: Period) -> Parts | None:
    real = after_inflation(period.portfolio, period.found)
    if real is None:
        return None
    facts = [
        ("Time-weighted return", percent(real.returned), f"of the portfolio up to {real.last}"),
        ("IPCA", percent(real.ipca.returned), f"up to {real.last}; it is published up to {real.published}"),
        _index_fact(real.ipca.asset, "start", real.ipca.first),
        _index_fact(real.ipca.asset, "end", real.ipca.last),
    ]
    text = (
        "(1 + return) ÷ (1 + IPCA) − 1. The IPCA is published for whole months; within a month its index rises by the "
        "same factor on each business day of Brazilian banks."
    )
    return Parts("Real return", percent(real.real), text, facts=facts)


def _index_fact(asset: Asset, name: str, on: IndexOn) -> tuple[str, str, str]:
    """Return an index of months at one end, and what it is made of."""
    ends = [UNKNOWN if one is None else figure(one) for one in (on.before, on.after)]
    text = f"at the end of {show_day(on.day)}"
    if on.elapsed not in (0, on.total):
        text += (
            f": {ends[0]} × ({ends[1]} ÷ {ends[0]}) to the power of {on.elapsed}/{on.total}, "
            f"since {on.elapsed} of {on.total} business days of {on.day:%Y-%m} were over"
        )
    return f"{asset.symbol} at the {name}", UNKNOWN if on.value is None else figure(on.value), text


def _ends(gave: Comparison, base: str) -> list[tuple[str, str, str]]:
    """Return what an asset was worth at both ends."""
    found = []
    for name, one in (("start", gave.first), ("end", gave.last)):
        text = f"on {write_time(one.at, TO_MINUTES, with_zone=False)}: no price is known"
        if one.price is not None:
            priced_at = write_time(one.priced_at, TO_MINUTES, with_zone=False)
            text = f"{figure(one.price)} {gave.asset.currency} of {priced_at}"
            if gave.asset.currency != base:
                text += f" × {UNKNOWN if one.rate is None else figure(one.rate.rate)}"
                text += f" ({path_of(one.rate, one.at)})" if one.rate is not None else ", the exchange rate"
        found.append((f"{gave.asset.symbol} at the {name}", money(one.value, base), text))
    return found


# Name in an address -> the parts, None where there is no such figure.
BUILDERS: Mapping[str, Callable[[Period], Parts | None]] = {
    "twr": _twr,
    "xirr": _xirr,
    "volatility": _volatility,
    "drawdown": _drawdown,
    "benchmark": _benchmark,
    "cdi": _cdi,
    "real": _real,
}
