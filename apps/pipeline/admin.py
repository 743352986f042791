"""An asset's page that moves it to another feed. It stands here, since a move concerns logs, rules and alerts."""

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.forms import BaseModelForm
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone

from apps.alerts.admin import WatchedAssetAdmin
from apps.market.models import Asset, Feed
from apps.market.services import AssetStays, refuse_to_move
from apps.pipeline.flow import move_asset


class MovingAssetForm(forms.ModelForm):
    """Says beside the field why an asset cannot move now."""

    def clean_feed(self) -> Feed | None:
        feed: Feed | None = self.cleaned_data["feed"]
        if self.instance.pk is not None and "feed" in self.changed_data:
            try:
                refuse_to_move(Asset.objects.select_related("feed").get(pk=self.instance.pk), feed=feed)
            except AssetStays as stays:
                raise ValidationError(str(stays)) from None
        return feed


admin.site.unregister(Asset)


@admin.register(Asset)
class MovingAssetAdmin(WatchedAssetAdmin):
    """An asset's page, whose feed may be changed."""

    form = MovingAssetForm

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except AssetStays as stays:
            # Between the form's check and the locks something has come; nothing was saved.
            self.say_refused(request, str(stays))
            return HttpResponseRedirect(request.path)

    def save_model(self, request: HttpRequest, obj: Asset, form: BaseModelForm, change: bool) -> None:
        """Move it first, by the service that takes the rules on it along."""
        if change and "feed" in form.changed_data:
            move_asset(asset_id=obj.pk, feed_id=obj.feed_id, now=timezone.now())
        super().save_model(request, obj, form, change)
