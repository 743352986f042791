"""What the list of rules is filtered by."""

from typing import Any

from django.contrib import admin
from django.db.models import OuterRef, Q, QuerySet, Subquery
from django.http import HttpRequest

from apps.rules.engine.instance import ERROR, OPEN, PAUSED, PENDING
from apps.rules.models import Rule, RuleState, RuleVersion

STATUS_FILTERS = {
    "firing": Q(state__in=OPEN),
    "pending": Q(state=PENDING),
    "unknown": ~Q(unknown=""),
    "paused": Q(state=PAUSED),
    "error": Q(state=ERROR),
}


class DeletedFilter(admin.SimpleListFilter):
    """Deleted rules stay for the alerts that they opened, and show only where they are asked for."""

    title = "deleted"
    parameter_name = "deleted"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Deleted")]

    def choices(self, changelist: Any) -> Any:
        watched, deleted = super().choices(changelist)
        return [watched | {"display": "Watched"}, deleted]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Rule]) -> QuerySet[Rule]:
        return queryset.filter(deleted_at__isnull=self.value() != "yes")


class EnabledFilter(admin.SimpleListFilter):
    title = "enabled"
    parameter_name = "enabled"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("on", "On"), ("off", "Off")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Rule]) -> QuerySet[Rule]:
        if self.value() not in ("on", "off"):
            return queryset
        newest = RuleVersion.objects.filter(rule=OuterRef("rule")).order_by("-number").values("pk")[:1]
        chosen = RuleVersion.objects.filter(pk=Subquery(newest), document__enabled=self.value() == "on")
        return queryset.filter(pk__in=chosen.values("rule"))


class StatusFilter(admin.SimpleListFilter):
    title = "status"
    parameter_name = "status_of_instance"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(word, word.capitalize()) for word in STATUS_FILTERS]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Rule]) -> QuerySet[Rule]:
        if self.value() not in STATUS_FILTERS:
            return queryset
        return queryset.filter(pk__in=RuleState.objects.filter(STATUS_FILTERS[self.value()]).values("rule"))
