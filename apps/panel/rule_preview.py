"""What the form of a rule says while it is filled in. Nothing is saved."""

from typing import Any

from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.urls import URLPattern, path
from django.utils import timezone

from apps.backtests.glimpses import NothingToSee, glimpse
from apps.notify.services import TestRefused, sample_opening, send_sample
from apps.panel.backtest_report import chart_of_report, counted, span_text, threshold_text
from apps.panel.kit.pages import ROWS_SHOWN, PageAdmin
from apps.panel.rule_form import LONGEST_CONDITION, DraftField, build_condition, linked, write_condition
from apps.reader import TO_MINUTES, active_reader, write_time
from apps.rules import queries
from apps.rules.domain import describe_rule
from apps.rules.engine.written import RuleInvalid
from apps.rules.models import Rule


class RulePreview(PageAdmin):
    """The addresses that the scripts of the form ask. Each takes what the form would post, and answers in JSON."""

    def preview_urls(self) -> list[URLPattern]:
        """Return the addresses."""
        wrap = self.admin_site.admin_view
        return [
            path("condition/", wrap(self.condition_view), name="rules_rule_condition"),
            path("past/", wrap(self.past_view), name="rules_rule_past"),
            path("preview/", wrap(self.preview), name="rules_rule_preview"),
            path("sample/", wrap(self.sample_view), name="rules_rule_sample"),
        ]

    def _refuse_readers(self, request: HttpRequest) -> HttpResponse | None:
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not (self.has_add_permission(request) or self.has_change_permission(request)):
            raise PermissionDenied
        return None

    def condition_view(self, request: HttpRequest) -> HttpResponse:
        """Return a condition that was built in the written form, or the other way round; or why not. JSON."""
        refused = self._refuse_readers(request)
        if refused is not None:
            return refused
        try:
            built = DraftField(max_length=LONGEST_CONDITION, required=False).clean(request.POST.get("built", ""))
            if built:
                return JsonResponse({"written": write_condition(built)})
            return JsonResponse({"built": build_condition(request.POST.get("written", "")[:LONGEST_CONDITION])})
        except RuleInvalid as error:
            return JsonResponse({"error": f"{error.path_within or 'The condition'} {error.message}."})
        except ValidationError as error:
            return JsonResponse({"error": error.messages[0]})

    def preview(self, request: HttpRequest) -> HttpResponse:
        """Return what the form would save: in words, with what is wrong, and from when it can be evaluated. JSON."""
        refused = self._refuse_readers(request)
        if refused is not None:
            return refused
        form = self.get_form(request)(request.POST)
        form.is_valid()
        answer: dict[str, Any] = {"summary": form.describe(), "assets": [], "more": 0, "warnings": []}
        if form.spec is not None:
            off = "" if form.spec.enabled else " (disabled)"
            answer["summary"] = describe_rule(form.spec, reader=active_reader()) + off
            prospect = queries.first_evaluated(form.spec, owner_id=form.owner.pk, reader=active_reader())
            answer["warnings"] = [*(f"{asset.symbol}: {why}" for asset, why in prospect.unfit), *prospect.warnings]
            answer["assets"] = [
                {"symbol": one.asset.symbol, "is_known": one.outlook.is_known, "summary": one.outlook.summary}
                for one in prospect.assets
            ]
            answer["more"] = prospect.count - len(prospect.assets)
        answer |= {"read": form.what_was_read(), "is_whole": form.spec is not None}
        placed = [(*form.placed(fault), fault) for fault in form.faults]
        answer["errors"] = [
            {"field": field, "path": fault.path_within if field == "written" else "", "message": message}
            for field, message, fault in placed
        ]
        known = {linked(message) for _, message, _ in placed}
        answer["errors"] += [
            {"field": field, "path": "", "message": message}
            for field, messages in form.errors.items()
            # A name is no part of what a rule means, and the form of a rule that is there knows its own.
            if field not in ("name", "severity", "__all__")
            for message in messages
            if message not in known
        ]
        return JsonResponse(answer)

    def past_view(self, request: HttpRequest) -> HttpResponse:
        """Return what the rule of the form would have done on the newest prices of one of its assets. JSON."""
        refused = self._refuse_readers(request)
        if refused is not None:
            return refused
        form = self.get_form(request)(request.POST)
        form.is_valid()
        if form.spec is None:
            return JsonResponse({"refusal": ""})
        try:
            seen = glimpse(form.spec, owner_id=form.owner.pk, symbol=request.POST.get("past_asset", ""))
        except NothingToSee as refusal:
            return JsonResponse({"refusal": str(refusal)})
        chart = chart_of_report(seen.report, asset_id=seen.asset.pk, symbol=seen.asset.symbol)
        length, count = span_text((seen.until - seen.since).total_seconds()), len(seen.report["openings"])
        return JsonResponse(
            {
                "sentence": f"In the {length} up to {write_time(seen.until, TO_MINUTES)} it would have opened "
                f"{counted(count, 'alert')} on {seen.asset.symbol}: {_per_week(seen.per_week(count))} a week.",
                "symbol": seen.asset.symbol,
                "symbols": seen.symbols,
                "description": chart.describe() if chart.path else chart.empty,
                "chart": chart.data() if chart.path else None,
                "others": [
                    f"{threshold_text(form.spec.document(), one['threshold'])}: {counted(one['openings'], 'alert')}, "
                    f"{_per_week(seen.per_week(one['openings']))} a week"
                    for one in seen.report["sweep"]
                ],
            }
        )

    def sample_view(self, request: HttpRequest) -> HttpResponse:
        """Send an example of an alert of the rule of the form to the channels that are chosen there. JSON."""
        refused = self._refuse_readers(request)
        if refused is not None:
            return refused
        # The channels are those of the rule's owner.
        rule = self.get_object(request, request.GET["rule"]) if "rule" in request.GET else None
        if rule is not None and not self.has_change_permission(request, rule):
            raise PermissionDenied
        form = self.get_form(request)(request.POST, instance=rule)
        form.is_valid()
        channels = list(form.cleaned_data.get("channels", ())[:ROWS_SHOWN]) if form.spec is not None else []
        if form.spec is None:
            return JsonResponse({"said": ["Fill in the rule first."]})
        if not channels:
            return JsonResponse({"said": ["Choose a channel first."]})
        said, owner, now = [], rule.owner if rule else request.user, timezone.now()
        name, severity = (form.cleaned_data.get(key) for key in ("name", "severity"))
        event = sample_opening(
            owner=owner, name=name or "A new rule", severity=severity or Rule.Severity.WARNING, spec=form.spec, now=now
        )
        for channel in channels:
            try:
                send_sample(channel=channel, event=event, asked_by=request.user.get_username(), now=now)
                said.append(f"{channel.name}: queued; it should arrive within a few seconds. Messages shows each try.")
            except TestRefused as refusal:
                said.append(str(refusal))
        return JsonResponse({"said": said})


def _per_week(count: float) -> str:
    """Return about how many a week, as people say it."""
    return "none" if not count else f"about {count:.0f}" if count >= 1 else "less than one"
