"""Silences made and ended."""

from datetime import datetime
from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction

from apps.notify.models import Owed, Silence


def create_silence(
    *, author: AbstractBaseUser, starts_at: datetime, ends_at: datetime, comment: str, **match: Any
) -> Silence:
    """Return a new silence. match: owner, rule, asset, severity, each of which may be left out. Raises
    ValidationError."""
    silence = Silence(author=author, starts_at=starts_at, ends_at=ends_at, comment=comment, **match)
    silence.full_clean()
    silence.save()
    return silence


def end_silence(*, silence: Silence, now: datetime) -> bool:
    """End a silence now; what it held back is told as soon as somebody plans. False where it is over already."""
    with transaction.atomic():
        silence.ends_at = max(now, silence.starts_at)
        if not Silence.objects.filter(pk=silence.pk, ends_at__gt=now).update(ends_at=silence.ends_at):
            return False
        look_again(silence=silence, now=now)
    return True


def look_again(*, silence: Silence, now: datetime) -> None:
    """Have what the silence holds back looked at anew, since its end was changed."""
    Owed.objects.filter(silence=silence, message=None).update(due_at=now)
