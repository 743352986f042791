"""What mail servers answer, and what is made of it."""

import socket
import threading
from contextlib import suppress
from datetime import timedelta

import pytest
from django.conf import settings

from apps.notify.transports import email as transport
from apps.notify.transports.email import Email
from apps.notify.transports.protocol import (
    RefusedForNow,
    TooLarge,
    TransportFailure,
    TransportRejected,
    TransportUnavailable,
)
from tests.notify.transports.mailing import RENDERED, TO


@pytest.mark.parametrize(
    ("answer", "kind", "minutes"),
    [
        ("550 5.1.1 no such user", RefusedForNow, 2),
        ("550 5.1.10 null MX", RefusedForNow, 2),
        ("550 5.1.8 bad sender", RefusedForNow, 120),
        ("550 no such user", RefusedForNow, 120),
        ("551 moved", RefusedForNow, 120),
        ("553 bad name", RefusedForNow, 120),
        ("554 denied", RefusedForNow, 120),
        ("550 5.7.1 relaying denied", TransportUnavailable, None),
        ("554 5.7.1 blocked", TransportUnavailable, None),
        ("552 5.2.2 mailbox full", TransportUnavailable, None),
        ("550 5.2.1 too many mails", TransportUnavailable, None),
        ("554 5.3.2 no mail here now", TransportUnavailable, None),
        ("550 5.4.1 no route", TransportUnavailable, None),
        ("552 too much", TooLarge, None),
        ("552 5.3.4 too large", TooLarge, None),
        ("550 5.2.3 too large for this mailbox", TooLarge, None),
        ("555 what is that", TransportRejected, None),
        ("550 5.5.4 what is that", RefusedForNow, 120),
    ],
)
def test_the_enhanced_status_code_says_whether_the_address_the_mail_or_the_server_is_wrong(
    server, answer, kind, minutes
):
    server.recipient_answer = answer

    with pytest.raises(TransportFailure) as refusal:
        Email().send(RENDERED, TO)

    failure = refusal.value
    assert (type(failure), failure.reason, failure.detail) == (kind, f"smtp_{answer[:3]}", answer)
    assert getattr(failure, "off_after", None) == (timedelta(minutes=minutes) if minutes else None)
    assert getattr(failure, "is_shared", True)
    assert server.taken == []


@pytest.mark.parametrize(
    ("answer", "reason"), [("450 mailbox busy", "smtp_450"), ("451 later", "smtp_451"), ("452 full", "smtp_452")]
)
def test_a_recipient_refused_with_4xx_may_be_tried_again(server, answer, reason):
    server.recipient_answer = answer

    with pytest.raises(TransportUnavailable) as outage:
        Email().send(RENDERED, TO)

    assert (outage.value.reason, outage.value.detail) == (reason, answer)


def test_a_mail_refused_for_what_it_says_is_rejected_and_one_put_off_is_not(server):
    server.data_answer = "554 looks like spam"
    with pytest.raises(TransportRejected, match="smtp_554"):
        Email().send(RENDERED, TO)

    server.data_answer = "451 greylisted"
    with pytest.raises(TransportUnavailable, match="smtp_451"):
        Email().send(RENDERED, TO)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("550 5.7.1 this looks unsolicited", TransportUnavailable),
        ("550 this looks unsolicited", TransportRejected),
        ("550 5.6.0 what is that", TransportRejected),
        ("550 5.1.1 no such user", TransportRejected),
        ("552 5.3.4 too large", TooLarge),
    ],
)
def test_a_refusal_of_what_a_mail_says_is_no_word_on_the_address(server, answer, kind):
    server.data_answer = answer

    with pytest.raises(TransportFailure) as refusal:
        Email().send(RENDERED, TO)

    assert type(refusal.value) is kind


@pytest.mark.parametrize("answer", ["550 5.7.1 not for you", "553 5.1.8 no such sender", "554 5.7.1 denied"])
def test_a_sender_that_is_refused_is_our_own_mistake_and_may_be_put_right(server, answer):
    server.sender_answer = answer

    with pytest.raises(TransportUnavailable) as outage:
        Email().send(RENDERED, TO)

    assert (outage.value.reason, outage.value.detail) == (f"smtp_{answer[:3]}", answer)


def test_a_mail_that_is_too_large_is_rejected(server):
    server.sender_answer = "552 5.3.4 too large"

    with pytest.raises(TransportRejected, match="smtp_552"):
        Email().send(RENDERED, TO)


@pytest.fixture
def greeting(mail_settings):
    """What a server says to whoever comes, before it hangs up."""
    said = bytearray()

    def serve(listener):
        peer, _ = listener.accept()
        with peer, suppress(OSError):
            peer.sendall(said)

    with socket.create_server(("127.0.0.1", mail_settings.EMAIL_PORT)) as listener:
        server = threading.Thread(target=serve, args=(listener,))
        server.start()
        yield said
        server.join()


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (b"554 5.7.1 come back later\r\n", ("smtp_554", "554 5.7.1 come back later", 554)),
        (b"421 a\0b\r\n", ("smtp_421", "421 ab", 421)),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", ("no_smtp", "what answers there does not speak SMTP", None)),
        (b"-12 what\r\n", ("no_smtp", "what answers there does not speak SMTP", None)),
    ],
)
def test_a_server_that_will_not_talk_is_tried_again_and_what_it_said_can_be_kept(greeting, said, expected):
    greeting += said

    with pytest.raises(TransportUnavailable) as outage:
        Email().send(RENDERED, TO)

    assert (outage.value.reason, outage.value.detail, outage.value.status) == expected


def test_our_own_wrong_password_may_be_put_right_and_tried_again(server, mail_settings):
    mail_settings.EMAIL_HOST_USER, mail_settings.EMAIL_HOST_PASSWORD = "ada", "canary-4711"

    with pytest.raises(TransportUnavailable) as outage:
        Email().send(RENDERED, TO)

    assert outage.value.reason == "smtp_535"
    assert "canary-4711" not in outage.value.detail
    assert server.taken == []


def unreachable(why):
    server = f"{settings.EMAIL_HOST}:{settings.EMAIL_PORT}"
    return f"the mail server {server} could not be reached, or broke off ({why})"


def test_a_refused_connection_may_be_tried_again(mail_settings):
    with pytest.raises(TransportUnavailable) as outage:
        Email().send(RENDERED, TO)

    assert (outage.value.reason, outage.value.detail) == ("connection", unreachable("ConnectionRefusedError"))


def test_a_server_that_says_nothing_is_left_after_the_timeout(mail_settings):
    mail_settings.EMAIL_TIMEOUT = 0.2
    with socket.create_server(("127.0.0.1", mail_settings.EMAIL_PORT)), pytest.raises(TransportUnavailable) as outage:
        Email().send(RENDERED, TO)

    assert (outage.value.reason, outage.value.detail) == ("connection", unreachable("SMTPServerDisconnected"))


@pytest.fixture(params=[b"", b"220 ready\r\n"], ids=["at the greeting", "at the first answer"])
def patience(request, mail_settings):
    """A server that from some point on says one letter after the other, and never a line's end, until it has lost
    patience: then this is set."""
    is_over, is_lost = threading.Event(), threading.Event()

    def serve(listener):
        peer, _ = listener.accept()
        with peer, suppress(OSError):
            peer.sendall(request.param + b"250-")
            for _ in range(400):
                if is_over.wait(0.05):
                    return
                peer.sendall(b"x")
            is_lost.set()

    with socket.create_server(("127.0.0.1", mail_settings.EMAIL_PORT)) as listener:
        server = threading.Thread(target=serve, args=(listener,))
        server.start()
        yield is_lost
        is_over.set()
        server.join()


def test_a_server_that_trickles_is_left_at_the_end_of_the_time(patience, monkeypatch):
    monkeypatch.setattr(transport, "SEND_SECONDS", 0.5)

    with pytest.raises(TransportUnavailable) as outage:
        Email().send(RENDERED, TO)

    assert (outage.value.reason, outage.value.detail) == ("connection", unreachable("SMTPServerDisconnected"))
    assert not patience.is_set()


def test_without_a_server_set_it_says_so(settings):
    settings.EMAIL_CONFIGURED = False

    with pytest.raises(TransportUnavailable) as outage:
        Email().send(RENDERED, TO)

    assert (outage.value.reason, outage.value.detail) == ("no_server", "EMAIL_URL is not set")
