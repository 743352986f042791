"""E-mail over the SMTP server of EMAIL_URL. Message-ID is the letter's id, so a mail that comes twice can be known."""

import smtplib
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.mail import EmailMessage, get_connection
from django.core.validators import EmailValidator

from apps.notify.transports.protocol import ChannelInvalid, Letter, TransportRejected, TransportUnavailable

_is_address = EmailValidator()


class Email:
    """One recipient per channel."""

    kind = "email"

    def validate_config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return {"to": address}. Django would take "a@b.c,evil@x" for one address and write both into To."""
        unknown = sorted(set(config) - {"to"})
        if unknown:
            raise ChannelInvalid(f"unknown key {unknown[0]!r}; an e-mail channel has only 'to'")
        to = config.get("to")
        if not isinstance(to, str) or len(to) > 254 or any(mark in to for mark in ",;\r\n\0 <>"):
            raise ChannelInvalid("'to' must be one address, like you@example.org")
        try:
            _is_address(to)
        except ValidationError:
            raise ChannelInvalid("'to' must be one address, like you@example.org") from None
        return {"to": to}

    def send(self, letter: Letter, config: Mapping[str, Any]) -> str:
        """Send one mail and return who took it. Raises TransportUnavailable or TransportRejected."""
        if not settings.EMAIL_CONFIGURED:
            raise TransportUnavailable("no_server", "EMAIL_URL is not set")
        domain = settings.DEFAULT_FROM_EMAIL.rpartition("@")[2]
        mail = EmailMessage(
            subject=" ".join(letter.subject.split()),
            body=letter.text,
            to=[config["to"]],
            connection=get_connection(timeout=settings.EMAIL_TIMEOUT),
            headers={"Message-ID": f"<{letter.id}@{domain}>"},
        )
        try:
            mail.send()
        except smtplib.SMTPRecipientsRefused as error:
            code, answer = next(iter(error.recipients.values()))
            _raise(code, answer)
        except smtplib.SMTPResponseException as error:
            _raise(error.smtp_code, error.smtp_error)
        except (smtplib.SMTPException, OSError) as error:
            raise TransportUnavailable("connection", type(error).__name__) from None
        return f"taken by {settings.EMAIL_HOST}"


def _raise(code: int, answer: bytes | str) -> None:
    """5xx is for good, except what our own credentials cause; anything else may pass."""
    detail = f"{code} {answer.decode(errors='replace') if isinstance(answer, bytes) else answer}"[:2048]
    if 500 <= code < 600 and code not in (530, 534, 535):
        raise TransportRejected(f"smtp_{code}", detail)
    raise TransportUnavailable(f"smtp_{code}", detail)
