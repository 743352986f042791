"""The owners' page of files of transactions that wait to be confirmed."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from apps.panel.kit.owned import OwnedRows
from apps.panel.kit.pages import ReadOnlyAdmin, Table
from apps.portfolios.domain.files import read_activities
from apps.portfolios.domain.tables import FileRefused, list_rows
from apps.portfolios.importing import ERRORS_MOST, drop_file, kept_until
from apps.portfolios.models import ImportFile
from apps.reader import in_zone, show_time


@admin.register(ImportFile)
class ImportFileAdmin(OwnedRows, ReadOnlyAdmin):
    """Of each owner the newest file of the page and of the API wait. They are confirmed where they came from."""

    empty_text = "No file waits. Upload one on a portfolio's page, under Import; what is confirmed is no longer here."
    fields = ["name", "owner", "came_by", "uploaded_at", "expires_at", "state"]
    list_display = ["name", "owner", "came_by", "state", "uploaded_at", "expires_at"]
    list_select_related = ["owner"]
    search_fields = ["name"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[ImportFile]:
        # The content is read on its own page alone.
        return super().get_queryset(request).defer("content").order_by("-uploaded_at")

    @admin.display(description=in_zone("deleted from"), ordering="uploaded_at")
    def expires_at(self, row: ImportFile) -> str:
        return show_time(kept_until(row), with_zone=False)

    @admin.display(description="came by", ordering="is_by_api")
    def came_by(self, row: ImportFile) -> str:
        return "the API" if row.is_by_api else "a portfolio's page"

    @admin.display(description="state")
    def state(self, row: ImportFile) -> str:
        if kept_until(row) <= timezone.now():
            return "Expired: nobody confirmed it, and it is deleted soon."
        where = "by the API" if row.is_by_api else "on a portfolio's page, under Import"
        return f"Waits to be confirmed {where}. Nothing of it is recorded yet."

    def has_delete_permission(self, request: HttpRequest, obj: ImportFile | None = None) -> bool:
        return bool(request.user.has_perm("portfolios.delete_importfile"))

    def delete_model(self, request: HttpRequest, obj: ImportFile) -> None:
        drop_file(owner=obj.owner, is_by_api=obj.is_by_api)

    def tables_for(self, request: HttpRequest, row: ImportFile) -> list[Table]:
        try:
            read = read_activities(bytes(row.content))
        except FileRefused as error:
            return [Table(title="It cannot be read", headers=["why"], rows=[[str(error)]], empty="")]
        counts: list[list[Any]] = [
            ["form", read.source],
            ["rows that can be recorded", len(read.rows)],
            ["rows that are wrong", len(read.errors)],
            ["rows that are left out", len(read.left_out)],
            ["splits to confirm", len(read.splits)],
            ["accounts", ", ".join(sorted(read.accounts() - {""})) or "none named"],
            ["assets", len(read.symbols())],
        ]
        tables = [Table(title="As it is read", headers=["what", "value"], rows=counts, empty="")]
        wrong = [[one.row or "", one.message] for one in read.errors[:ERRORS_MOST]]
        without = [[list_rows(rows), message] for message, rows in read.reasons()[:ERRORS_MOST]]
        for title, found in (("Rows that are wrong", wrong), ("Rows that are left out", without)):
            if found:
                tables.append(
                    Table(title=f"{title} (at most {ERRORS_MOST})", headers=["row", "why"], rows=found, empty="")
                )
        return tables
