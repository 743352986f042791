"""A rule's form with its channels. It stands here, since rules know nothing of telling."""

from typing import Any

from django import forms
from django.contrib import admin
from django.forms import BaseModelForm
from django.http import HttpRequest
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from apps.notify.models import Channel
from apps.notify.services import set_channels
from apps.rules.admin import RuleAdmin, RuleForm
from apps.rules.models import Rule


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
        if self.instance.pk is not None:
            self.initial.setdefault("channels", own.filter(rule_channels__rule=self.instance))


admin.site.unregister(Rule)


@admin.register(Rule)
class ToldRuleAdmin(RuleAdmin):
    """Channels change freely: no new version comes of it."""

    form = ToldRuleForm

    def extra_fieldsets(self, request: HttpRequest, obj: Rule | None) -> list[Any]:
        return [("Who is told", {"fields": ["channels"]})]

    def copied(self, rule: Rule) -> dict[str, Any]:
        own = Channel.objects.filter(rule_channels__rule=rule).values_list("pk", flat=True)
        return super().copied(rule) | {"channels": list(own)}

    def save_related(self, request: HttpRequest, form: BaseModelForm, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        set_channels(rule=form.instance, channels=list(form.cleaned_data["channels"]))
