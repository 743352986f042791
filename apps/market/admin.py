"""The operators' pages: assets, feeds and their logs; and what the pages of every app have in common."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import F
from django.forms import BaseModelForm
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.formats import localize
from unfold.admin import ModelAdmin, TabularInline
from unfold.forms import PaginationInlineFormSet
from unfold.paginator import InfinitePaginator
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget

from apps.market import queries
from apps.market.models import INTERVAL_LONGEST_SECONDS, Asset, Batch, Feed, FeedSource, Listing
from apps.market.providers.registry import PROVIDERS
from apps.market.services import create_feed

ROWS_SHOWN = 100


@dataclass(frozen=True, slots=True)
class Table:
    """Rows that stand below the fields of a page; `empty` is said where there are none."""

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[Any]]
    empty: str

    def shown(self) -> dict[str, Any]:
        """Return it as Unfold's component reads it, with nothing where there is nothing."""
        return {"headers": self.headers, "rows": [["" if cell is None else cell for cell in row] for row in self.rows]}


class PageAdmin(ModelAdmin):
    """A page of fields with tables of related rows below them. empty_words: said where the list has no rows."""

    empty_words = ""
    change_form_outer_after_template = "market/tables.html"

    def tables(self, row: Any) -> list[Table]:
        """Return what stands below the fields."""
        return []

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, obj: Any = None, **kwargs: Any
    ) -> HttpResponse:
        context["tables"] = self.tables(obj) if obj is not None else []
        return super().render_change_form(request, context, *args, obj=obj, **kwargs)


class ReadOnlyAdmin(PageAdmin):
    """Rows that the system writes and people look at."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ShortText(UnfoldAdminTextareaWidget):
    """A few lines, which may be drawn larger."""

    def __init__(self, attrs: dict[str, Any] | None = None) -> None:
        super().__init__({"rows": 3, **(attrs or {})})


class JSONObjectField(forms.JSONField):
    """JSON with an object at its top; blank is {}."""

    expected: type = dict
    refusal = 'Write a JSON object, like {"name": "value"}, or {}.'

    def clean(self, value: Any) -> Any:
        value = super().clean(value)
        if value is None:
            return self.expected()
        if not isinstance(value, self.expected):
            raise ValidationError(self.refusal)
        if "\0" in _texts(value):
            # PostgreSQL stores no NUL.
            raise ValidationError("A NUL character cannot be stored.")
        return value


class JSONListField(JSONObjectField):
    """JSON with a list at its top; blank is []."""

    expected = list
    refusal = 'Write a JSON list, like ["one", "two"], or [].'


def _texts(value: Any) -> str:
    """Return every text within a JSON value, as one."""
    if isinstance(value, dict):
        return "".join(_texts(part) for pair in value.items() for part in pair)
    return "".join(map(_texts, value)) if isinstance(value, list) else str(value)


def plain_number(number: Decimal) -> str:
    """Return a number without exponent and without trailing zeros."""
    return f"{number.normalize():f}"


class ListingInline(TabularInline):
    model = Listing
    extra = 0


@admin.register(Asset)
class AssetAdmin(PageAdmin):
    """Symbols stay as they are: rules and recordings call an asset by its symbol."""

    empty_words = "No assets yet. Add one here, or load a file of feeds, assets and rules with manage.py load FILE."
    fields = ["symbol", "name", "feed", "tags", "latest_price", "latest_at"]
    formfield_overrides = {models.JSONField: {"form_class": JSONListField, "widget": ShortText}}
    inlines = [ListingInline]
    list_display = ["symbol", "name", "feed", "latest_price", "latest_at"]
    list_filter = ["feed"]
    list_select_related = ["feed", "latest"]
    search_fields = ["symbol", "name"]

    def get_readonly_fields(self, request: HttpRequest, obj: Asset | None = None) -> list[str]:
        return ["latest_price", "latest_at"] if obj is None else ["symbol", "latest_price", "latest_at"]

    def has_delete_permission(self, request: HttpRequest, obj: Asset | None = None) -> bool:
        # What has quotes, or is watched, is part of a log that is never rewritten. None stands for many at once.
        if obj is None or hasattr(obj, "latest") or obj.rule_states.exists():
            return False
        return super().has_delete_permission(request, obj)

    @admin.display(description="latest price", ordering="latest__price")
    def latest_price(self, asset: Asset) -> str:
        return plain_number(asset.latest.price) if hasattr(asset, "latest") else "none yet"

    @admin.display(description="at (UTC)", ordering="latest__at")
    def latest_at(self, asset: Asset) -> Any:
        return localize(asset.latest.at) if hasattr(asset, "latest") else None


class FeedSourceForm(forms.ModelForm):
    """The providers are those of the registry."""

    provider = forms.ChoiceField(choices=[(slug, slug) for slug in sorted(PROVIDERS)], widget=UnfoldAdminSelectWidget)

    class Meta:
        model = FeedSource
        fields = ["position", "provider", "options"]


class FeedSourceFormSet(PaginationInlineFormSet):
    """A feed without a source could never be answered."""

    default_error_messages = {
        **PaginationInlineFormSet.default_error_messages,
        "too_few_forms": "A feed needs a source at least.",
    }


class FeedSourceInline(TabularInline):
    model = FeedSource
    form = FeedSourceForm
    formset = FeedSourceFormSet
    formfield_overrides = {models.JSONField: {"form_class": JSONObjectField, "widget": ShortText}}
    verbose_name_plural = "sources, asked in order until one answers"
    extra = 0
    min_num = 1

    def get_formset(self, request: HttpRequest, obj: Feed | None = None, **kwargs: Any) -> Any:
        return super().get_formset(request, obj, validate_min=True, **kwargs)


@admin.register(Feed)
class FeedAdmin(PageAdmin):
    """Names stay as they are: rules and files call a feed by its name."""

    empty_words = "No feeds yet. Add one here, or load a file of feeds, assets and rules with manage.py load FILE."
    fields = ["name", "interval_seconds", "is_enabled"]
    progress_fields = ["head_seq", "as_of", "next_slot", "failures", "pending"]
    inlines = [FeedSourceInline]
    list_display = ["name", "interval_seconds", "is_enabled", *progress_fields]
    list_filter = ["is_enabled"]
    list_select_related = ["head", "judged"]
    search_fields = ["name"]

    def get_fields(self, request: HttpRequest, obj: Feed | None = None) -> list[str]:
        return self.fields if obj is None else [*self.fields, *self.progress_fields]

    def get_readonly_fields(self, request: HttpRequest, obj: Feed | None = None) -> list[str]:
        return [] if obj is None else ["name", *self.progress_fields]

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "interval_seconds":
            kwargs |= {"min_value": 1, "max_value": INTERVAL_LONGEST_SECONDS}
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    def has_delete_permission(self, request: HttpRequest, obj: Feed | None = None) -> bool:
        # A feed's log is never rewritten; one that has none yet may go. None stands for many at once.
        if obj is None or obj.batches.exists() or obj.assets.exists():
            return False
        return super().has_delete_permission(request, obj)

    def save_model(self, request: HttpRequest, obj: Feed, form: BaseModelForm, change: bool) -> None:
        """Make a new feed by the service, which makes its head and its judge's position too.

        The sources follow from the inline; the admin saves it all in one transaction.
        """
        if not change:
            made = create_feed(name=obj.name, interval_seconds=obj.interval_seconds, sources=(), now=timezone.now())
            obj.pk, obj.created_at = made.pk, made.created_at
        super().save_model(request, obj, form, change)

    @admin.display(description="last entry", ordering="head__seq")
    def head_seq(self, feed: Feed) -> int:
        return feed.head.seq

    @admin.display(description="clock (UTC)", ordering="head__as_of")
    def as_of(self, feed: Feed) -> Any:
        return localize(feed.head.as_of)

    @admin.display(description="due (UTC)", ordering="head__next_slot")
    def next_slot(self, feed: Feed) -> Any:
        return localize(feed.head.next_slot)

    @admin.display(description="failures", ordering="head__failures")
    def failures(self, feed: Feed) -> int:
        return feed.head.failures

    @admin.display(description="to judge", ordering=F("head__seq") - F("judged__seq"))
    def pending(self, feed: Feed) -> int:
        return feed.head.seq - feed.judged.seq


@admin.register(Batch)
class BatchAdmin(ReadOnlyAdmin):
    """The feeds' logs, newest entry first."""

    empty_words = "No entries yet. They come once a feed is enabled and the workers run."
    # The log is as long as the system is old: counting it for each page would cost more the longer it runs.
    paginator = InfinitePaginator
    show_full_result_count = False
    fields = [
        *("feed", "seq", "kind", "provider", "slot", "as_of", "received_at", "accepted", "late", "rejected_words"),
        *("failure", "missed_slots", "first_at", "last_at", "trace_id", "evaluated_at"),
    ]
    list_display = [
        *("__str__", "kind", "slot", "as_of", "provider", "accepted", "late", "rejected_words", "failure"),
        "evaluated_at",
    ]
    list_filter = ["feed", "kind"]
    list_select_related = ["feed"]

    @admin.display(description="rejected")
    def rejected_words(self, batch: Batch) -> str:
        return ", ".join(f"{count} {reason}" for reason, count in sorted(batch.rejected.items())) or "0"

    def tables(self, row: Batch) -> list[Table]:
        quotes = queries.quotes_in(row, limit=ROWS_SHOWN)
        return [
            Table(
                title=f"Quotes (the first {ROWS_SHOWN})" if len(quotes) == ROWS_SHOWN else "Quotes",
                headers=["asset", "at (UTC)", "price", "volume", "late"],
                rows=[
                    [
                        one.asset.symbol,
                        one.at,
                        plain_number(one.price),
                        None if one.volume is None else plain_number(one.volume),
                        "late" if one.late else "",
                    ]
                    for one in quotes
                ],
                empty="No quotes in this entry, or they are older than quotes are kept.",
            )
        ]
