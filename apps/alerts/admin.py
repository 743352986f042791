"""The owners' pages: each alert, and what it saw."""

import json
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display

from apps.alerts.models import Alert
from apps.market.admin import ReadOnlyAdmin, Table
from apps.rules.admin import OwnedRows
from apps.rules.models import Rule

RULES_OFFERED = 200


class OpenFilter(admin.SimpleListFilter):
    title = "open or resolved"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("open", "Open"), ("resolved", "Resolved")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Alert]) -> QuerySet[Alert]:
        if self.value() not in ("open", "resolved"):
            return queryset
        return queryset.filter(resolved_at__isnull=self.value() == "open")


class RuleFilter(admin.RelatedFieldListFilter):
    """Offers the rules that the reader may see, and no others."""

    def field_choices(self, field: Any, request: HttpRequest, model_admin: Any) -> list[tuple[int, str]]:
        rules = Rule.objects.order_by("name")
        if not request.user.is_superuser:
            rules = rules.filter(owner=request.user)
        return list(rules.values_list("pk", "name")[:RULES_OFFERED])


@admin.register(Alert)
class AlertAdmin(OwnedRows, ReadOnlyAdmin):
    """Alerts open and end by what the engine finds in the log; nobody edits them."""

    owner_lookup = "rule__owner"
    empty_words = "No alerts yet. One opens when a rule's condition holds. Rules are loaded with manage.py load FILE."
    fields = [
        *("words", "severity", "kind", "rule", "version", "asset", "opened_at", "resolved_at", "resolution"),
        *("batch", "trace_id", "evidence_in_lines"),
    ]
    list_display = ["severity_label", "words", "rule", "asset", "opened_at", "over_since", "resolution"]
    list_display_links = ["words"]
    list_filter = [OpenFilter, "severity", ("rule", RuleFilter)]
    list_select_related = ["rule", "asset"]
    search_fields = ["words", "asset__symbol"]

    @display(
        description="severity",
        ordering="severity",
        label={"critical": "danger", "warning": "warning", "info": "info"},
    )
    def severity_label(self, alert: Alert) -> str:
        return alert.severity

    @admin.display(description="resolved at", ordering="resolved_at", empty_value="still open")
    def over_since(self, alert: Alert) -> Any:
        return alert.resolved_at

    @admin.display(description="trace")
    def trace_id(self, alert: Alert) -> str:
        return alert.batch.trace_id

    @admin.display(description="evidence")
    def evidence_in_lines(self, alert: Alert) -> SafeString:
        lines = json.dumps(alert.evidence, indent=2, ensure_ascii=False)
        return format_html('<pre class="overflow-x-auto whitespace-pre-wrap">{}</pre>', lines)

    def tables(self, row: Alert) -> list[Table]:
        events = row.events.select_related("batch__feed").order_by("pk")
        return [
            Table(
                title="What happened",
                headers=["at (UTC)", "event", "why", "entry of the log"],
                rows=[[one.at, one.get_kind_display(), one.reason, str(one.batch)] for one in events],
                empty="No events.",
            )
        ]
