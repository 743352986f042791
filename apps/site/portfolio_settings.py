"""The pages on which people create a portfolio, change its settings, and delete it with all that goes with it."""

from collections.abc import Callable
from functools import partial
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from apps.alerts.owned import delete_portfolio
from apps.portfolios.corrections import describe_refusal
from apps.portfolios.domain.transactions import Method
from apps.portfolios.models import Portfolio
from apps.portfolios.queries import contents_of, portfolios_of, portfolios_seen_by
from apps.portfolios.services import (
    PortfolioStays,
    TransactionsRefused,
    change_portfolio,
    create_portfolio,
    keeps_cash,
    refuse_base_currency,
    refuse_cash,
)
from apps.site.forms import ABOUT_METHODS, METHODS
from apps.site.once import SENT_BEFORE, OnceForm
from apps.site.portfolios import portfolio_of

ADD, CHANGE, DELETE = (f"portfolios.{one}_portfolio" for one in ("add", "change", "delete"))
_ABOUT_CASH = (
    "With cash, it keeps a balance of each currency, and its value includes them. Without, each purchase is money that "
    "comes in, and each sale or income money that goes out."
)
_CASH_STAYS_LATER = "This stays so from the first transaction on."
_CASH_STAYS = "This stays as it is, since the portfolio has transactions or series."


class PortfolioForm(OnceForm):
    """How a portfolio is called and computed. portfolio: the one that is changed."""

    name = forms.CharField(max_length=64, help_text="What you call it.")
    base_currency = forms.CharField(
        max_length=12,
        help_text="The currency of its value and gains, like EUR. It can be changed while no transaction has an "
        "exchange rate into it, and while the portfolio has no series.",
    )
    method = forms.ChoiceField(
        choices=METHODS, initial=Method.FIFO.value, label="Lots that a sale takes", help_text=ABOUT_METHODS
    )
    tracks_cash = forms.BooleanField(required=False, label="Track cash")

    def __init__(self, data: Any, *, owner_id: int, portfolio: Portfolio | None) -> None:
        super().__init__(data)
        self._owner_id, self._portfolio = owner_id, portfolio
        stays = _CASH_STAYS_LATER
        if portfolio is not None:
            # To change twice is to change once.
            del self.fields["key"]
            for name in self.fields:
                self.fields[name].initial = getattr(portfolio, name)
            stays = _CASH_STAYS if keeps_cash(portfolio) else _CASH_STAYS_LATER
        self.fields["tracks_cash"].help_text = f"{_ABOUT_CASH} {stays}"

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        others = [one for one in portfolios_of(self._owner_id) if one != self._portfolio]
        if name in {one.name for one in others}:
            raise ValidationError("There is a portfolio of this name already.")
        return name

    def clean_base_currency(self) -> str:
        return str(self.cleaned_data["base_currency"]).strip().upper()

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if "base_currency" in cleaned:
            self._try(refuse_base_currency, cleaned["base_currency"], portfolio=self._portfolio)
        if self._portfolio is not None:
            self._try(refuse_cash, cleaned["tracks_cash"], portfolio=self._portfolio)
        return cleaned

    def save(self, store: Callable[..., Portfolio]) -> Portfolio | None:
        """Return what `store(**columns)` gives; None where something is wrong, with that beside the fields."""
        if not self.is_valid():
            return None
        names = ("name", "base_currency", "method", "tracks_cash")
        return self._try(store, **{name: self.cleaned_data[name] for name in names})

    def _try(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return what a service gives; None, with what it refuses beside the fields, where it does."""
        try:
            return call(*args, **kwargs)
        except ValidationError as error:
            for name, texts in error.message_dict.items():
                self.add_error(name if name in self.fields else None, texts)  # type: ignore[arg-type]
        except TransactionsRefused as error:
            self.add_error(None, f"The portfolio cannot be computed. {describe_refusal(error.refusals[0])}")
        return None


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def add_page(request: HttpRequest) -> HttpResponse:
    """Create a portfolio of the reader's."""
    _permit(request, ADD)
    user: Any = request.user
    form = PortfolioForm(request.POST if request.method == "POST" else None, owner_id=user.pk, portfolio=None)
    if request.method == "POST":
        created = form.once(user, about="", create=lambda: form.save(partial(create_portfolio, owner=user)))
        if created is not None:
            messages.success(request, "The portfolio is created." if created.is_new else SENT_BEFORE)
            is_there = portfolios_seen_by(user).filter(pk=created.id).exists()
            return redirect("portfolio", created.id) if is_there else redirect("portfolios")
    return render(request, "site/portfolio_form.html", {"title": "Create a portfolio", "form": form})


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def settings_page(request: HttpRequest, pk: int) -> HttpResponse:
    """Change how a portfolio is called and computed."""
    portfolio = portfolio_of(request, pk)
    _permit(request, CHANGE)
    data = request.POST if request.method == "POST" else None
    form = PortfolioForm(data, owner_id=portfolio.owner_id, portfolio=portfolio)
    if request.method == "POST" and form.save(partial(change_portfolio, portfolio=portfolio)) is not None:
        messages.success(request, "The settings are saved.")
        return redirect("portfolio", pk)
    context = {"title": f"Settings of {portfolio}", "form": form, "portfolio": portfolio}
    return render(request, "site/portfolio_form.html", context)


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def delete_page(request: HttpRequest, pk: int) -> HttpResponse:
    """Ask, and delete a portfolio with all that goes with it."""
    portfolio = portfolio_of(request, pk)
    _permit(request, DELETE)
    refusal = ""
    if request.method == "POST":
        try:
            delete_portfolio(portfolio=portfolio, now=timezone.now())
        except PortfolioStays as error:
            refusal = str(error)
        else:
            messages.success(request, f"{portfolio} is deleted.")
            return redirect("portfolios")
    context = {
        "title": f"Delete {portfolio}",
        "portfolio": portfolio,
        "refusal": refusal,
        "contents": contents_of(portfolio),
    }
    return render(request, "site/portfolio_delete.html", context)


def _permit(request: HttpRequest, permission: str) -> None:
    if not request.user.has_perm(permission):
        raise PermissionDenied
