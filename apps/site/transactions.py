"""The pages of a portfolio's transactions: a list, one with its history, and forms that add, correct and delete one."""

from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from apps.portfolios.corrections import corrections_of, deletions_in, describe_refusal
from apps.portfolios.domain.transactions import Kind
from apps.portfolios.models import Portfolio, Transaction
from apps.portfolios.queries import positions_of, transactions_about
from apps.portfolios.services import (
    TransactionsRefused,
    correct_transaction,
    delete_transactions,
    record_transactions,
)
from apps.reader import show_day, show_number, write_time
from apps.site.once import SENT_BEFORE
from apps.site.portfolios import context_of, portfolio_of, transaction_row
from apps.site.transaction_forms import ABOUT, WHATS, FilterForm, TransactionForm, what_of, whats_for

TRANSACTIONS_A_PAGE = 50
CHANGES_SHOWN = 50
ADD, CHANGE, DELETE = (f"portfolios.{one}_transaction" for one in ("add", "change", "delete"))


@never_cache
@login_required
@require_safe
def list_page(request: HttpRequest, pk: int) -> HttpResponse:
    """Show the transactions of a portfolio, page by page, perhaps narrowed."""
    portfolio = portfolio_of(request, pk)
    form = FilterForm(request.GET)
    page = Paginator(form.narrow(transactions_about(portfolio)), TRANSACTIONS_A_PAGE).get_page(request.GET.get("page"))
    asked = form.asked()
    is_first = not asked and page.number == 1
    context = {
        **_context(portfolio),
        "title": f"Transactions of {portfolio}",
        "form": form,
        "page": page,
        "transactions": [transaction_row(one) for one in page.object_list],
        "asked": asked,
        "page_query": urlencode(asked),
        "deletions": deletions_in(portfolio, most=CHANGES_SHOWN) if is_first else [],
    }
    return render(request, "site/transactions.html", context)


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def add_page(request: HttpRequest, pk: int) -> HttpResponse:
    """Record a transaction, of the kind that is asked for."""
    portfolio = portfolio_of(request, pk)
    _permit(request, ADD)
    what = _what(request, portfolio, Kind.BUY.value)
    form = _form(request, portfolio, what, None)
    if request.method == "POST":

        def store(columns: dict[str, Any], *, dry_run: bool) -> Transaction:
            rows = record_transactions(portfolio=portfolio, rows=[columns], now=timezone.now(), dry_run=dry_run)
            return rows[0]

        about = {"portfolio": portfolio.pk, "what": what}
        created = form.once(request.user, about=about, create=lambda: form.save(store))  # type: ignore[arg-type]
        if created is not None:
            done = f"Recorded: {WHATS[what].lower()} of {form.cleaned_data['day']}." if created.is_new else SENT_BEFORE
            messages.success(request, done)
            if "another" in request.POST:
                return redirect(f"{request.path}?{urlencode({'what': what})}")
            return redirect("portfolio_transactions", pk)
    context = {"title": f"Add a transaction to {portfolio}", "form": form, **_whats(portfolio, what)}
    return render(request, "site/transaction_form.html", _context(portfolio) | context)


@never_cache
@login_required
@require_safe
def one_page(request: HttpRequest, pk: int, row: int) -> HttpResponse:
    """Show a transaction, and what it was before each correction."""
    portfolio = portfolio_of(request, pk)
    found = _row(portfolio, row)
    context = {
        **context_of(portfolio, timezone.now()),
        "title": str(found).capitalize(),
        "row": found,
        "facts": _facts(found),
        "corrections": corrections_of(found, most=CHANGES_SHOWN),
        # What was transferred here is corrected where it comes from.
        "is_own": found.portfolio_id == portfolio.pk,
    }
    return render(request, "site/transaction.html", context)


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def correct_page(request: HttpRequest, pk: int, row: int) -> HttpResponse:
    """Correct a transaction; it may become one of another kind."""
    portfolio = portfolio_of(request, pk)
    _permit(request, CHANGE)
    found = _own_row(portfolio, row)
    what = _what(request, portfolio, what_of(found))
    form = _form(request, portfolio, what, found)
    if request.method == "POST":

        def store(columns: dict[str, Any], *, dry_run: bool) -> Transaction:
            given = {"row": found, "columns": columns, "by": request.user, "now": timezone.now()}
            return correct_transaction(**given, dry_run=dry_run)  # type: ignore[arg-type]

        if form.save(store) is not None:
            messages.success(request, "The transaction is corrected. Its previous values are below.")
            return redirect("portfolio_transaction", pk, row)
    context = {"title": f"Correct: {found}", "form": form, "row": found, **_whats(portfolio, what)}
    return render(request, "site/transaction_form.html", _context(portfolio) | context)


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def delete_page(request: HttpRequest, pk: int, row: int) -> HttpResponse:
    """Ask, and delete a transaction; what it was is kept."""
    portfolio = portfolio_of(request, pk)
    _permit(request, DELETE)
    found = _own_row(portfolio, row)
    refusal = ""
    if request.method == "POST":
        try:
            delete_transactions(rows=[found], by=request.user, now=timezone.now())  # type: ignore[arg-type]
        except TransactionsRefused as error:
            refusal = describe_refusal(error.refusals[0])
        else:
            messages.success(request, f"Deleted: {found}.")
            return redirect("portfolio_transactions", pk)
    context = {"title": f"Delete: {found}", "row": found, "facts": _facts(found), "refusal": refusal}
    return render(request, "site/transaction_delete.html", context_of(portfolio, timezone.now()) | context)


def _context(portfolio: Portfolio) -> dict[str, Any]:
    """Return the context of a page with a field for an asset, which offers those that are held."""
    held = [one.asset.symbol for one in positions_of(portfolio)]
    return {**context_of(portfolio, timezone.now()), "held": held}


def _permit(request: HttpRequest, permission: str) -> None:
    if not request.user.has_perm(permission):
        raise PermissionDenied


def _row(portfolio: Portfolio, key: int) -> Transaction:
    """Return a transaction of a portfolio, or one that came to it by a transfer. A foreign one and none are the
    same."""
    found = transactions_about(portfolio).filter(pk=key).first()
    if found is None:
        raise Http404
    return found


def _own_row(portfolio: Portfolio, key: int) -> Transaction:
    found = _row(portfolio, key)
    if found.portfolio_id != portfolio.pk:
        raise Http404
    return found


def _what(request: HttpRequest, portfolio: Portfolio, default: str) -> str:
    """Return of which kind the transaction is to be."""
    asked = request.GET.get("what", "")
    return asked if asked in whats_for(portfolio) else default


def _whats(portfolio: Portfolio, what: str) -> dict[str, Any]:
    return {"what": what, "whats": whats_for(portfolio).items(), "about": ABOUT[what], "name": WHATS[what]}


def _form(request: HttpRequest, portfolio: Portfolio, what: str, row: Transaction | None) -> TransactionForm:
    now: datetime = timezone.now()
    data = request.POST if request.method == "POST" else None
    return TransactionForm(data, portfolio=portfolio, what=what, row=row, now=now)


def _facts(row: Transaction) -> list[tuple[str, Any]]:
    """Return what a transaction says, each with a name."""

    def money(name: str, currency: str) -> str:
        value = getattr(row, name)
        return f"{show_number(value)} {currency or row.currency}".rstrip() if value else ""

    ratio = f"{row.numerator} for {row.denominator}" if row.numerator else ""
    moment = write_time(row.at) if row.has_time else f"{show_day(row.day)} (only the day counts)"
    amount = "" if row.amount is None else f"{show_number(row.amount)} {row.currency}"
    facts = [
        ("Kind", WHATS[what_of(row)]),
        ("Portfolio", row.portfolio.name),
        ("When", moment),
        ("Asset", row.asset.symbol if row.asset else ""),
        ("Quantity", "" if row.quantity is None else show_number(row.quantity)),
        ("Ratio", ratio),
        ("Became the asset", row.to_asset.symbol if row.to_asset else ""),
        ("Share of the cost that moves", "" if row.cost_share is None else show_number(row.cost_share)),
        ("To the portfolio", row.to_portfolio.name if row.to_portfolio else ""),
        ("Amount", amount),
        ("For it came in", money("counter_amount", row.counter_currency)),
        ("Exchange rate", "" if row.rate is None else f"{show_number(row.rate)}, written"),
        ("Bought originally on", "" if row.acquired_at is None else show_day(row.acquired_at)),
        ("Fee", money("fee", row.fee_currency)),
        ("Fee was paid in", f"{show_number(row.fee_quantity)} {row.fee_asset}" if row.fee_asset else ""),
        ("Tax", money("tax", row.tax_currency)),
        ("Notes", row.notes),
        ("Group", row.group_id),
        ("External id", row.external_id),
        ("Recorded", write_time(row.recorded_at)),
    ]
    return [(name, text) for name, text in facts if text]
