"""The page of assets: what has a price, and what it was lately."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.formats import localize
from unfold.admin import TabularInline
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from apps.market import calendars, queries
from apps.market.admin.pages import Chart, PageAdmin, Table, WordsField, plain_number
from apps.market.calendars import CALENDARS
from apps.market.models import Asset, AssetAlias, Backfill, Listing

QUOTES_SHOWN = 20
TAGS_OFFERED = 200
# Name in the address -> how far back; None: as far as anything is stored.
PERIODS = {
    "day": timedelta(days=1),
    "week": timedelta(days=7),
    "month": timedelta(days=30),
    "year": timedelta(days=365),
    "all": None,
}


class ListingInline(TabularInline):
    model = Listing
    extra = 0
    verbose_name_plural = "listings: what providers call it, where that is not its symbol"


class AliasInline(TabularInline):
    model = AssetAlias
    extra = 0
    verbose_name_plural = "aliases: other names that people search for"


class TagFilter(admin.SimpleListFilter):
    title = "tag"
    parameter_name = "tag"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(tag, tag) for tag in queries.known_tags(limit=TAGS_OFFERED)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Asset]) -> QuerySet[Asset]:
        if not self.value():
            return queryset
        return queryset.filter(pk__in=[asset.pk for asset in queries.assets_chosen(tag=self.value())])


class PriceFilter(admin.SimpleListFilter):
    title = "price"
    parameter_name = "price"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("known", "Known"), ("none", "None yet")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Asset]) -> QuerySet[Asset]:
        if self.value() not in ("known", "none"):
            return queryset
        return queryset.filter(latest__isnull=self.value() == "none")


@admin.register(Asset)
class AssetAdmin(PageAdmin):
    """Symbols stay as they are: rules and recordings call an asset by its symbol."""

    empty_words = "No assets yet. Add one here, or load a file of feeds, assets and rules with manage.py load FILE."
    fields = ["symbol", "name", "feed", "currency", "calendar", "tags", "latest_price", "latest_at", "trading_now"]
    inlines = [AliasInline, ListingInline]
    list_display = ["symbol", "name", "latest_price", "latest_at", "feed", "tags_in_words"]
    list_filter = ["feed", TagFilter, PriceFilter]
    list_select_related = ["feed", "latest"]
    search_fields = ["symbol", "name", "aliases__name"]
    search_help_text = "Finds symbols, names and aliases."

    def get_readonly_fields(self, request: HttpRequest, obj: Asset | None = None) -> list[str]:
        shown = ["latest_price", "latest_at", "trading_now"]
        return shown if obj is None else ["symbol", *shown]

    def has_delete_permission(self, request: HttpRequest, obj: Asset | None = None) -> bool:
        # What has quotes, or is watched, is part of a log that is never rewritten. None stands for many at once.
        if obj is None or hasattr(obj, "latest") or obj.rule_states.exists():
            return False
        return super().has_delete_permission(request, obj)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        # Nobody may delete a backfill by itself. One that stored nothing keeps no asset.
        deleted, counts, lacking, protected = super().get_deleted_objects(objs, request)
        return deleted, counts, lacking - {Backfill._meta.verbose_name}, protected

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "tags":
            words = "Words that rules can choose by, with commas between them: crypto, stablecoin."
            return WordsField(required=False, widget=UnfoldAdminTextInputWidget, help_text=words)
        if db_field.name == "calendar":
            exchanges = sorted((name, code) for code, name in CALENDARS.items())
            choices = [("", "always open"), *((code, f"{name}: {code}") for name, code in exchanges)]
            return forms.ChoiceField(
                choices=choices, required=False, widget=UnfoldAdminSelectWidget, help_text=db_field.help_text
            )
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    @admin.display(description="latest price", ordering="latest__price")
    def latest_price(self, asset: Asset) -> str:
        return plain_number(asset.latest.price) if hasattr(asset, "latest") else "none yet"

    @admin.display(description="at (UTC)", ordering="latest__at")
    def latest_at(self, asset: Asset) -> Any:
        return localize(asset.latest.at) if hasattr(asset, "latest") else None

    @admin.display(description="trading now")
    def trading_now(self, asset: Asset) -> str:
        return calendars.in_words(asset.calendar, timezone.now())

    @admin.display(description="tags")
    def tags_in_words(self, asset: Asset) -> str:
        return ", ".join(asset.tags)

    def charts_for(self, request: HttpRequest, row: Asset) -> list[Chart]:
        until = _clock(row)
        chosen = request.GET.get("period", "")
        chosen = chosen if chosen in PERIODS else "day"
        length = PERIODS[chosen]
        words = f"last {chosen}" if length else "time that is stored"
        path: Sequence[queries.PathPoint] = []
        if until is not None:
            since = until - length if length else queries.price_known_since(row.pk)
            path = queries.price_path(row.pk, since=since or until, until=until)
        return [
            Chart(
                title=f"The {words}, by its feed's clock (UTC)",
                path=path,
                empty="No price yet. Prices come once its feed is enabled and the workers run."
                if until is None
                else f"No price in the {words} of its feed.",
                periods=[(name, f"?period={name}", name == chosen) for name in PERIODS],
            )
        ]

    def tables(self, row: Asset) -> list[Table]:
        return [
            Table(
                title=f"Last quotes (at most {QUOTES_SHOWN})",
                headers=["at (UTC)", "price", "volume", "late", "entry of the log"],
                rows=[
                    [
                        *(one.at, plain_number(one.price), "" if one.volume is None else plain_number(one.volume)),
                        *("late: not judged" if one.late else "", f"#{one.batch.seq}"),
                    ]
                    for one in queries.last_quotes(row.pk, limit=QUOTES_SHOWN)
                ],
                empty="No quotes are kept.",
            )
        ]


def _clock(asset: Asset) -> datetime | None:
    """Return the time of its feed, or without a feed that of its newest price."""
    if asset.feed is not None and asset.feed.head.as_of is not None:
        return asset.feed.head.as_of
    return asset.latest.at if hasattr(asset, "latest") else None
