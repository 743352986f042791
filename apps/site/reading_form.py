"""What a person says about a file of transactions that the file itself does not say."""

import re
from collections.abc import Collection, Iterable
from itertools import groupby
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from apps.portfolios.domain.tables import ROWS_MOST, Choices, DateOrder
from apps.portfolios.domain.transactions import Kind
from apps.portfolios.models import Portfolio
from apps.portfolios.services import refuse_base_currency

_KINDS = [
    (Kind.BUY.value, "purchases"),
    (Kind.SELL.value, "sales"),
    (Kind.DIVIDEND.value, "dividends"),
    (Kind.INTEREST.value, "interest"),
    (Kind.FEE.value, "fees"),
]
_ORDERS = [
    ("", "choose one"),
    (DateOrder.DAY_FIRST.value, "the day first: 10/03/2023 is 10 March"),
    (DateOrder.MONTH_FIRST.value, "the month first: 10/03/2023 is October 3"),
]
_RANGE = re.compile(r"(\d{1,6})(?:\s*-\s*(\d{1,6}))?", re.ASCII)
_LONGEST = 100_000


def read_ranges(text: str) -> frozenset[int]:
    """Return the numbers of rows of a text like "3, 5-8". Raises ValueError."""
    found: set[int] = set()
    for part in filter(None, map(str.strip, text.split(","))):
        match = _RANGE.fullmatch(part)
        if match is None:
            raise ValueError(part)
        first, last = int(match[1]), int(match[2] or match[1])
        if not 1 <= first <= last <= ROWS_MOST:
            raise ValueError(part)
        found.update(range(first, last + 1))
    return frozenset(found)


def write_ranges(rows: Iterable[int]) -> str:
    """Return numbers of rows as a text like "3, 5-8"."""
    runs = [
        [row for _, row in run] for _, run in groupby(enumerate(sorted(set(rows))), key=lambda one: one[1] - one[0])
    ]
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


class ReadingForm(forms.Form):
    """How a file is read: `choices`. asks: the fields of Choices that the file leaves open; wrong: rows that are left
    out beside those that the form names."""

    currency = forms.CharField(
        label="Currency of all rows", max_length=12, help_text="The file has no column for the currency."
    )
    kind = forms.ChoiceField(
        label="All rows are",
        choices=_KINDS,
        initial=Kind.BUY.value,
        help_text="The file has no column for the kind of a transaction.",
    )
    date_order = forms.ChoiceField(
        label="Dates have",
        choices=_ORDERS,
        required=False,
        help_text="Dates of this file have two readings, and no row of it says which one is right.",
    )
    leave_out = forms.CharField(
        label="Rows to leave out",
        required=False,
        max_length=_LONGEST,
        help_text="Numbers of rows without the header, like 3, 5-8. Leave blank to record all rows or none.",
    )

    def __init__(
        self, data: Any, *, asks: Collection[str], portfolio: Portfolio, wrong: Collection[int] = frozenset()
    ) -> None:
        super().__init__(_with_ticked(data, wrong) if data is not None else None)
        for name in {"currency", "kind", "date_order"} - set(asks):
            del self.fields[name]
        if "currency" in self.fields:
            self.fields["currency"].initial = portfolio.base_currency

    def clean_currency(self) -> str:
        code: str = self.cleaned_data["currency"].strip().upper()
        try:
            refuse_base_currency(code)
        except ValidationError as error:
            raise ValidationError(error.message_dict["base_currency"]) from None
        return code

    def clean_leave_out(self) -> frozenset[int]:
        try:
            return read_ranges(self.cleaned_data["leave_out"])
        except ValueError as error:
            raise ValidationError(f"{str(error)[:40]} is no row of a file; write numbers like 3, 5-8.") from None

    @property
    def choices(self) -> Choices:
        """What the form says; what it says before anybody has changed it where it is not sent, or is wrong."""
        if self.is_bound and self.is_valid():
            given = self.cleaned_data
        else:
            given = {name: field.initial for name, field in self.fields.items()}
        order = given.get("date_order")
        return Choices(
            currency=given.get("currency") or "",
            kind=given.get("kind") or "",
            date_order=DateOrder(order) if order else None,
            leave_out=given.get("leave_out") or frozenset(),
        )


def _with_ticked(data: Any, wrong: Collection[int]) -> Any:
    """Return what is sent, with the rows that were ticked beside those that are written."""
    data = data.copy()
    ticked = {int(one) for one in data.getlist("leave") if one.isdecimal() and len(one) <= len(str(ROWS_MOST))}
    rows = {row for row in {*ticked, *wrong} if 1 <= row <= ROWS_MOST}
    try:
        written = read_ranges(data.get("leave_out", ""))
    except ValueError:
        # The field says what is wrong with it.
        return data
    data["leave_out"] = write_ranges(written | rows)
    return data
