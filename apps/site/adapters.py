"""Adapters by which allauth encrypts secrets, finds the single sign-on provider, and calls it."""

from functools import partial
from threading import BoundedSemaphore
from typing import Any

import requests
from allauth.account.adapter import DefaultAccountAdapter
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialApp
from django.conf import settings
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from urllib3.exceptions import HTTPError

from apps.notify.encryption import decrypt, encrypt
from apps.notify.transports.posting import connect_to_allowed, why_not
from apps.notify.transports.protocol import TransportFailure
from apps.outbound import CONNECT_SECONDS, Session, Wire, target_of, within

CALL_SECONDS = 5.0
# Of one process, so that a slow provider leaves threads to the other pages. A call waits so long for its turn.
CALLS_AT_ONCE = 4
TURN_SECONDS = 1.0
ANSWER_LARGEST_BYTES = 1_000_000
_CHUNK_BYTES = 65_536

_calls = BoundedSemaphore(CALLS_AT_ONCE)


class AccountAdapter(DefaultAccountAdapter):
    """allauth signs people in, and does nothing else with accounts."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def login(self, request: HttpRequest, user: Any) -> None:
        super().login(request, user)
        # Before somebody is signed in, a session may be shorter.
        request.session.set_expiry(None)

    def add_message(self, *args: Any, **kwargs: Any) -> None:
        """Say nothing: the page to which signing in leads says it."""

    def respond_user_inactive(self, request: HttpRequest, user: User) -> HttpResponse:
        text = "It is inactive. Ask whoever runs this site."
        return render(request, "site/said.html", {"title": "You cannot use your account", "text": text}, status=403)


class SecondFactorAdapter(DefaultMFAAdapter):
    """Secrets of second factors are encrypted as those of channels are."""

    def get_totp_label(self, user: Any) -> str:
        return str(user.get_username())

    def encrypt(self, text: str) -> str:
        return encrypt({"secret": text})

    def decrypt(self, encrypted_text: str) -> str:
        """Return the secret. Raises DecryptionError."""
        return decrypt(encrypted_text)["secret"]


class SingleSignOnAdapter(DefaultSocialAccountAdapter):
    """The one provider is that of the settings."""

    def list_apps(self, request: Any, provider: Any = None, client_id: Any = None) -> list[SocialApp]:
        if not settings.OIDC_ISSUER:
            return []
        app = SocialApp(
            provider="openid_connect",
            provider_id=settings.OIDC_ISSUER,
            name=settings.OIDC_NAME,
            client_id=settings.OIDC_CLIENT_ID,
            secret=settings.OIDC_CLIENT_SECRET,
            settings={"server_url": settings.OIDC_ISSUER.rstrip("/"), "oauth_pkce_enabled": True},
        )
        return [app]

    def get_requests_session(self) -> requests.Session:
        return ProviderSession()


class ProviderSession(requests.Session):
    """Calls to the single sign-on provider, by the rules of apps.outbound: bounded in time and size, without redirects.
    They go to the host of OIDC_ISSUER, and else where channels may send to."""

    def request(self, method: str, url: str, **options: Any) -> requests.Response:  # type: ignore[override]
        """Return an answer that is whole. Raises requests.RequestException, which names no more than the host."""
        issuer = target_of(settings.OIDC_ISSUER)
        places = [*settings.OUTBOUND_ALLOW, (issuer.host, issuer.port)]
        if why := why_not(url, allow=places):
            raise requests.RequestException(f"the URL {why}")
        target = target_of(url)
        if issuer.scheme == "https" != target.scheme:
            raise requests.RequestException(f"the URL leads to {target.host} without TLS")
        if not _calls.acquire(timeout=TURN_SECONDS):
            raise requests.RequestException(f"{target.host}: too many calls at once")
        failure = "could not be reached"
        try:
            exchange = partial(_exchange, method=method, url=url, places=places, options=options)
            return within(CALL_SECONDS, exchange, name="single-sign-on")
        except TimeoutError:
            failure = f"did not answer within {CALL_SECONDS:g} s"
        except TransportFailure as error:
            failure = str(error)
        except (OSError, HTTPError, ValueError):
            pass
        finally:
            _calls.release()
        # Raised out here: in a handler above it would carry the address as its context.
        raise requests.RequestException(f"{target.host}: {failure}")


def _exchange(wire: Wire, *, method: str, url: str, places: list[Any], options: dict[str, Any]) -> requests.Response:
    fixed = {"stream": True, "allow_redirects": False, "timeout": (CONNECT_SECONDS, CALL_SECONDS + 1)}
    with (
        Session(wire=wire, connect=partial(connect_to_allowed, places=places)) as session,
        session.request(method, url, **options | fixed) as response,
    ):
        body = bytearray()
        for part in response.iter_content(_CHUNK_BYTES):
            body += part
            if len(body) > ANSWER_LARGEST_BYTES:
                raise ValueError("too large")
        # What `content` returns, which cannot be read a second time.
        response._content = bytes(body)
        return response
