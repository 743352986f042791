"""The pages on which a portfolio's value, performance index and drift become series, on which rules can be set."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from apps.alerts.owned import delete_series
from apps.market.derived.series import SeriesInvalid
from apps.market.models import Asset
from apps.market.queries import assets_seen_by, held_prices
from apps.market.services import AssetStays
from apps.notation import SECOND
from apps.owned_ids import owned_id_of
from apps.portfolios.domain.series import SeriesKind
from apps.portfolios.models import Portfolio, PortfolioSeries
from apps.portfolios.series import make_days, missing_in, target_of
from apps.portfolios.services import TransactionsRefused, change_series, create_series
from apps.site.figures import money
from apps.site.forms import NewSeriesForm, SeriesForm
from apps.site.once import SENT_BEFORE
from apps.site.portfolios import context_of, portfolio_of
from apps.site.targets import written_target
from apps.wording import format_duration

# What the form of a new rule begins with, by the kind of the series.
RULES: Mapping[SeriesKind, Mapping[str, str]] = {
    SeriesKind.VALUE: {"kind": "below"},
    SeriesKind.INDEX: {"kind": "falls", "percent": "5", "window": "24h"},
    SeriesKind.DRIFT: {"kind": "above", "level": "5"},
}
ABOUT = {
    SeriesKind.VALUE: "what everything held is worth; deposits and withdrawals move it too",
    SeriesKind.INDEX: "100 at the first flow, then the time-weighted return; money that comes or goes does not move it",
    SeriesKind.DRIFT: "the largest difference of a share from its target, in points",
}


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def series_page(request: HttpRequest, pk: int) -> HttpResponse:
    """Show the series of a portfolio, and make one."""
    portfolio = portfolio_of(request, pk)
    may_change = request.user.has_perm("portfolios.change_portfolio")
    now = timezone.now()
    form = NewSeriesForm(request.POST or None, portfolio=portfolio)
    if request.method == "POST":
        if not may_change:
            raise PermissionDenied
        if form.is_valid():
            # Before the transaction that creates it, in which partitions would stay locked.
            make_days(portfolio, now=now)
        user: Any = request.user
        created = form.once(user, about=portfolio.pk, create=lambda: _create(portfolio, form, now))
        if created is not None:
            if not created.is_new:
                messages.success(request, SENT_BEFORE)
            return redirect("portfolio_series", pk)
    rows = list(PortfolioSeries.objects.filter(portfolio=portfolio).order_by("kind", "pk"))
    context = {
        **context_of(portfolio, now),
        "title": f"Series of {portfolio}",
        "form": form if may_change else None,
        "kinds": [(kind.caption, about) for kind, about in ABOUT.items()],
        "series": _rows(portfolio, rows, assets_seen_by(request.user)),
        "missing": _missing(portfolio) if rows else [],
        "may_add_rules": request.user.has_perm("rules.add_rule") and request.user.is_staff,
    }
    return render(request, "site/portfolio_series.html", context)


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def one_series_page(request: HttpRequest, pk: int, name: str) -> HttpResponse:
    """Change or delete one series. name: as clients call it."""
    portfolio = portfolio_of(request, pk)
    row = PortfolioSeries.objects.filter(portfolio=portfolio, pk=owned_id_of(name) or 0).first()
    if row is None:
        raise Http404
    if not request.user.has_perm("portfolios.change_portfolio"):
        raise PermissionDenied
    seen = assets_seen_by(request.user)
    asset, now, refusal = seen.get(pk=row.pk), timezone.now(), ""
    begins = {"every_seconds": row.every_seconds, "target": written_target(target_of(row), seen)}
    is_deleting = "delete" in request.POST
    data = request.POST if request.method == "POST" and not is_deleting else None
    form = SeriesForm(data, portfolio=portfolio, initial=begins, kind=SeriesKind(row.kind))
    if is_deleting:
        try:
            delete_series(asset_ids=[row.pk], now=now)
            return redirect("portfolio_series", pk)
        except AssetStays as error:
            refusal = f"{asset.symbol} is not deleted. {error}"
    elif request.method == "POST" and form.is_valid():
        try:
            change_series(asset_id=row.pk, portfolio=portfolio, **_columns(form))
            return redirect("portfolio_series", pk)
        except TransactionsRefused as error:
            form.add_error(None, f"The portfolio cannot be computed. {error}")
    context = {
        **context_of(portfolio, now),
        "title": f"{asset.symbol} of {portfolio}",
        "asset": asset,
        "kind": SeriesKind(row.kind).caption,
        "form": form,
        "refusal": refusal,
    }
    return render(request, "site/portfolio_one_series.html", context)


def _columns(form: SeriesForm) -> dict[str, Any]:
    return {"every_seconds": form.cleaned_data["every_seconds"], "target": form.shares}


def _create(portfolio: Portfolio, form: NewSeriesForm, now: datetime) -> Asset | None:
    """Return the series that a form makes; None where something is wrong, with that in the form."""
    if not form.is_valid():
        return None
    try:
        return create_series(
            portfolio=portfolio,
            kind=SeriesKind(form.cleaned_data["kind"]),
            symbol=form.cleaned_data["symbol"].strip().upper(),
            **_columns(form),
            now=now,
        )
    except ValidationError as error:
        form.add_error("symbol", [text for texts in error.message_dict.values() for text in texts])
    except SeriesInvalid as error:
        form.add_error(None, f"It cannot be made: {error.what}.")
    except TransactionsRefused as error:
        form.add_error(None, f"The portfolio cannot be computed. {error}")
    return None


def _rows(portfolio: Portfolio, rows: list[PortfolioSeries], seen: QuerySet[Asset]) -> list[dict[str, Any]]:
    assets = {one.pk: one for one in seen.filter(pk__in=[row.pk for row in rows])}
    newest = held_prices(list(assets))
    found = []
    for row in rows:
        kind, asset, last = SeriesKind(row.kind), assets[row.pk], newest.get(row.pk)
        begins = {"asset": asset.symbol, "name": f"{kind.caption} of {portfolio.name}"[:128], **RULES[kind]}
        found.append(
            {
                "symbol": asset.symbol,
                "name": asset.external_id,
                "pk": asset.pk,
                "kind": kind.caption,
                "newest": money(last and last.price, "%" if kind == SeriesKind.DRIFT else asset.currency),
                "at": last and last.at,
                "every": format_duration(row.every_seconds * SECOND),
                "target": written_target(target_of(row), seen),
                "rule": f"{reverse('admin:rules_rule_add')}?{urlencode(begins)}",
            }
        )
    return found


def _missing(portfolio: Portfolio) -> list[str]:
    """Return why no quote can come of the series now, in sentences."""
    found = []
    for what, subject in missing_in(portfolio):
        if what == "feed":
            why = "is in no feed that goes by the same clock as the rest"
        elif what == "currency":
            why = "has no currency"
        else:
            why = f"has no exchange rate to {portfolio.base_currency} from a feed that goes by the same clock"
        found.append(f"{subject} {why}, so there is no new quote while it is held.")
    return found
