"""The operators' page of what owners ask for: prices of assets that are not here, or not for long enough."""

from collections.abc import Sequence
from shlex import quote
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from apps.panel.kit.pages import ReadOnlyAdmin
from apps.portfolios.models import PriceRequest
from apps.portfolios.requests import answers_to


@admin.register(PriceRequest)
class PriceRequestAdmin(ReadOnlyAdmin):
    """Shows no owners, since holdings are private. Operators delete a request that is done or declined."""

    empty_text = "No price requests. An import creates one for each asset that is unknown or whose past is too short."
    fields = ["symbol", "currency", "since", "asked_at", "to_do"]
    list_display = ["symbol", "currency", "since", "to_do", "asked_at"]
    search_fields = ["symbol"]

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        # One look at the market for the whole list.
        found = super().get_changelist_instance(request)
        _note_answers(found.result_list)
        return found

    @admin.display(description="what to do")
    def to_do(self, row: Any) -> str:
        answer = getattr(row, "answer", None) or answers_to([row])[row.pk]
        if answer.is_answered:
            return "Nothing: it has these prices. Delete the request."
        backfill = f"manage.py backfill {quote(row.symbol)} --from {row.since}"
        if answer.asset is None:
            return f"Add an asset {row.symbol} with a feed and a listing, then fetch its past: {backfill}"
        begins = f"Its prices begin on {answer.first_at:%Y-%m-%d}" if answer.first_at else "It has no prices yet"
        return f"{begins}. Fetch its past: {backfill}"

    def has_delete_permission(self, request: HttpRequest, obj: PriceRequest | None = None) -> bool:
        return bool(request.user.has_perm("portfolios.delete_pricerequest"))


def _note_answers(rows: Sequence[Any] | QuerySet[Any]) -> None:
    answers = answers_to(list(rows))
    for row in rows:
        row.answer = answers[row.pk]
