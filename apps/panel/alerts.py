"""The pages of alerts: what each one saw, what happened to it, and what was sent about it."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone
from unfold.decorators import display

from apps.alerts import domain
from apps.alerts.models import Alert
from apps.alerts.queries import IN_STATE, alerts_of, written_for
from apps.alerts.services import acknowledge
from apps.alerts.wording import describe_event_reason
from apps.market.queries import assets_seen_by, price_path
from apps.notify.domain import describe_end
from apps.notify.models import Silence
from apps.notify.queries import SILENCE_STATES, silences_ended_by
from apps.notify.services import create_silence, end_silences
from apps.panel.aftermath import table_after
from apps.panel.alert_notifications import notification_tables
from apps.panel.alert_timeline import timeline_of
from apps.panel.deferrals import silences_on
from apps.panel.kit.pages import ROWS_SHOWN, Chart, ReadOnlyAdmin, ShortText, Table, page_link, trace_link
from apps.panel.problems import subject_links
from apps.panel.silences import silence_form_for
from apps.panel.splits import PERMISSION, split_address, step_of
from apps.reader import active_reader, in_zone, write_time, zone_name
from apps.rules.engine.rule import RuleSpec
from apps.rules.engine.written import RuleInvalid
from apps.rules.explain import parts_of
from apps.rules.models import Rule

CHOICES_OFFERED = 200
ALERTS_SHOWN = 20
SHOWN_AT_LEAST = timedelta(minutes=1)
EMPTY_WITHOUT_RULES = (
    "No alerts yet. Those about this installation open when something stops; a rule's are its owner's."
)
SEVERITY_LABEL = {"critical": "danger", "warning": "warning", "info": "info"}


class StateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        text = {Alert.State.OPEN: "Open, not acknowledged"}
        return [(state, text.get(state, state.capitalize())) for state in Alert.State]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Alert]) -> QuerySet[Alert]:
        chosen = IN_STATE.get(self.value() or "")
        return queryset if chosen is None else queryset.filter(chosen)


class FoundFilter(admin.SimpleListFilter):
    """By the wall clock: a recording's own time may be years ago."""

    title = "found (by this machine's clock)"
    parameter_name = "found"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("today", in_zone("Today")), ("week", "In the last 7 days")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Alert]) -> QuerySet[Alert]:
        now = timezone.now()
        since = {
            "today": timezone.localtime(now).replace(hour=0, minute=0, second=0, microsecond=0),
            "week": now - timedelta(days=7),
        }.get(self.value() or "")
        return queryset if since is None else queryset.filter(created_at__gte=since)


class RuleFilter(admin.RelatedFieldListFilter):
    """Offers the rules that the reader may see, and no others."""

    def field_choices(self, field: Any, request: HttpRequest, model_admin: Any) -> list[tuple[int, str]]:
        rules = Rule.objects.order_by("name")
        if not request.user.is_superuser:
            rules = rules.filter(owner=request.user)
        return list(rules.values_list("pk", "name")[:CHOICES_OFFERED])


class AssetFilter(admin.RelatedFieldListFilter):
    """Offers the assets on which the reader has alerts."""

    def field_choices(self, field: Any, request: HttpRequest, model_admin: Any) -> list[tuple[int, str]]:
        seen = alerts_of(request.user).order_by().filter(asset=OuterRef("pk"))
        assets = assets_seen_by(request.user).filter(Exists(seen)).order_by("symbol")
        return list(assets.values_list("pk", "symbol")[:CHOICES_OFFERED])


class NoteForm(forms.Form):
    """What is asked for when alerts are acknowledged."""

    note = forms.CharField(
        required=False,
        max_length=500,
        label="Note",
        help_text="What you found, or what you do about it. It stands on the alert's page.",
        widget=ShortText,
    )


@admin.register(Alert)
class AlertAdmin(ReadOnlyAdmin):
    """Alerts open and end by what the engine finds in the log, by the check of health, or by what Alertmanager says;
    nobody edits them. People acknowledge them."""

    actions = [
        *("acknowledge", "silence_1h", "silence_4h", "silence_until_over", "silence", "end_silence", "was_split"),
    ]
    buttons = actions
    empty_text = "No alerts yet. One opens when a rule's condition holds; see Rules for what is watched."
    fields = [
        *("state_label", "severity_label", "kind", "opened_at", "over_since", "resolution_text"),
        *("acknowledged", "note", "silenced"),
    ]
    list_display = [
        "state_label",
        "severity_label",
        "summary",
        "rule_name",
        "symbol",
        "opened_at",
        "over_since",
        "note",
    ]
    list_display_links = ["summary"]
    list_filter = [StateFilter, "severity", "kind", FoundFilter, ("rule", RuleFilter), ("asset", AssetFilter)]
    list_select_related = ["rule", "asset", "acknowledged_by"]
    # Of an alert that no rule opened, rule and asset are labels.
    search_fields = [
        *("summary", "note", "asset__symbol", "rule__name"),
        *(f"evidence__labels__{label}" for label in ("alertname", "instance", "job")),
    ]
    search_help_text = "Finds what was seen, notes, assets and rules."

    def get_queryset(self, request: HttpRequest) -> QuerySet[Alert]:
        return alerts_of(request.user).select_related("owner")

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Alert | None:
        alert: Alert | None = super().get_object(request, object_id, from_field)
        if alert is None:
            return None
        # Fields that are no form's are not given the request.
        alert.request = request  # type: ignore[attr-defined]
        return written_for([alert], reader=active_reader())[0]

    def get_fields(self, request: HttpRequest, obj: Alert | None = None) -> list[str]:
        blank = {"resolution_text": obj.resolution, "note": obj.note} if obj is not None else {}
        return [name for name in self.fields if blank.get(name, name)]

    def get_list_display(self, request: HttpRequest) -> Sequence[str]:
        return [*self.list_display, "whose"] if request.user.is_superuser else self.list_display

    @admin.display(description="whose", ordering="owner")
    def whose(self, alert: Alert) -> str:
        return str(alert.owner) if alert.owner is not None else "the operators'"

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        page = super().get_changelist_instance(request)
        if not request.user.has_perm("rules.view_rule"):
            page.empty_text = EMPTY_WITHOUT_RULES
        page.result_list = written_for(page.result_list, reader=active_reader())
        return page

    @display(
        description="state",
        label={"open": "danger", "acknowledged": "warning", "resolved": "success", "expired": "info"},
    )
    def state_label(self, alert: Alert) -> str:
        return alert.state

    @display(description="severity", ordering="severity", label=SEVERITY_LABEL)
    def severity_label(self, alert: Alert) -> str:
        return alert.severity

    @admin.display(description="rule", ordering="rule__name")
    def rule_name(self, alert: Alert) -> str:
        return alert.rule_name

    @admin.display(description="asset", ordering="asset__symbol")
    def symbol(self, alert: Alert) -> str:
        return alert.symbol

    @admin.display(description="resolved at", ordering="resolved_at")
    def over_since(self, alert: Alert) -> str:
        return "still open" if alert.resolved_at is None else write_time(alert.resolved_at)

    @admin.display(description="reason resolved")
    def resolution_text(self, alert: Alert) -> str:
        return describe_event_reason(alert.resolution, reader=active_reader())

    @admin.display(description="acknowledged")
    def acknowledged(self, alert: Alert) -> str:
        if alert.acknowledged_at is None:
            return "by nobody"
        return f"by {alert.acknowledged_by or 'somebody'} at {write_time(alert.acknowledged_at)}"

    @admin.display(description="silenced")
    def silenced(self, alert: Alert) -> str:
        """Say until when which silence matches it, of several the one that lasts longest."""
        matching = silences_on(alert, now=timezone.now())
        if not matching:
            return "no"
        silence = Silence.objects.get(pk=matching[0].silence_id)
        is_over = matching[0].ends_at is None and alert.resolved_at is not None
        until = "until it was over" if is_over else describe_end(matching[0].ends_at, reader=active_reader())
        text = f"{until}, by the silence “{silence.comment}”"
        return page_link(alert.request, silence, text)  # type: ignore[attr-defined]

    def has_acknowledge_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("alerts.change_alert")

    def buttons_for(self, request: HttpRequest, row: Alert) -> Sequence[str]:
        # An alert that no rule opened is silenced by severity, or in Alertmanager.
        of_rule = row.rule_id is not None
        offered = {"acknowledge": row.state == Alert.State.OPEN, "silence": of_rule}
        silences = list(_silences_from(request, [row]).values_list("alert", flat=True)) if of_rule else []
        is_open = of_rule and row.resolved_at is None
        offered |= dict.fromkeys(("silence_1h", "silence_4h"), is_open and row.pk not in silences)
        offered |= {"silence_until_over": offered["silence_1h"], "end_silence": bool(silences)}
        offered["was_split"] = row.kind == Alert.Kind.CONDITION and step_of(row) is not None
        return [name for name in self.buttons if offered[name]]

    @admin.action(description="Acknowledge", permissions=["acknowledge"])
    def acknowledge(self, request: HttpRequest, queryset: QuerySet[Alert]) -> HttpResponse | None:
        """Say in the reader's name that somebody knows: those that are open and nobody has acknowledged."""
        waiting = queryset.filter(IN_STATE[Alert.State.OPEN])
        count = waiting.count()
        if not count:
            self.say_refused(request, "None of these waits to be acknowledged: they are acknowledged, or over.")
            return self.after(request, queryset[:2])
        form = NoteForm(request.POST if "sure" in request.POST else None)
        noun = "this alert" if count == 1 else f"these {count} alerts"
        it, each = ("it", "it") if count == 1 else ("them", "each")
        asked = self.ask_first(
            request,
            waiting,
            question=f"Nobody is reminded of {it} any more. It lasts until {each} is over; a new alert begins "
            "unacknowledged.",
            what=f"Acknowledge {noun}",
            form=form,
            variant="primary",
        )
        if asked is not None:
            return asked
        events = acknowledge(alerts=waiting, by=request.user, note=form.cleaned_data["note"], now=timezone.now())
        self.say_done(request, f"{len(events)} {'alert is' if len(events) == 1 else 'alerts are'} acknowledged.")
        return self.after(request, [one.alert for one in events[:2]])

    def has_silence_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("notify.add_silence")

    @admin.action(description="Silence for 1 h", permissions=["silence"])
    def silence_1h(self, request: HttpRequest, queryset: QuerySet[Alert]) -> HttpResponse | None:
        """Silence these rules on these assets for an hour."""
        return self._silence_for(request, queryset, hours=1)

    @admin.action(description="Silence for 4 h", permissions=["silence"])
    def silence_4h(self, request: HttpRequest, queryset: QuerySet[Alert]) -> HttpResponse | None:
        """Silence these rules on these assets for four hours."""
        return self._silence_for(request, queryset, hours=4)

    def _silence_for(self, request: HttpRequest, queryset: QuerySet[Alert], *, hours: int) -> HttpResponse | None:
        alerts = list(queryset.filter(rule__isnull=False)[:ROWS_SHOWN])
        pairs = {(one.rule_id, one.asset_id): one for one in alerts}
        now = timezone.now()
        for one in pairs.values():
            create_silence(
                author=request.user,
                owner=one.owner,
                rule=one.rule,
                asset=one.asset,
                starts_at=now,
                ends_at=now + timedelta(hours=hours),
                comment=f"for {hours} h, from an alert",
            )
        if pairs:
            named = _named(list(pairs.values()))
            self.say_done(request, f"Silenced for {hours} h: {named}. Alerts are recorded, messages come afterwards.")
        else:
            self.say_refused(request, "Choose alerts of rules to silence them.")
        return self.after(request, alerts)

    @admin.action(description="Silence until it is over", permissions=["silence"])
    def silence_until_over(self, request: HttpRequest, queryset: QuerySet[Alert]) -> HttpResponse | None:
        """Silence each of these alerts until it is over: nothing more is sent about it."""
        alerts = list(queryset.filter(rule__isnull=False, resolved_at=None)[:ROWS_SHOWN])
        silenced = []
        for one in alerts:
            try:
                create_silence(
                    author=request.user,
                    owner=one.owner,
                    alert=one,
                    starts_at=timezone.now(),
                    comment="until it is over, from an alert",
                )
            except ValidationError:
                # It is over by now, or silenced.
                continue
            silenced.append(one)
        if silenced:
            self.say_done(
                request,
                f"Silenced until {'it is' if len(silenced) == 1 else 'each is'} over: {_named(silenced)}. Nothing more "
                "is sent about it, and what happens is recorded. You can end the silence before.",
            )
        else:
            self.say_refused(request, "Choose open alerts of rules that are not silenced yet.")
        return self.after(request, alerts)

    def has_end_silence_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("notify.change_silence")

    @admin.action(description="End its silence", permissions=["end_silence"])
    def end_silence(self, request: HttpRequest, queryset: QuerySet[Alert]) -> HttpResponse | None:
        """End the silences of these alerts, and those of their rules on their assets; what they deferred is sent."""
        alerts = list(queryset[:ROWS_SHOWN])
        ended = end_silences(silences=_silences_from(request, alerts), now=timezone.now())
        if ended:
            self.say_done(request, "Silenced no more. What was deferred is sent within some seconds.")
        else:
            self.say_refused(request, "Nothing is ended: these are not silenced by themselves. See Silences.")
        return self.after(request, alerts)

    @admin.action(description="Silence for longer", permissions=["silence"])
    def silence(self, request: HttpRequest, queryset: QuerySet[Alert]) -> HttpResponse | None:
        """Open the form of a new silence about this rule on this asset."""
        alerts = list(queryset.filter(rule__isnull=False)[:2])
        if len(alerts) != 1:
            self.say_refused(request, "Choose one alert of a rule to silence it.")
            return None
        return silence_form_for(rule=alerts[0].rule, asset_id=alerts[0].asset_id)

    def has_was_split_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(PERMISSION)

    @admin.action(description="This was a split", permissions=["was_split"])
    def was_split(self, request: HttpRequest, queryset: QuerySet[Alert]) -> HttpResponse | None:
        """Open the page on which a split is entered, filled in with what the alert saw."""
        alerts = list(queryset[:2])
        step = step_of(alerts[0]) if len(alerts) == 1 else None
        if step is None or alerts[0].asset_id is None:
            self.say_refused(request, "Choose one alert about a price.")
            return None
        return HttpResponseRedirect(split_address(alerts[0].asset_id, **step))

    def lead_for(self, request: HttpRequest, row: Alert) -> str:
        return row.summary

    def charts_for(self, request: HttpRequest, row: Alert) -> list[Chart]:
        """Draw from the beginning of what the rule saw to some time after the end, or after the opening where the
        episode is long or still lasts."""
        if row.asset_id is None:
            return []
        seen_since = domain.seen_since(row.evidence) or row.opened_at
        span = max(row.opened_at - seen_since, SHOWN_AT_LEAST)
        marks = [("opened", row.opened_at)]
        until = row.opened_at + span
        if row.resolved_at is not None and row.resolved_at - row.opened_at <= 10 * span:
            marks.append(("resolved", row.resolved_at))
            until = row.resolved_at + span / 2
        return [
            Chart(
                title=f"{row.asset} around the opening ({zone_name()})",
                # As the rule saw it: its levels are prices from before later splits.
                path=price_path(row.asset_id, since=row.opened_at - 1.2 * span, until=until, up_to_entry=row.entry_id),
                levels=domain.levels(row.evidence),
                marks=marks,
                empty="No prices are kept from that time.",
            )
        ]

    def tables_for(self, request: HttpRequest, row: Alert) -> list[Table]:
        happened = timeline_of(request, row)
        if row.subject:
            return [self._table_of_problem(row), happened, *notification_tables(request, row)]
        if row.rule is None or row.version is None or row.entry is None:
            return [*self._tables_of_labels(row), happened, *notification_tables(request, row)]
        return [
            _table_of_parts(row),
            *table_after(row),
            happened,
            Table(
                title="Where it comes from",
                headers=["rule", "version", "asset", "entry of the log", "trace id"],
                rows=[
                    [
                        *(page_link(request, row.rule, row.rule.name), f"v{row.version.number}"),
                        *(page_link(request, row.asset, row.symbol),),
                        page_link(request, row.entry, str(row.entry)),
                        # Owners are shown the id alone.
                        trace_link(row.entry.trace_id)
                        if request.user.has_perm("market.view_feedentry")
                        else row.entry.trace_id,
                    ]
                ],
                empty="",
                is_folded=True,
            ),
            *notification_tables(request, row),
        ]

    def _table_of_problem(self, row: Alert) -> Table:
        """Return what has stopped, or differs, with a link to its page, and what mends it."""
        said = row.evidence.get("annotations", {})
        links = subject_links([(row.subject, row.subject_id)])
        return Table(
            title="What had stopped when it opened"
            if row.kind == Alert.Kind.HEALTH
            else "What differed when it opened",
            headers=["what", "problem", "what to do"],
            rows=[[links[row.subject, row.subject_id], said.get("problem", ""), said.get("remedy", "")]],
            empty="",
        )

    def _tables_of_labels(self, row: Alert) -> list[Table]:
        """Return what Alertmanager said, all of it as text: whoever sends alerts writes no links into these pages."""
        return [
            Table(title=title, headers=["name", "value"], rows=rows, empty="None.")
            for title, rows in domain.sections(row.evidence)
        ]


def _silences_from(request: HttpRequest, alerts: Sequence[Alert]) -> QuerySet[Silence]:
    """Return those silences that the reader may end of these alerts, and of the rules of these on their assets."""
    chosen = Q(alert__in=[one.pk for one in alerts])
    for one in alerts:
        if one.rule_id is not None:
            chosen |= Q(rule=one.rule_id, asset=one.asset_id)
    in_force = SILENCE_STATES["in force"](timezone.now())
    return silences_ended_by(request.user).filter(in_force, chosen)


def _named(alerts: Sequence[Alert]) -> str:
    named = ", ".join(f"{one.rule_name} on {one.symbol}" for one in alerts[:3])
    return f"{named} and {len(alerts) - 3} more" if len(alerts) > 3 else named


def _table_of_parts(alert: Alert) -> Table:
    """Return what each part of the condition says and saw, as sentences; where they cannot be made, the figures."""
    title = "What the rule saw when it opened"
    try:
        spec = RuleSpec.read(alert.version.document)  # type: ignore[union-attr]
        lines = list(parts_of(spec.condition, alert.evidence, is_open=False, reader=active_reader()).lines())
    except (RuleInvalid, KeyError):
        return Table(
            title=title,
            headers=["part of the condition", "figure", "value"],
            rows=domain.figures(alert.evidence),
            empty="Nothing: it could not be evaluated.",
            is_first=True,
        )
    rows = [
        [f"{'› ' * depth}{part.mark} {alert.symbol if not part.members else ''} {part.summary}", part.figures]
        for depth, part in lines
    ]
    return Table(title=title, headers=["part of the condition", "what it saw"], rows=rows, empty="", is_first=True)
