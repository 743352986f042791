"""Whose account an identity of the single sign-on provider opens. An identity is the provider's issuer and subject."""

import itertools
import logging

from allauth.socialaccount.models import SocialAccount
from django.conf import settings
from django.contrib.auth.models import Group, User
from django.contrib.auth.validators import UnicodeUsernameValidator
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.utils import timezone

from apps.accounts.domain import is_latin
from apps.accounts.queries import is_name_taken
from apps.accounts.roles import OWNER

logger = logging.getLogger(__name__)

SUBJECT_LONGEST = SocialAccount._meta.get_field("uid").max_length
_NAME_LONGEST = 100
ASK = "Ask whoever runs this site."


class IdentityRefused(Exception):
    """The identity opens no account; the text says why, for people."""


def user_of_identity(*, issuer: str, subject: str, email: str, names: list[str]) -> User:
    """Return the user whose account an identity opens, who may be inactive; a new one in the group Owner where nobody
    has the identity or the address.

    email: one that the provider has verified, or ""; names: what to call a new user, the best first. Raises
    IdentityRefused.
    """
    if not subject or len(subject) > SUBJECT_LONGEST:
        raise IdentityRefused(f"The provider names you in a way that this site cannot keep. {ASK}")
    try:
        with transaction.atomic():
            return _user_of_identity(issuer, subject, _valid(email), names)
    except IntegrityError:
        # The same person at the same moment, or a new user of the same name.
        raise IdentityRefused("Somebody signed in at the same moment; try again.") from None


def _user_of_identity(issuer: str, subject: str, email: str, names: list[str]) -> User:
    known = SocialAccount.objects.select_related("user").filter(provider=issuer, uid=subject).first()
    if known is not None:
        known.last_login = timezone.now()
        known.save(update_fields=["last_login"])
        return known.user
    same = _with_address(email) if email else []
    user = _matched(same, issuer) if same else _made(email, names)
    SocialAccount.objects.create(user=user, provider=issuer, uid=subject)
    logger.info("identity connected", extra={"user_id": user.pk, "is_new": not same})
    return user


def _with_address(email: str) -> list[User]:
    # Databases take letters for the same that belong to different addresses: gıthub.com and github.com.
    alike = User.objects.filter(email__iexact=email, pk__gt=0).order_by("pk")
    return [user for user in alike if user.email.casefold() == email.casefold()]


def _matched(same: list[User], issuer: str) -> User:
    if not settings.OIDC_MATCH_EMAIL:
        raise IdentityRefused(f"Your e-mail address belongs to an account here that does not sign in this way. {ASK}")
    if len(same) > 1:
        raise IdentityRefused(f"Several accounts here have your e-mail address. {ASK}")
    # An address may be given to another person, whose identity is another one.
    if SocialAccount.objects.filter(user=same[0], provider=issuer).exists():
        raise IdentityRefused(f"The account here that has your e-mail address belongs to another identity. {ASK}")
    return same[0]


def _made(email: str, names: list[str]) -> User:
    user = User(username=_free_name([*names, email]), email=email, is_staff=True)
    user.set_unusable_password()
    user.save(force_insert=True)
    user.groups.add(Group.objects.get(name=OWNER))
    return user


def _free_name(names: list[str]) -> str:
    """Return a user name that nobody could take for another's, after the first of the names that can be one."""
    bases = [name.partition("@")[0][:_NAME_LONGEST] for name in names]
    base = next((one for one in bases if _is_user_name(one)), "user")
    numbered = itertools.chain([base], (f"{base}{number}" for number in itertools.count(2)))
    return next(name for name in numbered if not is_name_taken(name))


def _is_user_name(name: str) -> bool:
    try:
        UnicodeUsernameValidator()(name)
    except ValidationError:
        return False
    return is_latin(name)


def _valid(email: str) -> str:
    """Return an address as it is, "" where it is none or too long to be kept."""
    try:
        validate_email(email)
    except ValidationError:
        return ""
    return email if len(email) <= 254 else ""
