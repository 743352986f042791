"""What the form of a rule says while it is filled in. Nothing is saved."""

from typing import Any

from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.urls import URLPattern, path

from apps.panel.kit.pages import PageAdmin
from apps.panel.rule_form import LONGEST_CONDITION, DraftField, build_condition, write_condition
from apps.rules import queries
from apps.rules.domain import describe_rule
from apps.rules.engine.written import RuleInvalid


class RulePreview(PageAdmin):
    """The addresses that the scripts of the form ask. Each takes what the form would post, and answers in JSON."""

    def preview_urls(self) -> list[URLPattern]:
        """Return the addresses."""
        wrap = self.admin_site.admin_view
        return [
            path("condition/", wrap(self.condition_view), name="rules_rule_condition"),
            path("preview/", wrap(self.preview), name="rules_rule_preview"),
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
            answer["summary"] = describe_rule(form.spec) + ("" if form.spec.enabled else " (switched off)")
            prospect = queries.first_evaluated(form.spec)
            answer["warnings"] = [*(f"{asset.symbol}: {why}" for asset, why in prospect.unfit), *prospect.warnings]
            answer["assets"] = [
                {"symbol": one.asset.symbol, "is_known": one.outlook.is_known, "summary": one.outlook.summary}
                for one in prospect.assets
            ]
            answer["more"] = prospect.count - len(prospect.assets)
        answer["read"] = form.what_was_read()
        placed = [(*form.placed(fault), fault) for fault in form.faults]
        answer["errors"] = [
            {"field": field, "path": fault.path_within if field == "written" else "", "message": message}
            for field, message, fault in placed
        ]
        known = {message for _, message, _ in placed}
        answer["errors"] += [
            {"field": field, "path": "", "message": message}
            for field, messages in form.errors.items()
            # A name is no part of what a rule means, and the form of a rule that is there knows its own.
            if field not in ("name", "severity", "__all__")
            for message in messages
            if message not in known
        ]
        return JsonResponse(answer)
