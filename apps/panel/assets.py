"""The pages of assets: prices, the feed that an asset is in, and the rules and alerts on it."""

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db import OperationalError
from django.db.models import QuerySet
from django.forms import BaseModelForm
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from apps.alerts.queries import alerts_of, states_watching, written_for
from apps.health.queries import asset_healths
from apps.market import calendars, queries
from apps.market.calendars import CALENDARS
from apps.market.derived.models import DerivedFeed
from apps.market.models import Asset, AssetAlias, Feed
from apps.market.services import AssetStays, CorrectionRefused, refuse_to_move
from apps.panel.asset_picker import AssetPicker
from apps.panel.backfills import backfills_table, may_fetch_past, past_view
from apps.panel.feed_health import refused_table
from apps.panel.kit.health import HealthShown
from apps.panel.kit.pages import ROWS_SHOWN, Chart, PageAdmin, Rows, Table, TagsField, page_link
from apps.panel.listing_search import list_view, may_list, search_address, search_view
from apps.panel.splits import PERMISSION, split_view
from apps.pipeline import corrections
from apps.pipeline.flow import move_asset
from apps.reader import active_reader, in_zone, show_number, show_prices, show_time, zone_name
from apps.rules.domain import describe_state_reason
from apps.sources.models import Backfill, Listing
from apps.tracing import new_trace_id

ALERTS_SHOWN = 20
QUOTES_SHOWN = 20
TAGS_OFFERED = 200
# So many take some seconds, in which the browser waits.
DELETED_MOST = 50_000
# Name in the address -> how far back; None: as far as anything is stored.
PERIODS = {
    "day": timedelta(days=1),
    "week": timedelta(days=7),
    "month": timedelta(days=30),
    "year": timedelta(days=365),
    "all": None,
}


class ListingInline(Rows):
    model = Listing
    extra = 0
    verbose_name_plural = "listings: what providers call it, where that is not its symbol"


class AliasInline(Rows):
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


class AssetForm(forms.ModelForm):
    """Says beside the field why an asset cannot move now."""

    def clean_feed(self) -> Feed | None:
        feed: Feed | None = self.cleaned_data["feed"]
        if self.instance.pk is None and feed is not None and DerivedFeed.objects.filter(pk=feed.pk).exists():
            raise ValidationError(f"{feed} has derived series alone.")
        if self.instance.pk is not None and "feed" in self.changed_data:
            try:
                refuse_to_move(Asset.objects.select_related("feed").get(pk=self.instance.pk), feed=feed)
            except AssetStays as stays:
                raise ValidationError(str(stays)) from None
        return feed


class DeletedRangeForm(forms.Form):
    """The range of quotes to delete. counted: the description of them that the person has seen."""

    since = forms.DateTimeField(label=in_zone("From"), help_text="The first time that goes.")
    until = forms.DateTimeField(label=in_zone("To"), help_text="The first time that stays.")
    counted = forms.CharField(required=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, asset: Asset, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.asset = asset
        for name in ("since", "until"):
            self.fields[name].widget = UnfoldAdminTextInputWidget(attrs={"type": "datetime-local", "step": "any"})

    def clean(self) -> dict[str, Any]:
        """Count what would be deleted."""
        data: dict[str, Any] = super().clean() or self.cleaned_data
        if "since" not in data or "until" not in data:
            return data
        try:
            found = corrections.preview_deletion(self.asset, since=data["since"], until=data["until"])
        except CorrectionRefused as refused:
            raise ValidationError({"until": f"Not deleted: {refused}."}) from None
        if not found:
            raise ValidationError({"until": "There are no quotes in this range."})
        if found.deleted > DELETED_MOST:
            raise ValidationError(
                {
                    "until": f"It has more than {DELETED_MOST} quotes; use manage.py delete_quotes, which works in "
                    "pieces and shows how far it is."
                }
            )
        self.found = corrections.describe(found)
        return data

    @property
    def is_counted(self) -> bool:
        """The quotes to delete are still those that were shown."""
        return self.is_valid() and self.cleaned_data["counted"] == self.found

    def show_count(self) -> None:
        """Let the next answer be to what is counted now."""
        self.data = {**self.data.dict(), "counted": self.found}


@admin.register(Asset)
class AssetAdmin(HealthShown, PageAdmin):
    """Symbols stay as they are: rules and recordings call an asset by its symbol."""

    healths_of = staticmethod(asset_healths)
    form = AssetForm
    actions = ["fetch_past", "find_listing", "enter_split", "delete_quotes"]
    buttons = actions
    is_live = True
    list_before_template = "panel/assets_how_to_add.html"
    empty_text = "No assets yet. Add one here, or load a file of feeds, assets and rules with manage.py load FILE."
    fields = [
        *("symbol", "name", "feed", "currency", "base_currency", "calendar", "signed", "tags"),
        *("health", "health_text", "latest_price", "latest_at", "trading_now"),
    ]
    inlines = [AliasInline, ListingInline]
    list_display = ["symbol", "name", "health", "latest_price", "latest_at", "feed", "tags_text"]
    list_filter = ["feed", TagFilter, PriceFilter]
    list_select_related = ["feed", "latest"]
    search_fields = ["symbol", "name", "aliases__name"]
    search_help_text = "Finds symbols, names and aliases."

    def get_queryset(self, request: HttpRequest) -> QuerySet[Asset]:
        rows = queries.assets_seen_by(request.user)
        return rows.order_by(*self.get_ordering(request) or Asset._meta.ordering)

    def get_readonly_fields(self, request: HttpRequest, obj: Asset | None = None) -> list[str]:
        shown = ["health", "health_text", "latest_price", "latest_at", "trading_now"]
        return shown if obj is None else ["symbol", *shown]

    def get_fields(self, request: HttpRequest, obj: Asset | None = None) -> list[str]:
        # One that is not there yet has no health.
        return [name for name in self.fields if obj is not None or name not in ("health", "health_text")]

    def has_change_permission(self, request: HttpRequest, obj: Asset | None = None) -> bool:
        # Owned assets cannot be changed here: services make and delete them with their series.
        return super().has_change_permission(request, obj) and (obj is None or obj.owner_id is None)

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
            text = "Words that rules can choose by, with commas between them: crypto, stablecoin."
            return TagsField(required=False, widget=UnfoldAdminTextInputWidget, help_text=text)
        if db_field.name == "calendar":
            exchanges = sorted((name, code) for code, name in CALENDARS.items())
            choices = [("", "always open"), *((code, f"{name}: {code}") for name, code in exchanges)]
            return forms.ChoiceField(
                choices=choices, required=False, widget=UnfoldAdminSelectWidget, help_text=db_field.help_text
            )
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    @admin.display(description="latest price", ordering="latest__price")
    def latest_price(self, asset: Asset) -> str:
        return show_number(asset.latest.price) if hasattr(asset, "latest") else "none yet"

    @admin.display(description=in_zone("at"), ordering="latest__at")
    def latest_at(self, asset: Asset) -> Any:
        return show_time(asset.latest.at, with_zone=False) if hasattr(asset, "latest") else None

    @admin.display(description="trading now")
    def trading_now(self, asset: Asset) -> str:
        return calendars.describe(asset.calendar, timezone.now())

    @admin.display(description="tags")
    def tags_text(self, asset: Asset) -> str:
        return ", ".join(asset.tags)

    def buttons_for(self, request: HttpRequest, row: Asset) -> Sequence[str]:
        return self.buttons if row.feed_id is not None else ["find_listing"]

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        picker = wrap(AssetPicker.as_view(admin_site=self.admin_site))
        return [
            path("<int:asset_id>/split/", wrap(partial(split_view, self)), name="market_asset_split"),
            path("<int:asset_id>/past/", wrap(partial(past_view, self)), name="market_asset_past"),
            path("search/", wrap(partial(search_view, self)), name="market_asset_search"),
            path("list/", wrap(partial(list_view, self)), name="market_asset_list"),
            path("pick/", picker, name="market_asset_pick"),
            *super().get_urls(),
        ]

    def has_fetch_past_permission(self, request: HttpRequest) -> bool:
        return may_fetch_past(request.user)

    @admin.action(description="Fetch its past", permissions=["fetch_past"])
    def fetch_past(self, request: HttpRequest, queryset: QuerySet[Asset]) -> HttpResponse | None:
        """Open the page on which the past of the asset is asked for."""
        assets = list(queryset[:2])
        if len(assets) != 1:
            self.say_refused(request, "Choose one asset to fetch its past.")
            return None
        return HttpResponseRedirect(reverse("admin:market_asset_past", args=[assets[0].pk]))

    def has_find_listing_permission(self, request: HttpRequest) -> bool:
        return may_list(request.user)

    @admin.action(description="Find it at a provider", permissions=["find_listing"])
    def find_listing(self, request: HttpRequest, queryset: QuerySet[Asset]) -> HttpResponse | None:
        """Open the page on which a provider is searched for the asset."""
        assets = list(queryset[:2])
        if len(assets) != 1:
            self.say_refused(request, "Choose one asset to find it at a provider.")
            return None
        return HttpResponseRedirect(search_address(assets[0]))

    def has_enter_split_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(PERMISSION)

    @admin.action(description="Enter a split", permissions=["enter_split"])
    def enter_split(self, request: HttpRequest, queryset: QuerySet[Asset]) -> HttpResponse | None:
        """Open the page on which a split of the asset is entered."""
        assets = list(queryset[:2])
        if len(assets) != 1:
            self.say_refused(request, "Choose one asset to enter a split of it.")
            return None
        return HttpResponseRedirect(reverse("admin:market_asset_split", args=[assets[0].pk]))

    def has_delete_quotes_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("market.delete_quote")

    @admin.action(description="Delete wrong quotes", permissions=["delete_quotes"])
    def delete_quotes(self, request: HttpRequest, queryset: QuerySet[Asset]) -> HttpResponse | None:
        """Ask for a range, say how many quotes that is, ask again, and delete them by a correction."""
        assets = list(queryset[:2])
        if len(assets) != 1:
            self.say_refused(request, "Choose one asset to delete quotes of it.")
            return None
        (asset,) = assets
        form = DeletedRangeForm(request.POST if "sure" in request.POST else None, asset=asset)
        if not form.is_counted:
            question, what, variant = "Which quotes are wrong?", "Count them", "primary"
            if form.is_valid():
                form.show_count()
                question = (
                    f"This is what goes: {form.found}. From now on windows, candles and the newest price are what is "
                    "left; nothing opens or resolves, and alerts that saw one of them say so. The log before it keeps "
                    "them."
                )
                what, variant = f"Delete quotes of {asset}", "danger"
            return self.ask_first(
                request, queryset, question=question, what=what, form=form, variant=variant, is_final=False
            )
        between = {"since": form.cleaned_data["since"], "until": form.cleaned_data["until"]}
        try:
            done = corrections.delete_quotes(asset, **between, now=timezone.now(), trace_id=new_trace_id())
        except CorrectionRefused as refused:
            self.say_refused(request, f"Not deleted: {refused}.")
        except OperationalError:
            self.say_refused(request, "The database is busy; what was deleted is gone. Try again in a moment.")
        else:
            self.log_change(request, asset, f"Deleted from {between['since']} to {between['until']}.")
            self.say_done(request, f"Done: {corrections.describe(done)}. Its rules see it with the next quote.")
        return self.after(request, assets)

    def charts_for(self, request: HttpRequest, row: Asset) -> list[Chart]:
        until = queries.clock_of(row)
        chosen = request.GET.get("period", "")
        chosen = chosen if chosen in PERIODS else "day"
        length = PERIODS[chosen]
        points: Sequence[queries.PathPoint] = []
        if until is not None:
            since = until - length if length else queries.price_known_since(row.pk)
            points = queries.price_path(row.pk, since=since or until, until=until)
        return [
            Chart(
                title=f"{f'Prices of the last {chosen}' if length else 'All stored prices'} ({zone_name()})",
                path=points,
                empty="No price yet. Prices come once its feed is enabled and the workers run."
                if until is None
                else f"No price in the last {chosen} by its feed's clock.",
                periods=[(name, f"?period={name}", name == chosen) for name in PERIODS],
            )
        ]

    def tables_for(self, request: HttpRequest, row: Asset) -> list[Table]:
        quotes = queries.last_quotes(row.pk, limit=QUOTES_SHOWN)
        states = states_watching(request.user, asset_id=row.pk)[:ROWS_SHOWN]
        alerts = alerts_of(request.user).filter(asset=row)[:ALERTS_SHOWN]
        refused = refused_table(request, [row], title="Refused listings: providers that give no price for it")
        past = backfills_table(row) if request.user.has_perm("sources.view_backfill") else None
        return [
            *(table for table in (refused, past) if table is not None),
            Table(
                title="Rules that watch it" if request.user.is_superuser else "Your rules that watch it",
                headers=["rule", "owner", "state", in_zone("since"), "why"],
                rows=[
                    [
                        *(page_link(request, one.rule, one.rule.name), str(one.rule.owner), one.state, one.since),
                        describe_state_reason(unknown=one.unknown, reason=one.reason, detail=one.detail),
                    ]
                    for one in states
                ],
                empty="No rule watches it. See Rules for how to add one.",
            ),
            Table(
                title=f"Last alerts (at most {ALERTS_SHOWN})",
                headers=[in_zone("opened at"), "severity", "alert", in_zone("resolved at")],
                rows=[
                    [one.opened_at, one.severity, page_link(request, one, one.summary), one.resolved_at or "still open"]
                    for one in written_for(alerts, reader=active_reader())
                ],
                empty="No alerts on it yet.",
            ),
            Table(
                title=f"Last quotes (at most {QUOTES_SHOWN})",
                headers=[in_zone("at"), "price", "volume", "late", "entry of the log"],
                rows=[
                    [
                        *(one.at, price, "" if one.volume is None else show_number(one.volume)),
                        *("late: not evaluated" if one.late else "", f"#{one.entry.seq}"),
                    ]
                    for one, price in zip(quotes, show_prices([one.price for one in quotes]), strict=True)
                ],
                empty="No quotes are kept.",
            ),
        ]

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except AssetStays as stays:
            # Between the form's check and the locks something has come; nothing was saved.
            self.say_refused(request, str(stays))
            return HttpResponseRedirect(request.path)

    def save_model(self, request: HttpRequest, obj: Asset, form: BaseModelForm, change: bool) -> None:
        """Move it first, by the service that takes the rules on it along."""
        if change and "feed" in form.changed_data:
            move_asset(asset_id=obj.pk, feed_id=obj.feed_id, now=timezone.now())
        super().save_model(request, obj, form, change)
