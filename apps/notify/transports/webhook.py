"""A signed JSON document for a program of the user's own, by the Standard Webhooks specification.

Id and body are the same on every attempt, so a receiver can drop repeats.
"""

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from apps.notify import domain
from apps.notify.transports import posting
from apps.notify.transports.protocol import (
    ChannelDefaults,
    ChannelInvalid,
    Receipt,
    RenderedMessage,
    Setting,
    read_settings,
)

PREFIX = "whsec_"
SECRET_BYTES = 32


class Webhook:
    """One URL per channel, with a secret of its own."""

    kind = "webhook"
    title = "Webhook"
    settings = (
        Setting("url", "URL", "Each message is posted there as JSON."),
        Setting(
            "secret",
            "Secret",
            "Signs what is sent: whsec_ and 24 to 64 bytes in base64. Empty: one is made.",
            is_secret=True,
            is_required=False,
        ),
        Setting(
            "previous_secret",
            "Previous secret",
            "Signs too, for as long as a receiver still checks with it. Empty: there is none.",
            is_secret=True,
            is_required=False,
        ),
    )
    defaults = ChannelDefaults(messages_per_minute=300)
    is_for_programs = True

    def validate(self, settings: Mapping[str, Any]) -> dict[str, str]:
        """Return the settings, with a new secret where none is given."""
        found = read_settings(settings, known=self.settings, kind=self.kind)
        if why := posting.why_not(found["url"]):
            raise ChannelInvalid(why, setting="url")
        for name in ("secret", "previous_secret"):
            if name in found and key_of(found[name]) is None:
                raise ChannelInvalid(f"must be {PREFIX} and 24 to 64 bytes in base64", setting=name)
        return {**found, "secret": found.get("secret") or new_secret()}

    def preview(self, rendered: RenderedMessage, settings: Mapping[str, str]) -> str:
        """Return the document, laid out for reading."""
        return json.dumps(_document(rendered), indent=2, ensure_ascii=False)

    def send(self, rendered: RenderedMessage, settings: Mapping[str, str]) -> Receipt:
        """Post the document, signed with the secret and, while it is being changed, with the previous one."""
        body = json.dumps(_document(rendered), separators=(",", ":")).encode()
        timestamp = int(time.time())
        signatures = [
            sign(settings[name], message_id=rendered.id, timestamp=timestamp, body=body)
            for name in ("secret", "previous_secret")
            if name in settings
        ]
        headers = {
            "Content-Type": "application/json",
            "webhook-id": rendered.id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": " ".join(signatures),
        }
        return posting.receipt_of(posting.post(settings["url"], body=body, headers=headers))


def _document(rendered: RenderedMessage) -> dict[str, Any]:
    """Return the document. timestamp: event time of the latest item, null without items."""
    return {
        "type": "alerts.notification" if rendered.items else "channel.test",
        "timestamp": max(one.at for one in rendered.items).isoformat() if rendered.items else None,
        "data": {
            "subject": rendered.subject,
            "text": rendered.text,
            "url": rendered.url,
            "severity": rendered.severity,
            "events": [domain.as_data(one) | {"reason_text": one.reason_text} for one in rendered.items],
            "actions": [asdict(action) for action in rendered.actions],
        },
    }


def new_secret() -> str:
    """Return a new random secret."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def key_of(secret: str) -> bytes | None:
    """Return the key that a secret encodes, None where it encodes none of 24 to 64 bytes."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return None
    # Receivers decode it by various libraries: only the canonical form is read alike by all of them.
    return key if 24 <= len(key) <= 64 and secret == PREFIX + base64.b64encode(key).decode() else None


def sign(secret: str, *, message_id: str, timestamp: int, body: bytes) -> str:
    """Return one signature as the header has it. timestamp: seconds since 1970."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    digest = hmac.digest(key_of(secret) or b"", signed, hashlib.sha256)
    return "v1," + base64.b64encode(digest).decode()
