"""Who is asking: the owner of a token, or of a session whose page may post, or nobody that we know."""

from datetime import datetime
from typing import NamedTuple

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import CsrfViewMiddleware

from apps.accounts.second_factor import must_turn_on
from apps.api.errors import Refused
from apps.api.tokens.models import ApiToken
from apps.api.tokens.queries import token_in_force
from apps.api.tokens.services import note_use

# Scope of a token -> what it opens.
_OPENS = {
    ApiToken.Scope.READ: {ApiToken.Scope.READ},
    ApiToken.Scope.WRITE: {ApiToken.Scope.READ, ApiToken.Scope.WRITE},
    ApiToken.Scope.METRICS: {ApiToken.Scope.METRICS},
}


class Asker(NamedTuple):
    """The user of a request, and its token: None for a session."""

    user: AbstractBaseUser | AnonymousUser
    token: ApiToken | None = None

    @property
    def sender(self) -> str:
        """Return the code of the sender: a token, or the user of a session."""
        return f"user:{self.user.pk}" if self.token is None else f"token:{self.token.pk}"

    @property
    def counted_as(self) -> dict[str, str]:
        """Return what its requests are counted under: token and user; nothing for a stranger."""
        user = {"user": str(self.user.pk)} if self.user.is_authenticated else {}
        return ({"token": str(self.token.pk)} if self.token is not None else {}) | user

    def refuse_unless(self, scope: str) -> None:
        """Raise Refused, 403, where a token does not open this scope. A session opens what its user may."""
        if self.token is not None and scope not in _OPENS[ApiToken.Scope(self.token.scope)]:
            what = self.token.get_scope_display()
            message = f"The token opens {what}. This needs one of the scope {scope}."
            headers = {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'}
            raise Refused("INSUFFICIENT_SCOPE", message, status=403, headers=headers)


def asker_of(request: HttpRequest, *, now: datetime, scope: str = ApiToken.Scope.READ) -> Asker:
    """Return who asks. Raises Refused: 401 for a token that is not in force, 403 for one that does not open the scope
    and for a session without CSRF token, or without the second factor that the site requires.

    With a token the cookie is not looked at. A session needs the CSRF token whatever else is allowed; a stranger, who
    can do nothing by it, does not.
    """
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        token = token_in_force(secret.strip(), now=now)
        if token is None:
            headers = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
            raise Refused("INVALID_TOKEN", "The token is not in force.", status=401, headers=headers)
        asker = Asker(token.owner, token)
        asker.refuse_unless(scope)
        note_use(token=token, now=now)
        return asker
    if request.user.is_authenticated and not _CsrfCheck(_nothing).allows(request):
        raise Refused("CSRF_FAILED", "Send the CSRF token in the header X-CSRFToken.", status=403)
    if request.user.is_authenticated and must_turn_on([request.user]):
        raise Refused("SECOND_FACTOR_REQUIRED", "Set up two-factor sign-in on this site first.", status=403)
    return Asker(request.user)


class _CsrfCheck(CsrfViewMiddleware):
    """Django's own check, with an answer of ours: the view is exempt from the one that answers in HTML."""

    def allows(self, request: HttpRequest) -> bool:
        return self.process_view(request, _nothing, (), {}) is None

    def _reject(self, request: HttpRequest, reason: str) -> HttpResponse:
        return HttpResponse(status=403)


def _nothing(request: HttpRequest) -> HttpResponse:
    return HttpResponse()
