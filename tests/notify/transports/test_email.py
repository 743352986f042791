"""E-mail through a real SMTP server on loopback: what it is sent, and what each of its answers means."""

import email
import socket
from email.policy import default

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from apps.notify.transports.email import Email
from apps.notify.transports.protocol import ChannelInvalid, Letter, TransportRejected, TransportUnavailable

LETTER = Letter(id="0197a0e0-0000-4000-8000-000000000001", subject="[critical] Peg: USDC-USD", text="It broke.\n.\nEnd")
TO = {"to": "ada@example.org"}


class Server:
    """Answers RCPT and DATA as it is told to, and keeps what it took."""

    def __init__(self):
        self.recipient_answer = self.data_answer = "250 OK"
        self.taken = []

    async def handle_RCPT(self, server, session, envelope, address, options):
        envelope.rcpt_tos.append(address)
        return self.recipient_answer

    async def handle_DATA(self, server, session, envelope):
        self.taken.append((list(envelope.rcpt_tos), email.message_from_bytes(envelope.content, policy=default)))
        return self.data_answer


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def mail_settings(settings):
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_CONFIGURED = True
    settings.EMAIL_HOST = "127.0.0.1"
    settings.EMAIL_PORT = free_port()
    settings.EMAIL_HOST_USER = settings.EMAIL_HOST_PASSWORD = ""
    settings.EMAIL_USE_TLS = settings.EMAIL_USE_SSL = False
    settings.EMAIL_TIMEOUT = 5
    settings.DEFAULT_FROM_EMAIL = "Fintech <alerts@fintech.example>"
    return settings


@pytest.fixture
def server(mail_settings):
    handler = Server()
    refuse = lambda *_: AuthResult(success=False, handled=False)  # noqa: E731
    controller = Controller(
        handler, hostname="127.0.0.1", port=mail_settings.EMAIL_PORT, authenticator=refuse, auth_require_tls=False
    )
    controller.start()
    yield handler
    controller.stop()


def test_a_mail_goes_to_the_one_address_with_subject_and_text(server):
    said = Email().send(LETTER, TO)

    ((recipients, mail),) = server.taken
    assert said == "taken by 127.0.0.1"
    assert recipients == ["ada@example.org"]
    assert (mail["From"], mail["To"]) == ("Fintech <alerts@fintech.example>", "ada@example.org")
    assert mail["Subject"] == "[critical] Peg: USDC-USD"
    assert mail.get_content().splitlines() == ["It broke.", ".", "End"]


def test_every_attempt_carries_the_same_message_id(server):
    Email().send(LETTER, TO)
    Email().send(LETTER, TO)

    ids = [mail["Message-ID"] for _, mail in server.taken]
    assert ids == ["<0197a0e0-0000-4000-8000-000000000001@fintech.example>"] * 2


def test_a_line_break_in_a_subject_cannot_add_a_header(server):
    Email().send(Letter(id="1", subject="Peg\r\nBcc: evil@example.org\r\n\r\nbody", text="t"), TO)

    ((recipients, mail),) = server.taken
    assert recipients == ["ada@example.org"]
    assert mail["Subject"] == "Peg Bcc: evil@example.org body"
    assert mail["Bcc"] is None


@pytest.mark.parametrize(
    ("answer", "reason"), [("550 no such user", "smtp_550"), ("553 bad name", "smtp_553"), ("554 spam", "smtp_554")]
)
def test_a_recipient_refused_with_5xx_is_rejected_for_good(server, answer, reason):
    server.recipient_answer = answer

    with pytest.raises(TransportRejected) as rejection:
        Email().send(LETTER, TO)

    assert (rejection.value.reason, rejection.value.detail) == (reason, answer)
    assert server.taken == []


@pytest.mark.parametrize(
    ("answer", "reason"), [("450 mailbox busy", "smtp_450"), ("451 later", "smtp_451"), ("452 full", "smtp_452")]
)
def test_a_recipient_refused_with_4xx_may_be_tried_again(server, answer, reason):
    server.recipient_answer = answer

    with pytest.raises(TransportUnavailable) as outage:
        Email().send(LETTER, TO)

    assert (outage.value.reason, outage.value.detail) == (reason, answer)


def test_a_mail_refused_for_what_it_says_is_rejected_and_one_put_off_is_not(server):
    server.data_answer = "554 looks like spam"
    with pytest.raises(TransportRejected, match="smtp_554"):
        Email().send(LETTER, TO)

    server.data_answer = "451 greylisted"
    with pytest.raises(TransportUnavailable, match="smtp_451"):
        Email().send(LETTER, TO)


def test_our_own_wrong_password_may_be_put_right_and_tried_again(server, mail_settings):
    mail_settings.EMAIL_HOST_USER, mail_settings.EMAIL_HOST_PASSWORD = "ada", "canary-4711"

    with pytest.raises(TransportUnavailable) as outage:
        Email().send(LETTER, TO)

    assert outage.value.reason == "smtp_535"
    assert "canary-4711" not in outage.value.detail
    assert server.taken == []


def test_a_refused_connection_may_be_tried_again(mail_settings):
    with pytest.raises(TransportUnavailable) as outage:
        Email().send(LETTER, TO)

    assert (outage.value.reason, outage.value.detail) == ("connection", "ConnectionRefusedError")


def test_a_server_that_says_nothing_is_left_after_the_timeout(mail_settings):
    mail_settings.EMAIL_TIMEOUT = 0.2
    with socket.create_server(("127.0.0.1", mail_settings.EMAIL_PORT)), pytest.raises(TransportUnavailable) as outage:
        Email().send(LETTER, TO)

    assert (outage.value.reason, outage.value.detail) == ("connection", "SMTPServerDisconnected")


def test_without_a_server_set_it_says_so(settings):
    settings.EMAIL_CONFIGURED = False

    with pytest.raises(TransportUnavailable) as outage:
        Email().send(LETTER, TO)

    assert (outage.value.reason, outage.value.detail) == ("no_server", "EMAIL_URL is not set")


@pytest.mark.parametrize(
    "address",
    [
        "", "a", "@", "a@", "@b.org", "a@b.c,evil@x", "a@example.org,evil@example.org", "a@example.org;b@example.org",
        "a@example.org evil@example.org", "a@example.org\r\nBcc: evil@example.org", "a@example.org\n",
        "a@example.org\r", "a\0@example.org", "Ada <a@example.org>", "<a@example.org>", "a@example..org",
        "a@-example.org", " a@example.org", "a@example.org ", "x" * 250 + "@example.org",
        None, 5, True, ["a@example.org"], {"a": 1},
    ],
)  # fmt: skip
def test_what_is_not_one_address_is_refused(address):
    with pytest.raises(ChannelInvalid, match="^'to' must be one address, like you@example.org$"):
        Email().validate_config({"to": address})


def test_one_address_is_taken_and_nothing_else_is():
    assert Email().validate_config({"to": "ada+alerts@example.org"}) == {"to": "ada+alerts@example.org"}
    with pytest.raises(ChannelInvalid, match="unknown key 'cc'; an e-mail channel has only 'to'"):
        Email().validate_config({"to": "ada@example.org", "cc": "evil@example.org"})
    with pytest.raises(ChannelInvalid, match="'to' must be one address"):
        Email().validate_config({})
