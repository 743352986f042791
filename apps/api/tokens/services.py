"""Tokens made, used and revoked."""

import secrets
from datetime import datetime, timedelta

from django.contrib.auth.models import AbstractBaseUser
from django.db.models import Q

from apps.api.tokens.models import ApiToken
from apps.api.tokens.queries import digest_of

# So that a secret that leaks into a file or a chat is known for what it is.
_PREFIX = "fintech_"
_USE_NOTED_EVERY = timedelta(minutes=1)


def create_token(
    *,
    owner: AbstractBaseUser,
    name: str,
    expires_at: datetime | None = None,
    scope: str = ApiToken.Scope.READ,
) -> tuple[ApiToken, str]:
    """Return a new token and its secret, which nobody can read again. Raises ValidationError."""
    secret = _PREFIX + secrets.token_urlsafe(32)
    token = ApiToken(owner=owner, name=name, scope=scope, expires_at=expires_at, digest=digest_of(secret))
    token.full_clean()
    token.save()
    return token, secret


def note_use(*, token: ApiToken, now: datetime) -> None:
    """Remember that the token was used, once a minute at most: a read should not cost a write each time."""
    if token.last_used_at is not None and token.last_used_at > now - _USE_NOTED_EVERY:
        return
    stale = Q(last_used_at=None) | Q(last_used_at__lte=now - _USE_NOTED_EVERY)
    ApiToken.objects.filter(stale, pk=token.pk).update(last_used_at=now)


def revoke_token(*, token: ApiToken, now: datetime) -> bool:
    """Refuse the token from now on; False where it was revoked before."""
    return bool(ApiToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=now))
