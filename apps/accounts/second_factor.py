"""The second factor of sign-in: codes of an authenticator app (TOTP), and recovery codes for when it is lost.

allauth keeps both as rows of Authenticator, whose secrets are encrypted. A code works once.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from allauth.mfa.adapter import get_adapter
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP, format_hotp_value, hotp_value
from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import Exists, OuterRef
from django.utils.crypto import constant_time_compare

from apps.accounts.roles import MORE_THAN_OWNER

logger = logging.getLogger(__name__)

# A clock may be that many steps fast or slow.
STEPS_OFF = 1
# In the row: the last step whose code was used.
_LAST_STEP = "last_step"


class AlreadyOn(Exception):
    """The user has a second factor."""


@dataclass(frozen=True, slots=True)
class SecondFactor:
    """When a user turned the second factor on and last used it, and how many recovery codes are left."""

    since: datetime
    last_used_at: datetime | None
    recovery_codes_left: int


def second_factor_of(user: User) -> SecondFactor | None:
    """Return the user's second factor, None for who has none."""
    rows = {row.type: row for row in Authenticator.objects.filter(user=user)}
    totp, recovery = rows.get(Authenticator.Type.TOTP), rows.get(Authenticator.Type.RECOVERY_CODES)
    if totp is None:
        return None
    used = [row.last_used_at for row in rows.values() if row.last_used_at is not None]
    # Without their secret: the key by which it was encrypted may be lost.
    left = settings.MFA_RECOVERY_CODE_COUNT - recovery.data["used_mask"].bit_count() if recovery is not None else 0
    return SecondFactor(since=totp.created_at, last_used_at=max(used, default=None), recovery_codes_left=left)


def must_turn_on(users: Iterable[AbstractBaseUser]) -> set[int]:
    """Return the ids of those who have to turn a second factor on before they do anything else, by the setting
    TWO_FACTOR_REQUIRED. One statement; none where the setting is off."""
    ids = [user.pk for user in users]
    if settings.TWO_FACTOR_REQUIRED == "off" or not ids:
        return set()
    has_none = ~Exists(Authenticator.objects.filter(user=OuterRef("pk"), type=Authenticator.Type.TOTP))
    found = User.objects.filter(has_none, pk__in=ids)
    if settings.TWO_FACTOR_REQUIRED == "staff":
        found = found.filter(MORE_THAN_OWNER)
    return set(found.values_list("pk", flat=True))


def matching_step(secret: str, code: str, *, now: datetime) -> int | None:
    """Return the step of time (Unix time by 30 s) to which a code of this secret belongs, None for a wrong code."""
    current = int(now.timestamp()) // settings.MFA_TOTP_PERIOD
    steps = range(current - STEPS_OFF, current + STEPS_OFF + 1)
    return next((one for one in steps if constant_time_compare(format_hotp_value(hotp_value(secret, one)), code)), None)


@transaction.atomic
def turn_on(*, user: User, secret: str, step: int) -> list[str]:
    """Give the user a second factor, and return its recovery codes. step: that of the code that showed that the user
    has the secret. Raises AlreadyOn."""
    try:
        with transaction.atomic():
            row = TOTP.activate(user, secret).instance
    except IntegrityError:
        raise AlreadyOn from None
    row.data[_LAST_STEP] = step
    row.save(update_fields=["data"])
    logger.info("second factor turned on", extra={"user_id": user.pk})
    return list(RecoveryCodes.activate(user).get_unused_codes())


@transaction.atomic
def use_code(*, user: User, code: str, now: datetime) -> Authenticator | None:
    """Return the row that a code is of, which is used up from then on; None for a wrong or used code. Raises what
    decryption raises."""
    # Locked, so that the same code does not work in two places at once.
    rows = Authenticator.objects.select_for_update().filter(user=user).order_by("pk")
    row = next((row for row in rows if _use(row, code, now=now)), None)
    if row is not None:
        row.last_used_at = now
        row.save(update_fields=["last_used_at"])
    return row


def _use(row: Authenticator, code: str, *, now: datetime) -> bool:
    if row.type == Authenticator.Type.RECOVERY_CODES:
        return bool(RecoveryCodes(row).validate_code(code))
    step = matching_step(get_adapter().decrypt(row.data["secret"]), code, now=now)
    if step is None or step <= row.data.get(_LAST_STEP, -1):
        return False
    row.data[_LAST_STEP] = step
    row.save(update_fields=["data"])
    return True


@transaction.atomic
def renew_recovery_codes(*, user: User) -> list[str]:
    """Return new recovery codes of the user; the ones before work no more."""
    Authenticator.objects.filter(user=user, type=Authenticator.Type.RECOVERY_CODES).delete()
    return list(RecoveryCodes.activate(user).get_unused_codes())


def turn_off(*, user: User) -> bool:
    """Take the user's second factor away, and return whether there was one."""
    was_on = Authenticator.objects.filter(user=user).delete()[0] > 0
    if was_on:
        logger.info("second factor turned off", extra={"user_id": user.pk})
    return was_on
