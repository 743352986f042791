"""What is asked of tokens."""

import hashlib
from collections.abc import Iterable
from datetime import datetime

from django.contrib.auth.models import AbstractBaseUser
from django.db.models import Q, QuerySet

from apps.api.tokens.models import ApiToken


def digest_of(secret: str) -> str:
    """Return what is kept of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def token_in_force(secret: str, *, now: datetime) -> ApiToken | None:
    """Return the token with its owner; None where there is none, it is over or revoked, or its owner is inactive.

    It is found by its digest, so the time of the comparison reveals nothing about the secret.
    """
    return _in_force(now).filter(digest=digest_of(secret)).first()


def owners_of_tokens(token_ids: Iterable[int], *, now: datetime) -> dict[int, AbstractBaseUser]:
    """Return token id -> its owner, for those that are in force."""
    return {token.pk: token.owner for token in _in_force(now).filter(pk__in=set(token_ids))}


def _in_force(now: datetime) -> QuerySet[ApiToken]:
    unexpired = Q(expires_at=None) | Q(expires_at__gt=now)
    return ApiToken.objects.filter(unexpired, revoked_at=None, owner__is_active=True).select_related("owner")


def tokens_seen_by(user: AbstractBaseUser) -> QuerySet[ApiToken]:
    """Return the tokens that `user` may see: their own, all for a superuser."""
    rows = ApiToken.objects.select_related("owner")
    return rows if getattr(user, "is_superuser", False) else rows.filter(owner=user)
