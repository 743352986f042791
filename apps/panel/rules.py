"""The pages of rules: written by a form that explains itself, switched, copied, stopped, and asked why."""

import secrets
from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Case, Count, IntegerField, OuterRef, QuerySet, Subquery, Value, When
from django.db.models.functions import Coalesce
from django.forms import BaseModelForm
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.text import Truncator
from unfold.decorators import display

from apps.alerts.queries import written_for
from apps.health.queries import rule_healths
from apps.market.queries import assets_named, known_tags
from apps.notify.models import Channel
from apps.notify.services import create_inbox, last_opening, set_channels, would_send
from apps.panel.aftermath import tables_over
from apps.panel.deferrals import describe_deferrals
from apps.panel.kit.health import HealthShown
from apps.panel.kit.owned import OwnedRows, describe_document, state_label
from apps.panel.kit.pages import ROWS_SHOWN, PageAdmin, Table
from apps.panel.rule_filters import STATUS_FILTERS, DeletedFilter, EnabledFilter, StatusFilter
from apps.panel.rule_form import WATCHED, RuleForm, builder_parts, initial_of
from apps.panel.rule_preview import RulePreview
from apps.panel.rule_templates import TEMPLATES, begin_with
from apps.panel.silences import silence_form_for
from apps.panel.why import WhyPage
from apps.reader import active_reader, in_zone
from apps.rules import queries
from apps.rules.domain import describe_reason, describe_state_reason
from apps.rules.engine.instance import FIRING, INACTIVE, RECOVERING
from apps.rules.engine.rule import RuleSpec
from apps.rules.engine.written import RuleInvalid
from apps.rules.models import Rule, RuleState, RuleVersion, Transition
from apps.rules.services import QuotaExceeded, confirm_rule, delete_rule, save_rule, switch_rule

TRANSITIONS_SHOWN = 20
TAGS_OFFERED = 200
ASSETS_NAMED = 3
SEVERITY_LABEL = {"critical": "danger", "warning": "warning", "info": "info"}
PARAMETERS = ["level", "low", "high", "percent", "by", "n", "window", "after", "written", "built"]


@admin.register(Rule)
class RuleAdmin(RulePreview, HealthShown, OwnedRows, WhyPage, PageAdmin):
    """Rules are saved by the service: what changes their meaning becomes a new version, at its place in the log."""

    healths_of = staticmethod(rule_healths)
    actions = ["copy", "switch_on", "switch_off", "confirm_levels", "stop_and_delete", "would_send", "silence"]
    buttons = actions
    change_form_after_template = "panel/rule_preview.html"
    change_form_outer_before_template = "panel/rule_top.html"
    empty_text = "No rules yet. Add one here, or load a file with manage.py load FILE --owner NAME."
    form = RuleForm
    list_before_template = "panel/rules_how_to_add.html"
    list_display = [
        "name",
        "severity_label",
        "describe",
        "health",
        "on_assets",
        "status_of_instance",
        "last_opened",
        "is_enabled",
    ]
    list_filter = [DeletedFilter, StatusFilter, EnabledFilter, "severity"]
    list_select_related = ["owner"]
    readonly_fields = ["describe", "health", "health_text", "owner", "created_at", "deleted_at"]
    search_fields = ["name", "states__asset__symbol"]
    search_help_text = "Finds rules by their name and by the assets that they watch."

    class Media:
        js = ("panel/form_preview.js", "panel/rule_builder.js", "panel/rule_past.js", "panel/rule_form.js")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Rule]:
        newest = RuleVersion.objects.filter(rule=OuterRef("pk")).order_by("-number")
        states = RuleState.objects.filter(rule=OuterRef("pk")).order_by().values("rule")
        openings = Transition.objects.filter(rule=OuterRef("pk"), to_state=FIRING, suppressed=False)
        openings = openings.exclude(from_state=RECOVERING).order_by("-id")
        return (
            super()
            .get_queryset(request)
            .annotate(
                newest_document=Subquery(newest.values("document")[:1]),
                opened_last=Subquery(openings.values("at")[:1]),
                state_count=_counted(states),
                **{f"{word}_count": _counted(states.filter(chosen)) for word, chosen in STATUS_FILTERS.items()},
            )
        )

    def get_list_display(self, request: HttpRequest) -> list[str]:
        return [*self.list_display, "owner"] if request.user.is_superuser else self.list_display

    @admin.display(description="in words")
    def describe(self, rule: Rule) -> str:
        return describe_document(rule.newest_document)  # type: ignore[attr-defined]

    @display(description="severity", ordering="severity", label=SEVERITY_LABEL)
    def severity_label(self, rule: Rule) -> str:
        return rule.severity

    @admin.display(description="on assets", ordering="state_count")
    def on_assets(self, rule: Rule) -> int:
        return rule.state_count  # type: ignore[attr-defined]

    @admin.display(description="status", ordering="firing_count")
    def status_of_instance(self, rule: Rule) -> SafeString:
        counted = ((word, getattr(rule, f"{word}_count")) for word in STATUS_FILTERS)
        labels = [state_label(word, f"{count} {word}") for word, count in counted if count]
        return mark_safe(" ".join(labels)) if labels else mark_safe("quiet")  # noqa: S308, labels are escaped

    @admin.display(description="last opened", ordering="opened_last", empty_value="never")
    def last_opened(self, rule: Rule) -> Any:
        return rule.opened_last  # type: ignore[attr-defined]

    @admin.display(description="on", boolean=True)
    def is_enabled(self, rule: Rule) -> bool:
        return queries.is_enabled(rule.newest_document)

    def has_change_permission(self, request: HttpRequest, obj: Rule | None = None) -> bool:
        return super().has_change_permission(request, obj) and (obj is None or obj.deleted_at is None)

    def has_delete_permission(self, request: HttpRequest, obj: Rule | None = None) -> bool:
        # The admin's own delete would rewrite the log. Rules are stopped, and their rows stay.
        return False

    def has_stop_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("rules.delete_rule")

    def get_fieldsets(self, request: HttpRequest, obj: Rule | None = None) -> Any:
        if obj is not None and not self.has_change_permission(request, obj):
            return [
                (
                    None,
                    {
                        "fields": [
                            "name",
                            "describe",
                            "health",
                            "health_text",
                            "owner",
                            "severity",
                            "created_at",
                            "deleted_at",
                        ]
                    },
                )
            ]
        about = ["name", "severity", "enabled"]
        inbox = ["make_inbox"] if self._offers_inbox(request, obj) else []
        if obj is not None:
            about = ["describe", "health", "health_text", *about, *(["owner"] if request.user.is_superuser else [])]
        return [
            (None, {"fields": about}),
            ("What is watched", {"fields": ["watch", *WATCHED]}),
            (
                "What must hold",
                {"fields": ["kind", *PARAMETERS]},
            ),
            ("More about the condition", {"fields": ["recovery", "ref", "min_coverage"], "classes": ["collapse"]}),
            (
                "When it fires, and when it ends",
                {"fields": ["pending", "keep_firing", "cooldown", "trigger", "expires_at"]},
            ),
            (
                "Who is notified",
                {"fields": ["channels", *inbox]},
            ),
        ]

    def _offers_inbox(self, request: HttpRequest, obj: Rule | None) -> bool:
        """Tell whether a new rule could notify nobody, and its owner may make a channel."""
        may_add = obj is None and request.user.has_perm("notify.add_channel")
        return may_add and not Channel.objects.filter(owner=request.user).exists()

    def get_form(self, request: HttpRequest, obj: Rule | None = None, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, **kwargs)
        form.user = request.user
        return form

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        chosen = request.GET.get("copy", "")
        rule = self.get_object(request, chosen)
        if rule is None:
            given = super().get_changeform_initial_data(request) | begin_with(request.GET.get("template", ""))
            return given | _begin_on(request)
        return self.copied(rule)

    def copied(self, rule: Rule) -> dict[str, Any]:
        """Return what the form of a copy begins with."""
        name = Truncator(f"Copy of {rule.name}").chars(128)
        channels = list(Channel.objects.filter(rule_channels__rule=rule).values_list("pk", flat=True))
        about = {"name": name, "severity": rule.severity, "channels": channels}
        return about | initial_of(rule.newest_document, owner_id=rule.owner_id)  # type: ignore[attr-defined]

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return super().changeform_view(request, *args, **kwargs)
        except (RuleInvalid, QuotaExceeded, ValidationError) as refusal:
            # The form has looked, but something came in between: nothing is saved.
            self.say_refused(request, f"Not saved: {refusal}")
            return HttpResponseRedirect(request.get_full_path())
        except Rule.DoesNotExist:
            self.say_refused(request, "Not saved: the rule was deleted meanwhile.")
            return HttpResponseRedirect(reverse("admin:rules_rule_changelist"))

    def save_model(self, request: HttpRequest, obj: Rule, form: BaseModelForm, change: bool) -> None:
        """Save by the service, and say from when the rule can be evaluated."""
        made = save_rule(
            owner=obj.owner if change else request.user,
            name=obj.name,
            severity=obj.severity,
            document=form.spec.document(),  # type: ignore[attr-defined]
            rule=obj if change else None,
            confirms=True,
            now=timezone.now(),
            trace_id=secrets.token_hex(16),
        )
        obj.pk, obj.owner, obj.created_at = made.pk, made.owner, made.created_at
        self._say_prospect(request, form.spec, owner_id=made.owner_id)  # type: ignore[attr-defined]

    def save_related(self, request: HttpRequest, form: BaseModelForm, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        channels = list(form.cleaned_data["channels"])
        if form.cleaned_data.get("make_inbox") and self._offers_inbox(request, None) and not change:
            channels.append(create_inbox(owner=request.user))
        set_channels(rule=form.instance, channels=channels)

    def _say_prospect(self, request: HttpRequest, spec: RuleSpec, *, owner_id: int) -> None:
        if not spec.enabled:
            self.say_refused(request, "It is disabled: nothing is evaluated.")
            return
        prospect = queries.first_evaluated(spec, owner_id=owner_id, reader=active_reader())
        self.say_done(request, _describe_prospect(prospect))
        for asset, why in prospect.unfit[:ASSETS_NAMED]:
            self.say_refused(request, f"{asset.symbol}: {why}.")
        for warning in prospect.warnings:
            self.say_refused(request, f"{warning[:1].upper()}{warning[1:]}.")

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        context |= {"known_tags": known_tags(limit=TAGS_OFFERED), "builder": builder_parts(), "templates": TEMPLATES}
        return super().render_change_form(request, context, *args, **kwargs)

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            *self.preview_urls(),
            path("<int:rule_id>/would-send/", wrap(self.would_send_view), name="rules_rule_would_send"),
            path("<int:rule_id>/why/", wrap(self.why_view), name="rules_rule_why"),
            *super().get_urls(),
        ]

    def buttons_for(self, request: HttpRequest, row: Rule) -> Sequence[str]:
        if row.deleted_at is not None:
            return ["copy"]
        confirm = ["confirm_levels"] if row.paused_count else []  # type: ignore[attr-defined]
        switch = "switch_off" if queries.is_enabled(row.newest_document) else "switch_on"
        return [*confirm, "copy", switch, "stop_and_delete", "would_send", "silence"]

    @admin.action(description="Copy", permissions=["add"])
    def copy(self, request: HttpRequest, queryset: QuerySet[Rule]) -> HttpResponse | None:
        """Open the form of a new rule that says the same."""
        rules = list(queryset[:2])
        if len(rules) != 1:
            self.say_refused(request, "Choose one rule to copy.")
            return None
        return HttpResponseRedirect(f"{reverse('admin:rules_rule_add')}?copy={rules[0].pk}")

    @admin.action(description="Enable", permissions=["change"])
    def switch_on(self, request: HttpRequest, queryset: QuerySet[Rule]) -> HttpResponse | None:
        """Evaluate the rules again, from here on."""
        return self._switch(request, queryset, enabled=True)

    @admin.action(description="Disable", permissions=["change"])
    def switch_off(self, request: HttpRequest, queryset: QuerySet[Rule]) -> HttpResponse | None:
        """Evaluate the rules no more, from here on."""
        return self._switch(request, queryset, enabled=False)

    def _switch(self, request: HttpRequest, queryset: QuerySet[Rule], *, enabled: bool) -> HttpResponse | None:
        rules = list(queryset.filter(deleted_at=None))
        switched = 0
        for rule in rules:
            try:
                switched += switch_rule(
                    rule=rule, is_enabled=enabled, now=timezone.now(), trace_id=secrets.token_hex(16)
                )
            except (RuleInvalid, ValidationError, Rule.DoesNotExist) as refusal:
                self.say_refused(request, f"{rule}: not {'enabled' if enabled else 'disabled'}. {refusal}")
        follows = "" if enabled else f" {'Their' if switched > 1 else 'Its'} open alerts close."
        if switched:
            word = "enabled" if enabled else "disabled"
            self.say_done(request, f"{switched} rule{'s are' if switched > 1 else ' is'} {word}.{follows}")
        else:
            self.say_refused(request, "Nothing is changed.")
        return self.after(request, rules)

    @admin.action(description="Levels are checked", permissions=["change"])
    def confirm_levels(self, request: HttpRequest, queryset: QuerySet[Rule]) -> HttpResponse | None:
        """Let the rules go on, as they are, where a split has paused them."""
        rules = list(queryset.filter(deleted_at=None))
        resumed = 0
        for rule in rules:
            try:
                resumed += confirm_rule(rule=rule, now=timezone.now(), trace_id=secrets.token_hex(16))
            except (RuleInvalid, Rule.DoesNotExist) as refusal:
                self.say_refused(request, f"{rule}: not confirmed. {refusal}")
        if resumed:
            noun = "rule is" if resumed == 1 else "rules are"
            self.say_done(request, f"{resumed} {noun} evaluated again within seconds.")
        else:
            self.say_refused(request, "Nothing is paused.")
        return self.after(request, rules)

    @admin.action(description="Stop and delete", permissions=["stop"])
    def stop_and_delete(self, request: HttpRequest, queryset: QuerySet[Rule]) -> HttpResponse | None:
        """End the rules at their place in the log. Their rows stay: the admin's own delete would rewrite the log."""
        rules = list(queryset.filter(deleted_at=None))
        noun = "this rule" if len(rules) == 1 else f"these {len(rules)} rules"
        asked = self.ask_first(
            request,
            queryset.filter(deleted_at=None),
            question="They are no longer evaluated, and their open alerts close. Alerts, steps and versions stay. "
            "It cannot be undone, but a deleted rule can be copied.",
            what=f"Stop and delete {noun}",
        )
        if asked is not None:
            return asked
        for rule in rules:
            delete_rule(rule=rule, now=timezone.now(), trace_id=secrets.token_hex(16))
        noun = "rule is" if len(rules) == 1 else "rules are"
        self.say_done(request, f"{len(rules)} {noun} stopped and deleted. Their alerts stay.")
        return None

    def has_silence_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("notify.add_silence")

    @admin.action(description="Show what would be sent", permissions=["view"])
    def would_send(self, request: HttpRequest, queryset: QuerySet[Rule]) -> HttpResponse | None:
        """Open the page that shows what each of a rule's channels would be sent of its last alert."""
        rule = self._one(request, queryset)
        return HttpResponseRedirect(reverse("admin:rules_rule_would_send", args=[rule.pk])) if rule else None

    @admin.action(description="Silence", permissions=["silence"])
    def silence(self, request: HttpRequest, queryset: QuerySet[Rule]) -> HttpResponse | None:
        """Open the form of a new silence about this rule."""
        rule = self._one(request, queryset)
        return silence_form_for(rule=rule) if rule else None

    def _one(self, request: HttpRequest, queryset: QuerySet[Rule]) -> Rule | None:
        rules = list(queryset[:2])
        if len(rules) == 1:
            return rules[0]
        self.say_refused(request, "Choose one rule.")
        return None

    def would_send_view(self, request: HttpRequest, rule_id: int) -> HttpResponse:
        """Show what each channel of the rule would be sent now. Nothing is written, and nothing is sent."""
        rule = self.get_object(request, str(rule_id))
        if rule is None:
            raise Http404
        if not self.has_view_permission(request, rule):
            raise PermissionDenied
        now = timezone.now()
        event = last_opening(owner=rule.owner, rule=rule, now=now)
        written_for([event.alert], reader=active_reader())
        channels = Channel.objects.filter(rule_channels__rule=rule).order_by("name")[:ROWS_SHOWN]
        shown = [would_send(channel=channel, event=event, now=now) for channel in channels]
        context = {
            **self.admin_site.each_context(request),
            "title": f"What would be sent: {rule.name}",
            "opts": self.opts,
            "rule": rule,
            "is_example": not event.pk,
            "alert": event.alert,
            "shown": [(one, describe_deferrals(one)) for one in shown],
        }
        return TemplateResponse(request, "panel/would_send.html", context)

    def tables_for(self, request: HttpRequest, row: Rule) -> list[Table]:
        inactive_last = Case(When(state=INACTIVE, then=1), default=0, output_field=IntegerField())
        states = list(queries.states_of([row.pk]).order_by(inactive_last, "asset__symbol")[:ROWS_SHOWN])
        steps = row.transitions.select_related("asset", "version").order_by("-pk")[:TRANSITIONS_SHOWN]
        versions = row.versions.order_by("-number")[:ROWS_SHOWN]
        return [
            *self._prospect_table(row, states),
            Table(
                title="Where it stands",
                headers=["asset", "state", in_zone("since"), "last step", "version", "explained"],
                rows=[
                    [
                        *(one.asset.symbol, state_label(one.state), one.since, _why_short(one)),
                        *(f"v{one.version.number}", _why_link(row, one.asset_id)),
                    ]
                    for one in states
                ],
                empty="Not evaluated yet, or on no asset.",
            ),
            Table(
                title=f"Last steps (at most {TRANSITIONS_SHOWN})",
                headers=[in_zone("at"), "asset", "from", "to", "why", "version"],
                rows=[
                    [
                        *(one.at, one.asset.symbol, state_label(one.from_state), state_label(one.to_state)),
                        describe_reason(one.reason, one.detail) + (" (silent: cooldown)" if one.suppressed else ""),
                        f"v{one.version.number}",
                    ]
                    for one in steps
                ],
                empty="No steps yet.",
            ),
            *tables_over(row),
            Table(
                title="Versions",
                headers=["version", "in words", in_zone("since")],
                rows=[[f"v{one.number}", describe_document(one.document), one.created_at] for one in versions],
                empty="No versions.",
            ),
        ]

    def _prospect_table(self, rule: Rule, states: Sequence[RuleState]) -> list[Table]:
        """Return from when it can be evaluated where it is not yet, and what speaks against its windows."""
        try:
            spec = RuleSpec.read(rule.newest_document)  # type: ignore[attr-defined]
        except RuleInvalid:
            return []
        if rule.deleted_at is not None or not spec.enabled:
            return []
        prospect = queries.first_evaluated(spec, owner_id=rule.owner_id, reader=active_reader())
        # An asset that is evaluated already is left out: its windows may reach further back than the stored quotes.
        evaluated = {one.asset_id for one in states if not one.unknown}
        waiting = [
            [one.asset.symbol, one.outlook.summary]
            for one in prospect.assets
            if not one.outlook.is_known and one.asset.pk not in evaluated
        ]
        rows = waiting + [[asset.symbol, why] for asset, why in prospect.unfit]
        rows += [["", warning] for warning in prospect.warnings]
        title = "When it can be evaluated"
        return [Table(title=title, headers=["asset", "what is known"], rows=rows, empty="")] if rows else []


def _begin_on(request: HttpRequest) -> dict[str, Any]:
    """Return what the form of a rule begins with on the asset that the address names; nothing for one not seen."""
    symbol = request.GET.get("asset", "")
    asset = assets_named([symbol], owner_id=request.user.pk).get(symbol)
    return {} if asset is None else {"watch": "symbols", "symbols": [asset.pk]}


def _counted(states: QuerySet[RuleState]) -> Coalesce:
    return Coalesce(Subquery(states.annotate(count=Count("pk")).values("count")), Value(0))


def _why_short(state: RuleState) -> str:
    return describe_state_reason(unknown=state.unknown, reason=state.reason, detail=state.detail)


def _why_link(rule: Rule, asset_id: int) -> SafeString:
    address = f"{reverse('admin:rules_rule_why', args=[rule.pk])}?asset={asset_id}"
    return format_html('<a class="text-primary-600 dark:text-primary-500" href="{}">why?</a>', address)


def _describe_prospect(prospect: queries.Prospect) -> str:
    if not prospect.count:
        return "It watches no asset yet; it begins with the first that is chosen."
    waiting = [one for one in prospect.assets if not one.outlook.is_known]
    if not waiting:
        return f"It can be evaluated now, on {prospect.count} asset{'s' if prospect.count > 1 else ''}."
    notified = "; ".join(f"{one.asset.symbol}: {one.outlook.summary}" for one in waiting[:ASSETS_NAMED])
    more = f"; and {len(waiting) - ASSETS_NAMED} more" if len(waiting) > ASSETS_NAMED else ""
    return f"Not evaluated everywhere yet: {notified}{more}."
