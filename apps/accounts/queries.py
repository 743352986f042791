"""Reads of profiles and of attempts to sign in."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from allauth.socialaccount.models import SocialAccount
from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.models import Session
from django.db.models import QuerySet
from django.utils.crypto import constant_time_compare, salted_hmac

from apps.accounts.domain import look_of
from apps.accounts.models import Profile, SignInAttempt
from apps.accounts.second_factor import must_turn_on
from apps.locales import LOCALES, STANDARD, Reader

WITHIN = timedelta(hours=1)
ATTEMPTS_PER_ACCOUNT = {SignInAttempt.Kind.PASSWORD: 10, SignInAttempt.Kind.MAIL: 5}
ATTEMPTS_PER_ADDRESS = 20


def is_name_taken(name: str, *, besides: int | None = None) -> bool:
    """Tell whether somebody else has this name, in other capitals or so that it looks the same."""
    others = get_user_model().objects.exclude(pk=besides).values_list("username", flat=True)
    return any(name.casefold() == one.casefold() or look_of(name) == look_of(one) for one in others)


def has_password(user: AbstractBaseUser) -> bool:
    """Tell whether the user signs in by a password."""
    return settings.PASSWORD_SIGN_IN and user.has_usable_password()


def identities_of(user: AbstractBaseUser) -> QuerySet[SocialAccount]:
    """Return by which identities of the single sign-on provider the user signs in."""
    return SocialAccount.objects.filter(user=user).order_by("pk")


def profile_of(user: AbstractBaseUser) -> Profile:
    """Return the user's profile; one with the defaults, not saved, where they have none."""
    return Profile.objects.filter(user=user).first() or Profile(user=user)


def reader_of(user: AbstractBaseUser | AnonymousUser) -> Reader:
    """Return what a signed-in user has chosen, the standard reader where they have not; without a statement for a user
    whom the backend has read."""
    profile = getattr(user, "profile", None)
    if profile is None:
        return STANDARD
    try:
        zone: tzinfo = ZoneInfo(profile.time_zone)
    except (ValueError, OSError, ZoneInfoNotFoundError):
        # A newer edition of the time zone database no longer has it.
        zone = UTC
    return Reader(zone, LOCALES[profile.locale])


def users_of_sessions(keys: Iterable[str], *, now: datetime) -> dict[str, AbstractBaseUser]:
    """Return session key -> its user, for those that are in force: not over, of an active user with the second factor
    that the site requires, and begun under the password of today. Two statements, three where one is required."""
    rows = Session.objects.filter(pk__in=set(keys), expire_date__gt=now)
    found = {row.pk: row.get_decoded() for row in rows}
    signed_in = {key: data[SESSION_KEY] for key, data in found.items() if SESSION_KEY in data}
    users = get_user_model().objects.filter(pk__in=signed_in.values(), is_active=True)
    without = must_turn_on(users)
    by_id = {str(user.pk): user for user in users if user.pk not in without}
    return {
        key: by_id[user_id]
        for key, user_id in signed_in.items()
        if user_id in by_id
        and constant_time_compare(found[key].get(HASH_SESSION_KEY, ""), by_id[user_id].get_session_auth_hash())
    }


def account_key(name: str) -> str:
    """Return what stands for a name or an address, in whatever capitals it is written."""
    return salted_hmac("apps.accounts.sign_in", name.casefold(), algorithm="sha256").hexdigest()


def attempts_on(*, kind: str, name: str, now: datetime) -> QuerySet[SignInAttempt]:
    """Return the attempts of the last hour on one account."""
    return SignInAttempt.objects.filter(kind=kind, account=account_key(name), at__gt=now - WITHIN)


def attempts_from(*, kind: str, address: str, now: datetime) -> QuerySet[SignInAttempt]:
    """Return the attempts of the last hour from one address; none where the address is not known."""
    if not address:
        return SignInAttempt.objects.none()
    return SignInAttempt.objects.filter(kind=kind, address=address, at__gt=now - WITHIN)


def attempts_are_used_up(*, kind: str, name: str, address: str, now: datetime) -> bool:
    """Tell whether another attempt would be refused."""
    return (
        attempts_on(kind=kind, name=name, now=now).count() >= ATTEMPTS_PER_ACCOUNT[kind]
        or attempts_from(kind=kind, address=address, now=now).count() >= ATTEMPTS_PER_ADDRESS
    )
