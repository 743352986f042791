"""Pages on which people connect an identity of the single sign-on provider to their account, and remove it."""

from typing import Any, cast

from allauth.socialaccount.providers.base.constants import AuthProcess
from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from apps.accounts.identities import IdentityRefused, remove_identity, why_kept
from apps.accounts.queries import identities_of
from apps.site.forms import OwnPasswordForm
from apps.site.single_sign_on import provider_of, way_to_provider


@never_cache
@sensitive_post_parameters("password")
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def identity_connect(request: HttpRequest) -> HttpResponse:
    """Ask for the reader's password, and then show the link to the provider, whose answer connects the identity.

    A link and no redirect: the policy of a page with a form keeps browsers from following one to another site.
    """
    provider = provider_of(request)
    form = OwnPasswordForm(*_posted(request), request=request)
    context: dict[str, Any] = {"title": f"Connect {settings.OIDC_NAME}", "form": form}
    if form.is_bound and form.is_valid():
        user_id = cast(User, request.user).pk
        way = way_to_provider(provider, AuthProcess.CONNECT, next_url=reverse("profile"), user_id=user_id)
        if not isinstance(way, HttpResponseRedirect):
            return way
        context["address"] = way.url
    return render(request, "site/identity_connect.html", context | {"provider": settings.OIDC_NAME})


@never_cache
@sensitive_post_parameters("password")
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def identity_remove(request: HttpRequest, pk: int) -> HttpResponse:
    """Remove an identity of the reader's, once the password confirms that it is they."""
    user = cast(User, request.user)
    identity = get_object_or_404(identities_of(user), pk=pk)
    form = OwnPasswordForm(*_posted(request), request=request)
    refusal = why_kept(identity)
    if not refusal and form.is_bound and form.is_valid():
        try:
            remove_identity(user=user, identity_id=pk)
        except IdentityRefused as error:
            refusal = str(error)
        else:
            return redirect("profile")
    context = {"title": "Remove this identity?", "form": form, "identity": identity, "refusal": refusal}
    return render(request, "site/identity_remove.html", context)


def _posted(request: HttpRequest) -> list[Any]:
    return [request.POST] if request.method == "POST" else []
