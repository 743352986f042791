"""Choosing assets by typing: the list that a field asks for, best match first, and the field's widget."""

from django import forms
from django.contrib.admin.views.autocomplete import AutocompleteJsonView
from django.contrib.admin.widgets import AutocompleteSelectMultiple
from django.db.models import QuerySet
from django.urls import reverse

from apps.market.models import Asset
from apps.market.queries import ranked


class AssetPicker(AutocompleteJsonView):
    """Gives assets by symbol, name and alias, ranked, each with its symbol and name."""

    def get_queryset(self) -> QuerySet[Asset]:
        return ranked(super().get_queryset(), self.term.strip())

    def serialize_result(self, obj: Asset, to_field_name: str) -> dict[str, str]:
        return {"id": str(obj.pk), "text": describe_choice(obj)}


class AssetPickerWidget(AutocompleteSelectMultiple):
    """A field of several assets that asks AssetPicker."""

    def get_url(self) -> str:
        return reverse("admin:market_asset_pick")


def describe_choice(asset: Asset) -> str:
    """Return how an asset is offered: "BTC-USD · Bitcoin"."""
    return f"{asset.symbol} · {asset.name}" if asset.name else asset.symbol


class AssetsField(forms.ModelMultipleChoiceField):
    """Several assets, each shown as the picker offers it."""

    def label_from_instance(self, asset: Asset) -> str:
        return describe_choice(asset)
