"""Forms in which an operator makes an account."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib.auth.forms import UsernameField
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from unfold.forms import UserChangeForm, UserCreationForm

from apps.accounts.domain import is_latin
from apps.accounts.queries import is_name_taken
from apps.ownership.queries import LAST_SUPERUSER, has_other_superuser, lock_superusers


class OneName:
    """Refuses a name that a reader could take for another."""

    def clean_username(self) -> str:
        name: str = self.cleaned_data["username"]  # type: ignore[attr-defined]
        user: User = self.instance  # type: ignore[attr-defined]
        if user.pk is not None and name == self.initial.get("username"):  # type: ignore[attr-defined]
            return name
        if not is_latin(name):
            text = "Write it in Latin letters: other scripts have letters that look the same."
            raise ValidationError(text, code="script")
        if is_name_taken(name, besides=user.pk):
            raise ValidationError("Somebody has this name, or one that looks the same.", code="taken")
        return name


# Each flag of a superuser -> what nobody could do if the last superuser lost it.
_OF_SUPERUSERS = {"is_active": "sign in", "is_superuser": "do everything", "is_staff": "enter these pages"}


class RenamedForm(OneName, UserChangeForm):
    """An account that there is. The last superuser stays one: without any, nobody could make one here."""

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean()
        lost = [name for name in _OF_SUPERUSERS if name in cleaned and not cleaned[name]]
        if not lost:
            return cleaned
        # In the transaction of the page.
        accounts = {one.pk: one for one in lock_superusers(besides_pk=self.instance.pk)}
        before = accounts[self.instance.pk]
        if before.is_superuser and before.is_active and not has_other_superuser(before):
            for name in lost:
                if getattr(before, name):
                    self.add_error(name, ValidationError(f"{LAST_SUPERUSER} Nobody could {_OF_SUPERUSERS[name]}."))
        return cleaned


class InvitedForm(OneName, forms.ModelForm):
    """A new account whose owner sets the password by the link in a mail, or signs in by the single sign-on alone."""

    class Meta:
        model = User
        fields = ["username", "email", "groups"]
        field_classes = {"username": UsernameField}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["email"].required = True
        self.fields["email"].help_text = (
            "A link to set the password is sent there at once."
            if settings.PASSWORD_SIGN_IN
            else "Where OIDC_MATCH_EMAIL is true, the person whom single sign-on knows by this address signs in here."
        )

    def save(self, commit: bool = True) -> User:
        self.instance.set_unusable_password()
        return super().save(commit=commit)


class MadeForm(OneName, UserCreationForm):
    """A new account whose first password is set by who makes it: this site sends no mail."""

    class Meta:
        model = User
        fields = ["username", "email", "groups"]
        field_classes = {"username": UsernameField}
