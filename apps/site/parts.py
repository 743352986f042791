"""The page that opens a sum of a portfolio, or of one asset in it, into the transactions it is made of."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from apps.portfolios.domain.records import Disposal, Flow, Item
from apps.portfolios.models import Transaction
from apps.portfolios.sums import base_of, sum_of
from apps.portfolios.used import Used, used_in
from apps.reader import show_day
from apps.site.figures import figure, money
from apps.site.portfolios import asset_of, context_of, number_of, portfolio_of, price_of, rate_of, rates_of


class _Shown(NamedTuple):
    """How a sum is shown: its heading, what it says, its columns after the amount in the base currency, and what stands
    in these columns. of_asset: whether each part is of an asset."""

    title: str
    text: str
    columns: Sequence[str]
    cells: Callable[[Any, Transaction | None, Used], Sequence[str]]
    of_asset: bool = True


def _item(item: Item, row: Transaction | None, used: Used) -> list[str]:
    return [f"{figure(item.amount)} {item.currency}", "" if row is None else rate_of(row, item.currency, used)]


def _flow(flow: Flow, row: Transaction | None, used: Used) -> list[str]:
    if row is None:
        return ["", ""]
    price = price_of(row, used)
    named = [
        "" if row.amount is None or price else f"{figure(row.amount)} {row.currency}",
        f"{figure(row.quantity)} × {price}" if row.quantity is not None and price else "",
        f"fee {figure(row.fee)} {row.fee_currency or row.currency}" if row.fee else "",
        f"tax {figure(row.tax)} {row.tax_currency or row.currency}" if row.tax else "",
    ]
    return [", ".join(filter(None, named)), rates_of(row, used)]


def _disposal(one: Disposal, row: Transaction | None, used: Used) -> list[str]:
    return [
        money(one.fees),
        money(one.gain_after_costs),
        figure(one.quantity),
        show_day(one.bought_at),
        f"{figure(one.proceeds)} {one.currency}",
        "" if row is None else rate_of(row, one.currency, used),
        f"{figure(one.cost)} {one.cost_currency}",
        money(one.base_cost),
        money(one.price_part),
        money(one.currency_part),
    ]


_AT_ITS_TIME = "Each amount at the exchange rate of its own time."
# Name of a sum -> how it is shown.
SUMS: Mapping[str, _Shown] = {
    "flows": _Shown(
        "What came in from outside, less what went there",
        "Flows that came in are positive, flows that went out are negative. Assets that were delivered count at their "
        "price of that time.",
        ["Amount", "Exchange rate"],
        _flow,
        of_asset=False,
    ),
    "realised": _Shown(
        "Gain of what was sold",
        "A line for each lot, or part of one, that was sold: proceeds less cost, before fees and taxes. The price part "
        "is the gain in the currency of the purchase, at the exchange rate of the sale. The currency part is what the "
        "change of that rate since the purchase added. After costs: less the fees and taxes of the purchase and of the "
        "sale.",
        [
            *("Fees and taxes", "After costs", "Quantity", "Bought", "Proceeds", "Exchange rate", "Cost"),
            *("Cost in the base currency", "Price part", "Currency part"),
        ],
        _disposal,
    ),
    "income": _Shown("Income", _AT_ITS_TIME, ["Amount", "Exchange rate"], _item),
    "fees": _Shown("Fees", _AT_ITS_TIME, ["Amount", "Exchange rate"], _item),
    "taxes": _Shown("Taxes", _AT_ITS_TIME, ["Amount", "Exchange rate"], _item),
}


@never_cache
@login_required
@require_safe
def parts_page(request: HttpRequest, pk: int, name: str) -> HttpResponse:
    """Show the parts of a sum of a portfolio, or of one asset in it, newest first."""
    portfolio = portfolio_of(request, pk)
    chosen = SUMS.get(name)
    asset = asset_of(request, portfolio)
    if chosen is None or (asset is not None and not chosen.of_asset):
        raise Http404
    newer = number_of(request.GET.get("newer", ""))
    found = sum_of(portfolio, name, asset_id=None if asset is None else asset.pk, newer=newer)
    used = used_in(portfolio, also={row.portfolio_id for _, row in found.parts if row is not None})
    context = {
        **context_of(portfolio, timezone.now()),
        "title": f"{chosen.title} of {portfolio}",
        "sum": chosen,
        "asset": asset,
        "total": money(found.total, portfolio.base_currency),
        "after_costs": money(found.after_costs) if name == "realised" else "",
        "parts": [(one.at, row, chosen.cells(one, row, used), money(base_of(one))) for one, row in found.parts],
        "older": found.older,
        "newer": newer + len(found.parts),
    }
    return render(request, "site/parts.html", context)
