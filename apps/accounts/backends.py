"""Who somebody is, by name and password."""

from typing import Any

from django.conf import settings
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.utils import timezone

from apps.accounts.hashers import TooManyPasswords
from apps.accounts.models import SignInAttempt
from apps.accounts.services import address_of, begin_attempt


class LimitedBackend(ModelBackend):
    """Django's own, which guesses only so often: whatever door asks for a password, asks here."""

    def get_user(self, user_id: int) -> User | None:
        """Return the user of a session, with the profile, which each page reads."""
        user = User.objects.select_related("profile").filter(pk=user_id).first()
        return user if user is not None and self.user_can_authenticate(user) else None

    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **kwargs: Any
    ) -> User | None:
        """Return the user, or None. Raises PermissionDenied, which Django takes for a no, where the attempts are used
        up, and TooManyPasswords."""
        if username is None or password is None or not settings.PASSWORD_SIGN_IN:
            return None
        attempt = begin_attempt(
            kind=SignInAttempt.Kind.PASSWORD, name=username, address=address_of(request), now=timezone.now()
        )
        if attempt is None:
            raise PermissionDenied
        try:
            user = super().authenticate(request, username=username, password=password, **kwargs)
        except TooManyPasswords:
            attempt.delete()
            raise
        if user is not None:
            attempt.delete()
        return user
