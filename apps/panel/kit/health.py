"""Health on pages: a column in lists, a sentence on a row's page."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils import timezone
from unfold.decorators import display

from apps.health.domain import Health, HealthReader, Level
from apps.health.wording import written_for
from apps.reader import active_reader, write_time

LEVEL_LABEL = {Level.WELL.value: "success", Level.DEGRADED.value: "warning", Level.STOPPED.value: "danger"}


def describe_health(health: Health) -> str:
    """Return why something is as it is, what would mend it, and when that was checked."""
    if health.level == Level.WELL:
        return f"Well, by the check at {write_time(health.checked_at)}."
    shown = written_for(health, reader=active_reader())
    return f"{shown.reason} {shown.remedy}".strip()


class HealthShown:
    """Adds the health of rows to their list, where it is read for all rows at once, and to each row's page.

    healths_of: reads id -> health of these rows.
    """

    healths_of: HealthReader

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> Any:
        base: Any = super().get_changelist(request, **kwargs)  # type: ignore[misc]

        class WithHealth(base):  # type: ignore[misc]
            def get_results(self, request: HttpRequest) -> None:
                super().get_results(request)
                rows = list(self.result_list)
                healths = self.model_admin.healths_of([row.pk for row in rows], now=timezone.now())
                for row in rows:
                    row.its_health = healths[row.pk]
                self.result_list = rows

        return WithHealth

    def health_of(self, row: Any) -> Health:
        """Return the health of one row, that of its list where it comes from one."""
        known: Health | None = getattr(row, "its_health", None)
        return known if known is not None else self.healths_of([row.pk], now=timezone.now())[row.pk]

    @display(description="health", label=LEVEL_LABEL)
    def health(self, row: Any) -> str:
        return self.health_of(row).level.value

    @admin.display(description="why")
    def health_text(self, row: Any) -> str:
        return describe_health(self.health_of(row))
