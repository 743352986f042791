"""Forms that create something once, however often they are sent: by a double click, once more after *Back*, or anew."""

import secrets
from collections.abc import Callable
from typing import Any, NamedTuple

from django import forms
from django.contrib.auth.models import AbstractBaseUser
from django.core.signing import BadSignature, TimestampSigner
from django.db import transaction
from django.db.models import Model
from django.utils import timezone

from apps.accounts.services import IDEMPOTENCY_KEYS_KEPT, KeyReused, claim_key, note_created

SENT_BEFORE = "This form was sent before, so nothing more was created."
_TOO_OLD = "This form is too old. Look whether it was sent already; if it was not, send it again."
_USED = (
    "This form was sent before with something else, which was recorded. To record what it says now too, send it again."
)
_signer = TimestampSigner(salt="form")


def new_key() -> str:
    """Return the key of a new form, which says when the form was made."""
    return _signer.sign(secrets.token_urlsafe(16))


class Created(NamedTuple):
    """What a form created. id: of the row, which may be gone since; is_new: it was created just now."""

    id: int
    is_new: bool


class FormRefused(Exception):
    """The form does not count; the text says why, for people."""


def create_once(
    user: AbstractBaseUser, *, key: str, content: Any, create: Callable[[], Model | None]
) -> Created | None:
    """Return what a form creates, or has created under its key; None where `create` refuses it.

    content: what the form says; create: stores the row and returns it, or None, where nothing is to be stored. Raises
    FormRefused.
    """
    try:
        key = _signer.unsign(key, max_age=IDEMPOTENCY_KEYS_KEPT)
    except BadSignature:
        raise FormRefused(_TOO_OLD) from None
    try:
        with transaction.atomic():
            claimed = claim_key(owner=user, key=key, content=content, now=timezone.now())
            if claimed.created:
                return Created(int(claimed.created), is_new=False)
            row = create()
            if row is None:
                transaction.set_rollback(True)
                return None
            note_created(claimed=claimed, created=str(row.pk))
            return Created(row.pk, is_new=True)
    except KeyReused:
        raise FormRefused(_USED) from None


class OnceForm(forms.Form):
    """A form with a random key. What was created under a key is known for a day, and a form counts for as long."""

    key = forms.CharField(required=False, initial=new_key, widget=forms.HiddenInput)

    def once(self, user: AbstractBaseUser, *, about: Any, create: Callable[[], Model | None]) -> Created | None:
        """Return what the form creates, or has created; None where it is refused, with what is wrong in the form.

        about: what it belongs to, in which forms that say the same may differ; create: stores the row and returns it,
        or None, where nothing is to be stored.
        """
        typed = {name: self.data.get(name, "") for name in self.fields if name != "key"}
        content = [type(self).__name__, about, typed]
        try:
            return create_once(user, key=self.data.get("key", ""), content=content, create=create)
        except FormRefused as refused:
            self.refuse_once(str(refused))
            return None

    def refuse_once(self, why: str) -> None:
        """Say why nothing is created. What is typed can be sent again, as another form."""
        self.add_error(None, why)
        self.data = self.data.copy()
        self.data["key"] = new_key()
