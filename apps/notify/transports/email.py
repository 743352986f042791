"""E-mail over the SMTP server of EMAIL_URL. The Message-ID has the message's id, so a repeat can be recognized."""

import re
import smtplib
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from enum import Enum
from typing import Any

from django.conf import settings as django_settings
from django.core.mail import EmailMultiAlternatives
from django.core.mail.backends.smtp import EmailBackend
from django.template.loader import render_to_string

from apps.mail import SEVEN_BIT, header_text, is_mail_address
from apps.notify import domain
from apps.notify.transports.protocol import (
    SEND_SECONDS,
    ChannelDefaults,
    ChannelInvalid,
    Receipt,
    RefusedForNow,
    RenderedMessage,
    Setting,
    TooLarge,
    TransportFailure,
    TransportRejected,
    TransportUnavailable,
    read_settings,
)

# White on them is read well, and they stand out from white and from black.
COLOURS = {"critical": "#c62828", "warning": "#9a6400", "info": "#1a6dc4", "": "#6b7482"}

# Every address on a server that is wrongly set is refused: a refusal is believed when it has been repeated.
NO_MAILBOX_AFTER = timedelta(minutes=2)
REFUSED_AFTER = timedelta(hours=2)
_ENHANCED = re.compile(r"\s*5\.(\d{1,3})\.(\d{1,3})\b")


class Email:
    """One recipient per channel."""

    kind = "email"
    title = "E-mail"
    settings = (Setting("to", "Address", "One e-mail address, like you@example.org."),)
    defaults = ChannelDefaults(messages_per_minute=20)
    is_for_programs = False

    def validate(self, settings: Mapping[str, Any]) -> dict[str, str]:
        """Return {"to": address}."""
        found = read_settings(settings, known=self.settings, kind=self.kind)
        if not is_mail_address(found["to"]):
            raise ChannelInvalid("must be one address, like you@example.org", setting="to")
        return found

    def preview(self, rendered: RenderedMessage, settings: Mapping[str, str]) -> str:
        """Return subject and text; the mail's HTML part says the same."""
        return f"{rendered.subject}\n\n{_text(rendered)}"

    def send(self, rendered: RenderedMessage, settings: Mapping[str, str]) -> Receipt:
        """Send one mail and return who took it."""
        if not django_settings.EMAIL_CONFIGURED:
            raise TransportUnavailable("no_server", "EMAIL_URL is not set")
        domain_of_sender = django_settings.DEFAULT_FROM_EMAIL.rpartition("@")[2].rstrip("> ")
        mail = EmailMultiAlternatives(
            subject=header_text(rendered.subject),
            body=_text(rendered),
            to=[settings["to"]],
            headers={
                "Message-ID": f"<{rendered.id}@{domain_of_sender}>",
                # So that no out-of-office notice answers (RFC 3834).
                "Auto-Submitted": "auto-generated",
                **_thread(rendered, domain_of_sender),
            },
        )
        mail.encoding = SEVEN_BIT
        mail.attach_alternative(_html(rendered), "text/html")
        try:
            with _Connection() as connection:
                connection.send_messages([mail])
        except smtplib.SMTPRecipientsRefused as error:
            raise _failure(*next(iter(error.recipients.values())), stage=_Stage.RECIPIENT) from None
        except smtplib.SMTPDataError as error:
            raise _failure(error.smtp_code, error.smtp_error, stage=_Stage.CONTENT) from None
        except smtplib.SMTPResponseException as error:
            # Of the sender, or of signing in: it is about everybody's mails.
            raise _failure(error.smtp_code, error.smtp_error, stage=_Stage.OTHER) from None
        except (smtplib.SMTPException, OSError) as error:
            server = f"the mail server {django_settings.EMAIL_HOST}:{django_settings.EMAIL_PORT}"
            why = f"{server} could not be reached, or broke off ({type(error).__name__})"
            raise TransportUnavailable("connection", why) from None
        return Receipt(f"taken by {django_settings.EMAIL_HOST}")


def _text(rendered: RenderedMessage) -> str:
    links = [f"{action.label}: {action.url}" for action in rendered.actions]
    return "\n".join([rendered.text, "", *links]) if links else rendered.text


def _html(rendered: RenderedMessage) -> str:
    """Return the message as HTML, each alert with a link; a text that was made by the owner's template stays as it
    is."""
    _, ours = domain.compose(rendered.items, url=rendered.url, reader=rendered.reader) if rendered.items else ("", "")
    is_ours = bool(rendered.items) and rendered.text == ours
    groups = [
        (
            deferred_by,
            [
                {
                    "colour": COLOURS.get(events[-1].severity, COLOURS[""]),
                    "severity": events[-1].severity,
                    "title": domain.title_of(events[-1]),
                    "url": events[-1].url,
                    "lines": domain.lines_of(events, reader=rendered.reader),
                }
                for events in alerts
            ],
        )
        for deferred_by, alerts in (domain.grouped(rendered.items) if is_ours else [])
    ]
    colour = COLOURS.get(rendered.severity, COLOURS[""])
    return render_to_string("notify/mail.html", {"rendered": rendered, "groups": groups, "colour": colour})


def _thread(rendered: RenderedMessage, domain_of_sender: str) -> dict[str, str]:
    """Return the header by which mail programs show all mails about one alert as one thread."""
    alerts = {one.alert_id for one in rendered.items}
    return {"References": f"<alert-{alerts.pop()}@{domain_of_sender}>"} if len(alerts) == 1 else {}


class _Connection(EmailBackend):
    """Django's backend, with a deadline for the whole conversation."""

    def __init__(self) -> None:
        super().__init__(timeout=min(SEND_SECONDS, django_settings.EMAIL_TIMEOUT))

    @property
    def connection_class(self) -> type[smtplib.SMTP]:
        return _BoundedSSL if self.use_ssl else _Bounded


class _Bounded(smtplib.SMTP):
    """An SMTP conversation that is cut off after SEND_SECONDS: the timeout is that of a single read, so a server that
    sends one byte a second could keep the connection open for hours."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._end = threading.Timer(SEND_SECONDS, self._cut)
        self._end.daemon = True
        self._end.start()
        try:
            super().__init__(*args, **kwargs)
        except BaseException:
            self._end.cancel()
            raise

    def _cut(self) -> None:
        # A read that is blocked returns the end of the stream.
        with suppress(OSError):
            if self.sock is not None:
                self.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._end.cancel()
        super().close()


class _BoundedSSL(_Bounded, smtplib.SMTP_SSL):
    """The same, encrypted from the first byte on."""


class _Stage(Enum):
    """The SMTP command that the server refused."""

    RECIPIENT = "recipient"
    CONTENT = "content"
    OTHER = "other"


def _failure(code: int, answer: bytes | str, *, stage: _Stage) -> TransportFailure:
    """Return what the server's answer means: by its enhanced status code (RFC 3463), and without one by what was
    refused."""
    said = answer.decode(errors="replace") if isinstance(answer, bytes) else answer
    if not 200 <= code < 600:
        return TransportUnavailable("no_smtp", "what answers there does not speak SMTP")
    reason, detail = f"smtp_{code}", f"{code} {said}".replace("\0", "")
    again = TransportUnavailable(reason, detail, status=code)
    if code < 500 or code in (530, 534, 535):
        return again
    found = _ENHANCED.match(said)
    subject, number = (int(found[1]), int(found[2])) if found else (None, None)
    # The message is larger than the mailbox or the system takes.
    if (subject, number) in ((2, 3), (3, 4)) or (code == 552 and subject is None):
        return TooLarge(reason, detail, status=code)
    if subject in (2, 3, 4, 7):
        return again
    if stage is _Stage.RECIPIENT and (subject == 1 or code in (550, 551, 553, 554)):
        # 5.1.7 and 5.1.8 are about the sender.
        is_mailbox = subject == 1 and number not in (7, 8)
        off_after = NO_MAILBOX_AFTER if is_mailbox else REFUSED_AFTER
        return RefusedForNow(reason, detail, status=code, off_after=off_after, is_shared=True)
    return again if stage is _Stage.OTHER else TransportRejected(reason, detail, status=code)
