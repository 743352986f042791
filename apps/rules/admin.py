"""The owners' pages: what is watched, in words, and how far each instance of it has come."""

import secrets
from typing import Any

from django.contrib import admin, messages
from django.db.models import Case, Count, IntegerField, OuterRef, QuerySet, Subquery, Value, When
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.utils import timezone

from apps.market.admin import ROWS_SHOWN, ReadOnlyAdmin, Table
from apps.rules.domain import rule_in_words
from apps.rules.engine.instance import FIRING, INACTIVE
from apps.rules.engine.rule import RuleSpec
from apps.rules.engine.written import RuleInvalid
from apps.rules.models import Rule, RuleState, RuleVersion
from apps.rules.services import delete_rule

TRANSITIONS_SHOWN = 20


class OwnedRows:
    """Shows people their own rows and superusers all. owner_lookup: the way from a row to its owner."""

    owner_lookup = "owner"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request)  # type: ignore[misc]
        return rows if request.user.is_superuser else rows.filter(**{self.owner_lookup: request.user})


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


@admin.register(Rule)
class RuleAdmin(OwnedRows, ReadOnlyAdmin):
    """Rules come in by `manage.py load`. Here they are seen, and stopped."""

    empty_words = "No rules yet. Rules are loaded with manage.py load FILE --owner NAME."
    actions = ["stop_and_delete"]
    fields = ["name", "in_words", "owner", "severity", "created_at", "deleted_at"]
    list_before_template = "rules/how_to_add.html"
    list_display = ["name", "owner", "severity", "in_words", "instances"]
    list_filter = [DeletedFilter, "severity"]
    list_select_related = ["owner"]
    search_fields = ["name"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Rule]:
        newest = RuleVersion.objects.filter(rule=OuterRef("pk")).order_by("-number")
        states = RuleState.objects.filter(rule=OuterRef("pk")).order_by().values("rule")
        return (
            super()
            .get_queryset(request)
            .annotate(
                newest_document=Subquery(newest.values("document")[:1]),
                state_count=_counted(states),
                firing_count=_counted(states.filter(state=FIRING)),
            )
        )

    @admin.display(description="in words")
    def in_words(self, rule: Rule) -> str:
        return _in_words(rule.newest_document)  # type: ignore[attr-defined]

    @admin.display(description="on assets", ordering="state_count")
    def instances(self, rule: Rule) -> str:
        firing = rule.firing_count  # type: ignore[attr-defined]
        return f"{rule.state_count}, {firing} firing" if firing else f"{rule.state_count}"  # type: ignore[attr-defined]

    def has_stop_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("rules.delete_rule")

    @admin.action(description="Stop and delete these rules", permissions=["stop"])
    def stop_and_delete(self, request: HttpRequest, queryset: QuerySet[Rule]) -> None:
        """End the rules at their place in the log. Their rows stay: the admin's own delete would rewrite the log."""
        rules = list(queryset)
        for rule in rules:
            delete_rule(rule=rule, now=timezone.now(), trace_id=secrets.token_hex(16))
        noun = "rule is" if len(rules) == 1 else "rules are"
        messages.success(request, f"{len(rules)} {noun} stopped and deleted. Their alerts stay.")

    def tables(self, row: Rule) -> list[Table]:
        inactive_last = Case(When(state=INACTIVE, then=1), default=0, output_field=IntegerField())
        states = row.states.select_related("asset", "version").order_by(inactive_last, "asset__symbol")[:ROWS_SHOWN]
        steps = row.transitions.select_related("asset", "version").order_by("-pk")[:TRANSITIONS_SHOWN]
        versions = row.versions.order_by("-number")[:ROWS_SHOWN]
        return [
            Table(
                title="Where it stands",
                headers=["asset", "state", "since (UTC)", "why", "version"],
                rows=[[one.asset.symbol, one.state, one.since, _why(one), f"v{one.version.number}"] for one in states],
                empty="Not judged yet, or on no asset.",
            ),
            Table(
                title=f"Last steps (at most {TRANSITIONS_SHOWN})",
                headers=["at (UTC)", "asset", "from", "to", "why", "version"],
                rows=[
                    [
                        *(one.at, one.asset.symbol, one.from_state, one.to_state),
                        f"{one.reason} (not told: cooldown)" if one.suppressed else one.reason,
                        f"v{one.version.number}",
                    ]
                    for one in steps
                ],
                empty="No steps yet.",
            ),
            Table(
                title="Versions",
                headers=["version", "in words", "since (UTC)"],
                rows=[[f"v{one.number}", _in_words(one.document), one.created_at] for one in versions],
                empty="No versions.",
            ),
        ]


def _counted(states: QuerySet[RuleState]) -> Coalesce:
    return Coalesce(Subquery(states.annotate(count=Count("pk")).values("count")), Value(0))


def _in_words(document: Any) -> str:
    try:
        spec = RuleSpec.read(document)
    except RuleInvalid as error:
        return f"cannot be read: {error}"
    return rule_in_words(spec) + ("" if spec.enabled else " (switched off)")


def _why(state: RuleState) -> str:
    return f"unknown: {state.unknown}" if state.unknown else state.reason
