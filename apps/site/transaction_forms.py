"""The form of one transaction, with the fields of its kind, and the form that filters a list of them."""

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet

from apps.market.queries import assets_named
from apps.notation import read_number, write_number
from apps.portfolios.corrections import describe_refusal
from apps.portfolios.domain.transactions import CASH_KINDS, DETAILS, Event, Kind, fields_of, required_of
from apps.portfolios.models import Portfolio, Transaction, currency_validator
from apps.portfolios.queries import portfolios_of
from apps.portfolios.services import TransactionsRefused
from apps.site.once import OnceForm
from apps.typed import read_typed_number, write_typed_number

_NUMBERS = ("quantity", "amount", "fee", "tax", "rate", "counter_amount", "fee_quantity", "cost_share")
_ASSETS = ("asset", "to_asset", "fee_asset")
_CURRENCIES = ("currency", "fee_currency", "tax_currency", "counter_currency")
_WHOLE = ("numerator", "denominator")
_ORDER = (
    *("day", "time", "asset", "quantity", "numerator", "denominator", "to_asset", "cost_share", "to_portfolio"),
    *("amount", "currency", "counter_amount", "counter_currency", "acquired_at", "fee", "tax", "notes"),
)
# What few transactions have, so it stands behind a fold until it says something.
_FOLDED = ("rate", "fee_currency", "tax_currency", "fee_asset", "fee_quantity", "group_id")
# What is no column by itself.
_BESIDE = ("key", "day", "time")
# What the service calls the moment, and where the form shows what is wrong with it.
_FIELD_OF = {"at": "day", "has_time": "time"}
WHATS: Mapping[str, str] = {
    **{kind.value: kind.value.replace("_", " ").capitalize() for kind in Kind if kind is not Kind.EVENT},
    **{event.value: event.value.replace("_", " ").capitalize() for event in Event},
}
ABOUT: Mapping[str, str] = {
    "buy": "You bought an asset for money.",
    "sell": "You sold an asset for money.",
    "dividend": "An asset paid income. Its tax that was withheld stands beside it.",
    "interest": "Money paid income.",
    "fee": "A cost of its own, such as of an account. The fee of a purchase belongs on the purchase.",
    "tax": "A tax of its own. What was withheld from a dividend belongs on the dividend.",
    "deposit": "Money came in from outside.",
    "withdrawal": "Money went outside.",
    "conversion": "Cash of one currency became cash of another.",
    "delivery_in": "An asset came in from outside, such as from another broker or as a gift.",
    "delivery_out": "An asset went outside.",
    "transfer": "An asset went to another of your portfolios, with its dates and costs.",
    "split": "So many new shares took the place of so many old ones, like 2 for 1, or 1 for 10.",
    "bonus": "Additional shares were given for shares that were held.",
    "symbol_change": "All shares became shares of another asset.",
    "merger": "Shares became shares of another asset, perhaps with cash.",
    "spin_off": "Additional shares of another asset were given, with a part of the cost.",
    "return_of_capital": "Cash was paid back that lowers the cost.",
    "fraction_cash": "Cash was paid for the fraction of a share.",
}
_LABELS = {
    "day": "Day",
    "time": "Time",
    "fee_currency": "Currency of the fee",
    "tax_currency": "Currency of the tax",
    "to_asset": "Became the asset",
    "fee_asset": "Fee was paid in the asset",
    "fee_quantity": "Quantity that the fee took",
    "to_portfolio": "To the portfolio",
    "acquired_at": "Bought originally on",
    "rate": "Exchange rate",
    "counter_amount": "Amount that came in for it",
    "counter_currency": "Currency of that",
    "numerator": "New shares",
    "denominator": "For old shares",
    "cost_share": "Share of the cost that moves",
    "group_id": "Group",
}
_HELP = {
    "day": "A day in UTC.",
    "time": "In UTC, like 14:30. Leave it empty where only the day counts.",
    "asset": "Its symbol here, like BTC-USD.",
    "to_asset": "Its symbol here.",
    "fee_asset": "For a fee paid in a coin: its symbol. The fee above is then what that was worth.",
    "amount": "In all, without fees and taxes.",
    "currency": "Three letters, like EUR, or what an asset's price is in.",
    "fee_currency": "Leave it empty for the currency of the amount.",
    "tax_currency": "Leave it empty for the currency of the amount.",
    "rate": "What 1 unit of the currency cost in {base}, where you know it. It wins over the day's rate.",
    "acquired_at": "Leave it empty for the day of the delivery.",
    "cost_share": "From 0 to 1.",
    "group_id": "A name that transactions share which belong together, such as a dividend and what it bought.",
}
_OF_KIND = {
    ("buy", "amount"): ("Paid", "In all, without fees and taxes."),
    ("sell", "amount"): ("Received", "In all, before fees and taxes."),
    ("dividend", "amount"): ("Received", "Before fees and taxes."),
    ("interest", "amount"): ("Received", "Before fees and taxes."),
    ("interest", "asset"): ("Asset", "What paid it, where an asset did."),
    ("fee", "asset"): ("Asset", "What it was paid for, where it was an asset."),
    ("tax", "asset"): ("Asset", "What it was paid for, where it was an asset."),
    ("conversion", "amount"): ("Amount that went out", "Without fees and taxes."),
    ("delivery_in", "amount"): ("Cost", "What all of it cost when it was bought, without fees; 0 where it was free."),
    ("delivery_out", "currency"): ("Currency of the fee and the tax", ""),
    ("transfer", "currency"): ("Currency of the fee and the tax", ""),
    ("bonus", "numerator"): ("Additional shares", "Like 1 for 10 held."),
    ("bonus", "denominator"): ("For shares held", ""),
    ("bonus", "amount"): ("Cost of one share", "It counts as income. Without it they cost 0."),
    ("spin_off", "numerator"): ("Additional shares", ""),
    ("spin_off", "denominator"): ("For shares held", ""),
    ("merger", "amount"): ("Cash", "What was paid beside the shares."),
    ("merger", "cost_share"): ("Share of the cost that moves", "From 0 to 1; the rest was sold for the cash."),
}


def what_of(row: Transaction) -> str:
    """Return what the forms call the kind of a transaction: its kind, or which corporate event it is."""
    return row.event or row.kind


def whats_for(portfolio: Portfolio) -> dict[str, str]:
    """Return what can be recorded in a portfolio: name -> what people call it."""
    return {name: text for name, text in WHATS.items() if portfolio.tracks_cash or name not in CASH_KINDS}


class TransactionForm(OnceForm):
    """One transaction of one kind. what: a kind, or a corporate event; row: the one that is corrected.

    The services refuse what is wrong; `save` puts it beside the fields.
    """

    def __init__(self, data: Any, *, portfolio: Portfolio, what: str, row: Transaction | None, now: datetime) -> None:
        super().__init__(data)
        self._portfolio, self._row, self._now = portfolio, row, now
        if row is not None:
            # To correct twice is to correct once.
            del self.fields["key"]
        self._event = Event(what) if what in list(Event) else None
        self._kind = Kind.EVENT if self._event else Kind(what)
        own, required = fields_of(self._kind, self._event), required_of(self._kind, self._event)
        for name in (*_ORDER, *_FOLDED):
            if name not in DETAILS or name in own:
                self.fields[name] = self._field(name)
                label, text = _OF_KIND.get((what, name), (_LABELS.get(name), _HELP.get(name, "")))
                label = label or name.replace("_", " ").capitalize()
                optional = name not in required and name != "day"
                self.fields[name].label = f"{label} (optional)" if optional else label
                self.fields[name].help_text = text.format(base=portfolio.base_currency)
        initial = self._initial_of(row) if row is not None else {"day": now.date(), "currency": portfolio.base_currency}
        for name in self.fields.keys() & initial.keys():
            self.fields[name].initial = initial[name]

    @property
    def main(self) -> list[forms.BoundField]:
        """The fields that stand open."""
        return [field for field in self.visible_fields() if field.name not in _FOLDED]

    @property
    def folded(self) -> list[forms.BoundField]:
        """The fields behind the fold."""
        return [self[name] for name in self.fields if name in _FOLDED]

    @property
    def is_unfolded(self) -> bool:
        """Whether a field behind the fold says something, or is wrong."""
        return any(field.value() or field.errors for field in self.folded)

    def _field(self, name: str) -> forms.Field:
        """Return a field. What is needed the service says, of all fields at once; so none is required but the day."""
        if name in _WHOLE:
            return forms.IntegerField(required=False)
        if name == "to_portfolio":
            own = [one for one in portfolios_of(self._portfolio.owner_id) if one.pk != self._portfolio.pk]
            self._others = {str(one.pk): one for one in own}
            named = [(key, one.name) for key, one in self._others.items()]
            return forms.ChoiceField(required=False, choices=[("", "choose one"), *named])
        if name in ("day", "acquired_at"):
            widget = forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d")
            return forms.DateField(required=name == "day", widget=widget)
        if name == "time":
            widget = forms.TimeInput(attrs={"type": "time", "step": "1"}, format="%H:%M:%S")
            return forms.TimeField(required=False, widget=widget)
        if name == "notes":
            return forms.CharField(required=False, max_length=2_000, widget=forms.Textarea(attrs={"rows": 2}))
        attrs = {"autocomplete": "off"}
        attrs |= {"inputmode": "decimal"} if name in _NUMBERS else {}
        attrs |= {"list": "held"} if name in _ASSETS else {}
        longest = 12 if name in _CURRENCIES else 64
        return forms.CharField(required=False, max_length=longest, widget=forms.TextInput(attrs=attrs))

    def _initial_of(self, row: Transaction) -> dict[str, Any]:
        """Return what is recorded as people type it."""
        found: dict[str, Any] = {name: getattr(row, name) for name in self.fields if name not in ("day", "time")}
        for name in _NUMBERS:
            value = found.get(name)
            is_none = value is None or (name in ("fee", "tax") and not value)
            found[name] = "" if is_none else write_typed_number(write_number(value))
        for name in _ASSETS:
            found[name] = found[name].symbol if found.get(name) is not None else ""
        found["to_portfolio"] = str(row.to_portfolio_id or "")
        if row.acquired_at is not None:
            found["acquired_at"] = row.acquired_at.astimezone(UTC).date()
        at = row.at.astimezone(UTC)
        return found | {"day": at.date(), "time": at.time().replace(microsecond=0) if row.has_time else None}

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        for name in _CURRENCIES:
            if cleaned.get(name):
                cleaned[name] = cleaned[name].strip().upper()
                self._try(name, currency_validator, cleaned[name])
        for name in _NUMBERS:
            if name in cleaned:
                cleaned[name] = self._try(name, _number, cleaned[name]) if cleaned[name] else None
        self._find_assets(cleaned)
        return cleaned

    def _try(self, name: str, read: Callable[[str], Any], text: str) -> Any:
        """Return what a text is read as; None, with the error beside the field, where it cannot be read."""
        try:
            return read(text)
        except ValidationError as error:
            self.add_error(name, error)
            return None

    def _find_assets(self, cleaned: dict[str, Any]) -> None:
        written = {name: cleaned[name].strip() for name in _ASSETS if cleaned.get(name)}
        spellings = {one for text in written.values() for one in (text, text.upper())}
        there = assets_named(spellings, owner_id=self._portfolio.owner_id) if spellings else {}
        for name, text in written.items():
            cleaned[name] = there.get(text) or there.get(text.upper())
            if cleaned[name] is None:
                self.add_error(
                    name,
                    f"There is no asset {text}. Ask an operator to add it, or make a manual asset of it, which is "
                    "yours alone.",
                )

    def save(self, store: Callable[..., Any]) -> Any:
        """Return what `store(columns, dry_run=...)` gives; None where something is wrong, with that beside the fields,
        all of it at once: what cannot be read, and what the service refuses of the rest."""
        is_valid = self.is_valid()
        try:
            done = store(self._columns(), dry_run=not is_valid)
        except TransactionsRefused as error:
            wrong = set(self.errors)
            for refusal in error.refusals:
                field = _FIELD_OF.get(refusal.field, refusal.field)
                if refusal.key != 1:
                    self.add_error(None, describe_refusal(refusal))
                elif field not in self.fields:
                    self.add_error(None, refusal.message)
                elif field not in wrong:
                    self.add_error(field, refusal.message)
            return None
        return done if is_valid else None

    def _columns(self) -> dict[str, Any]:
        """Return the columns of the transaction; those that its kind does not have are empty."""
        cleaned = self.cleaned_data
        # A day that cannot be read is refused already; what else is wrong does not depend on it.
        day: date = cleaned.get("day") or self._now.date()
        at_time: time | None = cleaned.get("time")
        columns: dict[str, Any] = {name: "" if name in (*_CURRENCIES, "event") else None for name in DETAILS}
        columns |= {"fee": Decimal(0), "tax": Decimal(0), "kind": self._kind.value, "event": self._event or ""}
        columns |= {name: cleaned[name] for name in self.fields if cleaned.get(name) and name not in _BESIDE}
        columns |= {name: cleaned[name] for name in _NUMBERS if cleaned.get(name) is not None}
        columns |= {name: cleaned[name] for name in _WHOLE if cleaned.get(name) is not None}
        columns |= {"notes": cleaned.get("notes", ""), "group_id": cleaned.get("group_id", "")}
        columns["at"] = self._moment(day, at_time, self._row and self._row.at)
        columns["has_time"] = at_time is not None
        if cleaned.get("acquired_at"):
            columns["acquired_at"] = self._moment(cleaned["acquired_at"], None, self._row and self._row.acquired_at)
        if cleaned.get("to_portfolio"):
            columns["to_portfolio"] = self._others[cleaned["to_portfolio"]]
        return columns

    def _moment(self, day: date, at_time: time | None, before: datetime | None) -> datetime:
        """Return a moment as it was typed; `before`, which may be more exact, where that is the same."""
        if before is not None:
            before = before.astimezone(UTC)
            if before.date() == day and at_time in (None, before.time().replace(microsecond=0)):
                return before
        return datetime.combine(day, at_time or time(12), tzinfo=UTC)


def _number(text: str) -> Decimal:
    """Return a number that somebody typed. Raises ValidationError."""
    try:
        return read_number(read_typed_number(text))
    except ValueError as error:
        raise ValidationError(f"{text[:40]} {error}.") from None


class FilterForm(forms.Form):
    """What a list of transactions is narrowed to. Whatever of it cannot be read does not narrow."""

    what = forms.ChoiceField(required=False, label="Kind")
    asset = forms.CharField(required=False, max_length=64, widget=forms.TextInput(attrs={"list": "held"}))
    currency = forms.CharField(required=False, max_length=12)
    since = forms.DateField(required=False, label="From", widget=forms.DateInput(attrs={"type": "date"}))
    until = forms.DateField(required=False, label="To", widget=forms.DateInput(attrs={"type": "date"}))
    text = forms.CharField(required=False, max_length=64, label="In notes or group")

    def __init__(self, data: Any) -> None:
        super().__init__(data)
        self.fields["what"].choices = [("", "all"), *WHATS.items()]  # type: ignore[attr-defined]

    def narrow(self, rows: QuerySet[Transaction]) -> QuerySet[Transaction]:
        """Return those of the rows that are asked for."""
        self.is_valid()
        asked = {name: value for name, value in self.cleaned_data.items() if value}
        if what := asked.get("what"):
            rows = rows.filter(Q(event=what) | Q(kind=what))
        if symbol := asked.get("asset"):
            rows = rows.filter(_any_of(_ASSETS, symbol.strip(), lookup="__symbol__iexact"))
        if currency := asked.get("currency"):
            rows = rows.filter(_any_of(_CURRENCIES, currency.strip(), lookup="__iexact"))
        if "since" in asked:
            rows = rows.filter(day__gte=asked["since"])
        if "until" in asked:
            rows = rows.filter(day__lte=asked["until"])
        if text := asked.get("text"):
            rows = rows.filter(Q(notes__icontains=text) | Q(group_id__icontains=text))
        return rows

    def asked(self) -> dict[str, str]:
        """Return what narrows, as an address has it."""
        return {name: str(self.data[name]) for name in self.fields if self.cleaned_data.get(name)}


def _any_of(names: tuple[str, ...], value: str, *, lookup: str) -> Q:
    """Return what finds rows of which one of these columns has this value."""
    found = Q()
    for name in names:
        found |= Q(**{f"{name}{lookup}": value})
    return found
