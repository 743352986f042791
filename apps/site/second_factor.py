"""Two-factor sign-in: the code that is asked for at sign-in, and the pages on which people turn it on and off."""

from typing import Any, cast

from allauth.account.stages import LoginStageController
from allauth.mfa.adapter import get_adapter
from allauth.mfa.stages import AuthenticateStage
from allauth.mfa.totp.internal.auth import generate_totp_secret
from django import forms
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods
from qrcode.main import QRCode

from apps.accounts.models import SignInAttempt
from apps.accounts.second_factor import (
    AlreadyOn,
    matching_step,
    must_turn_on,
    renew_recovery_codes,
    second_factor_of,
    turn_off,
    turn_on,
    use_code,
)
from apps.accounts.services import address_of, begin_attempt
from apps.notify.encryption import DecryptionError
from apps.site.forms import USED_UP, OwnPasswordForm, refused_sign_in

# In the session: the secret that is shown until a code confirms it.
_SECRET = "second_factor_secret"  # noqa: S105
_KEY_LOST = "This site can no longer check your codes: its key was changed. Ask an administrator to turn two-factor "
_KEY_LOST += "sign-in off for your account."


class _CodeInput(forms.TextInput):
    """A field that is empty again after a wrong code."""

    def format_value(self, value: Any) -> None:
        return None


class _CodeField(forms.CharField):
    """A code as people type it, with or without spaces."""

    def __init__(self, **options: Any) -> None:
        attributes = {"autocomplete": "one-time-code", "inputmode": "numeric", "spellcheck": "false"}
        super().__init__(max_length=32, widget=_CodeInput(attrs=attributes), **options)

    def to_python(self, value: Any) -> str:
        return "".join(str(super().to_python(value)).split())


class CodeForm(forms.Form):
    """A code of the user's second factor, or one of the recovery codes. It is used up by a valid form, and a wrong one
    counts as a wrong password does."""

    code = _CodeField(help_text="The 6 digits that your authenticator app shows now, or one of your recovery codes.")

    def __init__(self, *args: Any, request: HttpRequest, user: User) -> None:
        super().__init__(*args)
        self.fields["code"].widget.attrs["autofocus"] = True
        self._request, self._user = request, user

    def clean_code(self) -> str:
        code: str = self.cleaned_data["code"]
        name, now = self._user.get_username(), timezone.now()
        attempt = begin_attempt(kind=SignInAttempt.Kind.PASSWORD, name=name, address=address_of(self._request), now=now)
        if attempt is None:
            raise ValidationError(f"{USED_UP}.", code="used_up")
        try:
            row = use_code(user=self._user, code=code, now=now)
        except DecryptionError:
            attempt.delete()
            raise ValidationError(_KEY_LOST, code="key_lost") from None
        if row is None:
            raise refused_sign_in(self._request, name=name, text="This code is wrong, or was used already.")
        attempt.delete()
        return code


class SetUpForm(OwnPasswordForm):
    """The first code of an authenticator app, as proof that it has the secret. `step` is the code's step of time."""

    code = _CodeField(help_text="The 6 digits that the app shows now.")
    step: int

    def __init__(self, *args: Any, request: HttpRequest, secret: str) -> None:
        super().__init__(*args, request=request)
        self._secret = secret

    def clean_code(self) -> str:
        code: str = self.cleaned_data["code"]
        step = matching_step(self._secret, code, now=timezone.now())
        if step is None:
            raise ValidationError("The app shows another code. Is the clock of your phone right?", code="wrong")
        self.step = step
        return code


@never_cache
@sensitive_post_parameters("code")
@require_http_methods(["GET", "HEAD", "POST"])
def sign_in_code(request: HttpRequest) -> HttpResponse:
    """Ask whoever is half signed in for a code, and sign them in by it."""
    stage = LoginStageController.enter(request, AuthenticateStage.key)
    if stage is None or second_factor_of(stage.login.user) is None:
        return redirect("login")
    form = CodeForm(*_posted(request), request=request, user=stage.login.user)
    if form.is_bound and form.is_valid():
        return cast(HttpResponse, stage.exit())
    context = {"title": "Type your code", "button": "Sign in", "form": form, "back": "login"}
    context["text"] = f"You are signing in as {stage.login.user.get_username()}."
    return render(request, "site/second_factor_form.html", context)


@never_cache
@sensitive_post_parameters("password", "code")
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def second_factor(request: HttpRequest) -> HttpResponse:
    """Show the reader's second factor; where there is none, the way to one, and at its end the recovery codes."""
    user = _reader(request)
    title = "Two-factor sign-in"
    if factor := second_factor_of(user):
        return render(request, "site/second_factor.html", {"title": title, "factor": factor})
    secret = request.session.setdefault(_SECRET, generate_totp_secret())
    form = SetUpForm(*_posted(request), request=request, secret=secret)
    if form.is_bound and form.is_valid():
        try:
            codes = turn_on(user=user, secret=secret, step=form.step)
        except AlreadyOn:
            return redirect("second_factor")
        del request.session[_SECRET]
        return _codes_shown(request, codes, title="Two-factor sign-in is on")
    qr = _qr_of(get_adapter().build_totp_url(user, secret))
    context = {"title": title, "form": form, "secret": secret, "qr": qr, "is_required": bool(must_turn_on([user]))}
    return render(request, "site/second_factor.html", context)


@never_cache
@sensitive_post_parameters("code")
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def second_factor_codes(request: HttpRequest) -> HttpResponse:
    """Make new recovery codes for the reader, once a code confirms that it is they."""
    question = {"title": "Make new recovery codes?", "button": "Make them"}
    question["text"] = "The recovery codes that you have now will no longer work."
    if unanswered := _asked_for_code(request, question):
        return unanswered
    return _codes_shown(request, renew_recovery_codes(user=_reader(request)), title="Your new recovery codes")


@never_cache
@sensitive_post_parameters("code")
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def second_factor_off(request: HttpRequest) -> HttpResponse:
    """Turn the reader's second factor off, once a code confirms that it is they."""
    question = {"title": "Turn two-factor sign-in off?", "button": "Turn it off"}
    question["text"] = "The entry in your authenticator app and your recovery codes will no longer work."
    if unanswered := _asked_for_code(request, question):
        return unanswered
    turn_off(user=_reader(request))
    if must_turn_on([_reader(request)]):
        # For another phone.
        return redirect("second_factor")
    text = "From now on no code is asked for when you sign in."
    return render(request, "site/said.html", {"title": "Two-factor sign-in is off", "text": text})


def _asked_for_code(request: HttpRequest, question: dict[str, str]) -> HttpResponse | None:
    """Return the page that asks the reader for a code, or one that says that they have none; None once a valid code has
    come, which is used up. question: title, text and button of the page."""
    user = _reader(request)
    if second_factor_of(user) is None:
        return redirect("second_factor")
    form = CodeForm(*_posted(request), request=request, user=user)
    if form.is_bound and form.is_valid():
        return None
    return render(request, "site/second_factor_form.html", {**question, "form": form, "back": "second_factor"})


def _codes_shown(request: HttpRequest, codes: list[str], *, title: str) -> HttpResponse:
    return render(request, "site/recovery_codes.html", {"title": title, "codes": codes})


def _qr_of(text: str) -> dict[str, Any]:
    """Return the QR code of a text, as the side of its square in modules and an SVG path of the dark ones."""
    code = QRCode()
    code.add_data(text)
    modules = code.get_matrix()
    dark = [(x, y) for y, row in enumerate(modules) for x, is_dark in enumerate(row) if is_dark]
    return {"size": len(modules), "path": "".join(f"M{x} {y}h1v1h-1z" for x, y in dark)}


def _posted(request: HttpRequest) -> list[Any]:
    return [request.POST] if request.method == "POST" else []


def _reader(request: HttpRequest) -> User:
    return cast(User, request.user)
