"""The page that compares a file of positions with what is computed."""

from typing import Any

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from apps.alerts.reconciliation import reconcile
from apps.notify import services as notify
from apps.portfolios.domain.positions import Deviation, deviations_in
from apps.portfolios.reconciling import keep_positions, reconciliations_of
from apps.site.figures import figure
from apps.site.forms import PositionsForm
from apps.site.portfolios import context_of, portfolio_of

FILES_SHOWN = 20


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def reconcile_page(request: HttpRequest, pk: int) -> HttpResponse:
    """Take a file of positions, and show where the newest one differs."""
    portfolio = portfolio_of(request, pk)
    may_upload = request.user.has_perm("portfolios.add_reconciliation")
    now = timezone.now()
    form = PositionsForm(request.POST or None, request.FILES or None, now=now)
    if request.method == "POST":
        if not may_upload:
            raise PermissionDenied
        if form.is_valid():
            given = {"name": form.cleaned_data["file"].name or "file", "day": form.cleaned_data["day"]}
            with transaction.atomic():
                keep_positions(portfolio=portfolio, **given, stated=form.stated, now=now)
                notify.enqueue(reconcile(portfolio_id=portfolio.pk, now=now), now=now)
            return redirect("portfolio_reconcile", pk)
    files = reconciliations_of(portfolio, most=FILES_SHOWN)
    context = {
        **context_of(portfolio, now),
        "title": f"Reconcile {portfolio}",
        "form": form if may_upload else None,
        "newest": files[0] if files else None,
        "deviations": [_row(one) for one in deviations_in(files[0].deviations)] if files else [],
        "older": files[1:],
    }
    return render(request, "site/reconcile.html", context)


def _row(one: Deviation) -> dict[str, Any]:
    return {
        "symbol": one.symbol,
        "is_known": one.asset is not None,
        "stated": figure(one.stated),
        "computed": figure(one.computed),
        "difference": figure(one.computed - one.stated),
    }
