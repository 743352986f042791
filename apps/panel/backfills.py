"""The page of backfills: whose past is asked of whom, how far it is, and what it waits for."""

from django.contrib import admin
from django.utils import timezone

from apps.panel.kit.pages import ReadOnlyAdmin
from apps.sources.models import Backfill
from apps.sources.services import describe_backfill


@admin.register(Backfill)
class BackfillAdmin(ReadOnlyAdmin):
    """What `manage.py backfill` has done, newest first."""

    empty_text = "No backfills yet. manage.py backfill ASSET --from TIME does."
    fields = ["asset", "provider", "since", "until", "progress", "state", "failure", "created_at", "finished_at"]
    list_display = ["asset", "provider", "since", "until", "progress", "state"]
    list_filter = ["provider", ("finished_at", admin.EmptyFieldListFilter)]
    list_select_related = ["asset"]
    search_fields = ["asset__symbol"]

    @admin.display(description="how far")
    def progress(self, backfill: Backfill) -> str:
        return describe_backfill(backfill)

    @admin.display(description="in words (UTC)")
    def state(self, backfill: Backfill) -> str:
        if backfill.finished_at is not None:
            return f"Done at {backfill.finished_at:%Y-%m-%d %H:%M:%S}."
        failed = f" Last failure: {backfill.failure}." if backfill.failure else ""
        if backfill.lease_until is not None and backfill.lease_until > timezone.now():
            return f"Goes on; next call at {backfill.next_call_at:%Y-%m-%d %H:%M:%S}.{failed}"
        return f"Stopped; the same command goes on.{failed}"
