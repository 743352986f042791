"""Single sign-on: to the OpenID Connect provider and back, and what is demanded of its answers (ADR 94)."""

import logging
import secrets
from typing import Any

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
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.crypto import constant_time_compare
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from apps.accounts.identities import IdentityRefused, user_of_identity

logger = logging.getLogger(__name__)

# Of asymmetric keys alone: a public key must not pass for a shared secret.
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
# A provider's clock may be that many seconds fast or slow.
LEEWAY_SECONDS = 30
NOT_NOW = "It does not answer as it should. Try again in some minutes."
NOT_ACCEPTED = "This site could not accept its answer. Try again from the sign-in page."
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


class _Provider(OpenIDConnectProvider):
    oauth2_adapter_class = _Adapter


@never_cache
@require_safe
def single_sign_on(request: HttpRequest) -> HttpResponse:
    """Send the visitor to the provider.

    By GET: a form's page would have to allow the provider in its policy, which browsers apply to redirects too.
    """
    provider = _provider(request)
    target = request.GET.get("next", "")
    is_here = url_has_allowed_host_and_scheme(target, {request.get_host()}, require_https=request.is_secure())
    nonce = secrets.token_urlsafe(32)
    if not request.user.is_authenticated:
        # Anybody may come here, and each leaves a session.
        request.session.set_expiry(statekit.STATE_TTL)
    try:
        return provider.redirect(
            request,
            AuthProcess.LOGIN,
            next_url=target if is_here else settings.LOGIN_REDIRECT_URL,
            data={"nonce": nonce},
            auth_params={"nonce": nonce},
        )
    except (_Refused, OAuth2Error, requests.RequestException, *_STRANGE) as error:
        return _refused(request, error, NOT_NOW, status=503)


@never_cache
@require_safe
def single_sign_on_callback(request: HttpRequest) -> HttpResponse:
    """Sign the visitor in whom the provider sends back, once their second factor is given."""
    provider = _provider(request)
    state = statekit.unstash_state(request, provider_id=provider.sub_id, state_id=request.GET.get("state", ""))
    if state is None:
        return _refused(request, _Refused("the state is not one of this browser"), NOT_ACCEPTED)
    if "code" not in request.GET:
        text = "It did not sign you in. You may have cancelled, or may not use this site."
        return _refused(request, _Refused("the provider gave no code"), text)
    try:
        claims = _claims_of(request, provider, state)
    except requests.RequestException as error:
        return _refused(request, error, NOT_NOW, status=503)
    except (_Refused, OAuth2Error, jwt.PyJWTError, *_STRANGE) as error:
        return _refused(request, error, NOT_ACCEPTED)
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
        return _refused(request, error, str(error))
    return perform_login(request, Login(user=user, redirect_url=state["next"]))


def _provider(request: HttpRequest) -> _Provider:
    apps = get_adapter().list_apps(request)
    if not apps:
        raise Http404
    return _Provider(request, app=apps[0])


def _claims_of(request: HttpRequest, provider: _Provider, state: dict[str, Any]) -> dict[str, Any]:
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


def _refused(request: HttpRequest, error: Exception, text: str, *, status: int = 403) -> HttpResponse:
    """Return the page that says that the provider signed nobody in, and log why."""
    # Of other errors the text may hold what the provider sent.
    is_safe = isinstance(error, _Refused | IdentityRefused | jwt.PyJWTError | requests.RequestException)
    reason = str(error) if is_safe else type(error).__name__
    logger.warning("single sign-on refused", extra={"reason": reason})
    context = {"title": f"No sign-in by {settings.OIDC_NAME}", "text": text}
    return render(request, "site/said.html", context, status=status)
