"""The pages of feeds and of their logs: how each feed is, what it gave, and the levers of operators."""

import json
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin
from django.db import models
from django.db.models import F, Q, QuerySet
from django.forms import BaseModelForm
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from unfold.admin import StackedInline
from unfold.forms import PaginationInlineFormSet
from unfold.paginator import InfinitePaginator
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminSelectWidget

from apps.canary import is_not_canary
from apps.health.queries import feed_healths
from apps.market import queries
from apps.market.derived.models import DerivedFeed
from apps.market.models import INTERVAL_LONGEST_SECONDS, Feed, FeedEntry, Quote, SupersededQuote
from apps.market.services import pause_feeds, resume_feeds
from apps.panel.feed_health import (
    counts_table,
    refused_table,
    senders_table,
    sources_table,
    switches_table,
    unconfirmed_table,
)
from apps.panel.feed_test import WithTestFetch
from apps.panel.kit.health import HealthShown
from apps.panel.kit.pages import (
    ROWS_SHOWN,
    JSONObjectField,
    PageAdmin,
    ReadOnlyAdmin,
    ReplicaList,
    ShortText,
    Table,
    page_link,
    trace_link,
)
from apps.rules.queries import rules_watching
from apps.sources import queries as sources_queries
from apps.sources.models import FeedSource
from apps.sources.providers.registry import PROVIDERS
from apps.sources.services import (
    FetchRefused,
    change_interval,
    create_feed,
    describe_left_alone,
    fetch_now,
    set_is_live,
)
from apps.wording import decimals_of, format_number, format_span
from apps.zones import in_zone, show_time

ENTRIES_SHOWN = 20
RULES_NAMED = 10
POSITION_HIGHEST = POSITIONS_ASIDE = 1_000


class FeedSourceForm(forms.ModelForm):
    """The providers are those of the registry."""

    position = forms.IntegerField(
        min_value=1,
        max_value=POSITION_HIGHEST,
        initial=1,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text="1 is asked first.",
    )
    provider = forms.ChoiceField(choices=[(slug, slug) for slug in sorted(PROVIDERS)], widget=UnfoldAdminSelectWidget)

    class Meta:
        model = FeedSource
        fields = ["position", "provider", "options"]

    def _post_clean(self) -> None:
        """Give the page which option each fault is about."""
        super()._post_clean()  # type: ignore[misc]
        found = self.errors.as_data().get("options", ())
        faults = {one.params["option"]: " ".join(one.messages) for one in found if "option" in (one.params or {})}
        self.fields["options"].widget.attrs["data-faults"] = json.dumps(faults)


class FeedSourceFormSet(PaginationInlineFormSet):
    """A feed without a source could never be answered."""

    default_error_messages = {
        **PaginationInlineFormSet.default_error_messages,
        "too_few_forms": "A feed needs a source at least.",
    }


class FeedSourceInline(StackedInline):
    model = FeedSource
    form = FeedSourceForm
    formset = FeedSourceFormSet
    formfield_overrides = {models.JSONField: {"form_class": JSONObjectField, "widget": ShortText}}
    verbose_name_plural = "sources, asked in order until one answers"
    extra = 0
    min_num = 1

    def get_formset(self, request: HttpRequest, obj: Feed | None = None, **kwargs: Any) -> Any:
        return super().get_formset(request, obj, validate_min=True, **kwargs)


LABELS = {
    "interval_seconds": "Interval (seconds)",
    "silent_after_seconds": "Silent after (seconds)",
    "time_policy": "Time of quotes",
    "jump_percent": "Confirm jumps above (%)",
    "switch_step_percent": "Ignore steps between providers up to (%)",
    "is_enabled": "Enabled",
}
MORE_COLUMNS = ("time_policy", "jump_percent", "switch_step_percent")


@admin.register(Feed)
class FeedAdmin(HealthShown, WithTestFetch, PageAdmin):
    """Names stay as they are: rules and files call a feed by its name."""

    class Media:
        js = ("panel/feed_options.js", "panel/feed_test.js")

    healths_of = staticmethod(feed_healths)
    actions = ["fetch_now", "pause", "resume"]
    empty_text = "No feeds yet. Add one here, or load a file of feeds, assets and rules with manage.py load FILE."
    fields = ["name", "interval_seconds", "silent_after_seconds", *MORE_COLUMNS, "is_enabled"]
    progress_fields = [
        "health",
        "health_text",
        "last_success",
        "rhythm",
        "head_seq",
        "pending",
        "as_of",
        "next_slot",
        "failures",
    ]
    inlines = [FeedSourceInline]
    list_display = ["name", "health", "health_text", "measured_rhythm", "head_seq", "pending", "as_of"]
    list_filter = ["is_enabled"]
    search_fields = ["name"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Feed]:
        is_superuser = request.user.is_superuser
        rows = queries.feeds_seen_by(request.user) if is_superuser else super().get_queryset(request)
        return queries.with_recent_entries(rows).prefetch_related("sources")

    def get_fields(self, request: HttpRequest, obj: Feed | None = None) -> list[str]:
        return self.fields if obj is None else [*self.fields, *self.progress_fields]

    def get_readonly_fields(self, request: HttpRequest, obj: Feed | None = None) -> list[str]:
        return [] if obj is None else ["name", *self.progress_fields]

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "interval_seconds":
            kwargs |= {"min_value": 1, "max_value": INTERVAL_LONGEST_SECONDS}
        if db_field.name in LABELS:
            kwargs["label"] = LABELS[db_field.name]
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    def has_change_permission(self, request: HttpRequest, obj: Feed | None = None) -> bool:
        # Nobody sets what is made of other feeds.
        is_derived = obj is not None and DerivedFeed.objects.filter(pk=obj.pk).exists()
        return super().has_change_permission(request, obj) and not is_derived

    def has_delete_permission(self, request: HttpRequest, obj: Feed | None = None) -> bool:
        # A feed's log is never rewritten; one that has none yet may go. None stands for many at once.
        if obj is None or obj.entries.exists() or obj.assets.exists():
            return False
        return super().has_delete_permission(request, obj)

    def save_model(self, request: HttpRequest, obj: Feed, form: BaseModelForm, change: bool) -> None:
        """Make a new feed by the service, which makes its head and its evaluation cursor too; change its interval by
        the one that makes it due accordingly.

        The sources follow from the inline; the admin saves it all in one transaction.
        """
        now = timezone.now()
        if not change:
            columns = {name: getattr(obj, name) for name in ("silent_after_seconds", *MORE_COLUMNS)}
            made = create_feed(name=obj.name, interval_seconds=obj.interval_seconds, sources=(), now=now, **columns)
            obj.pk, obj.created_at = made.pk, made.created_at
        elif "interval_seconds" in form.changed_data:
            columns = {name: getattr(obj, name) for name in ("interval_seconds", "silent_after_seconds")}
            change_interval(feed_id=obj.pk, now=now, **columns)
            obj.interval_changed_at = now
        super().save_model(request, obj, form, change)

    def save_formset(self, request: HttpRequest, form: BaseModelForm, formset: Any, change: bool) -> None:
        """Save the sources, whose positions may be exchanged: first all of them make room."""
        form.instance.sources.update(position=F("position") + POSITIONS_ASIDE)
        for inline in formset.initial_forms:
            # Those that stay where they were are written too.
            inline.changed_data.append("position")
        super().save_formset(request, form, formset, change)
        set_is_live(form.instance)

    def buttons_for(self, request: HttpRequest, row: Feed) -> list[str]:
        if DerivedFeed.objects.filter(pk=row.pk).exists():
            return []
        return ["fetch_now", "pause"] if row.is_enabled else ["resume"]

    @admin.action(description="Fetch now", permissions=["change"])
    def fetch_now(self, request: HttpRequest, queryset: QuerySet[Feed]) -> HttpResponse | None:
        """Make the feeds due at once, out of their turn; where a feed's providers are left alone, ask first."""
        feeds = list(queryset[:ROWS_SHOWN])
        now = timezone.now()
        circuits = {feed: sources_queries.left_alone(feed, now=now) for feed in feeds if feed.is_enabled}
        banned = [feed for feed in circuits if sources_queries.is_all_left_alone(feed, circuits[feed])]
        if banned:
            said = " ".join(f"{feed}: {describe_left_alone(circuits[feed])}." for feed in banned)
            question = f"{said} Whoever asks before may be refused for longer. The first provider is asked once."
            asked = self.ask_first(request, queryset, question=question, what="Fetch now all the same")
            if asked is not None:
                return asked
        started = []
        for feed in feeds:
            try:
                fetch_now(feed_id=feed.pk, now=now, is_sure=feed in banned)
            except FetchRefused as refusal:
                self.say_refused(request, str(refusal))
            else:
                started.append(feed.name)
                if circuits.get(feed) and feed not in banned:
                    self.say_done(request, f"{feed}: {describe_left_alone(circuits[feed])}, and is not asked.")
        if started:
            self.say_done(
                request,
                f"{', '.join(started)}: due now. The next tick starts the fetch, within a second while beat and a "
                "watcher run; its entry stands in the log, under Feed entries.",
            )
        return self.after(request, feeds)

    @admin.action(description="Pause", permissions=["change"])
    def pause(self, request: HttpRequest, queryset: QuerySet[Feed]) -> HttpResponse | None:
        """Fetch no more; where it is several feeds, or rules watch them, ask first."""
        feeds = list(queryset)
        named = describe_rules_watching(request.user, feeds)
        if len(feeds) > 1 or named:
            it, noun = ("it is", "feed") if len(feeds) == 1 else ("they are", f"{len(feeds)} feeds")
            blinded = f"These rules see nothing new meanwhile: {named}." if named else "No rule watches their assets."
            question = f"Nothing is fetched until {it} resumed. {blinded} Open alerts stay open."
            asked = self.ask_first(request, queryset, question=question, what=f"Pause {noun}")
            if asked is not None:
                return asked
        stopped = pause_feeds(feed.pk for feed in feeds)
        if stopped:
            noun = "feed is" if stopped == 1 else "feeds are"
            self.say_done(
                request, f"{stopped} {noun} paused. What is stored is still evaluated; Resume starts it again."
            )
        else:
            self.say_refused(request, "Nothing was running there: nothing is changed.")
        return self.after(request, feeds)

    @admin.action(description="Resume", permissions=["change"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Feed]) -> HttpResponse | None:
        """Fetch again."""
        feeds = list(queryset)
        started = resume_feeds(feed.pk for feed in feeds)
        if started:
            noun = "feed runs" if started == 1 else "feeds run"
            self.say_done(request, f"{started} {noun} again, due at once. Slots that passed are counted as missed.")
        else:
            self.say_refused(request, "Nothing was paused there: nothing is changed.")
        return self.after(request, feeds)

    @admin.display(description=in_zone("last success"))
    def last_success(self, feed: Feed) -> Any:
        at = queries.last_success_at(feed)
        return "none yet" if at is None else show_time(at, with_zone=False)

    @admin.display(description="interval", ordering="interval_seconds")
    def measured_rhythm(self, feed: Feed) -> str:
        effective = queries.effective_interval_seconds(feed)
        measured = "not measured yet" if effective is None else f"effective every {format_span(effective)}"
        return f"asked every {format_span(feed.interval_seconds)}, {measured}"

    @admin.display(description="interval")
    def rhythm(self, feed: Feed) -> str:
        asked = [source.provider for source in feed.sources.all()][:1]
        seconds = sources_queries.seconds_between_rounds(asked)
        if seconds <= feed.interval_seconds:
            return self.measured_rhythm(feed)
        # It is due in whole slots.
        effective = -(-seconds // feed.interval_seconds) * feed.interval_seconds
        why = sources_queries.narrowest_limit(asked[0])
        return (
            f"asked every {format_span(feed.interval_seconds)}, effective every {format_span(effective)} "
            f"({asked[0]}: {why}, for all feeds together)"
        )

    @admin.display(description="last entry", ordering="head__seq")
    def head_seq(self, feed: Feed) -> int:
        return feed.head.seq

    @admin.display(description=in_zone("clock"), ordering="head__as_of")
    def as_of(self, feed: Feed) -> Any:
        return feed.head.as_of and show_time(feed.head.as_of, with_zone=False)

    @admin.display(description=in_zone("due"), ordering="head__next_slot")
    def next_slot(self, feed: Feed) -> Any:
        return feed.head.next_slot and show_time(feed.head.next_slot, with_zone=False)

    @admin.display(description="failures in a row", ordering="head__failures")
    def failures(self, feed: Feed) -> int:
        return feed.head.failures

    @admin.display(description="to evaluate", ordering=F("head__seq") - F("evaluation_cursor__seq"))
    def pending(self, feed: Feed) -> int:
        return feed.head.seq - feed.evaluation_cursor.seq

    def tables_for(self, request: HttpRequest, row: Feed) -> list[Table]:
        entries = queries.last_entries(row.pk, limit=ENTRIES_SHOWN)
        now = timezone.now()
        refused = refused_table(
            request,
            row.assets.filter(refused_listings__isnull=False).distinct().order_by("symbol"),
            title="Refused listings: names that a provider gives no price for",
        )
        unconfirmed = unconfirmed_table(request, row)
        senders = senders_table(request, row, now=now)
        return [
            sources_table(row, now=now),
            *(table for table in (senders, refused, unconfirmed) if table is not None),
            counts_table(row, now=now),
            switches_table(request, row),
            Table(
                title=f"Last entries of its log (at most {ENTRIES_SHOWN})",
                headers=[
                    *(
                        "entry",
                        "kind",
                        in_zone("slot"),
                        in_zone("received"),
                        "provider",
                        "accepted",
                        "late",
                        "repeated",
                    ),
                    *("unconfirmed", "rejected", "missed slots", in_zone("evaluated")),
                ],
                rows=[
                    [
                        *(page_link(request, one, f"#{one.seq}"), one.get_kind_display(), one.slot, one.received_at),
                        *(f"failed: {one.failure}" if one.failure else one.provider, one.accepted, one.late),
                        *(one.repeated, one.unconfirmed, describe_rejected(one), one.missed_slots),
                        one.evaluated_at or "waits to be evaluated",
                    ]
                    for one in entries
                ],
                empty="No entries yet. They come once the feed is enabled and the workers run.",
            ),
        ]


def describe_rules_watching(user: Any, feeds: Sequence[Feed]) -> str:
    """Return the rules that watch assets of these feeds, as a phrase: those that the reader may see by their names,
    others by their owners; "" where there is none."""
    rules = list(rules_watching(feeds))
    seen = [one for one in rules if user.is_superuser or one.owner_id == user.pk]
    said = [f"“{one.name}” of {one.owner}" for one in seen[:RULES_NAMED]]
    if len(seen) > RULES_NAMED:
        said.append(f"{len(seen) - RULES_NAMED} more")
    others = Counter(str(one.owner) for one in rules if one not in seen)
    said += [f"{count} {'rule' if count == 1 else 'rules'} of {owner}" for owner, count in sorted(others.items())]
    return ", ".join(said)


def describe_rejected(entry: FeedEntry) -> str:
    """Return how many quotes were rejected by each reason."""
    return ", ".join(f"{count} {reason}" for reason, count in sorted(entry.rejected.items())) or "0"


class SwitchedFilter(admin.SimpleListFilter):
    title = "provider"
    parameter_name = "switched"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Another than before")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[FeedEntry]) -> QuerySet[FeedEntry]:
        return queryset.filter(switched__isnull=False) if self.value() == "yes" else queryset


@admin.register(FeedEntry)
class FeedEntryAdmin(ReplicaList, ReadOnlyAdmin):
    """The feeds' logs, newest entry first."""

    empty_text = "No entries yet. They come once a feed is enabled and the workers run."
    # The log is as long as the system is old: counting it for each page would cost more the longer it runs.
    paginator = InfinitePaginator
    show_full_result_count = False
    fields = [
        *("feed", "seq", "kind", "provider", "slot", "part", "as_of", "received_at", "accepted", "late", "repeated"),
        *(
            "unconfirmed",
            "rejected_text",
            "failure",
            "missed_slots",
            "switched_text",
            "first_at",
            "last_at",
            "trace_text",
        ),
        "evaluated_at",
    ]
    list_display = [
        *(
            "__str__",
            "kind",
            "slot",
            "as_of",
            "provider",
            "accepted",
            "late",
            "repeated",
            "unconfirmed",
            "rejected_text",
        ),
        *("failure", "evaluated_at"),
    ]
    list_filter = ["feed", "kind", ("failure", admin.EmptyFieldListFilter), SwitchedFilter]
    list_select_related = ["feed"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[FeedEntry]:
        rows = super().get_queryset(request)
        return rows.filter(is_not_canary("feed") if request.user.is_superuser else Q(feed__gt=0))

    @admin.display(description="rejected")
    def rejected_text(self, entry: FeedEntry) -> str:
        return describe_rejected(entry)

    @admin.display(description="trace id")
    def trace_text(self, entry: FeedEntry) -> str:
        return trace_link(entry.trace_id)

    @admin.display(description="changes of provider")
    def switched_text(self, entry: FeedEntry) -> str:
        if not entry.switched:
            return "none"
        said = [f"{len(ids)} asset{'s' * (len(ids) > 1)} from {before}" for before, ids in entry.switched.items()]
        return f"{' and '.join(said)} to {entry.provider}"

    def tables_for(self, request: HttpRequest, row: FeedEntry) -> list[Table]:
        quotes = queries.quotes_in(row, limit=ROWS_SHOWN)
        tables = [
            Table(
                title=f"Quotes (the first {ROWS_SHOWN})" if len(quotes) == ROWS_SHOWN else "Quotes",
                headers=["asset", in_zone("at"), "price", "volume", "late", "corrected"],
                rows=[
                    [
                        *cells,
                        "" if isinstance(one, Quote) else page_link(request, one.until_entry, f"{one.until_entry}"),
                    ]
                    for one, cells in zip(quotes, _quote_cells(quotes), strict=True)
                ],
                empty="No quotes in this entry, or they are older than quotes are kept.",
            )
        ]
        if row.kind == FeedEntry.Kind.CORRECTION:
            removed = queries.quotes_removed_by(row, limit=ROWS_SHOWN)
            tables.append(
                Table(
                    title=f"Replaced or deleted quotes ({row.correction.removed} in all, at most {ROWS_SHOWN} shown)",
                    headers=["asset", in_zone("at"), "price", "volume", "late", "had come with"],
                    rows=[
                        [*cells, page_link(request, one.entry, f"{one.entry}")]
                        for one, cells in zip(removed, _quote_cells(removed), strict=True)
                    ],
                    empty="None, or they are older than quotes are kept.",
                )
            )
        return tables


def _quote_cells(quotes: Sequence[Quote | SupersededQuote]) -> list[list[Any]]:
    """Return the cells of each quote: asset, time, price, volume, and whether it is late."""
    prices: dict[int, list[Decimal]] = {}
    for one in quotes:
        prices.setdefault(one.asset_id, []).append(one.price)
    decimals = {asset_id: decimals_of(of_asset) for asset_id, of_asset in prices.items()}
    return [
        [
            *(one.asset.symbol, one.at, format_number(one.price, decimals=decimals[one.asset_id])),
            None if one.volume is None else format_number(one.volume),
            "late" if one.late else "",
        ]
        for one in quotes
    ]
