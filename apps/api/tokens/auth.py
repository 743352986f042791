"""Who is asking: the owner of a token, or of a session whose page may post, or nobody that we know."""

from datetime import datetime
from typing import NamedTuple

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import CsrfViewMiddleware

from apps.api.errors import Refused
from apps.api.tokens.models import ApiToken
from apps.api.tokens.queries import token_in_force
from apps.api.tokens.services import note_use


class Asker(NamedTuple):
    """The user of a request, and the id of its token: None for a session."""

    user: AbstractBaseUser | AnonymousUser
    token_id: int | None = None

    @property
    def sender(self) -> str:
        """Return the code of the sender: a token, or the user of a session."""
        return f"user:{self.user.pk}" if self.token_id is None else f"token:{self.token_id}"


def asker_of(request: HttpRequest, *, now: datetime, scope: str = ApiToken.Scope.API) -> Asker:
    """Return who asks. Raises Refused: 401 for a token that is not in force, 403 for one of another scope and for a
    session without CSRF token.

    With a token the cookie is not looked at. A session needs the CSRF token whatever else is allowed; a stranger, who
    can do nothing by it, does not.
    """
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        token = token_in_force(secret.strip(), now=now)
        if token is None:
            headers = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
            raise Refused("INVALID_TOKEN", "The token is not in force.", status=401, headers=headers)
        if token.scope != scope:
            raise Refused("FORBIDDEN", f"The token opens {token.get_scope_display()}.", status=403)
        note_use(token=token, now=now)
        return Asker(token.owner, token.pk)
    if request.user.is_authenticated and not _CsrfCheck(_nothing).allows(request):
        raise Refused("CSRF_FAILED", "Send the CSRF token in the header X-CSRFToken.", status=403)
    return Asker(request.user)


class _CsrfCheck(CsrfViewMiddleware):
    """Django's own check, with an answer of ours: the view is exempt from the one that answers in HTML."""

    def allows(self, request: HttpRequest) -> bool:
        return self.process_view(request, _nothing, (), {}) is None

    def _reject(self, request: HttpRequest, reason: str) -> HttpResponse:
        return HttpResponse(status=403)


def _nothing(request: HttpRequest) -> HttpResponse:
    return HttpResponse()
