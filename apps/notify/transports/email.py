"""E-mail over the SMTP server of EMAIL_URL. The Message-ID has the message's id, so a repeat can be recognized."""

import smtplib
import socket
import threading
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import ValidationError
from django.core.mail import EmailMultiAlternatives
from django.core.mail.backends.smtp import EmailBackend
from django.core.validators import EmailValidator
from django.template.loader import render_to_string

from apps.notify import domain
from apps.notify.transports.protocol import (
    SEND_SECONDS,
    ChannelDefaults,
    ChannelInvalid,
    ChannelRefused,
    Receipt,
    RenderedMessage,
    Setting,
    TransportFailure,
    TransportRejected,
    TransportUnavailable,
    read_settings,
)

# White on them is read well, and they stand out from white and from black.
COLOURS = {"critical": "#c62828", "warning": "#9a6400", "info": "#1a6dc4", "": "#6b7482"}

_is_address = EmailValidator()


class Email:
    """One recipient per channel."""

    kind = "email"
    title = "E-mail"
    settings = (Setting("to", "Address", "One e-mail address, like you@example.org."),)
    defaults = ChannelDefaults(messages_per_minute=20)

    def validate(self, settings: Mapping[str, Any]) -> dict[str, str]:
        """Return {"to": address}. Django would take "a@b.c,evil@x" for one address and write both into To."""
        found = read_settings(settings, known=self.settings, kind=self.kind)
        to = found["to"]
        if len(to) > 254 or any(mark in to for mark in ",; <>"):
            raise ChannelInvalid("must be one address, like you@example.org", setting="to")
        try:
            _is_address(to)
        except ValidationError:
            raise ChannelInvalid("must be one address, like you@example.org", setting="to") from None
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
            subject=domain.one_line(rendered.subject),
            body=_text(rendered),
            to=[settings["to"]],
            headers={
                "Message-ID": f"<{rendered.id}@{domain_of_sender}>",
                # So that no out-of-office notice answers (RFC 3834).
                "Auto-Submitted": "auto-generated",
                **_thread(rendered, domain_of_sender),
            },
        )
        mail.attach_alternative(_html(rendered), "text/html")
        try:
            with _Connection() as connection:
                connection.send_messages([mail])
        except smtplib.SMTPRecipientsRefused as error:
            code, answer = next(iter(error.recipients.values()))
            raise _failure(code, answer, no_mailbox=(550, 551, 553), for_good=range(500, 600)) from None
        except smtplib.SMTPDataError as error:
            # 550 says here what the server thinks of the content.
            raise _failure(error.smtp_code, error.smtp_error, for_good=range(500, 600)) from None
        except smtplib.SMTPSenderRefused as error:
            # 552: the mail is too large. All else is about EMAIL_FROM, and so about everybody's mails.
            raise _failure(error.smtp_code, error.smtp_error, for_good=(552,)) from None
        except smtplib.SMTPResponseException as error:
            raise _failure(error.smtp_code, error.smtp_error) from None
        except (smtplib.SMTPException, OSError) as error:
            raise TransportUnavailable("connection", type(error).__name__) from None
        return Receipt(f"taken by {django_settings.EMAIL_HOST}")


def _text(rendered: RenderedMessage) -> str:
    links = [f"{action.label}: {action.url}" for action in rendered.actions]
    return "\n".join([rendered.text, "", *links]) if links else rendered.text


def _html(rendered: RenderedMessage) -> str:
    """Return the message as HTML, each alert with a link; a text that was made by the owner's template stays as it
    is."""
    is_ours = bool(rendered.items) and rendered.text == domain.compose(rendered.items, url=rendered.url)[1]
    groups = [
        (
            deferred_by,
            [
                {
                    "colour": COLOURS.get(events[-1].severity, COLOURS[""]),
                    "severity": events[-1].severity,
                    "title": domain.title_of(events[-1]),
                    "url": events[-1].url,
                    "lines": domain.lines_of(events),
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


def _failure(
    code: int, answer: bytes | str, *, no_mailbox: Collection[int] = (), for_good: Collection[int] = ()
) -> TransportFailure:
    """Return what the server's answer means. no_mailbox, for_good: the codes that refuse the channel, and the mail."""
    said = answer.decode(errors="replace") if isinstance(answer, bytes) else answer
    if not 200 <= code < 600:
        return TransportUnavailable("no_smtp", "what answers there does not speak SMTP")
    reason, detail = f"smtp_{code}", f"{code} {said}".replace("\0", "")
    if code in no_mailbox:
        return ChannelRefused(reason, detail, status=code)
    if code in for_good and code not in (530, 534, 535):
        return TransportRejected(reason, detail, status=code)
    return TransportUnavailable(reason, detail, status=code)
