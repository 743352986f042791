"""The page that opens a sum of a portfolio into the transactions it is made of."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from apps.portfolios.domain.records import Disposal, Flow, Item, Ledger
from apps.portfolios.queries import transactions_of_portfolio
from apps.portfolios.services import ledger_now
from apps.site.figures import figure, money
from apps.site.portfolios import context_of, portfolio_of

PARTS_SHOWN = 500


class _Sum(NamedTuple):
    """A sum: its heading, what it says, its columns after the amount in the base currency, the parts in a ledger, and
    what stands in these columns."""

    title: str
    text: str
    columns: Sequence[str]
    parts: Callable[[Ledger], Sequence[Any]]
    cells: Callable[[Any], Sequence[str]]


def _item(item: Item) -> list[str]:
    return [f"{figure(item.amount)} {item.currency}"]


def _disposal(one: Disposal) -> list[str]:
    return [
        figure(one.quantity),
        f"{one.bought_at:%Y-%m-%d}",
        f"{figure(one.proceeds)} {one.currency}",
        f"{figure(one.cost)} {one.cost_currency}",
        money(one.price_part),
        money(one.currency_part),
    ]


_AT_ITS_TIME = "Each amount at the exchange rate of its own time."
SUMS: Mapping[str, _Sum] = {
    "flows": _Sum(
        "What came in from outside, less what went there",
        "What came in is above 0, what went is below. Assets that were delivered count at their price then.",
        [],
        lambda ledger: ledger.flows,
        lambda flow: [],
    ),
    "realised": _Sum(
        "Gain of what was sold",
        "A line for each lot, or part of one, that was sold: proceeds less cost, before fees and taxes. The price part "
        "is the gain in the currency of the purchase at the rate of the sale, the currency part what the rate has done "
        "since the purchase.",
        ["Quantity", "Bought", "Proceeds", "Cost", "Price part", "Currency part"],
        lambda ledger: ledger.disposals,
        _disposal,
    ),
    "income": _Sum("Income", _AT_ITS_TIME, ["Amount"], lambda ledger: ledger.incomes, _item),
    "fees": _Sum("Fees", _AT_ITS_TIME, ["Amount"], lambda ledger: ledger.fees, _item),
    "taxes": _Sum("Taxes", _AT_ITS_TIME, ["Amount"], lambda ledger: ledger.taxes, _item),
}


@never_cache
@login_required
@require_safe
def parts_page(request: HttpRequest, pk: int, name: str) -> HttpResponse:
    """Show what a sum of a portfolio is made of, newest first."""
    portfolio = portfolio_of(request, pk)
    chosen = SUMS.get(name)
    if chosen is None:
        raise Http404
    ledger = ledger_now(portfolio)
    parts = chosen.parts(ledger)
    shown = parts[: -PARTS_SHOWN - 1 : -1]
    rows = transactions_of_portfolio(portfolio, keys={one.key for one in shown})
    context = {
        **context_of(portfolio, timezone.now()),
        "title": f"{chosen.title} of {portfolio}",
        "sum": chosen,
        "total": money(ledger.sums()[name], portfolio.base_currency),
        "parts": [(one.at, rows.get(one.key), chosen.cells(one), money(_base_of(one))) for one in shown],
        "more": len(parts) - len(shown),
    }
    return render(request, "site/parts.html", context)


def _base_of(part: Flow | Disposal | Item) -> Any:
    return part.gain if isinstance(part, Disposal) else part.base
