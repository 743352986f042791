"""The pages that import a file: choose it, say what its accounts and symbols are, see what it would record, confirm."""

from collections.abc import Collection, Mapping
from typing import Any

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from apps.market.models import Asset
from apps.market.services import create_manual_asset
from apps.portfolios.domain.files import read_activities
from apps.portfolios.domain.tables import NO_CHOICES, Activities, Activity, FileRefused, list_rows
from apps.portfolios.file_splits import confirm_splits
from apps.portfolios.importing import ERRORS_MOST, ImportRefused, drop_file, import_rows, keep_file, kept_file
from apps.portfolios.models import ImportFile, Portfolio
from apps.portfolios.requests import ask_for_prices, prices_wanted
from apps.portfolios.services import create_portfolio
from apps.site.figures import figure
from apps.site.forms import ImportForm, MappingForm
from apps.site.portfolios import context_of, portfolio_of
from apps.site.reading_form import ReadingForm

ROWS_PREVIEWED = 20


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def import_page(request: HttpRequest, pk: int) -> HttpResponse:
    """Take a file of transactions, and record nothing yet."""
    portfolio = _portfolio(request, pk)
    now = timezone.now()
    form = ImportForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        name = form.cleaned_data["file"].name or "file"
        keep_file(owner=_user(request), name=name, content=form.content, now=now)
        return redirect("portfolio_import_confirm", pk)
    context = {**context_of(portfolio, now), "title": f"Import into {portfolio}", "form": form}
    return render(request, "site/import.html", context)


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def confirm_page(request: HttpRequest, pk: int) -> HttpResponse:
    """Show what the file would record with these portfolios and assets; record it when that is confirmed."""
    portfolio = _portfolio(request, pk)
    file = kept_file(_user(request))
    if file is None:
        return redirect("portfolio_import", pk)
    return _confirm(request, portfolio, file)


def _confirm(
    request: HttpRequest, portfolio: Portfolio, file: ImportFile, *, wrong: Collection[int] = frozenset()
) -> HttpResponse:
    """Answer the second page. wrong: rows that are left out since somebody asked for that."""
    now = timezone.now()
    posted = request.POST if request.method == "POST" else None
    try:
        read = read_activities(bytes(file.content))
    except FileRefused:
        # An older version of this program has taken it.
        drop_file(owner=_user(request))
        return redirect("portfolio_import", portfolio.pk)
    reading = ReadingForm(posted, asks=read.asks, portfolio=portfolio, wrong=wrong)
    if reading.choices != NO_CHOICES:
        read = read_activities(bytes(file.content), reading.choices)
    given = {"may_make": request.user.has_perm("portfolios.add_portfolio"), "file": file.name}
    form = MappingForm(posted, read=read, portfolio=portfolio, **given)
    records = request.method == "POST" and "record" in request.POST
    context = {
        **context_of(portfolio, now),
        "title": f"Import {file.name}",
        "file": file,
        "source": read.source,
        "count_read": read.row_count,
        **_without(read),
        "form": form,
        "reading": reading,
        "rows": [_activity(one) for one in read.rows[:ROWS_PREVIEWED]],
    }
    # Each says what is wrong with it.
    are_valid = [one.is_valid() for one in (reading, form)]
    if form.is_bound and not all(are_valid):
        return render(request, "site/import_confirm.html", context)
    portfolios, assets = (form.portfolios, form.assets) if form.is_bound else form.defaults
    new, manual = (form.new, form.manual) if form.is_bound else ({}, {})
    wanted = prices_wanted(read=read, accounts={*portfolios, *new}, assets=assets)
    # Their owner types their prices.
    wanted = [one for one in wanted if one.symbol not in manual and (one.asset is None or one.asset.owner_id is None)]
    if request.method == "POST" and "ask" in request.POST:
        ask_for_prices(owner=portfolio.owner, wanted=wanted, now=now)
        context["asked"] = True
    context["wanted"] = wanted
    left_out = sum(one.account not in portfolios and one.account not in new for one in (*read.rows, *read.splits))
    context |= {"left_out": left_out}
    confirmed = request.POST.getlist("split")
    try:
        with transaction.atomic():
            made = {account: _make(portfolio, name, form.cleaned_data) for account, name in new.items()}
            its = _make_manual(read, manual, owner_id=portfolio.owner_id)
            mapped = {"portfolios": portfolios | made, "assets": assets | its, "now": now}
            read, context["splits"] = confirm_splits(read, **mapped, confirmed=confirmed)
            context |= _without(read)
            context["done"] = import_rows(read=read, **mapped, dry_run=not records)
            context["is_recorded"] = records
            if records:
                drop_file(owner=_user(request))
            context["manual"] = list(its.values())
            # A preview must not create a portfolio or an asset either.
            transaction.set_rollback(not records)
    except ImportRefused as error:
        if "leave_wrong" in request.POST and error.rows and not wrong:
            return _confirm(request, portfolio, file, wrong=error.rows)
        context |= {"errors": error.errors, "count": error.count, "wrong_rows": len(error.rows)}
    except _ManualRefused as error:
        form.note_manual(*error.args)
    return render(request, "site/import_confirm.html", context)


def _without(read: Activities) -> dict[str, Any]:
    """Return what the page shows of rows that are left out."""
    reasons = [(len(rows), message, list_rows(rows)) for message, rows in read.reasons()[:ERRORS_MOST]]
    return {"without": reasons, "without_count": len(read.left_out)}


class _ManualRefused(Exception):
    """A manual asset cannot be made; the symbol of the file, and the ValidationError."""


def _make_manual(read: Activities, manual: Mapping[str, str], *, owner_id: int) -> dict[str, Asset]:
    """Make the manual assets that are wanted, each once, in the currency of its first row. Raises _ManualRefused."""
    made: dict[str, Asset] = {}
    for symbol, name in manual.items():
        currencies = (one.columns.get("currency", "") for one in read.rows if one.symbol == symbol)
        currency = next((code for code in currencies if code), "")
        known = next((one for one in made.values() if one.symbol == name), None)
        try:
            made[symbol] = known or create_manual_asset(owner_id=owner_id, symbol=name, currency=currency)
        except ValidationError as error:
            raise _ManualRefused(symbol, error) from None
    return made


def _make(beside: Portfolio, name: str, chosen: Mapping[str, Any]) -> Portfolio:
    """Make a portfolio of the same owner, for an account of the file."""
    given = {"base_currency": chosen["new_base_currency"], "tracks_cash": chosen["new_tracks_cash"]}
    return create_portfolio(owner=beside.owner, name=name, method=chosen["new_method"] or beside.method, **given)


def _user(request: HttpRequest) -> Any:
    # Who is not signed in does not come here.
    return request.user


def _portfolio(request: HttpRequest, pk: int) -> Portfolio:
    portfolio = portfolio_of(request, pk)
    if not request.user.has_perm("portfolios.add_transaction"):
        raise PermissionDenied
    return portfolio


def _activity(one: Activity) -> dict[str, Any]:
    columns = one.columns
    return {
        "row": one.row,
        "day": columns["at"],
        "kind": columns["kind"].replace("_", " "),
        "symbol": one.symbol,
        "account": one.account,
        "quantity": figure(columns["quantity"]) if "quantity" in columns else "",
        "amount": f"{figure(columns['amount'])} {columns['currency']}" if columns.get("amount") is not None else "",
        "fee": figure(columns["fee"]) if columns.get("fee") else "",
    }
