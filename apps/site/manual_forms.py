"""The forms of manual assets: what they are called, and their prices."""

import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone

from apps.market.domain import EARLIEST, QuoteRejected, RawQuote, admit_price
from apps.market.models import Asset
from apps.market.quote_files import LeftOut, QuoteFileInvalid, end_of_day, in_order, rows_of
from apps.notation import read_number
from apps.portfolios.domain.tables import BYTES_LARGEST
from apps.site.once import OnceForm
from apps.typed import read_typed_number

QUOTES_MOST = 50_000


class ManualAssetForm(OnceForm):
    """A manual asset that is made."""

    symbol = forms.CharField(max_length=64, help_text="What it is called here, like HOUSE or FUND-A.")
    name = forms.CharField(max_length=128, required=False, label="Name (optional)", help_text="In words.")
    currency = forms.CharField(max_length=12, help_text="What its prices are in, like EUR.")

    def clean_symbol(self) -> str:
        return str(self.cleaned_data["symbol"]).strip().upper()

    def clean_currency(self) -> str:
        return str(self.cleaned_data["currency"]).strip().upper()

    def save(self, store: Callable[..., Asset]) -> Asset | None:
        """Return what `store(**columns)` gives; None where something is wrong, with that beside the fields."""
        if not self.is_valid():
            return None
        try:
            return store(**{name: self.cleaned_data[name] for name in ("symbol", "name", "currency")})
        except ValidationError as error:
            by_field = error.message_dict if hasattr(error, "error_dict") else {"": error.messages}
            for name, texts in by_field.items():
                self.add_error(name if name in self.fields else None, texts)  # type: ignore[arg-type]
        return None


class PriceForm(forms.Form):
    """One price of one day."""

    day = forms.DateField(widget=forms.DateInput(attrs={"type": "date"}), help_text="A day in UTC.")
    price = forms.CharField(max_length=64, help_text="Of one unit. A price of a day takes the place of the one before.")

    def __init__(self, *args: Any, now: datetime) -> None:
        super().__init__(*args)
        self._now = now
        self.fields["day"].initial = now.astimezone(UTC).date()

    def clean_day(self) -> date:
        day: date = self.cleaned_data["day"]
        if not EARLIEST.date() <= day <= self._now.astimezone(UTC).date():
            raise ValidationError(f"It must be from {EARLIEST.year} on, and not in the future.")
        return day

    def clean_price(self) -> Decimal:
        typed = self.cleaned_data["price"]
        try:
            return admit_price(read_number(read_typed_number(typed)))
        except ValueError as error:
            raise ValidationError(f"{typed[:40]} {error}.") from None
        except QuoteRejected:
            raise ValidationError(f"{typed[:40]} is not from 1e-15 to 1e12.") from None

    def quotes(self, symbol: str) -> list[RawQuote]:
        """Return the price as it is stored."""
        at = end_of_day(self.cleaned_data["day"], now=self._now)
        return [RawQuote(symbol, self.cleaned_data["price"], at, None)]


class PriceFileForm(forms.Form):
    """A CSV file of prices of one asset. All of its rows are right, or it is refused with what is wrong."""

    file = forms.FileField(
        help_text="CSV with the columns date (like 2024-01-31) or time, and price; at most 5 MB and 50 000 rows. A "
        "price takes the place of the one that is stored at its time."
    )

    def __init__(self, *args: Any, symbol: str, now: datetime | None = None) -> None:
        super().__init__(*args)
        self._symbol, self._now = symbol, now or timezone.now()
        self._quotes: list[RawQuote] = []

    def clean_file(self) -> Any:
        file = self.cleaned_data["file"]
        if file.size > BYTES_LARGEST:
            raise ValidationError("The file has more than 5 MB; split it.")
        left_out = LeftOut()
        try:
            for quote in self._read(file.read(), left_out):
                self._quotes.append(quote)
                if len(self._quotes) > QUOTES_MOST:
                    raise ValidationError(f"The file has more than {QUOTES_MOST} rows; split it.")
        except QuoteFileInvalid as error:
            raise ValidationError(f"{error}.") from None
        if left_out.wrong:
            raise ValidationError(["Nothing is stored.", *left_out.describe()])
        return file

    def _read(self, content: bytes, left_out: LeftOut) -> Iterator[RawQuote]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "prices.csv"
            path.write_bytes(content)
            yield from left_out.quotes_of(rows_of(path, now=self._now, skip_invalid=True, of=self._symbol))

    def quotes(self, symbol: str) -> list[RawQuote]:
        """Return the prices as they are stored."""
        return in_order(self._quotes)
