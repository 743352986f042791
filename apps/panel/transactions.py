"""The owners' pages: transactions of portfolios, each with the history of its corrections."""

from functools import partial
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.forms import BaseModelForm
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone

from apps.market.queries import assets_seen_by
from apps.panel.kit.owned import OwnedRows
from apps.panel.kit.pages import ROWS_SHOWN, PageAdmin, Table, admin_address
from apps.panel.silences import RowField
from apps.portfolios.corrections import corrections_of, describe_refusal
from apps.portfolios.domain.transactions import DETAILS, Event, Kind, fields_of
from apps.portfolios.models import Transaction
from apps.portfolios.queries import portfolios_seen_by, transactions_seen_by
from apps.portfolios.services import (
    TransactionsRefused,
    correct_transaction,
    delete_transactions,
    record_transactions,
)
from apps.reader import in_zone, show_number
from apps.site.once import SENT_BEFORE, FormRefused, OnceForm, create_once

SET_BY_PEOPLE = [
    *("kind", "event", "at", "has_time", "asset", "quantity", "amount", "currency", "rate", "fee", "fee_currency"),
    *("fee_asset", "fee_quantity", "tax", "tax_currency", "counter_amount", "counter_currency", "acquired_at"),
    *("to_portfolio", "to_asset", "numerator", "denominator", "cost_share", "notes", "group_id", "external_id"),
]
_ASSETS = ["asset", "to_asset", "fee_asset"]
# What a browser sends beside the fields; what Django adds of its own begins with "_".
_BESIDE = ("key", "csrfmiddlewaretoken")


class TransactionForm(OnceForm, forms.ModelForm):
    """A transaction that is tried before it is recorded, so that what is wrong stands beside its field.

    user, refusal: who writes, and why the form does not count, set by the page.
    """

    user: Any
    refusal = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk is not None:
            # To correct twice is to correct once.
            del self.fields["key"]

    def clean(self) -> dict[str, Any]:
        # The constraints of the database say the same in other words, so they are not asked.
        cleaned: dict[str, Any] = self.cleaned_data
        if self.refusal:
            self.refuse_once(self.refusal)
        if self.errors:
            return cleaned
        try:
            if self.instance.pk is None:
                given = {"portfolio": cleaned["portfolio"], "rows": [self.columns()]}
                record_transactions(**given, now=timezone.now(), dry_run=True)
            else:
                given = {"row": self.instance, "columns": self.columns(), "by": self.user}
                correct_transaction(**given, now=timezone.now(), dry_run=True)
        except TransactionsRefused as error:
            for refusal in error.refusals:
                if refusal.key == 1 and refusal.field in self.fields:
                    self.add_error(refusal.field, refusal.message)
                else:
                    self.add_error(None, describe_refusal(refusal))
        return cleaned

    def columns(self) -> dict[str, Any]:
        """Return what people have set."""
        return {name: self.cleaned_data[name] for name in SET_BY_PEOPLE}


def _condition(field: str) -> str:
    """Return when the form shows a field, for Alpine."""
    kinds = [str(kind) for kind in Kind if kind is not Kind.EVENT and field in fields_of(kind)]
    events = [str(event) for event in Event if field in fields_of(Kind.EVENT, event)]
    shown = f"{kinds}.includes(kind) || (kind == 'event' && {events}.includes(event))"
    return f"typeof kind == 'undefined' || {shown}"


@admin.register(Transaction)
class TransactionAdmin(OwnedRows, PageAdmin):
    """A transaction stays in its portfolio. What it was before a correction is kept."""

    autocomplete_fields = _ASSETS
    change_form_before_template = "panel/once.html"
    conditional_fields = {
        **{field: _condition(field) for field in DETAILS if field not in ("event", "asset")},
        "event": "typeof kind == 'undefined' || kind == 'event'",
    }
    empty_text = "No transactions yet. Add a purchase; before that, a portfolio."
    form = TransactionForm
    list_display = ["day", "what", "asset", "shown_quantity", "shown_amount", "currency", "portfolio"]
    list_filter = ["kind"]
    owner_lookup = "portfolio__owner"
    search_fields = ["asset__symbol", "notes", "group_id", "external_id"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Transaction]:
        return transactions_seen_by(request.user)

    @admin.display(description="kind", ordering="kind")
    def what(self, row: Transaction) -> str:
        return row.get_event_display() if row.event else row.get_kind_display()

    @admin.display(description="quantity")
    def shown_quantity(self, row: Transaction) -> str:
        return "" if row.quantity is None else show_number(row.quantity)

    @admin.display(description="amount")
    def shown_amount(self, row: Transaction) -> str:
        return "" if row.amount is None else show_number(row.amount)

    def get_fields(self, request: HttpRequest, obj: Transaction | None = None) -> list[str]:
        return ["portfolio", *SET_BY_PEOPLE]

    def get_form(self, request: HttpRequest, obj: Transaction | None = None, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, **kwargs)
        form.user, form.refusal = request.user, getattr(request, "refusal", "")
        if "portfolio" in form.base_fields:
            form.base_fields["portfolio"].disabled = obj is not None
        return form

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name in _ASSETS:
            kwargs |= {"form_class": RowField, "queryset": assets_seen_by(request.user)}
        if db_field.name in ("portfolio", "to_portfolio"):
            kwargs["queryset"] = portfolios_seen_by(request.user)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        answer = partial(self._answer, request, object_id, form_url, extra_context)
        if object_id is not None or request.method != "POST":
            return answer()
        answers: list[HttpResponse] = []

        def create() -> Transaction | None:
            request.recorded = None  # type: ignore[attr-defined]
            answers.append(answer())
            return request.recorded  # type: ignore[attr-defined, no-any-return]

        sent = {name: texts for name, texts in request.POST.lists() if name not in _BESIDE and not name.startswith("_")}
        given = {"key": request.POST.get("key", ""), "content": [TransactionForm.__name__, "admin", sent]}
        try:
            created = create_once(request.user, **given, create=create)  # type: ignore[arg-type]
        except FormRefused as refused:
            request.refusal = str(refused)  # type: ignore[attr-defined]
            return answer()
        if created is None or created.is_new:
            return answers[0]
        self.say_done(request, SENT_BEFORE)
        return self._after_again(request, created.id)

    def _after_again(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Return the way to the page to which the form led when it was sent first."""
        if "_addanother" in request.POST:
            return HttpResponseRedirect(request.path)
        row = self.get_queryset(request).filter(pk=pk).first()
        if "_continue" in request.POST and row is not None:
            return HttpResponseRedirect(reverse(admin_address(row, "change"), args=[pk]))
        return self.response_post_save_add(request, row)

    def _answer(self, request: HttpRequest, *args: Any) -> HttpResponse:
        try:
            return super().changeform_view(request, *args)
        except TransactionsRefused as error:
            # Something else was recorded between the trial and this.
            self.say_refused(request, f"Nothing is saved. {error.refusals[0].message}")
            return HttpResponseRedirect(request.path)

    def save_model(self, request: HttpRequest, obj: Transaction, form: BaseModelForm, change: bool) -> None:
        columns, now = form.columns(), timezone.now()  # type: ignore[attr-defined]
        if change:
            correct_transaction(row=obj, columns=columns, by=request.user, now=now)
        else:
            [made] = record_transactions(portfolio=obj.portfolio, rows=[columns], now=now)
            obj.pk, obj.day = made.pk, made.day
            request.recorded = made  # type: ignore[attr-defined]

    def has_delete_permission(self, request: HttpRequest, obj: Transaction | None = None) -> bool:
        # One at a time. None stands for many at once.
        return obj is not None and super().has_delete_permission(request, obj)

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        try:
            return super().delete_view(request, object_id, extra_context)
        except TransactionsRefused as error:
            self.say_refused(request, f"The transaction is not deleted. {describe_refusal(error.refusals[0])}")
            return HttpResponseRedirect(reverse("admin:portfolios_transaction_change", args=[object_id]))

    def delete_model(self, request: HttpRequest, obj: Transaction) -> None:
        delete_transactions(rows=[obj], by=request.user, now=timezone.now())

    def tables_for(self, request: HttpRequest, row: Transaction) -> list[Table]:
        corrections = corrections_of(row, most=ROWS_SHOWN)
        rows = [[one.at, one.by, "; ".join(f"{name}: {text}" for name, text in one.was)] for one in corrections]
        return [
            Table(
                title="Corrections",
                headers=[in_zone("at"), "by", "what it was"],
                rows=rows,
                empty="It was never corrected.",
            )
        ]
