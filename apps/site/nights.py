"""The page that shows what a portfolio was worth as it was known in the night after each day, beside today's
computation."""

from datetime import date
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from apps.portfolios.nights import Night, compared, nights_of
from apps.site.figures import money
from apps.site.portfolios import context_of, portfolio_of

NIGHTS_SHOWN = 31


@never_cache
@login_required
@require_safe
def nights_page(request: HttpRequest, pk: int) -> HttpResponse:
    """Show the newest recorded days, or those before a day."""
    portfolio = portfolio_of(request, pk)
    now = timezone.now()
    stored = nights_of(portfolio, before=_before(request), most=NIGHTS_SHOWN + 1)
    nights = compared(portfolio, stored[:NIGHTS_SHOWN], now=now)
    context = {
        **context_of(portfolio, now),
        "title": f"{portfolio} as known then",
        "nights": [_row(one) for one in nights],
        "older": stored[NIGHTS_SHOWN - 1].day if len(stored) > NIGHTS_SHOWN else None,
    }
    return render(request, "site/nights.html", context)


def _before(request: HttpRequest) -> date | None:
    try:
        return date.fromisoformat(request.GET.get("before", ""))
    except ValueError:
        return None


def _row(night: Night) -> dict[str, Any]:
    then, difference = night.then, night.difference
    causes = ("total", "transactions", "prices", "rates")
    is_known = then.value is not None and night.value is not None
    is_same = is_known and difference is not None and not any(difference)
    return {
        "then": then,
        "value_then": money(then.value, then.currency),
        "flows_then": money(then.flows),
        "value": money(night.value),
        "flows": money(night.flows),
        "same": is_same,
        "difference": None
        if difference is None
        else [money(getattr(difference, one) if is_known else None) for one in causes],
    }
