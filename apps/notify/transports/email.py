"""E-mail over the SMTP server of EMAIL_URL. Message-ID is the letter's id, so a mail that comes twice can be known."""

import smtplib
from collections.abc import Mapping
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import ValidationError
from django.core.mail import EmailMessage, get_connection
from django.core.validators import EmailValidator

from apps.notify.transports.protocol import (
    ChannelInvalid,
    ChannelRefused,
    Letter,
    Manners,
    Receipt,
    Setting,
    TransportRejected,
    TransportUnavailable,
    read_settings,
)

_is_address = EmailValidator()


class Email:
    """One recipient per channel."""

    kind = "email"
    title = "E-mail"
    settings = (Setting("to", "Address", "One e-mail address, like you@example.org."),)
    manners = Manners(messages_per_minute=20)

    def validate(self, settings: Mapping[str, Any]) -> dict[str, str]:
        """Return {"to": address}. Django would take "a@b.c,evil@x" for one address and write both into To."""
        found = read_settings(settings, known=self.settings, kind=self.kind)
        to = found["to"]
        if len(to) > 254 or any(mark in to for mark in ",; <>"):
            raise ChannelInvalid("'to' must be one address, like you@example.org", setting="to")
        try:
            _is_address(to)
        except ValidationError:
            raise ChannelInvalid("'to' must be one address, like you@example.org", setting="to") from None
        return found

    def preview(self, letter: Letter, settings: Mapping[str, str]) -> str:
        """Return subject and text."""
        return f"{letter.subject}\n\n{letter.text}"

    def send(self, letter: Letter, settings: Mapping[str, str]) -> Receipt:
        """Send one mail and return who took it."""
        if not django_settings.EMAIL_CONFIGURED:
            raise TransportUnavailable("no_server", "EMAIL_URL is not set")
        domain = django_settings.DEFAULT_FROM_EMAIL.rpartition("@")[2]
        mail = EmailMessage(
            subject=" ".join(letter.subject.split()),
            body=letter.text,
            to=[settings["to"]],
            connection=get_connection(timeout=django_settings.EMAIL_TIMEOUT),
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
        return Receipt(f"taken by {django_settings.EMAIL_HOST}")


def _raise(code: int, answer: bytes | str) -> None:
    """5xx is for good, except what our own credentials cause; 550, 551, 553 say that there is no such mailbox."""
    said = f"{code} {answer.decode(errors='replace') if isinstance(answer, bytes) else answer}"
    if code in (550, 551, 553):
        raise ChannelRefused(f"smtp_{code}", said, status=code)
    if 500 <= code < 600 and code not in (530, 534, 535):
        raise TransportRejected(f"smtp_{code}", said, status=code)
    raise TransportUnavailable(f"smtp_{code}", said, status=code)
