"""The owners' page of files of positions, and where they differ from what is computed."""

from django.contrib import admin
from django.http import HttpRequest

from apps.panel.kit.owned import OwnedRows
from apps.panel.kit.pages import ReadOnlyAdmin, Table
from apps.portfolios.domain.positions import deviations_in
from apps.portfolios.models import Reconciliation
from apps.reader import show_day, show_number


@admin.register(Reconciliation)
class ReconciliationAdmin(OwnedRows, ReadOnlyAdmin):
    """Of a portfolio's files the newest counts. They are uploaded on the portfolio's page."""

    empty_text = "No file of positions yet. Upload one on a portfolio's page, under Reconcile."
    fields = ["portfolio", "name", "day", "uploaded_at", "compared_at", "differing"]
    list_display = ["portfolio", "name", "day", "differing", "uploaded_at"]
    list_select_related = ["portfolio"]
    owner_lookup = "portfolio__owner"
    search_fields = ["name", "portfolio__name"]

    @admin.display(description="assets that differ")
    def differing(self, row: Reconciliation) -> int:
        return len(row.deviations)

    def has_delete_permission(self, request: HttpRequest, obj: Reconciliation | None = None) -> bool:
        return bool(request.user.has_perm("portfolios.delete_reconciliation"))

    def tables_for(self, request: HttpRequest, row: Reconciliation) -> list[Table]:
        found = [
            [one.symbol, *(show_number(number) for number in (one.stated, one.computed, one.computed - one.stated))]
            for one in deviations_in(row.deviations)
        ]
        return [
            Table(
                title=f"Quantities at the end of {show_day(row.day)}",
                headers=["asset", "by the file", "computed", "computed less the file"],
                rows=found,
                empty="They are the same.",
            )
        ]
