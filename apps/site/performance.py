"""The pages of a portfolio's performance in a period, and of the parts of each of its figures."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any, NamedTuple
from urllib.parse import urlencode

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from apps.market.domain import epoch_microseconds
from apps.market.models import Asset
from apps.market.queries import assets_named
from apps.portfolios.comparing import compare_with
from apps.portfolios.domain.returns import Day
from apps.portfolios.domain.xirr import NotUnique, Rate
from apps.portfolios.models import LedgerCopy, Portfolio
from apps.portfolios.services import ledger_now
from apps.portfolios.valuing import Performance, performance_of, performance_of_asset
from apps.reader import show_day
from apps.site.brazil import brazilian_figures
from apps.site.figure_parts import BUILDERS, WHY_NO_RATE, Period
from apps.site.figures import UNKNOWN, money, percent
from apps.site.portfolios import PERIOD_NAMES, asset_of, context_of, period_of, portfolio_of

WHY_NO_RETURN = {
    "no_days": "There is no day yet on which all that was held had a price.",
    "unknown_value": "The value of a day in between is not known.",
    "negative_start": "A day began with less than nothing.",
}
# Of an address: what chooses the period.
_CHOOSING = ("period", "from", "to", "benchmark", "asset")


class _Asked(NamedTuple):
    """The period and the assets that an address names. query: the part of the address that names them; symbol: of the
    asset to compare with, "" where there is none; is_widened: whether all days are shown since nothing changed in the
    last year, with which the page begins else."""

    period: Period
    name: str
    since: date | None
    until: date
    symbol: str
    query: str
    is_widened: bool


@never_cache
@login_required
@require_safe
def performance_page(request: HttpRequest, pk: int) -> HttpResponse:
    """Show how a portfolio did in a period: its value by day, and its returns."""
    return render(request, "site/performance.html", _performance(request, portfolio_of(request, pk)))


@never_cache
@login_required
@require_safe
def performance_part(request: HttpRequest, pk: int) -> HttpResponse:
    """Return the returns and the chart of a period. later.js puts them into the portfolio's page, which does not wait
    for them: the past of every day is read."""
    return render(request, "site/performance_part.html", _performance(request, portfolio_of(request, pk)))


@never_cache
@login_required
@require_safe
def figure_page(request: HttpRequest, pk: int, name: str) -> HttpResponse:
    """Show the parts of a figure of a period."""
    portfolio = portfolio_of(request, pk)
    if name not in BUILDERS:
        raise Http404
    asked = _asked(request, portfolio)
    parts = BUILDERS[name](asked.period)
    if parts is None:
        raise Http404
    shown = parts.shown(_day(request.GET.get("before", "")))
    context = {
        **context_of(portfolio, asked.period.now),
        "title": f"{parts.title} of {_subject(asked)}",
        "asset": asked.period.asset,
        "parts": parts,
        "shown": shown,
        "query": asked.query,
        "performance": asked.period.found,
        "why": _why(asked.period.found),
    }
    return render(request, "site/figure_parts.html", context)


def _asked(request: HttpRequest, portfolio: Portfolio) -> _Asked:
    now = timezone.now()
    since, until, name = period_of(request, today=now.astimezone(UTC).date())
    asset, chosen = asset_of(request, portfolio), {key: request.GET[key] for key in _CHOOSING if request.GET.get(key)}
    copy = LedgerCopy.objects.get(portfolio=portfolio)
    copy.portfolio = portfolio
    found = _found(copy, asset, since=since, until=until, now=now)
    is_widened = False
    if not chosen.keys() & {"period", "from", "to"} and _is_flat(found):
        # Nobody has chosen the last year, in which nothing happened.
        whole = _found(copy, asset, since=None, until=until, now=now)
        if len(whole.days) > len(found.days):
            since, name, found, is_widened = None, "all", whole, True
            chosen["period"] = name
    symbol = request.GET.get("benchmark", "").strip().upper()
    benchmark = assets_named([symbol], owner_id=portfolio.owner_id).get(symbol) if symbol else None
    period = Period(portfolio, found, benchmark, now, asset)
    return _Asked(period, name, since, until, symbol, urlencode(chosen), is_widened)


def _found(copy: LedgerCopy, asset: Asset | None, *, since: date | None, until: date, now: datetime) -> Performance:
    portfolio = copy.portfolio
    days: dict[str, Any] = {"since": since, "until": until, "now": now, "copy": copy}
    if asset is None:
        return performance_of(portfolio, **days)
    return performance_of_asset(portfolio, ledger_now(portfolio), asset.pk, **days)


def _is_flat(found: Performance) -> bool:
    """Tell whether the value is the same at the end of each day and no money came or went; or whether no day is
    known."""
    has_flows = any(one.inflow or one.outflow for one in found.days)
    return not has_flows and len({found.start, *(one.value for one in found.days)}) == 1


def _performance(request: HttpRequest, portfolio: Portfolio) -> dict[str, Any]:
    asked = _asked(request, portfolio)
    found, benchmark, now = asked.period.found, asked.period.benchmark, asked.period.now
    return {
        **context_of(portfolio, now),
        "title": f"Performance of {_subject(asked)}",
        "asset": asked.period.asset,
        "periods": [(key, name, key == asked.name) for key, name in PERIOD_NAMES.items()],
        "since": asked.since,
        "until": asked.until,
        "performance": found,
        "figures": [
            *_figures(found),
            *_benchmark(benchmark, portfolio, found, now),
            *brazilian_figures(portfolio, found, now=now),
        ],
        "query": asked.query,
        "symbol": asked.symbol,
        "no_such_asset": bool(asked.symbol) and benchmark is None,
        "is_still": _is_flat(found) and bool(found.days) and bool(found.start),
        "is_widened": asked.is_widened,
        "chart": _chart(found.days),
        "chart_text": _chart_text(found.days),
        "flows": [(one.day, money(one.inflow), money(one.outflow)) for one in found.days if one.inflow or one.outflow],
        "why": _why(found),
    }


def _subject(asked: _Asked) -> str:
    asset, portfolio = asked.period.asset, asked.period.portfolio
    return str(portfolio) if asset is None else f"{asset.symbol} in {portfolio}"


def _why(found: Performance) -> str:
    return WHY_NO_RETURN.get(found.unknown, "")


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _figures(found: Performance) -> list[tuple[str, str, str, str]]:
    """Return name, figure, what it is, and the name of its parts, of a period."""
    if found.begins is None:
        return []
    days = len(found.days)
    over = "per year" if found.is_year else f"over {days} days, not annualised"
    answer, wording = found.xirr, "the annual rate at which the flows of these days are worth nothing"
    if isinstance(answer, Rate):
        weighted, wording = percent(found.of_period(answer.rate)), f"{wording}, {over}"
    elif isinstance(answer, NotUnique):
        rates = ", ".join(percent(found.of_period(root)) for root in answer.roots)
        weighted, wording = "not unique", f"these rates fit: {rates}, {over}"
    else:
        weighted = "no rate"
        wording = WHY_NO_RATE[answer.reason] if answer is not None else "a flow or a value is not known"
    return [
        ("Time-weighted return", percent(found.twr), f"over {days} days; not annualised", "twr"),
        ("Money-weighted return (XIRR)", weighted, wording, "xirr"),
        ("Volatility", *_volatility(found), "volatility"),
        (
            "Largest fall from a peak",
            percent(found.drawdown),
            "of the time-weighted index",
            "drawdown",
        ),
    ]


def _volatility(found: Performance) -> tuple[str, str]:
    """Return the figure and what it is: of a year only where the period is one."""
    one, of = found.volatility, "of daily log returns"
    if one is None:
        return UNKNOWN, f"{of}: it needs two days of trading on which not everything was lost"
    if not found.is_year:
        return percent(one.period), f"{of}, for these {one.days} days of trading (× √{one.days}), not annualised"
    return percent(one.yearly), f"{of}, per year (× √252); of this period {percent(one.period)} (× √{one.days})"


def _benchmark(
    asset: Asset | None, portfolio: Portfolio, found: Performance, now: datetime
) -> list[tuple[str, str, str, str]]:
    """Return what an asset gave on the same days."""
    gave = None if asset is None else compare_with(asset, found, base=portfolio.base_currency, now=now)
    if gave is None:
        return []
    text = f"its price in {portfolio.base_currency} over the same days, without income"
    return [(f"Benchmark: {gave.asset.symbol}", percent(gave.returned), text, "benchmark")]


def _chart(days: Sequence[Day]) -> dict[str, Any] | None:
    """Return what panel/chart.js draws: the value of each day, and a spot where money came or went."""
    path = [{"x": _noon(one.day), "y": float(one.value)} for one in days if one.value is not None]
    if not path:
        return None
    flows = [
        {"x": _noon(one.day), "y": float(one.value)}
        for one in days
        if one.value is not None and (one.inflow or one.outflow)
    ]
    spots = [{"name": "money came or went", "role": "mark", "points": flows}] if flows else []
    return {"low": path, "high": path, "levels": [], "marks": [], "spots": spots, "label": "value"}


def _chart_text(days: Sequence[Day]) -> str:
    values = [one.value for one in days if one.value is not None]
    if not values:
        return ""
    period = f"from {show_day(days[0].day)} to {show_day(days[-1].day)}"
    return (
        f"Value on {len(values)} days {period}: first {money(values[0])}, "
        f"last {money(values[-1])}, lowest {money(min(values))}, highest {money(max(values))}."
    )


def _noon(day: date) -> int:
    return epoch_microseconds(datetime(day.year, day.month, day.day, 12, tzinfo=UTC)) // 1_000
