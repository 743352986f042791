"""The page of backfills: whose past is asked of whom, how far it is, and what it waits for."""

from django.contrib import admin
from django.utils import timezone

from apps.panel.kit.pages import ReadOnlyAdmin
from apps.sources.models import Backfill
from apps.sources.services import describe_backfill, describe_state


@admin.register(Backfill)
class BackfillAdmin(ReadOnlyAdmin):
    """What `manage.py backfill`, and workers for owners, have done, newest first."""

    empty_text = "No backfills yet. manage.py backfill ASSET --from TIME does, and so does a portfolio's page of pasts."
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
        return describe_state(backfill, now=timezone.now())
