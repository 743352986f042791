"""Signing in, asking for a password by mail, making an account, and files of transactions."""

from typing import Any
from zoneinfo import available_timezones

from django import forms
from django.conf import settings
from django.contrib.auth.forms import AuthenticationForm, PasswordResetForm
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.utils import timezone

from apps.accounts import queries
from apps.accounts.models import Profile, SignInAttempt
from apps.accounts.services import address_of, begin_attempt, send_password_link
from apps.portfolios.domain.ghostfolio import BYTES_LARGEST, Activities, FileRefused, read_activities

USED_UP = "There were too many attempts on this account, or from where you are. Wait an hour"


class ProfileForm(forms.ModelForm):
    """A person's preferences."""

    time_zone = forms.ChoiceField(
        choices=lambda: [(name, name) for name in sorted(available_timezones())],
        help_text=Profile._meta.get_field("time_zone").help_text,
    )

    class Meta:
        model = Profile
        fields = ["time_zone"]


class SignInForm(AuthenticationForm):
    """Says the same of a wrong password and of a name that nobody has."""

    error_messages = AuthenticationForm.error_messages | {
        "invalid_login": "Name and password do not match. Both distinguish capitals."
    }

    def get_invalid_login_error(self) -> ValidationError:
        used_up = queries.attempts_are_used_up(
            kind=SignInAttempt.Kind.PASSWORD,
            name=self.cleaned_data["username"],
            address=address_of(self.request),
            now=timezone.now(),
        )
        if used_up:
            way_out = ", or set a new password by mail." if settings.EMAIL_CONFIGURED else "."
            return ValidationError(USED_UP + way_out, code="used_up")
        return super().get_invalid_login_error()


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


class ImportForm(forms.Form):
    """A file of transactions. `read` is what it says, once the form is valid."""

    file = forms.FileField(help_text="Ghostfolio's JSON, or CSV; at most 5 MB.")
    account = forms.CharField(
        required=False, max_length=128, help_text="Only the rows of this account of the file. Blank: all."
    )
    only_look = forms.BooleanField(
        required=False, initial=True, label="Only look", help_text="Say what would be recorded, and record nothing."
    )
    read: Activities

    def clean_file(self) -> Any:
        file = self.cleaned_data["file"]
        try:
            # One byte more says that it is too large.
            self.read = read_activities(file.read(BYTES_LARGEST + 1))
        except FileRefused as error:
            raise forms.ValidationError(str(error)) from None
        return file
