"""A rule's form with its channels. It stands here, since rules know nothing of telling."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.forms import BaseModelForm
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from apps.market.admin import ROWS_SHOWN
from apps.market.models import Asset
from apps.notify.admin.holds import holds_in_words
from apps.notify.admin.silences import silence_form_for
from apps.notify.admin.telling import telling_beside
from apps.notify.models import Channel
from apps.notify.services import last_opening, set_channels, would_send
from apps.rules.admin import Beside, RuleAdmin, RuleForm
from apps.rules.models import Rule
from apps.rules.why import Why

NO_CHANNELS = (
    'There are none yet to choose from: <a class="text-primary-600 dark:text-primary-500" href="{}">add one</a> first. '
    "Without one an alert is recorded, and nobody is told."
)


class ToldRuleForm(RuleForm):
    """Offers the channels of the rule's owner, and no others."""

    channels = forms.ModelMultipleChoiceField(
        queryset=Channel.objects.none(),
        required=False,
        label="Channels",
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="Who is told when it fires. None: the alert is recorded, and nobody is told.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "channels" not in self.fields:
            return
        owner = self.instance.owner if self.instance.pk is not None else self.user
        own = Channel.objects.filter(owner=owner).order_by("name")
        self.fields["channels"].queryset = own  # type: ignore[attr-defined]
        if not own:
            self.fields["channels"].help_text = format_html(NO_CHANNELS, reverse("admin:notify_channel_add"))
        if self.instance.pk is not None:
            self.initial.setdefault("channels", own.filter(rule_channels__rule=self.instance))


admin.site.unregister(Rule)


@admin.register(Rule)
class ToldRuleAdmin(RuleAdmin):
    """Channels change freely: no new version comes of it."""

    actions = [*RuleAdmin.actions, "would_send", "silence"]
    buttons = actions
    form = ToldRuleForm

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("<int:rule_id>/would-send/", wrap(self.would_send_view), name="rules_rule_would_send"),
            *super().get_urls(),
        ]

    def has_silence_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("notify.add_silence")

    def buttons_for(self, request: HttpRequest, row: Rule) -> Sequence[str]:
        more = ["would_send", "silence"] if row.deleted_at is None else []
        return [*super().buttons_for(request, row), *more]

    @admin.action(description="Show what would be sent", permissions=["view"])
    def would_send(self, request: HttpRequest, queryset: QuerySet[Rule]) -> HttpResponse | None:
        """Open the page that shows a rule's last alert as each of its channels would be told of it."""
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
        channels = Channel.objects.filter(rule_channels__rule=rule).order_by("name")[:ROWS_SHOWN]
        shown = [would_send(channel=channel, event=event, now=now) for channel in channels]
        context = {
            **self.admin_site.each_context(request),
            "title": f"What would be sent: {rule.name}",
            "opts": self.opts,
            "rule": rule,
            "is_example": not event.pk,
            "alert": event.alert,
            "shown": [(one, holds_in_words(one, now=now)) for one in shown],
        }
        return TemplateResponse(request, "notify/would_send.html", context)

    def why_beside(
        self, request: HttpRequest, answer: Why, *, rule: Rule, asset: Asset, at: datetime | None, now: datetime
    ) -> Beside | None:
        return telling_beside(request, answer, rule=rule, asset=asset, at=at, now=now)

    def extra_fieldsets(self, request: HttpRequest, obj: Rule | None) -> list[Any]:
        return [("Who is told", {"fields": ["channels"]})]

    def copied(self, rule: Rule) -> dict[str, Any]:
        own = Channel.objects.filter(rule_channels__rule=rule).values_list("pk", flat=True)
        return super().copied(rule) | {"channels": list(own)}

    def save_related(self, request: HttpRequest, form: BaseModelForm, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        set_channels(rule=form.instance, channels=list(form.cleaned_data["channels"]))
