"""The page that answers why a rule did or did not fire."""

from datetime import timedelta
from typing import Any

from django import forms
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from apps.health.queries import asset_healths
from apps.health.wording import written_for
from apps.market.models import Asset
from apps.panel.kit.addresses import SiteAdmin
from apps.panel.kit.owned import describe_document
from apps.panel.why_notified import notified_beside
from apps.reader import active_reader, in_zone, show_prices, show_time, write_time
from apps.rules import queries
from apps.rules.models import Rule
from apps.rules.why import Why, WhyRefused, why


class WhyForm(forms.Form):
    """Which asset, and when."""

    asset = forms.ModelChoiceField(queryset=Asset.objects.none(), widget=UnfoldAdminSelectWidget)
    at = forms.DateTimeField(
        required=False,
        label=in_zone("At, by the feed's clock"),
        help_text="Blank: now, as far as the log is evaluated.",
        widget=UnfoldAdminTextInputWidget(attrs={"type": "datetime-local", "step": "1"}),
    )

    def __init__(self, *args: Any, rule: Rule, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        watched = queries.assets_ever_watched(rule)
        self.fields["asset"].queryset = watched  # type: ignore[attr-defined]
        first_two = [asset.pk for asset in watched[:2]]
        if len(first_two) == 1:
            self.initial["asset"] = first_two[0]


class WhyPage(SiteAdmin):
    """A page of rules that can be asked."""

    def why_view(self, request: HttpRequest, rule_id: int) -> HttpResponse:
        """Answer why the rule did or did not fire on one asset at one moment."""
        rule = self.get_object(request, str(rule_id))
        if rule is None:
            raise Http404
        if not self.has_view_permission(request, rule):
            raise PermissionDenied
        form = WhyForm(request.GET if "asset" in request.GET else None, rule=rule)
        answer, refusal, beside, health = None, "", None, None
        if form.is_valid():
            asset, at = form.cleaned_data["asset"], form.cleaned_data["at"]
            now = timezone.now()
            # Of the past it is not known how the feed was.
            if at is None:
                health = written_for(asset_healths([asset.pk], now=now)[asset.pk], reader=active_reader())
            if at is not None and at <= now:
                # The field takes whole seconds: what happened within this one has happened.
                at = min(at + timedelta(microseconds=999_999), now)
            try:
                answer = why(request.user, rule=rule, asset=asset, at=at, now=now, reader=active_reader())
                beside = notified_beside(request, answer, rule=rule, asset=asset, at=at, now=now)
            except WhyRefused as error:
                refusal = str(error)
        context = {
            **self.admin_site.each_context(request),
            "title": f"Why? {rule.name}",
            "opts": self.opts,
            "rule": rule,
            "text": describe_document(rule.newest_document),  # type: ignore[attr-defined]
            "form": form,
            "answer": answer,
            "facts": {"rows": [list(fact) for fact in _facts(answer)]} if answer is not None else None,
            "lines": list(answer.tree.lines()) if answer is not None and answer.tree is not None else [],
            "refusal": refusal,
            "beside": beside,
            "health": health,
        }
        return TemplateResponse(request, "panel/why.html", context)


def _facts(answer: Why) -> list[tuple[str, Any]]:
    """Return the figures beside an answer, with their names."""
    facts: list[tuple[str, Any]] = [
        ("version", f"v{answer.version.number}: {describe_document(answer.version.document)}"),
        ("evaluated at", show_time(answer.evaluated_at) if answer.evaluated_at else "not evaluated yet"),
        ("entry of the log", f"{answer.entry}, as of {write_time(answer.entry.as_of)}"),
    ]
    quotes = [("price", answer.newest), ("price before", answer.previous)]
    known = [(name, seen) for name, seen in quotes if seen is not None]
    for (name, seen), price in zip(known, show_prices([seen.price for _, seen in known]), strict=True):
        facts.append((name, f"{price} at {write_time(seen.at)}"))
    if answer.opened_at is not None:
        facts.append(("last opening that notified", show_time(answer.opened_at)))
    return facts
