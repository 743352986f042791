"""The form of a channel: what its kind has to know stands in it, made from what the transport says of itself."""

from collections.abc import Iterable
from typing import Any

from django import forms
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.utils.text import capfirst
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminPasswordWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
)

from apps.accounts.domain import time_zone_choices
from apps.notify import domain
from apps.notify.encryption import DecryptionError
from apps.notify.models import Channel
from apps.notify.services import PREVIOUS_SECRET, SECRET
from apps.notify.transports.protocol import ChannelInvalid, Setting, Transport, TransportFailure
from apps.notify.transports.registry import TRANSPORTS, why_not_chosen
from apps.notify.transports.telegram import Telegram, chats_of

PLACEHOLDERS = "; ".join(f"{{{name}}}: {what}" for name, what in domain.PLACEHOLDERS.items())
PLACEHOLDERS_HELP = f"What stands for something else: {PLACEHOLDERS}. Write {{{{ and }}}} for braces."
USUAL_KIND = "inbox"
KEPT = "One is stored, and is not shown again. An empty field keeps it."
BROKEN = "What is stored cannot be read with the keys of this site: write it again."
LABELS = {
    "is_enabled": "Enabled",
    "is_default": "For new rules",
    "group_wait_seconds": "Wait for more (seconds)",
    "messages_per_minute": "Messages a minute",
    "repeat_minutes": "Remind after (minutes)",
    "quiet_zone": "Time zone",
    "quiet_allow_critical": "Let critical through",
    "wants_resolved": "Say when it is over",
    "wants_system": "About this installation",
    "subject_template": "Subject",
    "text_template": "Text",
}
# The fields for which each kind has a default.
DEFAULTS = ("group_wait_seconds", "messages_per_minute")


def kinds_offered() -> list[tuple[str, str]]:
    """Return (kind, what people call it), by the latter."""
    return sorted(((kind, one.title) for kind, one in TRANSPORTS.items()), key=lambda pair: pair[1])


def settings_shown(kind: str) -> list[Setting]:
    """Return what is asked for of a kind. The previous secret is not: it comes of a button, and goes by one."""
    transport = TRANSPORTS.get(kind)
    return [one for one in transport.settings if one.name != PREVIOUS_SECRET] if transport is not None else []


def field_name(kind: str, setting: str) -> str:
    """Return the name of the field that asks for one setting of a kind."""
    return f"{kind}_{setting}"


def form_for(kinds: Iterable[str]) -> type["ChannelForm"]:
    """Return a form that asks for the settings of these kinds."""
    fields = {field_name(kind, one.name): _field_of(one) for kind in kinds for one in settings_shown(kind)}
    return type(ChannelForm)("ChannelForm", (ChannelForm,), fields)


def _field_of(setting: Setting) -> forms.CharField:
    widget = (
        UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"})
        if setting.is_secret
        else UnfoldAdminTextInputWidget(attrs={"autocomplete": "off"})
    )
    # Which is required depends on the kind that is chosen, and is the transport's to say; so is what a line break or a
    # space at the end means.
    return forms.CharField(
        required=False, max_length=2_000, strip=False, label=setting.label, help_text=setting.help, widget=widget
    )


class ChannelForm(forms.ModelForm):
    """Secrets go in and never come out: an empty field keeps what is stored. made_secret: what a transport made where
    nobody wrote one, to be shown once."""

    made_secret = ""
    kind = forms.ChoiceField(label="Kind", widget=UnfoldAdminSelectWidget)
    quiet_zone = forms.ChoiceField(
        choices=time_zone_choices,
        widget=UnfoldAdminSelectWidget,
        error_messages={"invalid_choice": "There is no such time zone. Choose one of the list."},
        help_text=Channel._meta.get_field("quiet_zone").help_text,
    )

    class Meta:
        model = Channel
        fields = ["owner", "name", "kind"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, label in LABELS.items():
            if name in self.fields:
                self.fields[name].label = label
        self._is_new = self.instance.pk is None
        self._stored, is_broken = self._what_is_stored()
        if "kind" in self.fields:
            kinds = [
                (kind, f"{title}: cannot be chosen. {why}" if (why := why_not_chosen(kind)) else title)
                for kind, title in kinds_offered()
            ]
            self.fields["kind"].choices = kinds if self._is_new else kinds_offered()  # type: ignore[attr-defined]
            self.fields["kind"].disabled = not self._is_new
            self.fields["kind"].help_text = "How you are notified." if self._is_new else "Cannot be changed."
        zones = self.fields.get("quiet_zone")
        if zones is not None and (stored := self.instance.quiet_zone) not in dict(zones.choices):  # type: ignore[attr-defined]
            zones.choices = [(stored, f"{stored} (no longer exists)"), *zones.choices]  # type: ignore[attr-defined]
        for one in settings_shown(self.instance.kind):
            name = field_name(self.instance.kind, one.name)
            if name not in self.fields:
                continue
            if not one.is_secret:
                self.initial.setdefault(name, self._stored.get(one.name, ""))
            elif is_broken or one.name in self._stored:
                self.fields[name].help_text = BROKEN if is_broken else KEPT
        for name in ("subject_template", "text_template"):
            if name in self.fields:
                self.fields[name].help_text += f" {PLACEHOLDERS_HELP}"
        if self._is_new:
            self._leave_defaults_to_the_kind()
            # The one that needs nothing, and not the first by its title.
            self.initial["kind"] = self.initial.get("kind") or USUAL_KIND

    def _what_is_stored(self) -> tuple[dict[str, str], bool]:
        """Return (what the transport knows, whether its secrets cannot be read)."""
        try:
            return self.instance.transport_settings, False
        except DecryptionError:
            return dict(self.instance.config), True

    def _leave_defaults_to_the_kind(self) -> None:
        """Ask for nothing that the kind knows better: empty fields, which say what they will be."""
        for name in DEFAULTS:
            if name in self.fields:
                usual = ", ".join(f"{one.title} {getattr(one.defaults, name)}" for one in _by_title())
                self.fields[name].required = False
                self.fields[name].help_text += f" Leave blank for the default of the kind ({usual})."
                self.fields[name].widget = UnfoldAdminIntegerFieldWidget(attrs={"placeholder": "what suits the kind"})
                self.initial[name] = None

    def clean_kind(self) -> str:
        """Refuse a kind that cannot be chosen here, with the reason."""
        kind: str = self.cleaned_data["kind"]
        if self._is_new and (why := why_not_chosen(kind)):
            raise ValidationError(why)
        return kind

    def clean(self) -> dict[str, Any]:
        """Put the settings of the kind together, as its transport takes them."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        transport = TRANSPORTS.get(cleaned.get("kind", ""))
        if transport is None:
            return cleaned
        for name in DEFAULTS if self._is_new else ():
            if name not in self.errors and cleaned.get(name) is None:
                cleaned[name] = getattr(transport.defaults, name)
        self.instance.kind = transport.kind
        try:
            self.instance.put_settings(self._settings_of(transport, cleaned))
        except ChannelInvalid as error:
            # It is not saved. The model validates it again, and must not fail on secrets that cannot be decrypted.
            self.instance.config, self.instance.encrypted = {}, ""
            name = field_name(transport.kind, error.setting)
            label = next((one.label for one in transport.settings if one.name == error.setting), "")
            text = f"{label} {error.message}" if label else str(error)
            self.add_error(name if name in self.fields else None, f"{capfirst(text)}.")
            self._help_to_find_the_chat(transport.kind, cleaned)
        else:
            known = self.instance.transport_settings
            if SECRET not in self._stored and not cleaned.get(field_name(transport.kind, SECRET)):
                self.made_secret = known.get(SECRET, "")
        return cleaned

    def _help_to_find_the_chat(self, kind: str, cleaned: dict[str, Any]) -> None:
        """Say at the field of Telegram's chat which chats the bot knows, where the token is given and the chat is
        not."""
        token, chat = (field_name(Telegram.kind, name) for name in ("token", "chat"))
        if kind != Telegram.kind or cleaned.get(chat) or chat not in self.fields:
            return
        try:
            chats = chats_of(cleaned.get(token) or self._stored.get("token", ""))
        except TransportFailure as failure:
            if cleaned.get(token):
                self.add_error(chat, f"The chats of this bot could not be found: {failure.detail}.")
            return
        known = ", ".join(f"{number} ({name})" for number, name in chats[:20])
        nobody = "Nobody has written to this bot lately. Write to it, or to a group that it is in, and save again."
        self.add_error(chat, f"Write one of these numbers here: {known}." if known else nobody)

    def _settings_of(self, transport: Transport, cleaned: dict[str, Any]) -> dict[str, str]:
        values = {}
        for one in transport.settings:
            name = field_name(transport.kind, one.name)
            is_kept = one.is_secret and not cleaned.get(name)
            values[one.name] = self._stored.get(one.name, "") if is_kept else cleaned.get(name, "")
        return values

    def _update_errors(self, errors: ValidationError) -> None:
        """Leave out what the model says of the settings: it stands beside its field already."""
        said = dict(errors.error_dict)
        whole = [one for one in said.pop(NON_FIELD_ERRORS, []) if one.code != "transport"]
        if whole:
            said[NON_FIELD_ERRORS] = whole
        if said:
            super()._update_errors(ValidationError(said))  # type: ignore[misc]


def _by_title() -> list[Transport]:
    return sorted(TRANSPORTS.values(), key=lambda one: one.title)
