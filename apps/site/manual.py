"""The pages of a reader's manual assets: what they hold and no provider prices, with prices that are typed or
uploaded."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from apps.alerts.owned import delete_series
from apps.market.models import Asset
from apps.market.queries import last_quotes, manual_assets_seen_by, price_known_since, price_path
from apps.market.services import AssetStays, CorrectionRefused, create_manual_asset
from apps.owned_ids import owned_id_of
from apps.reader import show_prices
from apps.site.manual_forms import ManualAssetForm, PriceFileForm, PriceForm
from apps.site.once import SENT_BEFORE
from apps.site.series import chart_of, chart_text_of, newest_of

PERMISSION = "portfolios.add_transaction"
PRICES_SHOWN = 50


@never_cache
@login_required
@require_safe
def manual_list(request: HttpRequest) -> HttpResponse:
    """Show the reader's manual assets."""
    now = timezone.now()
    rows = [{"asset": one, **newest_of(one, now)} for one in manual_assets_seen_by(request.user)]
    return render(request, "site/manual_list.html", {"title": "Manual assets", "rows": rows, "now": now})


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def add_page(request: HttpRequest) -> HttpResponse:
    """Make a manual asset of the reader's."""
    _permit(request)
    user: Any = request.user
    form = ManualAssetForm(request.POST if request.method == "POST" else None)
    if form.is_bound:
        store = partial(create_manual_asset, owner_id=user.pk)
        created = form.once(user, about="", create=lambda: form.save(store))
        if created is not None:
            asset = manual_assets_seen_by(user).filter(pk=created.id).first()
            if asset is None:
                messages.success(request, SENT_BEFORE)
                return redirect("manual_list")
            done = f"{asset.symbol} was created. Type its prices here, or upload them."
            messages.success(request, done if created.is_new else SENT_BEFORE)
            return redirect("manual", asset.external_id)
    return render(request, "site/manual_form.html", {"title": "New manual asset", "form": form})


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def manual_page(
    request: HttpRequest, key: str, store: Callable[..., Any], delete_price: Callable[..., Any]
) -> HttpResponse:
    """Show the prices of a manual asset, and take others. store, delete_price: the services, of a layer beside this
    one."""
    asset = _asset_of(request, key)
    now = timezone.now()
    what = request.POST.get("what", "") if request.method == "POST" else ""
    if request.method == "POST":
        _permit(request)
    price = PriceForm(request.POST if what == "price" else None, now=now)
    file = PriceFileForm(*((request.POST, request.FILES) if what == "file" else ()), symbol=asset.symbol, now=now)
    for form in (price, file):
        if form.is_bound and form.is_valid():
            done = store(asset, form.quotes(asset.symbol), now=now)
            messages.success(request, _said(done))
            return redirect("manual", key)
    if what == "delete":
        _delete(request, asset, delete_price, now=now)
        return redirect("manual", key)
    since = price_known_since(asset.pk)
    path = price_path(asset.pk, since=since, until=now) if since is not None else []
    rows = last_quotes(asset.pk, limit=PRICES_SHOWN)
    context = {
        "title": asset.symbol,
        "asset": asset,
        "price_form": price,
        "file_form": file,
        **newest_of(asset, now),
        "prices": [
            (one.at, one.at.isoformat(), price)
            for one, price in zip(rows, show_prices([one.price for one in rows]), strict=True)
        ],
        "chart": chart_of(path),
        "chart_text": chart_text_of(path),
        "may_change": request.user.has_perm(PERMISSION),
        "now": now,
    }
    return render(request, "site/manual.html", context)


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def delete_page(request: HttpRequest, key: str) -> HttpResponse:
    """Ask, and delete a manual asset with its prices."""
    asset = _asset_of(request, key)
    _permit(request)
    refusal = ""
    if request.method == "POST":
        try:
            delete_series(asset_ids=[asset.pk], now=timezone.now())
        except AssetStays as stays:
            refusal = str(stays)
        else:
            messages.success(request, f"{asset.symbol} is deleted.")
            return redirect("manual_list")
    context = {"title": f"Delete {asset.symbol}", "asset": asset, "refusal": refusal, "back": "manual"}
    return render(request, "site/asset_delete.html", context)


def _permit(request: HttpRequest) -> None:
    if not request.user.has_perm(PERMISSION):
        raise PermissionDenied


def _asset_of(request: HttpRequest, key: str) -> Asset:
    """Return the reader's manual asset. A foreign one and none are the same."""
    pk = owned_id_of(key)
    asset = manual_assets_seen_by(request.user).filter(pk=pk).first() if pk is not None else None
    if asset is None:
        raise Http404
    return asset


def _delete(request: HttpRequest, asset: Asset, delete_price: Callable[..., Any], *, now: datetime) -> None:
    try:
        at = datetime.fromisoformat(request.POST.get("at", "")).astimezone(UTC)
        done = delete_price(asset, at=at, now=now)
    except (ValueError, OverflowError) as error:
        # CorrectionRefused is one.
        said = str(error) if isinstance(error, CorrectionRefused) else "there is no such price"
        messages.warning(request, f"Not deleted: {said}.")
    else:
        messages.success(request, f"{_said(done)}")


def _said(done: Any) -> str:
    """Return what a change of prices came to, for people."""
    counts = {"added": done.added, "replaced": done.replaced, "deleted": done.deleted, "there already": done.repeated}
    said = [f"{count} price{'' if count == 1 else 's'} {what}" for what, count in counts.items() if count]
    return f"{', '.join(said).capitalize() or 'Nothing changed'}."
