"""The users of streams, their sessions and tokens, and whether those are still in force."""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.http import HttpRequest

from apps.accounts.queries import users_of_sessions
from apps.accounts.services import address_of
from apps.api.errors import Refused
from apps.api.tokens.auth import Asker, asker_of
from apps.api.tokens.queries import owners_of_tokens

Viewer = AbstractBaseUser | AnonymousUser


class Credential(NamedTuple):
    """By what a stream was opened: a token, a session, or neither, by a stranger at an address."""

    token_id: int | None
    session_key: str
    address: str


def viewer_of(request: HttpRequest, *, now: datetime) -> tuple[Viewer, Credential]:
    """Return who asks, and by what. Raises Refused: as at /graphql for POST; GET, by which no token comes and no CSRF
    token either, needs a page of this site."""
    key = request.COOKIES.get(settings.SESSION_COOKIE_NAME, "")
    request.user = users_of_sessions([key], now=now).get(key, AnonymousUser()) if key else AnonymousUser()
    if request.method == "GET":
        _refuse_other_sites(request)
        asker = Asker(request.user)
    else:
        asker = asker_of(request, now=now)
    token_id = asker.token.pk if asker.token is not None else None
    session_key = key if token_id is None and asker.user.is_authenticated else ""
    return asker.user, Credential(token_id, session_key, address_of(request))


def in_force(credentials: Iterable[Credential], *, now: datetime) -> dict[Credential, Viewer]:
    """Return credential -> its viewer as the rows say by now, for those that are in force. Three statements."""
    wanted = set(credentials)
    by_token = owners_of_tokens({one.token_id for one in wanted if one.token_id is not None}, now=now)
    by_session = users_of_sessions({one.session_key for one in wanted if one.session_key}, now=now)
    found: dict[Credential, Viewer] = {}
    for one in wanted:
        viewer: Viewer | None
        if one.token_id is not None:
            viewer = by_token.get(one.token_id)
        else:
            viewer = by_session.get(one.session_key) if one.session_key else AnonymousUser()
        if viewer is not None:
            found[one] = viewer
    return found


def site_origin() -> str:
    """Return scheme and host of SITE_URL, as browsers write them in Origin."""
    parts = urlsplit(settings.SITE_URL)
    return f"{parts.scheme}://{parts.netloc}"


def _refuse_other_sites(request: HttpRequest) -> None:
    if "Authorization" in request.headers:
        raise Refused("BAD_REQUEST", "With a token, send it by POST.")
    own = {site_origin(), f"{request.scheme}://{request.get_host()}"}
    is_own = request.headers.get("Sec-Fetch-Site") == "same-origin" or request.headers.get("Origin") in own
    if not is_own:
        raise Refused("CSRF_FAILED", "Only a page of this site may follow by GET.", status=403)
