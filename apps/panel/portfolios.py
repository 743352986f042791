"""The owners' pages: portfolios, and what they hold."""

from collections.abc import Sequence
from datetime import date
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import Count, QuerySet
from django.forms import BaseModelForm
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone

from apps.alerts.owned import delete_portfolio
from apps.panel.kit.owned import ChosenOwner, OwnedRows
from apps.panel.kit.pages import ROWS_SHOWN, PageAdmin, Table, page_link
from apps.portfolios.corrections import describe_refusal
from apps.portfolios.models import LedgerCopy, Portfolio
from apps.portfolios.queries import portfolios_seen_by, positions_of
from apps.portfolios.services import (
    PortfolioStays,
    TransactionsRefused,
    change_portfolio,
    create_portfolio,
    recompute,
    refresh,
    refuse_base_currency,
    refuse_cash,
)
from apps.reader import show_day, show_number

UNKNOWN = "not known: a rate is missing"


class PortfolioForm(forms.ModelForm):
    def clean_base_currency(self) -> str:
        code: str = self.cleaned_data["base_currency"]
        try:
            refuse_base_currency(code, portfolio=self.instance)
        except ValidationError as error:
            raise ValidationError(error.message_dict["base_currency"]) from error
        return code

    def clean_tracks_cash(self) -> bool:
        tracks_cash: bool = self.cleaned_data["tracks_cash"]
        if self.instance.pk is not None:
            try:
                refuse_cash(tracks_cash, portfolio=self.instance)
            except ValidationError as error:
                raise ValidationError(error.message_dict["tracks_cash"]) from error
        return tracks_cash


@admin.register(Portfolio)
class PortfolioAdmin(ChosenOwner, OwnedRows, PageAdmin):
    """A portfolio stays its owner's."""

    actions = ["recompute"]
    buttons = actions
    empty_text = "No portfolios yet. Add one, then add its transactions."
    form = PortfolioForm
    list_display = ["name", "base_currency", "method", "tracks_cash", "transaction_count", "owner"]
    list_select_related = ["owner"]
    search_fields = ["name"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Portfolio]:
        return portfolios_seen_by(request.user).annotate(rows=Count("transactions")).order_by("name", "pk")

    @admin.display(description="transactions", ordering="rows")
    def transaction_count(self, portfolio: Any) -> int:
        return portfolio.rows

    def get_fields(self, request: HttpRequest, obj: Portfolio | None = None) -> list[str]:
        return ["owner", "name", "base_currency", "method", "tracks_cash"]

    def get_form(self, request: HttpRequest, obj: Portfolio | None = None, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, **kwargs)
        if "owner" in form.base_fields:
            # Disabled and not left out, so that a name that the owner has twice is still refused in words.
            form.base_fields["owner"].disabled = obj is not None
        return form

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return super().changeform_view(request, *args, **kwargs)
        except TransactionsRefused as error:
            self.say_refused(request, f"Nothing is saved. {describe_refusal(error.refusals[0])}")
            return HttpResponseRedirect(request.path)

    def save_model(self, request: HttpRequest, obj: Portfolio, form: BaseModelForm, change: bool) -> None:
        columns = {name: getattr(obj, name) for name in ("name", "base_currency", "method", "tracks_cash")}
        if change:
            change_portfolio(portfolio=obj, **columns)
        else:
            obj.pk = create_portfolio(owner=obj.owner, **columns).pk

    def has_delete_permission(self, request: HttpRequest, obj: Portfolio | None = None) -> bool:
        # One at a time. None stands for many at once.
        return obj is not None and super().has_delete_permission(request, obj)

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        try:
            return super().delete_view(request, object_id, extra_context)
        except PortfolioStays as error:
            self.say_refused(request, f"The portfolio is not deleted. {error}")
            return HttpResponseRedirect(reverse("admin:portfolios_portfolio_change", args=[object_id]))

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[Any, Any, set[str], Any]:
        deleted, counts, _, _ = super().get_deleted_objects(objs, request)
        # Who may delete a portfolio may delete what is in it; whether transfers hold it, the service says.
        return deleted, counts, set(), []

    def delete_model(self, request: HttpRequest, obj: Portfolio) -> None:
        delete_portfolio(portfolio=obj, now=timezone.now())

    @admin.action(description="Compute anew", permissions=["change"])
    def recompute(self, request: HttpRequest, queryset: QuerySet[Portfolio]) -> HttpResponse | None:
        """Write the copies anew, with rates and prices that have come in since."""
        rows = list(queryset[:ROWS_SHOWN])
        for portfolio in rows:
            try:
                recompute(portfolio=portfolio)
            except TransactionsRefused as error:
                self.say_refused(request, f"{portfolio} cannot be computed. {error}")
            else:
                self.say_done(request, f"{portfolio} is computed anew.")
        return self.after(request, rows)

    def tables_for(self, request: HttpRequest, row: Portfolio) -> list[Table]:
        refusals = refresh(portfolio=row)
        positions = positions_of(row)
        copy = LedgerCopy.objects.filter(portfolio=row).first()
        held = [
            [
                page_link(request, one.asset, one.asset.symbol),
                show_number(one.quantity),
                *(_shown(number) for number in (one.cost, one.realised, one.costs, one.income)),
            ]
            for one in positions
        ]
        currency = row.base_currency
        tables = [
            Table(
                title=f"Positions (in {currency})",
                headers=["asset", "quantity", "cost", "realised", "costs of sales", "income"],
                rows=held,
                empty="Nothing yet: add a transaction.",
            )
        ]
        if row.tracks_cash:
            cash = copy.cash if copy is not None else {}
            rows = [[code, show_number(balance)] for code, balance in cash.items()]
            tables.append(Table(title="Cash", headers=["currency", "balance"], rows=rows, empty="No cash yet."))
        if refusals:
            rows = [[one.message] for one in refusals[:ROWS_SHOWN]]
            tables.insert(0, Table(title="Cannot be computed", headers=["since a new split"], rows=rows, empty=""))
        missing = copy.missing if copy is not None else []
        if missing:
            tables.append(
                Table(title="Missing", headers=["what", "of", "day"], rows=_missing(missing, positions), empty="")
            )
        return tables


def _shown(number: Any) -> str:
    return UNKNOWN if number is None else show_number(round(number, 2))


def _missing(missing: Sequence[Sequence[str]], positions: Sequence[Any]) -> list[list[str]]:
    symbols = {str(one.asset_id): one.asset.symbol for one in positions}
    return [
        ["exchange rate of" if what == "rate" else "price of", symbols.get(key, key), show_day(date.fromisoformat(day))]
        for what, key, day in missing
    ]
