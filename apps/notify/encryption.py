"""Encrypts channel secrets at rest, so that a dump or a backup of the database reveals none.

Fernet of the `cryptography` library (AES-128-CBC with HMAC-SHA256); the key is not in the database.
"""

import base64
import hashlib
import json
from collections.abc import Mapping

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings


class DecryptionError(ValueError):
    """No key of CHANNEL_ENCRYPTION_KEYS decrypts the text."""


def encrypt(secrets: Mapping[str, str]) -> str:
    """Return the secrets encrypted with the first key; "" for none."""
    return _fernet().encrypt(json.dumps(dict(secrets)).encode()).decode() if secrets else ""


def decrypt(encrypted: str) -> dict[str, str]:
    """Return the secrets that were encrypted with any of the keys. Raises DecryptionError."""
    if not encrypted:
        return {}
    try:
        return dict(json.loads(_fernet().decrypt(encrypted.encode())))
    except InvalidToken:
        raise DecryptionError("the key that it was encrypted with is not among CHANNEL_ENCRYPTION_KEYS") from None


def _fernet() -> MultiFernet:
    """Return the keys: the first encrypts, each of them decrypts. Without CHANNEL_ENCRYPTION_KEYS it is SECRET_KEY."""
    phrases = settings.CHANNEL_ENCRYPTION_KEYS or [settings.SECRET_KEY]
    return MultiFernet(
        [Fernet(base64.urlsafe_b64encode(hashlib.sha256(b"channel" + one.encode()).digest())) for one in phrases]
    )
