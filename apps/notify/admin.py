"""The owners' pages: channels, messages (the inbox among them), and what was told about each alert."""

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.db import models
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.defaultfilters import linebreaksbr
from django.urls import reverse
from django.utils.formats import localize
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display
from unfold.widgets import UnfoldAdminSelectWidget

from apps.alerts.admin import AlertAdmin
from apps.alerts.models import Alert
from apps.market.admin import ROWS_SHOWN, JSONObjectField, PageAdmin, ReadOnlyAdmin, ShortText, Table
from apps.notify.models import Attempt, Channel, Message, Owed
from apps.notify.transports.registry import TRANSPORTS
from apps.rules.admin import OwnedRows

ATTEMPT_HEADERS = ["attempt", "began (UTC)", "ended (UTC)", "outcome", "reason", "detail"]
KINDS = [(kind, kind) for kind in sorted(TRANSPORTS)]


class ChannelForm(forms.ModelForm):
    """The kinds are those of the registry."""

    kind = forms.ChoiceField(choices=KINDS, widget=UnfoldAdminSelectWidget, help_text="How you are told.")

    class Meta:
        model = Channel
        fields = ["owner", "name", "kind", "config", "is_enabled", "wants_resolved"]


@admin.register(Channel)
class ChannelAdmin(OwnedRows, PageAdmin):
    """A channel stays its owner's: the rules that are told there are theirs too."""

    empty_words = "No channels yet. Add one, and name it in the file with your rules."
    form = ChannelForm
    formfield_overrides = {models.JSONField: {"form_class": JSONObjectField, "widget": ShortText}}
    list_display = ["name", "kind", "owner", "is_enabled", "wants_resolved"]
    list_filter = ["kind", "is_enabled"]
    list_select_related = ["owner"]
    search_fields = ["name"]

    def get_form(self, request: HttpRequest, obj: Channel | None = None, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, **kwargs)
        if "owner" in form.base_fields:
            # Disabled and not left out, so that a name that the owner has twice is still refused in words.
            form.base_fields["owner"].disabled = obj is not None
        return form

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "owner":
            kwargs["initial"] = request.user
            if not request.user.is_superuser:
                kwargs["queryset"] = get_user_model().objects.filter(pk=request.user.pk)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def has_delete_permission(self, request: HttpRequest, obj: Channel | None = None) -> bool:
        # What was told stays told: a channel with messages is switched off. None stands for many at once.
        if obj is None or obj.owed.exists() or obj.messages.exists():
            return False
        return super().has_delete_permission(request, obj)


class KindFilter(admin.SimpleListFilter):
    title = "kind of channel"
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return KINDS

    def queryset(self, request: HttpRequest, queryset: QuerySet[Message]) -> QuerySet[Message]:
        return queryset.filter(channel__kind=self.value()) if self.value() else queryset


@admin.register(Message)
class MessageAdmin(OwnedRows, ReadOnlyAdmin):
    """What was sent, or is to be: with the filter on inbox, the inbox."""

    owner_lookup = "channel__owner"
    empty_words = "No messages yet. An alert of a rule that names a channel makes one."
    fields = [
        *("subject", "lines", "channel", "status", "attempts", "created_at", "next_try_at", "delivered_at", "id"),
    ]
    list_display = ["subject", "channel", "status_label", "attempts", "delivered_at", "created_at"]
    list_filter = ["status", KindFilter]
    list_select_related = ["channel"]
    search_fields = ["subject"]

    @display(
        description="status",
        ordering="status",
        label={"delivered": "success", "dead": "danger", "pending": "warning", "sending": "info"},
    )
    def status_label(self, message: Message) -> str:
        return message.status

    @admin.display(description="text")
    def lines(self, message: Message) -> SafeString:
        return linebreaksbr(message.text, autoescape=True)

    @admin.display(description="next attempt at")
    def next_try_at(self, message: Message) -> Any:
        return localize(message.next_attempt_at) if message.status in Message.UNSENT else "none: it is settled"

    def tables(self, row: Message) -> list[Table]:
        tries = row.tries.order_by("number")[:ROWS_SHOWN]
        told = Alert.objects.filter(events__owed__message=row).distinct().order_by("pk")[:ROWS_SHOWN]
        return [
            Table(
                title="Attempts",
                headers=ATTEMPT_HEADERS,
                rows=[_attempt_cells(one) for one in tries],
                empty="Not tried yet.",
            ),
            Table(
                title="What it tells",
                headers=["alert", "severity", "opened at (UTC)", "resolved at (UTC)"],
                rows=[[_link(one, one.words), one.severity, one.opened_at, one.resolved_at] for one in told],
                empty="No alert.",
            ),
        ]


admin.site.unregister(Alert)


@admin.register(Alert)
class ToldAlertAdmin(AlertAdmin):
    """An alert's page with what was told about it. It stands here, since alerts know nothing of telling."""

    def tables(self, row: Alert) -> list[Table]:
        owed = Owed.objects.filter(event__alert=row).select_related("event", "channel", "message").order_by("pk")
        tries = Attempt.objects.filter(message__members__event__alert=row).select_related("message").distinct()
        return [
            *super().tables(row),
            Table(
                title="Who is told",
                headers=["event", "channel", "message", "status", "attempts", "delivered at (UTC)"],
                rows=[
                    [one.event.get_kind_display(), str(one.channel), *_message_cells(one.message)]
                    for one in owed[:ROWS_SHOWN]
                ],
                empty="Nobody: its rule names no channel.",
            ),
            Table(
                title="Attempts",
                headers=["message", *ATTEMPT_HEADERS],
                rows=[
                    [_link(one.message, one.message.subject), *_attempt_cells(one)]
                    for one in tries.order_by("started_at", "pk")[:ROWS_SHOWN]
                ],
                empty="None yet.",
            ),
        ]


def _message_cells(message: Message | None) -> list[Any]:
    if message is None:
        return ["not written yet", "", "", ""]
    return [_link(message, message.subject), message.status, message.attempts, message.delivered_at]


def _attempt_cells(attempt: Attempt) -> list[Any]:
    outcome = attempt.get_outcome_display() if attempt.outcome else "under way"
    return [attempt.number, attempt.started_at, attempt.finished_at, outcome, attempt.reason, attempt.detail]


def _link(row: Alert | Message, text: str) -> SafeString:
    address = reverse(f"admin:{row._meta.label_lower.replace('.', '_')}_change", args=[row.pk])
    return format_html('<a class="text-primary-600 dark:text-primary-500" href="{}">{}</a>', address, text)
