"""The page that shows how often a portfolio would have drifted from a target allocation."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from apps.market.queries import assets_of
from apps.portfolios.domain.drift import Shares, drift_on, openings, shares_of
from apps.portfolios.history import History, first_day
from apps.portfolios.models import LedgerCopy, Portfolio
from apps.site.figures import percent
from apps.site.portfolios import PERIOD_NAMES, context_of, period_of, portfolio_of
from apps.site.targets import LONGEST_TARGET, TargetInvalid, read_number, read_target

OPENINGS_SHOWN = 50
POINTS = Decimal(5)


@never_cache
@login_required
@require_safe
def drift_page(request: HttpRequest, pk: int) -> HttpResponse:
    """Show on which days of a period the drift rose above so many points."""
    portfolio = portfolio_of(request, pk)
    now = timezone.now()
    since, until, period = period_of(request, today=now.astimezone(UTC).date())
    written, points = request.GET.get("target", "")[:LONGEST_TARGET], request.GET.get("points", "") or str(POINTS)
    context: dict[str, Any] = {
        **context_of(portfolio, now),
        "title": f"Drift of {portfolio}",
        "periods": [(key, name, key == period) for key, name in PERIOD_NAMES.items()],
        "target": written,
        "points": points,
    }
    try:
        threshold, target = _points(points), read_target(written, owner_id=portfolio.owner_id)
    except TargetInvalid as error:
        return render(request, "site/drift.html", context | {"wrong": str(error)})
    context |= _drift(portfolio, since=since, until=until, threshold=threshold, target=target, now=now)
    return render(request, "site/drift.html", context)


@never_cache
@login_required
@require_safe
def drift_sentence(request: HttpRequest, pk: int) -> HttpResponse:
    """Return how often the drift rose above 5 points since the first transaction. later.js puts it into the portfolio's
    page, which does not wait for it: the past of every day is read."""
    portfolio = portfolio_of(request, pk)
    now = timezone.now()
    today = now.astimezone(UTC).date()
    found = _drift(portfolio, since=None, until=today, threshold=Fraction(POINTS) / 100, target={}, now=now)
    return render(request, "site/drift_sentence.html", {"points": POINTS, **found})


def _drift(
    portfolio: Portfolio,
    *,
    since: date | None,
    until: date,
    threshold: Fraction,
    target: Mapping[int | None, Fraction],
    now: datetime,
) -> dict[str, Any]:
    """Return what pages show of the drift in a period; nothing where no day is known."""
    copy = LedgerCopy.objects.get(portfolio=portfolio)
    first = first_day(copy)
    days: list[tuple[Any, Shares]] = []
    if first is not None:
        begin = first if since is None else max(since, first)
        history = History(portfolio, copy, since=begin, until=until, now=now)
        each = (begin + timedelta(days=number) for number in range((until - begin).days + 1))
        days = [(day, shares) for day in each if (shares := shares_of(history.parts_on(day))) is not None]
    if not days:
        return {}
    aim = target or days[0][1]
    drifts = [drift_on(day, shares, aim) for day, shares in days]
    found = openings(drifts, above=threshold)
    keyed = (aim, *(shares for _, shares in days[-1:]), {one.asset: one.part for one in found})
    names = _names(*keyed, owner_id=portfolio.owner_id)
    return {
        "first": days[0][0],
        "last": days[-1][0],
        "is_as_held": not target,
        "count": len(found),
        "openings": [(one.day, names[one.asset], percent(one.part)) for one in found[-OPENINGS_SHOWN:]][::-1],
        "shares": [
            (names[asset], percent(aim.get(asset, Fraction(0))), percent(days[-1][1].get(asset, Fraction(0))))
            for asset in sorted({*aim, *days[-1][1]}, key=lambda one: names[one])
        ],
    }


def _points(text: str) -> Fraction:
    """Return points as a part of 1. Raises TargetInvalid."""
    number = read_number(text)
    if not 0 < number <= 100:
        raise TargetInvalid("Points must be a number above 0, and 100 at most.")
    return Fraction(number) / 100


def _names(*keyed: Mapping[int | None, Any], owner_id: int) -> dict[int | None, str]:
    ids = {asset for one in keyed for asset in one}
    rows = assets_of(owner_id).filter(pk__in=[one for one in ids if one is not None])
    symbols = dict(rows.values_list("pk", "symbol"))
    return {one: symbols.get(one, "(deleted)") if one is not None else "cash" for one in ids}
