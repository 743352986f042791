"""The form of a derived series: what it computes, and of which legs."""

import re
from dataclasses import dataclass, field
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.http import QueryDict

from apps.market.derived.making import define
from apps.market.derived.series import LEGS_MOST, Definition, Kind, SeriesInvalid, Written, read_written
from apps.market.models import Asset
from apps.market.queries import assets_named
from apps.notation import write_duration
from apps.site.once import OnceForm
from apps.typed import read_typed_duration, read_typed_number, write_typed_number
from apps.wording import format_plain

KINDS = [
    (Kind.RATIO.value, "ratio: the first divided by the second"),
    (Kind.SPREAD.value, "spread: the first minus the second"),
    (Kind.BASKET.value, "basket: the sum of each times its weight"),
]
ROWS_LEAST = 2
# The parts of a leg: what the form calls them, in the written form.
PARTS = ("asset", "weight", "max_skew")
_READ = {"weight": read_typed_number, "max_skew": read_typed_duration}
_PLACE = re.compile(r"legs\[(\d+)\](?:\.(\w+))?")


@dataclass(slots=True)
class LegRow:
    """A line of the form, as it is typed, and what is wrong with it: part -> text."""

    asset: str = ""
    weight: str = ""
    max_skew: str = ""
    errors: dict[str, str] = field(default_factory=dict)


class SeriesForm(OnceForm):
    """A derived series as people write it. After is_valid: `written`, `definition` and `currencies`, those of its legs.
    rows: its legs, of which blank ones do not count; legs_errors: what is wrong with them together.

    owner_id: whose it is; asset: the series that is changed, whose name stays as it is.
    """

    symbol = forms.CharField(max_length=64, help_text="What it is called here, like ETH-BTC.")
    name = forms.CharField(max_length=128, required=False, label="Name (optional)", help_text="In words.")
    currency = forms.CharField(
        max_length=12,
        required=False,
        label="Currency (optional)",
        help_text="What its value is in, like USD. A ratio of two prices in one currency has none.",
    )
    kind = forms.ChoiceField(choices=KINDS, label="What it computes")

    def __init__(
        self, data: QueryDict | None = None, *, owner_id: int | None, asset: Asset | None = None, **kwargs: Any
    ) -> None:
        super().__init__(data, **kwargs)
        self._owner_id, self._asset = owner_id, asset
        self.legs_errors: list[str] = []
        self.written: Written | None = None
        self.definition: Definition | None = None
        self.currencies: list[str] = []
        if asset is not None:
            # To change twice is to change once.
            for name in ("symbol", "name", "currency", "key"):
                del self.fields[name]
        if data is not None:
            columns = [data.getlist(part)[:LEGS_MOST] for part in PARTS]
            count = max(map(len, columns))
            self.rows = [LegRow(*(column[n] if n < len(column) else "" for column in columns)) for n in range(count)]
        elif asset is not None:
            self._read_stored(Definition.of_document(asset.series.document))  # type: ignore[attr-defined]
        else:
            self.rows = []
        while len(self.rows) < ROWS_LEAST:
            self.rows.append(LegRow())

    def _read_stored(self, stored: Definition) -> None:
        named = {leg.asset_id: leg.asset for leg in self._asset.series.legs.select_related("asset")}  # type: ignore[union-attr]
        self.initial["kind"] = stored.kind.value
        self.rows = [
            LegRow(
                named[leg.asset_id].symbol,
                write_typed_number(format_plain(leg.weight)) if stored.kind == Kind.BASKET else "",
                write_duration(leg.max_skew),
            )
            for leg in stored.legs
        ]

    @property
    def typed_legs(self) -> list[list[str]]:
        """The legs as they are typed."""
        return [[getattr(row, part) for part in PARTS] for row in self.rows]

    def add_row(self) -> None:
        """Offer one more leg."""
        if len(self.rows) < LEGS_MOST:
            self.rows.append(LegRow())

    def clean_symbol(self) -> str:
        return str(self.cleaned_data["symbol"]).strip().upper()

    def clean_currency(self) -> str:
        return str(self.cleaned_data["currency"]).strip().upper()

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if "kind" not in cleaned:
            return cleaned
        try:
            document = {"kind": cleaned["kind"], "legs": self._legs(cleaned["kind"])}
            if any(row.errors for row in self.rows):
                raise ValidationError("")
            self.written = read_written(document)
            self.definition = define(self.written, owner_id=self._owner_id, asset=self._asset)
            named = assets_named([leg.symbol for leg in self.written.legs], owner_id=self._owner_id)
            self.currencies = sorted({one.currency for one in named.values() if one.currency})
        except SeriesInvalid as error:
            self.note(error)
        except ValidationError:
            self._refuse()
        return cleaned

    def _used(self) -> list[LegRow]:
        return [row for row in self.rows if any(getattr(row, part).strip() for part in PARTS)]

    def _legs(self, kind: str) -> list[dict[str, str]]:
        legs = []
        for row in self._used():
            leg = {"asset": row.asset.strip().upper()}
            if not leg["asset"]:
                row.errors["asset"] = "Choose an asset."
            for part, read in _READ.items():
                typed = getattr(row, part).strip()
                if not typed or (part == "weight" and kind != Kind.BASKET):
                    continue
                try:
                    leg[part] = read(typed)
                except ValueError as error:
                    row.errors[part] = f"{typed[:40]} {error}."
            legs.append(leg)
        return legs

    def note(self, error: SeriesInvalid) -> None:
        """Put what is wrong beside its field. The form is invalid from then on."""
        text = f"{error.what[:1].upper()}{error.what[1:]}."
        place, used = _PLACE.fullmatch(error.place), self._used()
        if error.place in self.fields:
            self.add_error(error.place, text)
            return
        if place is not None and int(place[1]) < len(used):
            used[int(place[1])].errors[place[2] or "asset"] = text
        else:
            self.legs_errors.append(text)
        self._refuse()

    def _refuse(self) -> None:
        # Its text stands beside the legs, which are no fields of Django's.
        self.add_error(None, ValidationError("See the legs below.", code="legs"))

    def texts(self) -> list[dict[str, Any]]:
        """Return each error with its field, and the number of its row where it is about a leg."""
        found = [
            {"field": name, "row": None, "text": text}
            for name, errors in self.errors.items()
            for text in errors
            if name != "__all__"
        ]
        found += [{"field": "legs", "row": None, "text": text} for text in self.legs_errors]
        return found + [
            {"field": part, "row": number, "text": text}
            for number, row in enumerate(self.rows)
            for part, text in row.errors.items()
        ]
