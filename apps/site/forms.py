"""Signing in, asking for a password by mail, making an account, and files of transactions."""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from hashlib import sha256
from pathlib import PurePath
from typing import Any

from django import forms
from django.conf import settings
from django.contrib.auth import authenticate
from django.contrib.auth.forms import AuthenticationForm, PasswordResetForm
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils import timezone

from apps.accounts import queries
from apps.accounts.domain import locale_choices, time_zone_choices
from apps.accounts.models import Profile, SignInAttempt
from apps.accounts.queries import has_password
from apps.accounts.services import address_of, begin_attempt, send_password_link
from apps.market.models import Asset
from apps.market.queries import assets_named
from apps.portfolios.domain.positions import read_positions
from apps.portfolios.domain.series import EVERY_DEFAULT, EVERY_LEAST, EVERY_MOST, SeriesKind
from apps.portfolios.domain.tables import BYTES_LARGEST, Activities, FileRefused
from apps.portfolios.domain.transactions import Kind, Method
from apps.portfolios.importing import read_file
from apps.portfolios.models import Portfolio
from apps.portfolios.queries import portfolios_of
from apps.portfolios.services import refuse_base_currency
from apps.site.once import OnceForm
from apps.site.targets import LONGEST_TARGET, TargetInvalid, read_target

SYMBOLS_ASKED = 200
_NEW = "new"
METHODS = [(Method.FIFO.value, "the oldest first (FIFO)"), (Method.AVERAGE.value, "average cost")]
ABOUT_METHODS = (
    "The oldest first, or a part of all at their average cost, as Brazilian tax law has it. It can be changed later."
)
USED_UP = "There were too many attempts on this account, or from where you are. Wait an hour"


class ProfileForm(forms.ModelForm):
    """A person's preferences."""

    time_zone = forms.ChoiceField(
        choices=time_zone_choices,
        help_text=Profile._meta.get_field("time_zone").help_text,
    )
    locale = forms.ChoiceField(
        label="Numbers and dates",
        choices=locale_choices,
        help_text=Profile._meta.get_field("locale").help_text,
    )

    class Meta:
        model = Profile
        fields = ["time_zone", "locale"]


class SignInForm(AuthenticationForm):
    """Says the same of a wrong password and of a name that nobody has."""

    error_messages = AuthenticationForm.error_messages | {
        "invalid_login": "Wrong user name or password. Both are case-sensitive."
    }

    def get_invalid_login_error(self) -> ValidationError:
        invalid = str(self.error_messages["invalid_login"])
        way_out = ", or set a new password by mail." if settings.EMAIL_CONFIGURED else "."
        return refused_sign_in(self.request, name=self.cleaned_data["username"], text=invalid, way_out=way_out)


def refused_sign_in(request: HttpRequest, *, name: str, text: str, way_out: str = ".") -> ValidationError:
    """Return what is said of a wrong password or code: the text, or that the attempts are used up, with the way out."""
    kind, address = SignInAttempt.Kind.PASSWORD, address_of(request)
    if queries.attempts_are_used_up(kind=kind, name=name, address=address, now=timezone.now()):
        return ValidationError(USED_UP + way_out, code="used_up")
    return ValidationError(text, code="wrong")


class ResetForm(PasswordResetForm):
    """Sends a link to whoever has this address, and reveals to nobody whether anyone has."""

    def get_users(self, email: str) -> Any:
        # Those who have never set a password as well, unlike Django: their first mail may be lost, or too old.
        return User.objects.filter(email__iexact=email, is_active=True)

    def save(self, **options: Any) -> None:
        email = self.cleaned_data["email"]
        attempt = begin_attempt(
            kind=SignInAttempt.Kind.MAIL, name=email, address=address_of(options["request"]), now=timezone.now()
        )
        if attempt is not None:
            for user in self.get_users(email):
                send_password_link(user=user, is_new=False)


class OwnPasswordForm(forms.Form):
    """Asks for the reader's password, where they sign in by one."""

    password = forms.CharField(
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
        strip=False,
        help_text="Type it to confirm.",
    )

    def __init__(self, *args: Any, request: HttpRequest) -> None:
        super().__init__(*args)
        self._request = request
        if not has_password(request.user):
            del self.fields["password"]

    def clean_password(self) -> str:
        password: str = self.cleaned_data["password"]
        name = self._request.user.get_username()
        # By the one door, which counts who knocks.
        if authenticate(self._request, username=name, password=password) != self._request.user:
            raise refused_sign_in(self._request, name=name, text="This is not your password.")
        return password


class DeleteAccountForm(OwnPasswordForm):
    """The confirmation that the reader's account is theirs and is to go: the password, or who has none, the name."""

    name = forms.CharField(label="User name", help_text="Type your user name to confirm.")

    def __init__(self, *args: Any, request: HttpRequest) -> None:
        super().__init__(*args, request=request)
        if "password" in self.fields:
            del self.fields["name"]

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        if name != self._request.user.get_username():
            raise ValidationError("This is not your user name.", code="wrong")
        return name


class ImportForm(forms.Form):
    """A file of transactions."""

    file = forms.FileField(
        help_text="Of this program, Ghostfolio, Portfolio Performance, B3 or Kraken; at most 5 MB. The next page shows "
        "it."
    )
    content: bytes

    def clean_file(self) -> Any:
        file = self.cleaned_data["file"]
        # One byte more says that it is too large.
        self.content = file.read(BYTES_LARGEST + 1)
        try:
            read_file(self.content)
        except FileRefused as error:
            raise forms.ValidationError(str(error)) from None
        return file


class PositionsForm(forms.Form):
    """A file of positions, and at the end of which day that was held. `stated` has its quantities by symbol."""

    file = forms.FileField(help_text="CSV or XLSX with columns like symbol and quantity; at most 5 MB.")
    day = forms.DateField(
        label="Held at the end of", widget=forms.DateInput(attrs={"type": "date"}), help_text="A day in UTC."
    )
    stated: dict[str, Decimal]

    def __init__(self, *args: Any, now: datetime) -> None:
        super().__init__(*args)
        self._today = now.astimezone(UTC).date()
        self.fields["day"].initial = self._today

    def clean_file(self) -> Any:
        file = self.cleaned_data["file"]
        try:
            self.stated = read_positions(file.read(BYTES_LARGEST + 1))
        except FileRefused as error:
            raise forms.ValidationError(str(error)) from None
        return file

    def clean_day(self) -> Any:
        day = self.cleaned_data["day"]
        if day > self._today:
            raise forms.ValidationError("It is in the future.")
        return day


class SeriesForm(forms.Form):
    """How often a series of a portfolio has a quote, and its target where it is a drift: `shares` once the form is
    valid. kind: of a series that is there; None where the form asks for it."""

    every_seconds = forms.IntegerField(
        label="At most one quote in so many seconds",
        min_value=EVERY_LEAST,
        max_value=EVERY_MOST,
        initial=EVERY_DEFAULT,
        help_text="From 1 to 86400, a day. Rules see these quotes and nothing between them.",
    )
    target = forms.CharField(
        label="Target in percent",
        max_length=LONGEST_TARGET,
        required=False,
        widget=forms.TextInput(attrs={"placeholder": "BTC-USD 60, ACME 30"}),
        help_text="Of a drift: each asset with its share. What is left is cash.",
    )
    shares: dict[int | None, Fraction]

    def __init__(self, *args: Any, portfolio: Portfolio, kind: SeriesKind | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._owner_id, self._kind = portfolio.owner_id, kind
        self.shares = {}
        if kind not in (None, SeriesKind.DRIFT):
            del self.fields["target"]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        kind = self._kind or cleaned.get("kind")
        if kind == SeriesKind.DRIFT and "target" in cleaned:
            try:
                self.shares = read_target(cleaned["target"], owner_id=self._owner_id)
            except TargetInvalid as error:
                self.add_error("target", str(error))
            else:
                if not self.shares:
                    self.add_error("target", "A drift needs a target, like BTC-USD 60, ACME 30.")
        return cleaned


class NewSeriesForm(OnceForm, SeriesForm):
    """A series that is to be made."""

    kind = forms.ChoiceField(label="Kind", choices=[(kind.value, kind.caption) for kind in SeriesKind])
    symbol = forms.CharField(
        max_length=64, help_text="What rules call it: capital letters, digits and . _ : / - (like SAVINGS-VALUE)."
    )
    field_order = ("kind", "symbol", "every_seconds", "target")


def mapping_field(kind: str, name: str) -> str:
    """Return what the field of an account, a symbol or a manual asset is called. It stays the same where another choice
    adds names to a file, or takes some away."""
    return f"{kind}_{sha256(name.encode()).hexdigest()[:16]}"


class MappingForm(forms.Form):
    """Into which portfolio each account of a file goes, and which asset each of its symbols is.

    `portfolios`, `new`, `assets` and `manual` say that by account and by symbol, once the form is valid; `new`: account
    -> name of the portfolio that is to be made for it; `manual`: symbol -> symbol of the manual asset that is to be
    made for it. Of more than 200 symbols only those that are no asset's are asked for, and at most 200. may_make:
    whether portfolios may be made; file: its name.
    """

    portfolios: dict[str, Portfolio]
    new: dict[str, str]
    assets: dict[str, Asset]
    manual: dict[str, str]

    def __init__(self, data: Any, *, read: Activities, portfolio: Portfolio, may_make: bool, file: str) -> None:
        super().__init__(data)
        self._own = {str(one.pk): one for one in portfolios_of(portfolio.owner_id)}
        self._accounts, symbols = sorted(read.accounts()), sorted(read.symbols())
        self._owner_id = portfolio.owner_id
        self._found = assets_named(symbols, owner_id=self._owner_id)
        if len(symbols) > SYMBOLS_ASKED:
            symbols = [one for one in symbols if one not in self._found][:SYMBOLS_ASKED]
        self._symbols = sorted(symbols, key=lambda one: (one in self._found, one))
        self._unnamed = PurePath(file).stem[:64] or "Import"
        choices = [(key, str(one)) for key, one in self._own.items()] + [("", "leave out")]
        makes = [(_NEW, "make a portfolio for it")] if may_make else []
        without = "Rows without an account" if any(self._accounts) else "Portfolio"
        for account in self._accounts:
            self.fields[mapping_field("account", account)] = forms.ChoiceField(
                choices=choices + makes,
                required=False,
                initial=str(portfolio.pk),
                label=f"Account {account}" if account else without,
            )
        if makes:
            self._add_fields_of_new(read, portfolio)
        for symbol in self._symbols:
            initial = self._found[symbol].symbol if symbol in self._found else ""
            help_text = "" if initial else "No asset has this name. Write the symbol of one that is here, or:"
            self.fields[mapping_field("symbol", symbol)] = forms.CharField(
                required=False, max_length=64, initial=initial, label=f"Asset {symbol}", help_text=help_text
            )
            if not initial:
                self.fields[mapping_field("manual", symbol)] = forms.BooleanField(
                    required=False,
                    label=f"Create a manual asset for {symbol}",
                    help_text="Yours alone; you type or upload its prices. A symbol above is what it is called.",
                )

        if self.is_bound:
            # What the page before did not ask for says what it says first.
            asked = [mapping_field("account", one) for one in self._accounts]
            asked += [mapping_field("symbol", one) for one in self._symbols]
            self.data = {name: self.fields[name].initial for name in asked} | self.data.dict()

    @property
    def mapping(self) -> list[forms.BoundField]:
        """The fields of accounts and symbols."""
        return [self[name] for name in self.fields if not name.startswith("new_")]

    @property
    def of_new(self) -> list[forms.BoundField]:
        """The fields of portfolios that are made."""
        return [self[name] for name in self.fields if name.startswith("new_")]

    @property
    def makes_portfolios(self) -> bool:
        """Whether a portfolio is asked for, or what it is made with is wrong."""
        return bool(self.is_bound and self.new) or any(field.errors for field in self.of_new)

    def _add_fields_of_new(self, read: Activities, portfolio: Portfolio) -> None:
        """Ask for what portfolios are made with."""
        self.fields["new_base_currency"] = forms.CharField(
            max_length=12,
            initial=portfolio.base_currency,
            required=False,
            label="Base currency of portfolios made here",
        )
        has_deposit = any(one.columns["kind"] == Kind.DEPOSIT for one in read.rows)
        self.fields["new_tracks_cash"] = forms.BooleanField(
            initial=has_deposit,
            required=False,
            label="Portfolios made here track cash",
            help_text=f"The file has {'deposits' if has_deposit else 'no deposits'}. With cash, value includes the "
            "balance of each currency; without, deposits, withdrawals and conversions are left out. It stays so "
            "from the first transaction on.",
        )
        self.fields["new_method"] = forms.ChoiceField(
            choices=METHODS,
            initial=portfolio.method,
            required=False,
            label="Lots that a sale takes in portfolios made here",
            help_text=ABOUT_METHODS,
        )

    def clean_new_base_currency(self) -> str:
        code: str = self.cleaned_data["new_base_currency"].strip().upper()
        if code:
            try:
                refuse_base_currency(code)
            except ValidationError as error:
                raise ValidationError(error.message_dict["base_currency"]) from None
        return code

    @property
    def defaults(self) -> tuple[dict[str, Portfolio], dict[str, Asset]]:
        """What the fields say before anybody has changed them."""
        chosen = {name: self._own[str(self.fields[mapping_field("account", name)].initial)] for name in self._accounts}
        return chosen, self._found

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        chosen = [cleaned.get(mapping_field("account", account), "") for account in self._accounts]
        named = list(zip(self._accounts, chosen, strict=True))
        self.portfolios = {account: self._own[key] for account, key in named if key in self._own}
        self.new = {account: account[:64] or self._unnamed for account, key in named if key == _NEW}
        self._refuse_new(chosen, cleaned)
        fields = [mapping_field("symbol", symbol) for symbol in self._symbols]
        written = [cleaned.get(field, "").strip().upper() for field in fields]
        there = assets_named({*filter(None, written)}, owner_id=self._owner_id)
        self.assets, self.manual = dict(self._found), {}
        for field, name, symbol in zip(fields, written, self._symbols, strict=True):
            self.assets.pop(symbol, None)
            if name in there:
                self.assets[symbol] = there[name]
            elif cleaned.get(mapping_field("manual", symbol)):
                self.manual[symbol] = name or symbol.upper()
            elif name:
                self.add_error(field, f"There is no asset {name}.")
        return cleaned

    def note_manual(self, symbol: str, error: ValidationError) -> None:
        """Put beside its field why a manual asset cannot be made for a symbol of the file."""
        self.add_error(mapping_field("symbol", symbol), " ".join(error.messages))

    def _refuse_new(self, chosen: Sequence[str], cleaned: dict[str, Any]) -> None:
        """Refuse names that two portfolios would have, and portfolios without a currency."""
        taken = [one.name for one in self._own.values()] + list(self.new.values())
        for account, key in zip(self._accounts, chosen, strict=True):
            if key == _NEW and taken.count(self.new[account]) > 1:
                said = f"There is a portfolio {self.new[account]} already; choose it, or rename it first."
                self.add_error(mapping_field("account", account), said)
        if self.new and not cleaned.get("new_base_currency") and "new_base_currency" not in self.errors:
            self.add_error("new_base_currency", "A portfolio needs one.")
