"""The form of a rule: a kind with its parameters, or several conditions together, built or in the written form; read by
the one parser there is."""

import json
import re
from collections.abc import Mapping
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.models import AbstractBaseUser
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminSplitDateTimeWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from apps.market.domain import from_epoch_microseconds
from apps.market.models import Asset, Feed
from apps.market.queries import assets_chosen, assets_of
from apps.notation import write_duration
from apps.notify.models import Channel
from apps.panel.asset_picker import AssetPickerWidget, AssetsField
from apps.reader import active_reader, in_own_zone, in_zone
from apps.rules import queries
from apps.rules.drafts import (
    RIGHT_PARTS,
    UNREADABLE,
    describe_draft,
    describe_typed,
    leaves_of_draft,
    read_draft,
    read_rule_draft,
    read_typed,
    show_draft,
)
from apps.rules.engine.conditions import DEPTH_MOST, LEAVES_MOST, Combination, Condition, Not, read_condition
from apps.rules.engine.rule import RuleSpec
from apps.rules.engine.written import RuleInvalid
from apps.rules.models import Rule, RuleState
from apps.rules.services import refuse_second_name, refuse_unfit_assets
from apps.strict_json import NotJson, read_json
from apps.yaml_files import FileInvalid, read_yaml_text, write_yaml

COMBINED = "combined"
_PAGE_OF_SERIES = re.compile(r"(/portfolios/\d+/series/)", re.ASCII)
KINDS = [
    ("", "choose one"),
    (
        "level: one price",
        [
            ("above", "is above a level"),
            ("below", "is below a level"),
            ("crosses_up", "crosses a level from below"),
            ("crosses_down", "crosses a level from above"),
            ("crosses", "crosses a level, from either side"),
        ],
    ),
    (
        "band: two prices",
        [
            ("inside", "is inside a band"),
            ("outside", "is outside a band"),
            ("enters", "comes into a band"),
            ("exits", "leaves a band"),
        ],
    ),
    ("change: percent within a while", [("rises", "rises by a percent"), ("falls", "falls by a percent")]),
    (
        "average: percent or an amount beside a mean",
        [("above_average", "is above its average"), ("below_average", "is below its average")],
    ),
    ("spread: deviations from a mean", [("zscore", "is unusually far from its average")]),
    ("silence: no quotes", [("stale", "has had no new price for")]),
    ("a frozen source: one price", [("unchanged", "has had the same price for a while")]),
    ("several together", [(COMBINED, "several conditions together")]),
]
# Parameter -> the kinds that have it.
KINDS_WITH = {
    "level": ("above", "below", "crosses_up", "crosses_down", "crosses"),
    "low": ("inside", "outside", "enters", "exits"),
    "high": ("inside", "outside", "enters", "exits"),
    "percent": ("rises", "falls", "above_average", "below_average"),
    "by": ("above_average", "below_average"),
    "n": ("zscore",),
    "window": ("rises", "falls", "above_average", "below_average", "zscore"),
    "after": ("stale", "unchanged"),
    "written": (COMBINED,),
    "recovery": ("above", "below", "rises", "falls", "above_average", "below_average"),
    "ref": ("rises", "falls"),
    "min_coverage": ("above_average", "below_average", "zscore"),
}
# What the form has under "More about the condition".
MORE = ("recovery", "ref", "min_coverage")
WATCHED = ("symbols", "tag", "feed")
LONGEST_CONDITION = 20_000
PARTS = {"pending": "for", "keep_firing": "keep_firing", "cooldown": "cooldown"}
WRITTEN_EXAMPLE = "all:\n  - {kind: below, level: 0.99}\n  - not: {kind: stale, after: 5m}"


def _for_kinds(help_text: str, name: str) -> SafeString:
    """Return a help text that says which kinds have this parameter, where all parameters are shown."""
    kinds = ", ".join(KINDS_WITH[name])
    return format_html('{} <span class="rule-kinds">For: {}.</span>', help_text, kinds)


def _text(label: str, help_text: str, *, kinds_of: str | None = None, example: str = "") -> forms.CharField:
    """Return a field for a number or a duration, as it was written: its parser says what is wrong with it."""
    if kinds_of is not None:
        help_text = _for_kinds(help_text, kinds_of)
    return forms.CharField(
        required=False,
        max_length=64,
        label=label,
        help_text=help_text,
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": example, "autocomplete": "off"}),
    )


NO_CHANNELS = (
    'There are none yet to choose from: <a class="text-primary-600 dark:text-primary-500" href="{}">add one</a> first. '
    "Without one an alert is recorded, and nobody is notified."
)


class DraftField(forms.CharField):
    """A condition as the builder posts it, in JSON; "" without the builder."""

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        try:
            return read_json(text.encode()) if text else ""
        except (NotJson, UnicodeEncodeError):
            raise forms.ValidationError("The condition cannot be read. Use its written form.") from None


class RuleForm(forms.ModelForm):
    """A rule as people write it. After is_valid: `spec` is the rule, or None; `faults` is every part that is wrong, and
    `document` what was read, in the written form.

    user: who writes, set by the page; the rule is theirs where it is new.
    """

    user: AbstractBaseUser

    enabled = forms.BooleanField(
        required=False,
        initial=True,
        label="Enabled",
        help_text="When off, the rule is not evaluated and its open alerts are closed.",
        widget=UnfoldBooleanSwitchWidget,
    )
    watch = forms.ChoiceField(
        label="Watches",
        choices=[("symbols", "these assets"), ("tag", "every asset with a tag"), ("feed", "every asset of a feed")],
        help_text="With a tag or feed, new assets are included automatically.",
        widget=UnfoldAdminSelectWidget,
    )
    symbols = AssetsField(
        queryset=Asset.objects.order_by("symbol"),
        required=False,
        label="Assets",
        help_text="Each is evaluated by itself. They must be in a feed. For a condition on two assets together, make a "
        "derived series of them first, and choose that.",
    )
    tag = forms.CharField(
        required=False,
        max_length=64,
        label="Tag",
        help_text="Like stablecoin.",
        widget=UnfoldAdminTextInputWidget(attrs={"list": "rule-tags", "autocomplete": "off"}),
    )
    feed = forms.ModelChoiceField(
        queryset=Feed.objects.order_by("name"), required=False, label="Feed", widget=UnfoldAdminSelectWidget
    )
    kind = forms.ChoiceField(
        choices=KINDS, label="The price", help_text="The condition.", required=False, widget=UnfoldAdminSelectWidget
    )
    level = _text("Level", "A price, like 100000 or 0.99. Equal to it is neither above nor below.", kinds_of="level")
    low = _text("Low", "The lower edge of the band, like 0.99. It belongs to the band.", kinds_of="low")
    high = _text("High", "The upper edge of the band, like 1.01. It belongs to the band.", kinds_of="high")
    percent = _text("Percent", "By how much, like 10 or 0.5.", kinds_of="percent")
    by = _text("By", "By what amount, like 0.5, instead of a percent; in the unit of the price.", kinds_of="by")
    n = _text("Deviations", "How many standard deviations, like 3.", kinds_of="n")
    window = _text("Window", "Within how long, like 5m, 24h or 30d; from 10s to 400d.", kinds_of="window")
    after = _text("After", "How long without a quote, or at one price, like 5m.", kinds_of="after")
    written = forms.CharField(
        required=False,
        max_length=LONGEST_CONDITION,
        label="Condition",
        help_text=_for_kinds(
            "YAML or JSON: {all: […]} holds where all of them do, {any: […]} where one does, {not: …} where it "
            "does not. What stands in them is written like {kind: rises, percent: 10, window: 5m}.",
            "written",
        ),
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 8, "placeholder": WRITTEN_EXAMPLE, "spellcheck": "false"}),
    )
    built = DraftField(required=False, max_length=LONGEST_CONDITION, widget=forms.HiddenInput)
    recovery = _text(
        "Recovery",
        "What counts instead while it fires, so that a price that hovers does not open and close. The weaker one: for "
        "above 100000 like 99000, for rises 10 like 5.",
        kinds_of="recovery",
    )
    ref = forms.ChoiceField(
        choices=[
            ("window_extreme", "the lowest or highest price in the window"),
            ("window_start", "the price where the window begins"),
        ],
        required=False,
        label="Compared with",
        help_text=_for_kinds("What the change is measured from.", "ref"),
        widget=UnfoldAdminSelectWidget,
    )
    min_coverage = _text(
        "Least coverage",
        "For which part of the window a price must be known, from above 0 to 1. Without it 0.5.",
        kinds_of="min_coverage",
        example="0.5",
    )
    pending = _text("For", "How long it must hold before it fires, like 2m. Blank: it fires at once.", example="0s")
    keep_firing = _text("Keep firing", "How long it must be over before it resolves, like 1m.", example="0s")
    cooldown = _text("Cooldown", "After an alert opens, do not notify again for this long, e.g. 30m.", example="0s")
    trigger = forms.ChoiceField(
        choices=[("edge", "each time it begins to hold"), ("once", "once, and then it ends")],
        required=False,
        label="Fires",
        widget=UnfoldAdminSelectWidget,
    )
    expires_at = forms.SplitDateTimeField(
        required=False,
        label=in_zone("Expires at"),
        help_text=in_own_zone("Leave blank for never. The rule stops at this time,"),
        widget=UnfoldAdminSplitDateTimeWidget,
    )

    channels = forms.ModelMultipleChoiceField(
        queryset=Channel.objects.none(),
        required=False,
        label="Channels",
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="Who is notified when it fires. None: the alert is recorded, and nobody is notified.",
    )

    make_inbox = forms.BooleanField(
        required=False,
        initial=True,
        label="Create an inbox",
        help_text="A channel that is read on this site. This rule notifies it, and so do your next ones.",
        widget=UnfoldBooleanSwitchWidget,
    )

    class Meta:
        model = Rule
        fields = ["name", "severity"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.spec: RuleSpec | None = None
        self.faults: list[RuleInvalid] = []
        self.document: dict[str, Any] = {}
        self._known_order: dict[str, int] = {}
        if "symbols" in self.fields:
            self.fields["symbols"].widget = AssetPickerWidget(
                RuleState._meta.get_field("asset"), admin.site, choices=self.fields["symbols"].choices
            )
            self.fields["kind"].widget.attrs["data-kinds-with"] = json.dumps(KINDS_WITH)
        self.fields["symbols"].queryset = assets_of(self.owner.pk).order_by("symbol")  # type: ignore[attr-defined]
        if self.instance.pk is not None:
            version = queries.newest_versions([self.instance.pk]).get(self.instance.pk)
            if version is not None:
                self.initial = initial_of(version.document, owner_id=self.owner.pk) | self.initial
                symbols = version.document.get("assets") if isinstance(version.document, dict) else None
                if isinstance(symbols, list):
                    # What is only shown in another order must not become another version.
                    self._known_order = {symbol: index for index, symbol in enumerate(symbols)}
        if "channels" in self.fields:
            self._offer_channels()

    @property
    def owner(self) -> AbstractBaseUser:
        """Return whose rule it is: who writes it, where it is new."""
        return self.instance.owner if self.instance.pk is not None else self.user

    def _offer_channels(self) -> None:
        """Offer the channels of the rule's owner, and no others."""
        own = Channel.objects.filter(owner=self.owner).order_by("name")
        self.fields["channels"].queryset = own  # type: ignore[attr-defined]
        if not own:
            self.fields["channels"].help_text = format_html(NO_CHANNELS, reverse("admin:notify_channel_add"))
        if self.instance.pk is not None:
            self.initial.setdefault("channels", own.filter(rule_channels__rule=self.instance))
        else:
            self.initial.setdefault("channels", own.filter(is_default=True))

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if "name" in cleaned:
            self._refuse_second_name(cleaned["name"])
        # What the fields themselves refuse is not said twice.
        if not {"watch", *WATCHED, "kind", "written", "built", "expires_at", "trigger", "ref"} & self.errors.keys():
            self._read()
            for error in self.faults:
                field, message = self.placed(error)
                self.add_error(field, linked(message))
        return cleaned

    def _read(self) -> None:
        """Read the rule: `spec` where nothing is wrong, else `faults` has each part that is."""
        unread: dict[str, str] = {}
        self.document = document = self._document(unread)
        try:
            condition, unread_in_condition = self._condition()
            unread |= unread_in_condition
        except RuleInvalid as error:
            self.faults.append(error)
            condition = None
        # The rest is looked at beside a condition that is right.
        right = RIGHT_PARTS["condition"] if self.faults else condition
        spec, faults = read_rule_draft(document | {"condition": right}, unread)
        document["condition"] = condition
        self.faults += faults
        if spec is None or self.faults:
            return
        try:
            refuse_unfit_assets(spec, owner_id=self.owner.pk)
            self.spec = spec
        except RuleInvalid as error:
            self.faults.append(error)

    def _document(self, unread: dict[str, str]) -> dict[str, Any]:
        """Return what the fields say in the written form, unchecked, with a condition that is right."""
        said = self.cleaned_data
        document: dict[str, Any] = dict(RIGHT_PARTS) | {"assets": self._assets()}
        for name, key in PARTS.items():
            if said.get(name):
                try:
                    document[key] = read_typed(key, said[name])
                except ValueError as error:
                    document[key], unread[key] = UNREADABLE, str(error)
        document |= {"trigger": said.get("trigger") or "edge", "enabled": said.get("enabled", True)}
        return document | {"expires_at": said.get("expires_at")}

    def _assets(self) -> Any:
        said, watch = self.cleaned_data, self.cleaned_data.get("watch")
        if watch == "tag":
            return {"tag": said.get("tag")}
        if watch == "feed":
            return {"feed": said["feed"].name if said.get("feed") else ""}
        symbols = [asset.symbol for asset in said.get("symbols") or ()]
        return sorted(symbols, key=lambda symbol: self._known_order.get(symbol, len(self._known_order)))

    def _condition(self) -> tuple[Any, dict[str, str]]:
        """Return the condition in the written form, unchecked, and why what was typed cannot be read, by its path."""
        said, kind = self.cleaned_data, self.cleaned_data.get("kind")
        if kind == COMBINED and said.get("built"):
            return read_draft(said["built"])
        if kind == COMBINED:
            return condition_from_text(said.get("written", "")), {}
        named = (name for name, kinds in KINDS_WITH.items() if kind in kinds)
        return read_draft({"kind": kind} | {name: said[name] for name in named if said.get(name)})

    def placed(self, error: RuleInvalid) -> tuple[str, str]:
        """Return the field that an error of the parser belongs to, and what it says there."""
        key, rest, message = error.key, error.path_within, error.message
        if key == "assets":
            watch = self.cleaned_data.get("watch", "symbols")
            return watch, f"{capfirst(message)}." if rest else "Choose what it watches."
        if key != "condition":
            name = next((name for name, part in PARTS.items() if part == key), key)
            return name, f"{key} {message}."
        if self.cleaned_data.get("kind") == COMBINED:
            return "written", f"{rest or 'The condition'} {message}."
        if not self.cleaned_data.get("kind"):
            return "kind", "Choose a condition."
        return (rest, f"{rest} {message}.") if rest in self.fields else ("kind", f"It {message}.")

    def describe(self) -> str:
        """Return what the condition says, as far as it can be read; "" where nothing of it can."""
        text = describe_draft(self.document.get("condition"), reader=active_reader())
        return f"The price {text}" if any(character.isalpha() for character in text) else ""

    def what_was_read(self) -> list[dict[str, str]]:
        """Return how numbers and durations were read: field, path within the condition where it was built, text."""
        is_built = self.cleaned_data.get("kind") == COMBINED
        document, said = self.document, self.cleaned_data
        typed = [(name, "", key, document[key]) for name, key in PARTS.items() if said.get(name) and key in document]
        for path, name, value in leaves_of_draft(document.get("condition")):
            typed.append(("written", path, name, value) if is_built else (name, "", name, value))
        read = [
            (field, path, describe_typed(name, value, reader=active_reader())) for field, path, name, value in typed
        ]
        return [{"field": field, "path": path, "text": text} for field, path, text in read if text]

    def _refuse_second_name(self, name: str) -> None:
        owner = self.owner
        try:
            refuse_second_name(owner_id=owner.pk, name=name, rule=self.instance)
        except forms.ValidationError as error:
            self.add_error(None, error)
        if self.instance.pk is None and queries.rules_of(owner).count() >= settings.RULES_PER_OWNER:
            self.add_error(None, f"An owner has at most {settings.RULES_PER_OWNER} rules. Delete one first.")


def builder_parts() -> dict[str, Any]:
    """Return what the builder offers: kinds in their groups, and the parameters of each with their labels."""
    kinds = [(group, pairs) for group, pairs in KINDS if group not in ("", "several together")]
    fields = RuleForm.base_fields
    parameters = {
        name: {
            "label": fields[name].label,
            "kinds": kinds_with,
            "choices": list(fields[name].choices) if name == "ref" else [],  # type: ignore[attr-defined]
            "is_more": name in MORE,
        }
        for name, kinds_with in KINDS_WITH.items()
        if name != "written"
    }
    return {"kinds": kinds, "parameters": parameters, "depth": DEPTH_MOST, "leaves": LEAVES_MOST}


def condition_from_text(text: str) -> Any:
    """Return the condition that a text writes down, unread. Raises RuleInvalid."""
    if not text.strip():
        raise RuleInvalid("condition", f"is missing; write it like\n{WRITTEN_EXAMPLE}")
    try:
        return read_yaml_text(text, name="what is written")
    except FileInvalid as error:
        raise RuleInvalid("condition", f"cannot be read: {error}") from None


def build_condition(text: str) -> Any:
    """Return a condition of the written form as the builder has it. Raises RuleInvalid."""
    condition = condition_from_text(text)
    read_condition(condition)
    return show_draft(condition)


def write_condition(built: Any) -> str:
    """Return what was built in the written form; what is missing there is missing. Raises RuleInvalid."""
    document, unread = read_draft(built)
    for path, message in unread.items():
        raise RuleInvalid(path, message)
    return write_yaml(document, is_compact=True)


def linked(message: str) -> str:
    """Return what is wrong as HTML has it, with a link where it names the page of a portfolio's series."""
    before, path, after = (*_PAGE_OF_SERIES.split(message, maxsplit=1), "", "")[:3]
    return format_html('{}<a href="{}">{}</a>{}', before, path, path, after) if path else message


def initial_of(document: Any, *, owner_id: int) -> dict[str, Any]:
    """Return what the fields show of a rule of this owner; nothing where it cannot be read."""
    try:
        spec = RuleSpec.read(document)
    except RuleInvalid:
        return {}
    assets = spec.assets
    expires_at = None if spec.expires_at is None else from_epoch_microseconds(spec.expires_at)
    initial = {
        "enabled": spec.enabled,
        "watch": "symbols" if assets.symbols else "tag" if assets.tag else "feed",
        "symbols": [one.pk for one in assets_chosen(symbols=assets.symbols, owner_id=owner_id)]
        if assets.symbols
        else [],
        "tag": assets.tag or "",
        "feed": Feed.objects.filter(name=assets.feed).first() if assets.feed else None,
        "pending": _duration(spec.pending),
        "keep_firing": _duration(spec.keep_firing),
        "cooldown": _duration(spec.cooldown),
        "trigger": "once" if spec.once else "edge",
        "expires_at": expires_at,
    }
    return initial | _condition_shown(spec.condition)


def _condition_shown(condition: Condition) -> Mapping[str, Any]:
    if isinstance(condition, Combination | Not):
        return {"kind": COMBINED, "written": write_yaml(condition.document(), is_compact=True)}
    return show_draft(condition.document())


def _duration(duration: int) -> str:
    return write_duration(duration) if duration else ""
