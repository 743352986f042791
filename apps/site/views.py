"""The pages of the site beside the admin: the front page, and signing in."""

from typing import Any

from allauth.account.internal.flows.login import perform_password_login
from allauth.account.models import Login
from django.conf import settings
from django.contrib.auth import views as auth
from django.contrib.auth.mixins import LoginRequiredMixin
from django.db.models import Case, Value, When
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.urls import reverse, reverse_lazy
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe
from django.views.generic import TemplateView, UpdateView

from apps.accounts.models import Profile
from apps.accounts.queries import identities_of, profile_of
from apps.accounts.second_factor import second_factor_of
from apps.accounts.services import forget_attempts
from apps.alerts.models import Alert
from apps.alerts.queries import IN_STATE, alerts_of, written_for
from apps.health.queries import not_checked, problem_counts
from apps.health.wording import written_for as health_written_for
from apps.market.queries import assets_seen_by, watched_ids
from apps.notify.services import (
    ACTIONS,
    SILENCE,
    SILENCE_ALERT,
    LinkInvalid,
    LinkOver,
    last_items_of,
    message_of_link,
    perform_action,
)
from apps.reader import active_reader
from apps.site.forms import ProfileForm, ResetForm, SignInForm
from apps.site.market import market_rows, shows_market

ASSETS_SHOWN = 20
ALERTS_SHOWN = 10
ITEMS_SHOWN = 20


@never_cache
@require_safe
def front(request: HttpRequest) -> HttpResponse:
    """Show what this is, the market where it may be seen, and the reader's own alerts."""
    return render(request, "site/front.html", _live(request))


@never_cache
@require_safe
def live(request: HttpRequest) -> HttpResponse:
    """Return the part of the front page that moves; live.js puts it in the place of the older one."""
    return render(request, "site/live.html", _live(request))


def _live(request: HttpRequest) -> dict[str, Any]:
    now, user = timezone.now(), request.user
    stopped = not_checked(now=now)
    shows = shows_market(request)
    # What the reader follows comes first.
    is_other = Case(When(pk__in=watched_ids(user), then=Value(0)), default=Value(1))
    assets = list(assets_seen_by(user).order_by(is_other, "symbol")[: ASSETS_SHOWN + 1]) if shows else []
    alerts = alerts_of(user)
    # Each by its own index, whatever there is of the other.
    still_open, over = (list(alerts.filter(resolved_at__isnull=one)[:ALERTS_SHOWN]) for one in (True, False))
    return {
        "shows_market": shows,
        "rows": market_rows(assets[:ASSETS_SHOWN], user=user, now=now),
        "more_assets": len(assets) > ASSETS_SHOWN,
        "alerts": written_for([*still_open, *over][:ALERTS_SHOWN], reader=active_reader()),
        "open_count": alerts.filter(resolved_at=None).order_by().count(),
        "stopped": health_written_for(stopped, reader=active_reader()) if stopped is not None else None,
        "faults": problem_counts(user).faults,
        "now": now,
        "back": reverse("front"),
    }


class SignIn(auth.LoginView):
    """The one door for people, the admin's too. What may be guessed, and how often, is the backend's business."""

    form_class = SignInForm
    template_name = "site/sign_in.html"
    extra_context = {"title": "Sign in"}

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        provider = settings.OIDC_NAME if settings.OIDC_ISSUER else ""
        return super().get_context_data(by_password=settings.PASSWORD_SIGN_IN, provider=provider, **kwargs)

    def form_valid(self, form: SignInForm) -> HttpResponse:
        # By allauth, which asks for the second factor first.
        user = form.get_user()
        return perform_password_login(
            self.request, {"username": user.get_username()}, Login(user=user, redirect_url=self.get_success_url())
        )


class ProfileEdit(LoginRequiredMixin, UpdateView):
    """The reader's own preferences."""

    form_class = ProfileForm
    template_name = "site/profile.html"
    success_url = reverse_lazy("profile_saved")
    extra_context = {"title": "Your profile", "button": "Save"}

    def get_object(self, queryset: Any = None) -> Profile:
        return profile_of(self.request.user)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        user = self.request.user
        identities = list(identities_of(user))
        is_connected = any(one.provider == settings.OIDC_ISSUER for one in identities)
        return super().get_context_data(
            second_factor=second_factor_of(user),
            identities=identities,
            issuer=settings.OIDC_ISSUER,
            connects=settings.OIDC_NAME if settings.OIDC_ISSUER and not is_connected else "",
            **kwargs,
        )


class ProfileSaved(LoginRequiredMixin, TemplateView):
    template_name = "site/said.html"
    extra_context = {
        "title": "Your profile is saved",
        "text": "Pages and messages write times, numbers and dates like this. New channels start with this time zone.",
    }


class OfPasswords:
    """A page of passwords. Where people sign in by single sign-on alone, it says so and no more."""

    request: HttpRequest

    def dispatch(self, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if settings.PASSWORD_SIGN_IN:
            return super().dispatch(*args, **kwargs)  # type: ignore[misc]
        text = f"People sign in here by {settings.OIDC_NAME}."
        return render(self.request, "site/said.html", {"title": "No passwords here", "text": text})


class PasswordChange(OfPasswords, auth.PasswordChangeView):
    template_name = "site/form.html"
    success_url = reverse_lazy("password_change_done")
    extra_context = {"title": "Change your password", "button": "Change it"}


class PasswordChangeDone(auth.PasswordChangeDoneView):
    template_name = "site/said.html"
    extra_context = {
        "title": "Your password is changed",
        "text": "You stay signed in here, and are signed out everywhere else.",
    }


class PasswordReset(OfPasswords, auth.PasswordResetView):
    """Asks for an address, and answers the same whosever it is. Where the site sends no mail, says so and no more."""

    form_class = ResetForm
    template_name = "site/password_reset.html"
    success_url = reverse_lazy("password_reset_done")
    extra_context = {"title": "Set a new password by mail", "button": "Send me a link"}

    def dispatch(self, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if settings.EMAIL_CONFIGURED:
            return super().dispatch(*args, **kwargs)
        text = "This site sends no mail. Ask whoever runs it to set a new password for you."
        return render(self.request, "site/said.html", {"title": "No password by mail", "text": text})


class PasswordResetDone(auth.PasswordResetDoneView):
    template_name = "site/said.html"
    extra_context = {
        "title": "Look into your mail",
        "text": "If somebody here has this address, a mail with a link is queued for it. Whether the mail server takes "
        "it is not known yet. If none comes within minutes, look among the unwanted mail, or ask again in an hour. If "
        "that does not help, ask whoever runs this site: the log says whether it was sent.",
    }


class PasswordResetConfirm(OfPasswords, auth.PasswordResetConfirmView):
    template_name = "site/password_reset_confirm.html"
    success_url = reverse_lazy("password_reset_complete")
    extra_context = {"button": "Set it"}

    def form_valid(self, form: Any) -> HttpResponse:
        answer = super().form_valid(form)
        forget_attempts(name=form.user.get_username(), now=timezone.now())
        return answer


class PasswordResetComplete(auth.PasswordResetCompleteView):
    template_name = "site/said.html"
    extra_context = {"title": "Your new password is set", "text": "You can sign in with it now."}


@method_decorator(never_cache, name="dispatch")
class SignOut(auth.LogoutView):
    """By POST only, so that no picture in a page signs anybody out."""


# For whoever holds it, signed in or not: the link is the permission, and a mail program has no session.
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def action(request: HttpRequest, token: str) -> HttpResponse:
    """Do what a link in a message says, once it is confirmed.

    Programs that look at links before people do only GET, and some of them run scripts: so a person presses the button.
    For the channel's owner, in the browser where they are signed in, a script does: there the link is the one click.
    """
    now = timezone.now()
    try:
        message, what = message_of_link(token, now=now)
    except LinkInvalid as error:
        status = 410 if isinstance(error, LinkOver) else 404
        answer = render(request, "site/action.html", {"title": "No such link", "refusal": error}, status=status)
    else:
        items = last_items_of(message)
        result = perform_action(message=message, action=what, now=now) if request.method == "POST" else None
        alerts = Alert.objects.filter(pk__in=[one.alert_id for one in items])
        state_of = {one.pk: one.state for one in alerts.filter(pk__in=[one.alert_id for one in items[:ITEMS_SHOWN]])}
        context = {
            "title": ACTIONS[what],
            "action": what,
            "silences": what in (SILENCE, SILENCE_ALERT),
            "message": message,
            "items": [(one, state_of.get(one.alert_id, "")) for one in items[:ITEMS_SHOWN]],
            "of": len(items),
            "waiting": alerts.filter(IN_STATE[Alert.State.OPEN]).count(),
            "more": len(items[ITEMS_SHOWN:]),
            "result": result,
            "now": now,
            "at_once": request.method != "POST" and request.user == message.channel.owner,
        }
        answer = render(request, "site/action.html", context)
    # The address is the permission: no other page learns it. With no-referrer, browsers would not say either where the
    # form comes from, and it would be refused.
    answer["Referrer-Policy"] = "strict-origin"
    return answer
