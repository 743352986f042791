"""The owners' pages: silences, each with what it holds back."""

import re
from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import admin
from django.contrib.auth.models import AbstractBaseUser
from django.db.models import Count, Q, QuerySet
from django.forms import BaseModelForm
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from unfold.decorators import display
from unfold.widgets import UnfoldAdminSelectWidget

from apps.alerts.queries import written_for
from apps.market.models import Asset
from apps.notify import queries
from apps.notify.models import Notification, Silence
from apps.notify.services import create_silence, end_silences, faults_of_silence, look_again
from apps.panel.deferrals import at_their_limit, why_it_waits
from apps.panel.kit.owned import owners_to_choose
from apps.panel.kit.pages import ROWS_SHOWN, PageAdmin, Table, page_link
from apps.panel.kit.parts import LINK
from apps.panel.messages import describe_status
from apps.reader import active_reader, in_zone, write_time
from apps.rules.models import Rule
from apps.rules.queries import rules_seen_by

STATE_LABEL = {"in force": "warning", "to come": "info", "over": ""}
LASTS_FIRST = "2"
LASTS = [("1", "1 hour"), ("2", "2 hours"), ("8", "8 hours"), ("24", "a day"), ("168", "a week"), ("", "until a time")]


class RowField(forms.ModelChoiceField):
    """A choice that shows nothing where it was given no row's number: its list would look for the row all the same."""

    def prepare_value(self, value: Any) -> Any:
        prepared = super().prepare_value(value)
        # A number of more digits is none that SQLite can look for.
        return prepared if re.fullmatch("-?[0-9]{1,18}", str(prepared)) else None


class SilenceForm(forms.ModelForm):
    """A new silence lasts so many hours, or until a time. One that is there can be lengthened, shortened and explained.

    user: who writes, set by the page; now: when the page was asked for.
    """

    user: AbstractBaseUser
    lasts = forms.ChoiceField(
        choices=LASTS, required=False, initial=LASTS_FIRST, label="For", widget=UnfoldAdminSelectWidget
    )

    class Meta:
        model = Silence
        fields = ["owner", "rule", "asset", "severity", "starts_at", "ends_at", "comment"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_new = self.instance.pk is None
        if "ends_at" in self.fields:
            self.fields["ends_at"].required = not self._is_new

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if self._is_new:
            self._clean_new(cleaned)
        starts_at = cleaned.get("starts_at") if self._is_new else self.instance.starts_at
        ends_at = cleaned.get("ends_at") if starts_at is not None and "ends_at" not in self.errors else None
        # Superusers choose an owner; for everyone else it is themselves.
        owner = cleaned.get("owner") if "owner" in self.fields else self.user
        rule = cleaned.get("rule") if self._is_new else None
        faults = faults_of_silence(owner=owner, rule=rule, starts_at=starts_at, ends_at=ends_at, now=timezone.now())
        for column, text in faults.items():
            # Beside the field that is shown.
            is_lasting = column == "ends_at" and self._is_new and cleaned.get("lasts")
            self.add_error("lasts" if is_lasting else column, text)
        return cleaned

    def _clean_new(self, cleaned: dict[str, Any]) -> None:
        cleaned.setdefault("starts_at", None)
        if cleaned.get("lasts") and cleaned["starts_at"] is not None:
            try:
                cleaned["ends_at"] = cleaned["starts_at"] + timedelta(hours=int(cleaned["lasts"]))
            except OverflowError:
                self.add_error("starts_at", "It lies too far ahead.")
            self.errors.pop("ends_at", None)
        elif cleaned.get("ends_at") is None and not {"lasts", "ends_at", "starts_at"} & self.errors.keys():
            self.add_error("ends_at", "Say how long it lasts, or until when.")


class StateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(state, state.capitalize()) for state in queries.SILENCE_STATES]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Silence]) -> QuerySet[Silence]:
        chosen = queries.SILENCE_STATES.get(self.value() or "")
        return queryset if chosen is None else queryset.filter(chosen(timezone.now()))


@admin.register(Silence)
class SilenceAdmin(PageAdmin):
    """Owners silence their own alerts, superusers anybody's; one that is over only shows what it deferred."""

    actions = ["end_now"]
    autocomplete_fields = ["rule", "asset"]
    buttons = actions
    # A silence that is there has no such field.
    conditional_fields = {"ends_at": "typeof lasts == 'undefined' || lasts == ''"}
    empty_text = "No silences. Add one to get no messages for a while, as during maintenance; an alert's page has a "
    empty_text += "button for it."
    form = SilenceForm
    list_display = ["comment", "state_label", "starts_at", "until", "what", "whose", "deferred_count"]
    list_filter = [StateFilter, "severity"]
    list_select_related = ["owner", "rule", "asset", "alert__rule", "alert__asset"]
    search_fields = ["comment", "rule__name", "asset__symbol", "alert__rule__name", "alert__asset__symbol"]
    readonly_when_there = ["owner", "rule", "asset", "severity", "starts_at", "author"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Silence]:
        seen = Q() if request.user.is_superuser else Q(deferred__channel__owner=request.user)
        return queries.silences_seen_by(request.user).annotate(deferred_of_reader=Count("deferred", filter=seen))

    @display(description="state", ordering="ends_at", label=STATE_LABEL)
    def state_label(self, silence: Silence) -> str:
        return _state_of(silence)

    @admin.display(description="ends at", ordering="ends_at")
    def until(self, silence: Silence) -> Any:
        if silence.ends_at is not None or silence.alert is None:
            return silence.ends_at
        resolved_at = silence.alert.resolved_at
        return "when the alert is over" if resolved_at is None else f"with the alert, {write_time(resolved_at)}"

    @admin.display(description="alert")
    def alert_link(self, silence: Silence) -> Any:
        return format_html(LINK, reverse("admin:alerts_alert_change", args=[silence.alert_id]), silence.alert)

    @admin.display(description="what")
    def what(self, silence: Silence) -> str:
        if silence.alert is not None:
            return f"one alert of {silence.alert.rule_name} on {silence.alert.symbol}"
        severity = f"{silence.severity} alerts" if silence.severity else "all alerts"
        rule = f" of {silence.rule}" if silence.rule is not None else ""
        return f"{severity}{rule}" + (f" on {silence.asset.symbol}" if silence.asset is not None else "")

    @admin.display(description="whose", ordering="owner")
    def whose(self, silence: Silence) -> str:
        return str(silence.owner) if silence.owner is not None else "everybody's"

    @admin.display(description="deferred", ordering="deferred_of_reader")
    def deferred_count(self, silence: Silence) -> int:
        return silence.deferred_of_reader  # type: ignore[attr-defined]

    def get_fields(self, request: HttpRequest, obj: Silence | None = None) -> list[str]:
        owner = ["owner"] if request.user.is_superuser or obj is not None else []
        if obj is None:
            return ["comment", *owner, "rule", "asset", "severity", "starts_at", "lasts", "ends_at"]
        if obj.alert_id is not None:
            return ["comment", *owner, "alert_link", "starts_at", "until", "author"]
        return ["comment", *owner, "rule", "asset", "severity", "starts_at", "ends_at", "author"]

    def get_readonly_fields(self, request: HttpRequest, obj: Silence | None = None) -> list[str]:
        return [] if obj is None else [*self.readonly_when_there, "alert_link", "until"]

    def get_form(self, request: HttpRequest, obj: Silence | None = None, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, **kwargs)
        form.user = request.user
        return form

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        now = timezone.now().replace(microsecond=0)
        return {
            "starts_at": now,
            "ends_at": now + timedelta(hours=int(LASTS_FIRST)),
            "owner": request.user.pk,
            **super().get_changeform_initial_data(request),
        }

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name in self.autocomplete_fields:
            kwargs["form_class"] = RowField
        if db_field.name == "rule":
            kwargs["queryset"] = rules_seen_by(request.user)
        if db_field.name == "owner":
            kwargs["queryset"] = owners_to_choose(request.user)
        if db_field.name == "asset":
            kwargs["queryset"] = Asset.objects.filter(feed__isnull=False).order_by("symbol")
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def has_change_permission(self, request: HttpRequest, obj: Silence | None = None) -> bool:
        if not super().has_change_permission(request, obj):
            return False
        return obj is None or (_is_theirs(request, obj) and _state_of(obj) != "over")

    def has_delete_permission(self, request: HttpRequest, obj: Silence | None = None) -> bool:
        # A notification that was deferred says by which silence. None stands for many at once.
        if obj is None or not _is_theirs(request, obj) or obj.deferred.exists():
            return False
        return super().has_delete_permission(request, obj)

    def save_model(self, request: HttpRequest, obj: Silence, form: BaseModelForm, change: bool) -> None:
        """Save by the service, and make due what it defers where its end has moved."""
        if change:
            obj.save(update_fields=["ends_at", "comment"])
            if "ends_at" in form.changed_data:
                look_again(silence=obj, now=timezone.now())
            return
        made = create_silence(
            author=request.user,
            owner=obj.owner if request.user.is_superuser else request.user,
            **{name: getattr(obj, name) for name in ("rule", "asset", "severity", "starts_at", "ends_at", "comment")},
        )
        obj.pk = made.pk

    def buttons_for(self, request: HttpRequest, row: Silence) -> Sequence[str]:
        return self.buttons if self.has_change_permission(request, row) else []

    @admin.action(description="End now", permissions=["change"])
    def end_now(self, request: HttpRequest, queryset: QuerySet[Silence]) -> HttpResponse | None:
        """End the silences that the reader may end; what they deferred is sent."""
        silences = [one for one in queryset[:ROWS_SHOWN] if _is_theirs(request, one)]
        ended = end_silences(silences=silences, now=timezone.now())
        if ended:
            self.say_done(
                request,
                f"{ended} {'silence is' if ended == 1 else 'silences are'} over. What was deferred is sent within "
                "some seconds, in one message for each channel.",
            )
        else:
            self.say_refused(request, "Nothing is ended: they are over already, or somebody else's.")
        return self.after(request, silences)

    def tables_for(self, request: HttpRequest, row: Silence) -> list[Table]:
        along = ("event__alert", "channel", "message", "silence")
        deferred = Notification.objects.filter(silence=row).select_related(*along).order_by("-pk")
        if not request.user.is_superuser:
            deferred = deferred.filter(channel__owner=request.user)
        shown = list(deferred[:ROWS_SHOWN])
        written_for((one.event.alert for one in shown), reader=active_reader())
        at_limit = at_their_limit((one.channel for one in shown if one.message is None), now=timezone.now())
        return [
            Table(
                title=f"What it deferred (at most {ROWS_SHOWN})",
                headers=["alert", "event", in_zone("at"), "channel", "notified"],
                rows=[
                    [
                        page_link(request, one.event.alert, one.event.alert.summary),
                        *(one.event.get_kind_display(), one.event.at),
                        *(
                            page_link(request, one.channel, str(one.channel)),
                            _notified(request, one, at_limit=at_limit),
                        ),
                    ]
                    for one in shown
                ],
                empty="Nothing yet.",
            )
        ]


def silence_form_for(*, rule: Rule, asset_id: int | None = None) -> HttpResponse:
    """Return the way to the form of a silence that begins with this."""
    said = {"rule": rule.pk, "owner": rule.owner_id} | ({"asset": asset_id} if asset_id is not None else {})
    return HttpResponseRedirect(f"{reverse('admin:notify_silence_add')}?{urlencode(said)}")


def _is_theirs(request: HttpRequest, silence: Silence) -> bool:
    return request.user.is_superuser or silence.owner_id == request.user.pk


def _state_of(silence: Silence) -> str:
    now = timezone.now()
    if silence.ends_at is None:
        is_over = silence.alert is None or silence.alert.resolved_at is not None
    else:
        is_over = silence.ends_at <= now
    if is_over:
        return "over"
    return "in force" if silence.starts_at <= now else "to come"


def _notified(request: HttpRequest, notification: Notification, *, at_limit: Collection[int]) -> Any:
    if notification.message is None:
        return f"not yet: waits for {why_it_waits(notification, at_limit=at_limit)}"
    return page_link(request, notification.message, describe_status(notification.message))
