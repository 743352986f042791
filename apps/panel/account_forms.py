"""Forms in which an operator makes an account."""

from typing import Any

from django import forms
from django.contrib.auth.forms import UsernameField
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from unfold.forms import UserCreationForm


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
