"""The pages of backtests: a rule is tried on the past, and what it would have done is shown."""

from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import F, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display
from unfold.widgets import DATETIME_CLASSES, UnfoldAdminTextareaWidget

from apps.backtests import services as runs
from apps.backtests.models import BacktestRun
from apps.backtests.queries import backtests_seen_by
from apps.backtests.wording import describe_failure, describe_openings
from apps.market.queries import assets_named
from apps.panel.backtest_report import bars_of, chart_of_report, counted, span_text, threshold_text
from apps.panel.kit.owned import describe_document
from apps.panel.kit.pages import Chart, ReadOnlyAdmin, Table
from apps.panel.rule_form import RuleForm
from apps.reader import active_reader, in_zone, show_number, show_percent, show_time, write_time
from apps.rules.domain import describe_reason
from apps.rules.engine.rule import RuleSpec
from apps.rules.engine.written import RuleInvalid
from apps.rules.files import read_rule
from apps.rules.queries import newest_versions, rules_seen_by
from apps.yaml_files import FileInvalid, read_yaml_text, write_yaml

OPENINGS_SHOWN = 200
ASSETS_OFFERED = 200
RUNS_SHOWN = 5
LONGEST_DAYS = 30
PRESETS_DAYS = (1, 7, 30)
LONGEST_FORM = 20_000
MOMENT = "%Y-%m-%dT%H:%M:%S"


class TryForm(forms.Form):
    """What to try, and on which while of the past."""

    since = forms.DateTimeField(label=in_zone("From"))
    until = forms.DateTimeField(label=in_zone("To"))
    document = forms.CharField(
        label="The rule as it is tried",
        max_length=LONGEST_FORM,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 14, "spellcheck": "false", "style": "font-family: monospace"}),
        help_text="In the written form of docs/rules.md. Change a number here to see what it would have done; the rule "
        "itself stays as it is.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("since", "until"):
            attributes = {"type": "datetime-local", "step": "1", "class": " ".join(DATETIME_CLASSES)}
            self.fields[name].widget = forms.DateTimeInput(attrs=attributes, format=MOMENT)

    def clean_document(self) -> dict[str, Any]:
        """Return the written form, whole."""
        try:
            return read_rule(read_yaml_text(self.cleaned_data["document"], name="the rule")).spec.document()
        except (FileInvalid, RuleInvalid) as error:
            raise forms.ValidationError(str(error)) from None


@admin.register(BacktestRun)
class BacktestRunAdmin(ReadOnlyAdmin):
    """Backtests go with rules: who may look at rules may look at these, who may change rules may ask for one."""

    actions = ["cancel"]
    buttons = ["cancel"]
    change_form_outer_before_template = "panel/backtest.html"
    empty_text = "No backtests yet. Open a rule and press “Try it on the past”."
    fields = ["rule_link", "describe", "describe_range", "status", "asked_for", "started", "finished"]
    list_display = ["rule", "describe_range", "status_label", "found", "asked_for"]
    list_display_links = ["rule", "status_label"]
    list_filter = ["status"]
    search_fields = ["rule__name"]

    class Media:
        js = ("panel/backtest.js",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[BacktestRun]:
        # Of a list, and of who asks each second how far it is, no report is read.
        rows = backtests_seen_by(request.user).defer("result").annotate(opened=F("result__openings_count"))
        return rows.order_by(*self.get_ordering(request))

    def get_ordering(self, request: HttpRequest) -> list[str]:
        return ["-requested_at"]

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("rules.view_rule")

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_try_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request) and request.user.has_perm("rules.change_rule")

    def get_urls(self) -> list[Any]:
        def guarded(view: Any) -> Any:
            return self.admin_site.admin_view(view)

        own = [
            path("try/<str:rule_id>/", guarded(self.try_view), name="backtests_backtestrun_try"),
            path("<path:object_id>/status/", guarded(self.status_view), name="backtests_backtestrun_status"),
        ]
        return own + super().get_urls()

    # What is asked for.

    def try_view(self, request: HttpRequest, rule_id: str) -> HttpResponse:
        """Ask for the range and the form, then for the backtest. A foreign rule is one that does not exist."""
        if not self.has_try_permission(request):
            raise PermissionDenied
        rule = rules_seen_by(request.user).filter(pk=rule_id).first() if rule_id.isdecimal() else None
        if rule is None:
            raise Http404
        version = newest_versions([rule.pk]).get(rule.pk)
        document = version.document if version is not None else {}
        # Posted by the form of the rule, with what stands there unsaved.
        from_form = request.method == "POST" and "from_form" in request.POST
        said = RuleForm(request.POST, instance=rules_seen_by(request.user).get(pk=rule.pk)) if from_form else None
        if said is not None:
            said.is_valid()
            document = said.spec.document() if said.spec is not None else document
        stored = _stored(document, owner_id=rule.owner_id)
        form = TryForm(None if from_form else request.POST or None, initial=_initial(request, document, stored))
        if not from_form and request.method == "POST" and form.is_valid():
            try:
                run = runs.request_backtest(owner=request.user, rule=rule, **form.cleaned_data, now=timezone.now())
                return HttpResponseRedirect(_address(run))
            except runs.RunRefused as refusal:
                form.add_error(None, str(refusal))
        earlier = self.get_queryset(request).filter(rule=rule)[:RUNS_SHOWN]
        context = {
            **self.admin_site.each_context(request),
            "title": f"Try “{rule}” on the past",
            "opts": self.opts,
            "rule": rule,
            "text": describe_document(document),
            "faults": [] if said is None else [said.placed(fault)[1] for fault in said.faults],
            "is_changed": said is not None and said.spec is not None,
            "stored": stored,
            "presets": PRESETS_DAYS if stored else (),
            "form": form,
            "tables": [
                Table(
                    title="Tried before",
                    headers=[in_zone("asked for"), in_zone("from"), in_zone("to"), "status", "found"],
                    rows=[
                        [
                            *(_link(_address(one), show_time(one.requested_at, with_zone=False)), one.since, one.until),
                            *(one.get_status_display(), self.found(one)),
                        ]
                        for one in earlier
                    ],
                    empty="This rule has not been tried on the past yet.",
                )
            ],
        }
        return TemplateResponse(request, "panel/backtest_form.html", context)

    @admin.action(description="Cancel", permissions=["try"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[BacktestRun]) -> HttpResponse | None:
        """Let what waits or runs go no further."""
        found = list(queryset)
        stopped = [run for run in found if runs.cancel_backtest(run_id=run.pk)]
        if stopped:
            self.say_done(request, f"{counted(len(stopped), 'backtest')} cancelled. One that runs stops in seconds.")
        else:
            self.say_refused(request, "Nothing was waiting or running there: nothing is changed.")
        return self.after(request, found)

    # What was found.

    def buttons_for(self, request: HttpRequest, row: BacktestRun) -> list[str]:
        return [] if row.is_over or row.cancel_requested else ["cancel"]

    def status_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Return the progress of a run, for the progress bar. JSON."""
        run = self.get_object(request, object_id) if self.has_view_permission(request) else None
        if run is None:
            raise Http404
        return JsonResponse({"status": run.status, "percent": run.progress_percent, "over": run.is_over})

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, obj: Any = None, **kwargs: Any
    ) -> HttpResponse:
        if obj is not None:
            report = obj.result
            context |= {
                "run": obj,
                "failure": describe_failure(obj.failure, obj.failure_data, reader=active_reader()),
                "sentences": _sentences(report) if report else [],
                "errors_said": report["errors"] if report else [],
                "bars": bars_of(report, obj.document) if report else [],
                "assets": _assets_offered(report) if report else [],
                "asset": _asset_chosen(request, report) if report else None,
                "may_try": self.has_try_permission(request) and obj.rule.deleted_at is None,
            }
        return super().render_change_form(request, context, *args, obj=obj, **kwargs)

    def charts_for(self, request: HttpRequest, row: BacktestRun) -> list[Chart]:
        symbol = _asset_chosen(request, row.result) if row.result else None
        asset = assets_named([symbol], owner_id=row.rule.owner_id).get(symbol) if symbol else None
        if asset is None:
            return []
        return [chart_of_report(row.result, asset_id=asset.pk, symbol=asset.symbol)]

    def tables(self, row: BacktestRun) -> list[Table]:
        report = row.result
        if not report:
            return []
        openings = report["openings"][:OPENINGS_SHOWN]
        more = report["openings_count"] - len(openings)
        summaries = describe_openings(openings, document=row.document, reader=active_reader())
        total = sum(report["seconds_in_state"].values())
        return [
            Table(
                title=f"Openings (the first {len(openings)}, and {show_number(more)} more)" if more else "Openings",
                headers=[in_zone("opened"), "what was seen", in_zone("resolved"), "because"],
                rows=[
                    [
                        *(datetime.fromisoformat(one["opened_at"]), summary),
                        datetime.fromisoformat(over) if (over := one["resolved_at"]) else "still open at the end",
                        describe_reason(one["resolved_because"]),
                    ]
                    for one, summary in zip(openings, summaries, strict=True)
                ],
                empty="It would have opened nothing. What other thresholds would have done stands below.",
            ),
            Table(
                title="At other thresholds",
                headers=["threshold", "would have opened", "messages to each channel"],
                rows=[
                    [
                        threshold_text(row.document, one["threshold"]),
                        counted(one["openings"], "alert"),
                        show_number(one["messages"]),
                    ]
                    for one in report["sweep"]
                ],
                empty="The condition has no threshold to change.",
            ),
            Table(
                title="Time in each state, over all assets",
                headers=["state", "time", "part"],
                rows=[
                    [state, span_text(seconds), show_percent(str(round(100 * seconds / total, 1))) if total else ""]
                    for state, seconds in report["seconds_in_state"].items()
                ],
                empty="Nothing was evaluated.",
            ),
        ]

    @admin.display(description="rule")
    def rule_link(self, run: BacktestRun) -> str:
        return _link(reverse("admin:rules_rule_change", args=[run.rule_id]), str(run.rule))

    @admin.display(description="what was tried")
    def describe(self, run: BacktestRun) -> str:
        return describe_document(run.document)

    @admin.display(description=in_zone("on the quotes"))
    def describe_range(self, run: BacktestRun) -> str:
        length = span_text((run.until - run.since).total_seconds())
        return f"{write_time(run.since, with_zone=False)} to {write_time(run.until, with_zone=False)}, {length}"

    @admin.display(description=in_zone("asked for"), ordering="requested_at")
    def asked_for(self, run: BacktestRun) -> Any:
        return show_time(run.requested_at, with_zone=False)

    @admin.display(description=in_zone("started"), empty_value="not yet")
    def started(self, run: BacktestRun) -> Any:
        return run.started_at and show_time(run.started_at, with_zone=False)

    @admin.display(description=in_zone("over"), empty_value="not yet")
    def finished(self, run: BacktestRun) -> Any:
        return run.finished_at and show_time(run.finished_at, with_zone=False)

    @display(
        description="status",
        label={"done": "success", "failed": "danger", "running": "info", "waiting": "info", "cancelled": "warning"},
        ordering="status",
    )
    def status_label(self, run: BacktestRun) -> str:
        return run.get_status_display()

    @admin.display(description="found")
    def found(self, run: BacktestRun) -> str:
        if run.failure:
            return describe_failure(run.failure, run.failure_data, reader=active_reader())
        opened = run.opened  # type: ignore[attr-defined]
        return "" if opened is None else counted(opened, "opening")


def _stored(document: Any, *, owner_id: int) -> tuple[datetime, datetime] | None:
    try:
        return runs.stored_range(RuleSpec.read(document), owner_id=owner_id)
    except RuleInvalid:
        return None


def _initial(request: HttpRequest, document: Any, stored: tuple[datetime, datetime] | None) -> dict[str, Any]:
    """Return what the form begins with: the newest of what is stored, of as many days as were chosen."""
    written = write_yaml(document)
    if stored is None:
        return {"document": written}
    first, last = stored
    chosen = request.GET.get("days", "")
    days = int(chosen) if chosen in {str(one) for one in PRESETS_DAYS} else LONGEST_DAYS
    return {"document": written, "since": max(first, last - timedelta(days=days)), "until": last}


def _sentences(report: dict[str, Any]) -> list[str]:
    """Return what was found, the sum first."""
    count = report["openings_count"]
    said = [
        f"It would have opened {counted(count, 'alert')} on {show_number(len(report['openings_by_asset']))} of "
        f"{counted(report['assets_count'], 'asset')}, and sent {counted(report['messages'], 'message')} to each "
        f"channel, in {show_number(report['quotes'])} quotes."
    ]
    if report["suppressed"]:
        said.append(f"{counted(report['suppressed'], 'opening')} more were kept silent by the cooldown.")
    if count > len(report["openings"]):
        kept = show_number(len(report["openings"]))
        said.append(f"Only the first {kept} openings are kept with what they saw; all are counted.")
    if not report["quotes"]:
        said.append("No quotes are stored of that while.")
    if report["errors_count"]:
        said.append(f"Evaluating raised {counted(report['errors_count'], 'time')}: there the rule would be in ERROR.")
    return said


def _assets_offered(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Return (symbol, words) of the assets to choose from, those with the most openings first."""
    opened = report["openings_by_asset"]
    symbols = [*sorted(opened, key=lambda symbol: (-opened[symbol], symbol))]
    symbols += [symbol for symbol in report["assets"] if symbol not in opened]
    return [(symbol, f"{symbol}: {counted(opened.get(symbol, 0), 'opening')}") for symbol in symbols[:ASSETS_OFFERED]]


def _asset_chosen(request: HttpRequest, report: dict[str, Any]) -> str | None:
    symbols = [symbol for symbol, _ in _assets_offered(report)]
    chosen = request.GET.get("asset", "")
    return chosen if chosen in symbols else next(iter(symbols), None)


def _address(run: BacktestRun) -> str:
    return reverse("admin:backtests_backtestrun_change", args=[run.pk])


def _link(address: str, text: str) -> SafeString:
    return format_html('<a class="text-primary-600 dark:text-primary-500" href="{}">{}</a>', address, text)
