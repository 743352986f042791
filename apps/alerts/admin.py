"""The owners' pages: each alert, and what it saw; and who watches an asset."""

from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.formats import localize
from unfold.decorators import display

from apps.alerts import domain
from apps.alerts.models import Alert
from apps.alerts.queries import alerts_of, states_watching
from apps.market.admin import ROWS_SHOWN, AssetAdmin, Chart, ReadOnlyAdmin, Table, page_link
from apps.market.models import Asset
from apps.market.queries import price_path
from apps.rules.admin import OwnedRows
from apps.rules.models import Rule

CHOICES_OFFERED = 200
ALERTS_SHOWN = 20
SHOWN_AT_LEAST = timedelta(minutes=1)
SEVERITY_LABEL = {"critical": "danger", "warning": "warning", "info": "info"}


class OpenFilter(admin.SimpleListFilter):
    title = "open or resolved"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("open", "Open"), ("resolved", "Resolved")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Alert]) -> QuerySet[Alert]:
        if self.value() not in ("open", "resolved"):
            return queryset
        return queryset.filter(resolved_at__isnull=self.value() == "open")


class FoundFilter(admin.SimpleListFilter):
    """By the wall clock: a recording's own time may be years ago."""

    title = "found (by this machine's clock)"
    parameter_name = "found"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("today", "Today (UTC)"), ("week", "In the last 7 days")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Alert]) -> QuerySet[Alert]:
        now = timezone.now()
        since = {
            "today": now.replace(hour=0, minute=0, second=0, microsecond=0),
            "week": now - timedelta(days=7),
        }.get(self.value() or "")
        return queryset if since is None else queryset.filter(created_at__gte=since)


class RuleFilter(admin.RelatedFieldListFilter):
    """Offers the rules that the reader may see, and no others."""

    def field_choices(self, field: Any, request: HttpRequest, model_admin: Any) -> list[tuple[int, str]]:
        rules = Rule.objects.order_by("name")
        if not request.user.is_superuser:
            rules = rules.filter(owner=request.user)
        return list(rules.values_list("pk", "name")[:CHOICES_OFFERED])


class AssetFilter(admin.RelatedFieldListFilter):
    """Offers the assets on which the reader has alerts."""

    def field_choices(self, field: Any, request: HttpRequest, model_admin: Any) -> list[tuple[int, str]]:
        seen = alerts_of(request.user).order_by().filter(asset=OuterRef("pk"))
        assets = Asset.objects.filter(Exists(seen)).order_by("symbol")
        return list(assets.values_list("pk", "symbol")[:CHOICES_OFFERED])


@admin.register(Alert)
class AlertAdmin(OwnedRows, ReadOnlyAdmin):
    """Alerts open and end by what the engine finds in the log; nobody edits them."""

    owner_lookup = "rule__owner"
    empty_words = "No alerts yet. One opens when a rule's condition holds; see Rules for what is watched."
    fields = ["words", "severity_label", "kind", "opened_at", "over_since", "resolution"]
    list_display = ["severity_label", "words", "rule", "asset", "opened_at", "over_since", "resolution"]
    list_display_links = ["words"]
    list_filter = [OpenFilter, "severity", FoundFilter, ("rule", RuleFilter), ("asset", AssetFilter)]
    list_select_related = ["rule", "asset"]
    search_fields = ["words", "asset__symbol", "rule__name"]
    search_help_text = "Finds what was seen, assets and rules."

    @display(description="severity", ordering="severity", label=SEVERITY_LABEL)
    def severity_label(self, alert: Alert) -> str:
        return alert.severity

    @admin.display(description="resolved at", ordering="resolved_at")
    def over_since(self, alert: Alert) -> str:
        return "still open" if alert.resolved_at is None else localize(alert.resolved_at)

    def charts_for(self, request: HttpRequest, row: Alert) -> list[Chart]:
        """Draw from the beginning of what the rule saw to some time after the end, or after the opening where the
        episode is long or still lasts."""
        seen_since = domain.seen_since(row.evidence) or row.opened_at
        span = max(row.opened_at - seen_since, SHOWN_AT_LEAST)
        marks = [("opened", row.opened_at)]
        until = row.opened_at + span
        if row.resolved_at is not None and row.resolved_at - row.opened_at <= 10 * span:
            marks.append(("resolved", row.resolved_at))
            until = row.resolved_at + span / 2
        return [
            Chart(
                title=f"{row.asset} around the opening (UTC)",
                path=price_path(row.asset_id, since=row.opened_at - 1.2 * span, until=until),
                levels=domain.levels(row.evidence),
                marks=marks,
                empty="No prices are kept from that time.",
            )
        ]

    def tables_for(self, request: HttpRequest, row: Alert) -> list[Table]:
        events = row.events.select_related("batch__feed").order_by("pk")
        return [
            Table(
                title="What the rule saw when it opened",
                headers=["part of the condition", "figure", "value"],
                rows=domain.figures(row.evidence),
                empty="Nothing: it could not be judged.",
            ),
            Table(
                title="What happened",
                headers=["at (UTC)", "event", "why", "entry of the log"],
                rows=[
                    [one.at, one.get_kind_display(), one.reason, page_link(request, one.batch, str(one.batch))]
                    for one in events
                ],
                empty="No events.",
            ),
            Table(
                title="Where it comes from",
                headers=["rule", "version", "asset", "entry of the log", "trace id"],
                rows=[
                    [
                        *(page_link(request, row.rule, row.rule.name), f"v{row.version.number}"),
                        *(page_link(request, row.asset, row.asset.symbol),),
                        *(page_link(request, row.batch, str(row.batch)), row.batch.trace_id),
                    ]
                ],
                empty="",
            ),
        ]


admin.site.unregister(Asset)


@admin.register(Asset)
class WatchedAssetAdmin(AssetAdmin):
    """An asset's page with who watches it. It stands here, since the market knows nothing of rules and alerts."""

    def tables_for(self, request: HttpRequest, row: Asset) -> list[Table]:
        states = states_watching(request.user, asset_id=row.pk)[:ROWS_SHOWN]
        alerts = alerts_of(request.user).filter(asset=row)[:ALERTS_SHOWN]
        return [
            Table(
                title="Rules that watch it" if request.user.is_superuser else "Your rules that watch it",
                headers=["rule", "owner", "state", "since (UTC)", "why"],
                rows=[
                    [
                        *(page_link(request, one.rule, one.rule.name), str(one.rule.owner), one.state, one.since),
                        f"unknown: {one.unknown}" if one.unknown else one.reason,
                    ]
                    for one in states
                ],
                empty="No rule watches it. See Rules for how to add one.",
            ),
            Table(
                title=f"Last alerts (at most {ALERTS_SHOWN})",
                headers=["opened at (UTC)", "severity", "alert", "resolved at (UTC)"],
                rows=[
                    [one.opened_at, one.severity, page_link(request, one, one.words), one.resolved_at or "still open"]
                    for one in alerts
                ],
                empty="No alerts on it yet.",
            ),
            *super().tables_for(request, row),
        ]
