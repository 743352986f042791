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
from apps.accounts.queries import has_password, identities_of, is_name_taken
from apps.accounts.roles import OWNER

logger = logging.getLogger(__name__)

SUBJECT_LONGEST = SocialAccount._meta.get_field("uid").max_length
_NAME_LONGEST = 100
ASK = "Ask whoever runs this site."


class IdentityRefused(Exception):
    """The identity opens no account, or cannot be connected or removed; the text says why, for people."""


def user_of_identity(*, issuer: str, subject: str, email: str, names: list[str]) -> User:
    """Return the user whose account an identity opens, who may be inactive; a new one in the group Owner where nobody
    has the identity or the address.

    email: one that the provider has verified, or ""; names: what to call a new user, the best first. Raises
    IdentityRefused.
    """
    _refuse_subject(subject)
    try:
        with transaction.atomic():
            return _user_of_identity(issuer, subject, _valid(email), names)
    except IntegrityError:
        # The same person at the same moment, or a new user of the same name.
        raise IdentityRefused("Somebody signed in at the same moment; try again.") from None


def connect_identity(*, user: User, issuer: str, subject: str) -> None:
    """Let an identity sign in the user, who has shown that it is theirs. Raises IdentityRefused."""
    _refuse_subject(subject)
    try:
        with transaction.atomic():
            # Of two at once, the second sees the identity of the first.
            User.objects.select_for_update(no_key=True).get(pk=user.pk)
            known = SocialAccount.objects.filter(provider=issuer, uid=subject).first()
            if known is not None and known.user_id != user.pk:
                raise IdentityRefused("This identity signs in another account here. Remove it there first.")
            if known is None and SocialAccount.objects.filter(user=user, provider=issuer).exists():
                raise IdentityRefused("Your account has another identity of this provider. Remove that one first.")
            if known is None:
                SocialAccount.objects.create(user=user, provider=issuer, uid=subject)
                logger.info("identity connected", extra={"user_id": user.pk, "is_new": False})
    except IntegrityError:
        raise IdentityRefused("Somebody connected this identity at the same moment; try again.") from None


def remove_identity(*, user: User, identity_id: int) -> bool:
    """Let an identity of the user no longer sign them in, and return whether there was one. Raises IdentityRefused
    where they could sign in by nothing else."""
    with transaction.atomic():
        # Of two at once, the second sees that the first is gone.
        locked = User.objects.select_for_update(no_key=True).get(pk=user.pk)
        identity = identities_of(locked).filter(pk=identity_id).first()
        if identity is None:
            return False
        if why := why_kept(identity):
            raise IdentityRefused(why)
        identity.delete()
    logger.info("identity removed", extra={"user_id": user.pk})
    return True


def remove_identities(*, user: User) -> list[str]:
    """Let no identity sign the user in any more, as an administrator may decide even where they sign in by nothing
    else; and return what the providers called those that were removed."""
    with transaction.atomic():
        removed = list(identities_of(user).select_for_update())
        identities_of(user).filter(pk__in=[one.pk for one in removed]).delete()
    if removed:
        logger.info("identities removed", extra={"user_id": user.pk})
    return [one.uid for one in removed]


def why_kept(identity: SocialAccount) -> str:
    """Return why the user of an identity cannot remove it: they have no password and no other identity of the provider
    of today. "" where they can."""
    others = identities_of(identity.user).filter(provider=settings.OIDC_ISSUER).exclude(pk=identity.pk)
    if has_password(identity.user) or others.exists():
        return ""
    if not settings.PASSWORD_SIGN_IN:
        return "You sign in by nothing else, and this site has no passwords."
    way = "by “Forgot your password?” on the sign-in page" if settings.EMAIL_CONFIGURED else "which an operator does"
    return f"You sign in by nothing else. First set a password, {way}."


def _refuse_subject(subject: str) -> None:
    if not subject or len(subject) > SUBJECT_LONGEST:
        raise IdentityRefused(f"The provider names you in a way that this site cannot keep. {ASK}")


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
