"""The page of steps: each change of state of each instance, and why."""

from typing import Any

from django.contrib import admin
from django.db.models import F
from django.http import HttpRequest
from django.utils.safestring import SafeString
from unfold.paginator import InfinitePaginator

from apps.market.queries import assets_seen_by
from apps.panel.kit.owned import OwnedRows, state_label
from apps.panel.kit.pages import ReadOnlyAdmin, ReplicaList
from apps.rules.domain import describe_reason
from apps.rules.models import Transition
from apps.rules.queries import rules_ever_seen_by

CHOICES_OFFERED = 200


class SeenRuleFilter(admin.RelatedFieldListFilter):
    """Offers the rules that the reader may see, and no others."""

    def field_choices(self, field: Any, request: HttpRequest, model_admin: Any) -> list[tuple[int, str]]:
        rules = rules_ever_seen_by(request.user).order_by(F("deleted_at").asc(nulls_first=True), "name")
        return [
            (pk, f"{name} (deleted)" if deleted_at else name)
            for pk, name, deleted_at in rules.values_list("pk", "name", "deleted_at")[:CHOICES_OFFERED]
        ]


class SteppedAssetFilter(admin.RelatedFieldListFilter):
    """Offers the assets that are watched by rules which the reader may see."""

    def field_choices(self, field: Any, request: HttpRequest, model_admin: Any) -> list[tuple[int, str]]:
        rules = rules_ever_seen_by(request.user)
        assets = assets_seen_by(request.user).filter(rule_states__rule__in=rules).distinct().order_by("symbol")
        return list(assets.values_list("pk", "symbol")[:CHOICES_OFFERED])


@admin.register(Transition)
class TransitionAdmin(ReplicaList, OwnedRows, ReadOnlyAdmin):
    """The steps of the reader's rules, newest first. Who may see rules may see these."""

    owner_lookup = "rule__owner"
    empty_text = "No steps yet. One is taken when a rule's condition begins to hold, or ends."
    # There are as many as the system is old.
    paginator = InfinitePaginator
    show_full_result_count = False
    fields = ["rule", "asset", "at", "from_label", "to_label", "why", "silent", "version_number", "entry"]
    readonly_fields = fields
    list_display = ["at", "rule", "asset", "from_label", "to_label", "why", "silent", "version_number"]
    list_filter = [("rule", SeenRuleFilter), ("asset", SteppedAssetFilter), "to_state", "from_state", "suppressed"]
    list_select_related = ["rule", "asset", "version", "entry__feed"]
    ordering = ["-pk"]
    search_fields = ["rule__name", "asset__symbol"]
    search_help_text = "Finds rules and assets."
    sortable_by = ()

    def has_module_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("rules.view_rule")

    def has_view_permission(self, request: HttpRequest, obj: Transition | None = None) -> bool:
        return request.user.has_perm("rules.view_rule")

    @admin.display(description="from")
    def from_label(self, step: Transition) -> SafeString:
        return state_label(step.from_state)

    @admin.display(description="to")
    def to_label(self, step: Transition) -> SafeString:
        return state_label(step.to_state)

    @admin.display(description="why")
    def why(self, step: Transition) -> str:
        return describe_reason(step.reason, step.detail)

    @admin.display(description="silent")
    def silent(self, step: Transition) -> str:
        return "within the cooldown: nobody is notified" if step.suppressed else ""

    @admin.display(description="version")
    def version_number(self, step: Transition) -> str:
        return f"v{step.version.number}"
