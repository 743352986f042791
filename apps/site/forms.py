"""Signing in, asking for a password by mail, and making an account."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib.auth.forms import AuthenticationForm, PasswordResetForm, UsernameField
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.utils import timezone
from unfold.forms import UserCreationForm

from apps.site import queries
from apps.site.models import SignInAttempt
from apps.site.services import address_of, begin_attempt, send_password_link

USED_UP = "There were too many attempts on this account, or from where you are. Wait an hour"


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
    """Sends a link to whoever has this address, and tells nobody whether anyone has."""

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


class OneName:
    """Refuses a name that differs from another only in its capitals."""

    def clean_username(self) -> str:
        name = self.cleaned_data["username"]  # type: ignore[attr-defined]
        if User.objects.filter(username__iexact=name).exists():
            raise ValidationError("Somebody has this name, or one that differs only in capitals.", code="taken")
        return name


class InvitedForm(OneName, forms.ModelForm):
    """A new account whose owner sets the password, by the link in a mail."""

    class Meta:
        model = User
        fields = ["username", "email", "groups"]
        field_classes = {"username": UsernameField}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["email"].required = True
        self.fields["email"].help_text = "A link to set the password is sent there at once."

    def save(self, commit: bool = True) -> User:
        self.instance.set_unusable_password()
        return super().save(commit=commit)


class MadeForm(OneName, UserCreationForm):
    """A new account whose first password is set by who makes it: this site sends no mail."""

    class Meta:
        model = User
        fields = ["username", "email", "groups"]
        field_classes = {"username": UsernameField}
