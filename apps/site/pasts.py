"""The page that fetches the past of a portfolio's assets from the first transaction on, and shows how far that is."""

from datetime import UTC, datetime, time
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from apps.portfolios.requests import PastWanted, pasts_of
from apps.reader import active_reader
from apps.site.portfolios import context_of, portfolio_of
from apps.sources.models import Backfill
from apps.sources.queries import newest_backfills
from apps.sources.services import BackfillRefused, ask_for_past, describe_backfill, describe_state

PERMISSION = "sources.add_backfill"


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def pasts_page(request: HttpRequest, pk: int) -> HttpResponse:
    """Show from when on the prices of a portfolio's assets are known, and ask for what is missing."""
    portfolio = portfolio_of(request, pk)
    now = timezone.now()
    pasts = pasts_of(portfolio)
    if request.method == "POST":
        _ask(request, pasts, now=now)
        return redirect("portfolio_pasts", pk)
    backfills = newest_backfills([one.asset.pk for one in pasts])
    rows = [_row(one, backfills.get(one.asset.pk), now=now) for one in pasts]
    context = {
        **context_of(portfolio, now),
        "title": f"Past prices of {portfolio}",
        "rows": rows,
        "goes_on": any(row["goes_on"] for row in rows),
        "may_ask": request.user.has_perm(PERMISSION),
    }
    return render(request, "site/pasts.html", context)


def _ask(request: HttpRequest, pasts: list[PastWanted], *, now: datetime) -> None:
    if not request.user.has_perm(PERMISSION):
        raise PermissionDenied
    chosen = next((one for one in pasts if str(one.asset.pk) == request.POST.get("asset")), None)
    if chosen is None or chosen.asset.owner_id is not None:
        raise Http404
    try:
        ask_for_past(asset=chosen.asset, since=datetime.combine(chosen.since, time(), UTC), now=now)
    except BackfillRefused as refused:
        messages.warning(request, f"Not asked for: {refused}.")
    else:
        messages.success(request, f"The past of {chosen.asset.symbol} is asked for. It comes page by page.")


def _row(past: PastWanted, backfill: Backfill | None, *, now: datetime) -> dict[str, Any]:
    is_ours = past.asset.owner_id is None
    goes_on = backfill is not None and backfill.finished_at is None and backfill.is_asked
    return {
        "past": past,
        "is_ours": is_ours,
        "goes_on": goes_on,
        "progress": describe_backfill(backfill, reader=active_reader()) if backfill is not None else "",
        "state": describe_state(backfill, now=now, reader=active_reader()) if backfill is not None else "",
        "may_be_asked": is_ours and past.is_missing and not goes_on,
    }
