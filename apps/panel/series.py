"""The owners' pages of derived series: what they are made of, and the rules on them. They are written on the site's own
pages."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from apps.alerts.owned import delete_series
from apps.alerts.queries import states_watching
from apps.market import queries
from apps.market.derived.models import DerivedSeries
from apps.market.derived.queries import series_seen_by
from apps.market.derived.series import Definition
from apps.market.derived.wording import describe_series, formula_of
from apps.market.services import AssetStays
from apps.panel.kit.pages import ROWS_SHOWN, Chart, ReadOnlyAdmin, Table, page_link
from apps.reader import active_reader, in_zone, show_number, show_prices, show_time, zone_name
from apps.rules.domain import describe_state_reason
from apps.wording import format_duration

QUOTES_SHOWN = 20


@admin.register(DerivedSeries)
class DerivedSeriesAdmin(ReadOnlyAdmin):
    """People see their own series, superusers all that have an owner."""

    empty_text = "No derived series yet. Add one: a ratio, a spread or a basket of assets."
    fields = ["symbol", "name", "owner", "computes", "latest_price", "latest_at", "created_at", "site_page"]
    list_display = ["symbol", "computes", "latest_price", "latest_at", "owner"]
    search_fields = ["asset__symbol", "asset__name"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[DerivedSeries]:
        return series_seen_by(request.user).prefetch_related("legs__asset")

    @admin.display(description="symbol", ordering="asset__symbol")
    def symbol(self, row: DerivedSeries) -> str:
        return row.asset.symbol

    @admin.display(description="name")
    def name(self, row: DerivedSeries) -> str:
        return row.asset.name

    @admin.display(description="owner", ordering="asset__owner")
    def owner(self, row: DerivedSeries) -> str:
        return str(row.asset.owner)

    @admin.display(description="computes")
    def computes(self, row: DerivedSeries) -> str:
        return formula_of(*_definition(row), reader=active_reader())

    @admin.display(description="newest value", ordering="asset__latest__price")
    def latest_price(self, row: DerivedSeries) -> str:
        return show_number(row.asset.latest.price) if hasattr(row.asset, "latest") else "none yet"

    @admin.display(description=in_zone("at"), ordering="asset__latest__at")
    def latest_at(self, row: DerivedSeries) -> Any:
        return show_time(row.asset.latest.at, with_zone=False) if hasattr(row.asset, "latest") else None

    @admin.display(description="change it")
    def site_page(self, row: DerivedSeries) -> SafeString:
        address = reverse("series", args=[row.asset.external_id])
        return format_html(
            '<a class="text-primary-600 dark:text-primary-500" href="{}">Its page</a> changes it, and begins a rule on '
            "it.",
            address,
        )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("market.add_derivedseries"))

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        # One form writes series.
        return HttpResponseRedirect(reverse("series_add"))

    def has_delete_permission(self, request: HttpRequest, obj: DerivedSeries | None = None) -> bool:
        # One at a time. None stands for many at once.
        return obj is not None and bool(request.user.has_perm("market.delete_derivedseries"))

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[Any, Any, set[str], Any]:
        deleted, counts, _, _ = super().get_deleted_objects(objs, request)
        # Whether other series and portfolios hold it, the service says.
        return deleted, counts, set(), []

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        try:
            return super().delete_view(request, object_id, extra_context)
        except AssetStays as stays:
            self.say_refused(request, f"Not deleted. {stays}")
            return HttpResponseRedirect(reverse("admin:market_derivedseries_change", args=[object_id]))

    def delete_model(self, request: HttpRequest, obj: DerivedSeries) -> None:
        delete_series(asset_ids=[obj.pk], now=timezone.now())

    def charts_for(self, request: HttpRequest, row: DerivedSeries) -> list[Chart]:
        until = row.asset.latest.at if hasattr(row.asset, "latest") else None
        since = queries.price_known_since(row.pk)
        path = queries.price_path(row.pk, since=since, until=until) if since is not None and until is not None else []
        return [Chart(title=f"All stored values ({zone_name()})", path=path, empty="No value yet.")]

    def tables_for(self, request: HttpRequest, row: DerivedSeries) -> list[Table]:
        definition, symbols = _definition(row)
        assets = {leg.asset_id: leg.asset for leg in row.legs.all()}
        states = states_watching(request.user, asset_id=row.pk)[:ROWS_SHOWN]
        quotes = queries.last_quotes(row.pk, limit=QUOTES_SHOWN)
        return [
            Table(
                title=f"Legs: {describe_series(definition, symbols, reader=active_reader())}",
                headers=["asset", "weight", "counts for"],
                rows=[
                    [
                        page_link(request, assets[leg.asset_id], assets[leg.asset_id].symbol),
                        show_number(leg.weight),
                        format_duration(leg.max_skew),
                    ]
                    for leg in definition.legs
                ],
                empty="",
            ),
            Table(
                title="Rules that watch it",
                headers=["rule", "state", in_zone("since"), "why"],
                rows=[
                    [
                        *(page_link(request, one.rule, one.rule.name), one.state, one.since),
                        describe_state_reason(unknown=one.unknown, reason=one.reason, detail=one.detail),
                    ]
                    for one in states
                ],
                empty="No rule watches it. Its page on the site begins one.",
            ),
            Table(
                title=f"Last quotes (at most {QUOTES_SHOWN})",
                headers=[in_zone("at"), "value", "entry of the log"],
                rows=[
                    [one.at, value, f"#{one.entry.seq}"]
                    for one, value in zip(quotes, show_prices([one.price for one in quotes]), strict=True)
                ],
                empty="No quotes are kept.",
            ),
        ]


def _definition(row: DerivedSeries) -> tuple[Definition, list[str]]:
    definition = Definition.of_document(row.document)
    symbols = {leg.asset_id: leg.asset.symbol for leg in row.legs.all()}
    return definition, [symbols[leg.asset_id] for leg in definition.legs]
