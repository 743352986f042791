"""Single sign-on: to the OpenID Connect provider and back, and what is demanded of its answers (ADR 94)."""

import logging
import secrets
from functools import partial
from typing import Any, cast

import jwt
import requests
from allauth.account.internal.flows.login import perform_login
from allauth.account.models import Login
from allauth.socialaccount.adapter import get_adapter
from allauth.socialaccount.internal import statekit
from allauth.socialaccount.models import SocialApp
from allauth.socialaccount.providers.base.constants import AuthProcess
from allauth.socialaccount.providers.oauth2.client import OAuth2Error
from allauth.socialaccount.providers.openid_connect.provider import OpenIDConnectProvider
from allauth.socialaccount.providers.openid_connect.views import OpenIDConnectOAuth2Adapter
from django.conf import settings
from django.contrib.auth.models import User
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.crypto import constant_time_compare
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from apps.accounts.identities import IdentityRefused, connect_identity, user_of_identity

logger = logging.getLogger(__name__)

# Of asymmetric keys alone: a public key must not pass for a shared secret.
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
# A provider's clock may be that many seconds fast or slow.
LEEWAY_SECONDS = 30
NOT_NOW = "It does not answer as it should. Try again in some minutes."
NOT_ACCEPTED = "This site could not accept its answer. Try again."
# What the provider may send in place of what is documented.
_STRANGE = (KeyError, TypeError, ValueError, AttributeError)


class _Refused(Exception):
    """The answer of the provider is not accepted. The text is for the log and has no secret."""


class _Adapter(OpenIDConnectOAuth2Adapter):
    """Checks the issuer in the provider's discovery document, and names the address to which it sends people back."""

    @property
    def openid_config(self) -> dict[str, Any]:
        config: dict[str, Any] = super().openid_config
        if config["issuer"].rstrip("/") != settings.OIDC_ISSUER.rstrip("/"):
            raise _Refused("the discovery document is of another issuer")
        return config

    def get_callback_url(self, request: HttpRequest, app: SocialApp) -> str:
        # As links in mails, whatever a request says.
        return str(settings.SITE_URL + reverse("single_sign_on_callback"))


class Provider(OpenIDConnectProvider):
    oauth2_adapter_class = _Adapter


@never_cache
@require_safe
def single_sign_on(request: HttpRequest) -> HttpResponse:
    """Send the visitor to the provider.

    By GET: a form's page would have to allow the provider in its policy, which browsers apply to redirects too.
    """
    provider = provider_of(request)
    target = request.GET.get("next", "")
    is_here = url_has_allowed_host_and_scheme(target, {request.get_host()}, require_https=request.is_secure())
    if not request.user.is_authenticated:
        # Anybody may come here, and each leaves a session.
        request.session.set_expiry(statekit.STATE_TTL)
    return way_to_provider(provider, AuthProcess.LOGIN, next_url=target if is_here else settings.LOGIN_REDIRECT_URL)


def way_to_provider(provider: Provider, process: str, *, next_url: str, user_id: int | None = None) -> HttpResponse:
    """Return the redirect to the provider, or the page that says that it does not answer.

    process: LOGIN or CONNECT of AuthProcess; user_id: to whose account the identity is to be connected.
    """
    request, nonce = provider.request, secrets.token_urlsafe(32)
    try:
        return provider.redirect(
            request,
            process,
            next_url=next_url,
            data={"nonce": nonce, "user_id": user_id},
            auth_params={"nonce": nonce},
        )
    except (_Refused, OAuth2Error, requests.RequestException, *_STRANGE) as error:
        return _refused(request, error, NOT_NOW, status=503, process=process)


@never_cache
@require_safe
def single_sign_on_callback(request: HttpRequest) -> HttpResponse:
    """Sign the visitor in whom the provider sends back, once their second factor is given; or connect the identity to
    the account of the reader who asked for that."""
    provider = provider_of(request)
    state = statekit.unstash_state(request, provider_id=provider.sub_id, state_id=request.GET.get("state", ""))
    if state is None:
        return _refused(request, _Refused("the state is not one of this browser"), NOT_ACCEPTED)
    refused = partial(_refused, request, process=state["process"])
    if "code" not in request.GET:
        text = "It did not sign you in. You may have cancelled, or may not use this site."
        return refused(_Refused("the provider gave no code"), text)
    try:
        claims = _claims_of(request, provider, state)
    except requests.RequestException as error:
        return refused(error, NOT_NOW, status=503)
    except (_Refused, OAuth2Error, jwt.PyJWTError, *_STRANGE) as error:
        return refused(error, NOT_ACCEPTED)
    if state["process"] == AuthProcess.CONNECT:
        return _connected(request, claims["sub"], user_id=state["data"]["user_id"])
    # Some providers write it as a text.
    is_verified = claims.get("email_verified") is True or claims.get("email_verified") == "true"
    try:
        user = user_of_identity(
            issuer=settings.OIDC_ISSUER,
            subject=claims["sub"],
            email=str(claims.get("email", "")) if is_verified else "",
            names=[str(claims.get("preferred_username", ""))],
        )
    except IdentityRefused as error:
        return refused(error, str(error))
    return perform_login(request, Login(user=user, redirect_url=state["next"]))


def _connected(request: HttpRequest, subject: str, *, user_id: int) -> HttpResponse:
    """Connect an identity to the reader's account, where it is the account that asked for it."""
    try:
        if request.user.pk != user_id:
            raise IdentityRefused("You are no longer signed in as the person who asked for it.")
        connect_identity(user=cast(User, request.user), issuer=settings.OIDC_ISSUER, subject=subject)
    except IdentityRefused as error:
        return _refused(request, error, str(error), process=AuthProcess.CONNECT)
    return redirect("profile")


def provider_of(request: HttpRequest) -> Provider:
    """Return the provider of the settings. Raises Http404 where there is none."""
    apps = get_adapter().list_apps(request)
    if not apps:
        raise Http404
    return Provider(request, app=apps[0])


def _claims_of(request: HttpRequest, provider: Provider, state: dict[str, Any]) -> dict[str, Any]:
    """Return what the provider says of the person. Raises _Refused, jwt.PyJWTError, OAuth2Error, RequestException, and
    one of _STRANGE for answers of another form."""
    adapter = provider.get_oauth2_adapter(request)
    client = adapter.get_client(request, provider.app)
    tokens = client.get_access_token(request.GET["code"], pkce_code_verifier=state["pkce_code_verifier"])
    claims = _verified(tokens["id_token"], adapter.openid_config, nonce=state["data"]["nonce"])
    if "email" not in claims and "userinfo_endpoint" in adapter.openid_config:
        more = adapter._fetch_user_info(tokens["access_token"])
        if more["sub"] != claims["sub"]:
            raise _Refused("userinfo is about another subject")
        claims = more | claims
    return claims


def _verified(id_token: str, config: dict[str, Any], *, nonce: str) -> dict[str, Any]:
    """Return the claims of an ID token that the provider has signed for this site and this sign-in."""
    with get_adapter().get_requests_session() as session:
        answer = session.get(config["jwks_uri"])
    answer.raise_for_status()
    key_id = jwt.get_unverified_header(id_token).get("kid")
    keys = [one for one in jwt.PyJWKSet.from_dict(answer.json()).keys if one.public_key_use in (None, "sig")]
    keys = [one for one in keys if key_id in (None, one.key_id)]
    if len(keys) != 1:
        raise _Refused("no key of the provider, or more than one, has the id of the ID token's")
    claims: dict[str, Any] = jwt.decode(
        id_token,
        key=keys[0],
        algorithms=ALGORITHMS,
        audience=settings.OIDC_CLIENT_ID,
        issuer=config["issuer"],
        leeway=LEEWAY_SECONDS,
        options={"require": ["iss", "sub", "aud", "exp", "iat", "nonce"]},
    )
    if claims.get("azp", settings.OIDC_CLIENT_ID) != settings.OIDC_CLIENT_ID:
        raise _Refused("the ID token is for another client")
    if not constant_time_compare(str(claims["nonce"]), nonce):
        raise _Refused("the ID token is of another sign-in")
    return claims


def _refused(
    request: HttpRequest, error: Exception, text: str, *, status: int = 403, process: str = AuthProcess.LOGIN
) -> HttpResponse:
    """Return the page that says that the provider signed nobody in, or connected nothing, and log why."""
    # Of other errors the text may hold what the provider sent.
    is_safe = isinstance(error, _Refused | IdentityRefused | jwt.PyJWTError | requests.RequestException)
    reason = str(error) if is_safe else type(error).__name__
    logger.warning("single sign-on refused", extra={"reason": reason})
    by = settings.OIDC_NAME
    title = f"{by} is not connected" if process == AuthProcess.CONNECT else f"No sign-in by {by}"
    return render(request, "site/said.html", {"title": title, "text": text}, status=status)
