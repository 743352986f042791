"""The owners' pages: channels, made by a form per kind, and tried."""

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from apps.market.admin import ROWS_SHOWN, PageAdmin, Table, page_link
from apps.notify.admin.messages import KINDS, status_in_words
from apps.notify.models import Channel, Message
from apps.notify.services import TestRefused, send_test
from apps.rules.admin import OwnedRows

# What each kind has to set: the fields of the form that stand in its config under the same names.
SETTINGS_OF = {"email": ("to",), "inbox": ()}


class ChannelForm(forms.ModelForm):
    """A form per kind: each shows what it has to set, checked by its transport. The config itself is not shown."""

    kind = forms.ChoiceField(
        choices=KINDS,
        widget=UnfoldAdminSelectWidget,
        help_text="How you are told. An inbox is a list of messages on this site, and has nothing to set.",
    )
    to = forms.CharField(
        required=False,
        label="Address",
        widget=UnfoldAdminTextInputWidget,
        # As it was written: the transport refuses a line break and a second address.
        strip=False,
        help_text="One e-mail address, like you@example.org.",
    )

    class Meta:
        model = Channel
        fields = ["owner", "name", "kind", "is_enabled", "wants_resolved"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in SETTINGS_OF.get(self.instance.kind, ()):
            if name in self.fields:
                self.initial.setdefault(name, self.instance.config.get(name, ""))

    def clean(self) -> dict[str, Any]:
        """Put the kind's fields together into its config."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        names = SETTINGS_OF.get(cleaned.get("kind"), ())
        self.instance.config = {name: cleaned[name] for name in names if cleaned.get(name)}
        return cleaned

    def _update_errors(self, errors: ValidationError) -> None:
        """Put what the transport refuses beside the field that it stands in."""
        names = SETTINGS_OF.get(self.cleaned_data.get("kind"), ())
        whole = errors.error_dict.get(NON_FIELD_ERRORS, [])
        refused = [one for one in whole if one.code == "transport"]
        if names and refused:
            errors = ValidationError(
                {**errors.error_dict, NON_FIELD_ERRORS: [one for one in whole if one not in refused]}
            )
            self.add_error(names[0], refused)
        super()._update_errors(errors)


@admin.register(Channel)
class ChannelAdmin(OwnedRows, PageAdmin):
    """A channel stays its owner's: the rules that are told there are theirs too."""

    actions = ["send_test"]
    buttons = ["send_test"]
    # Alpine's words: the address is asked for where the kind is e-mail.
    conditional_fields = {"to": "kind == 'email'"}
    empty_words = "No channels yet. Add one, send a test, and name it in the file with your rules."
    fields = ["owner", "name", "kind", "to", "is_enabled", "wants_resolved"]
    form = ChannelForm
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
        # What was told of alerts stays told: such a channel is switched off. None stands for many at once.
        if obj is None or obj.owed.exists() or obj.messages.exclude(kind=Message.Kind.TEST).exists():
            return False
        return super().has_delete_permission(request, obj)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[Any, Any, set[str], Any]:
        deleted, counts, lacking, protected = super().get_deleted_objects(objs, request)
        # Tests go with their channel, though nobody deletes a message by itself.
        return deleted, counts, lacking - {Message._meta.verbose_name}, protected

    @admin.action(description="Send a test", permissions=["change"])
    def send_test(self, request: HttpRequest, queryset: QuerySet[Channel]) -> HttpResponse | None:
        """Have a message sent on each of these channels, the way that alerts go."""
        channels = list(queryset[:ROWS_SHOWN])
        tried = []
        for channel in channels:
            try:
                tried.append(send_test(channel=channel, asked_by=request.user.get_username(), now=timezone.now()))
            except TestRefused as refusal:
                self.say_refused(request, str(refusal))
        if tried:
            names = ", ".join(message.channel.name for message in tried)
            self.say_done(
                request,
                f"A test for {names} is written. It is sent within some seconds while beat and a notifier run; "
                "Messages shows each attempt, and what the other side said.",
            )
        return self.after(request, channels)

    def tables_for(self, request: HttpRequest, row: Channel) -> list[Table]:
        rules = [link.rule for link in row.rule_channels.select_related("rule").order_by("rule__name")[:ROWS_SHOWN]]
        sent = row.messages.order_by("-created_at")[:20]
        return [
            Table(
                title="Rules that are told here",
                headers=["rule", "severity", "deleted at (UTC)"],
                rows=[[page_link(request, one, one.name), one.severity, one.deleted_at] for one in rules],
                empty="No rule names it yet.",
            ),
            Table(
                title="Last messages (at most 20)",
                headers=["message", "made at (UTC)", "status"],
                rows=[[page_link(request, one, one.subject), one.created_at, status_in_words(one)] for one in sent],
                empty="None yet. Send a test to see whether it works.",
            ),
        ]
