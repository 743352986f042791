"""E-mail through a real SMTP server on loopback: what it is sent, and what each of its answers means."""

import email
import re
import socket
import threading
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.policy import default
from html import unescape

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from apps.notify import domain
from apps.notify.transports import email as transport
from apps.notify.transports.email import Email
from apps.notify.transports.protocol import (
    Action,
    ChannelInvalid,
    Receipt,
    RefusedForNow,
    RenderedMessage,
    TooLarge,
    TransportFailure,
    TransportRejected,
    TransportUnavailable,
)

PAGE = "https://fintech.example/message/1"
RENDERED = RenderedMessage(
    id="0197a0e0-0000-4000-8000-000000000001",
    subject="[critical] Peg: USDC-USD",
    text="It broke.\n.\nEnd",
    url=PAGE,
)
TO = {"to": "ada@example.org"}
ACTIONS = (
    Action("Acknowledge", "https://fintech.example/action/a:1"),
    Action("Silence 1 h", "https://fintech.example/action/b:1"),
)


def items(number, **more):
    """Return the opening of one alert."""
    columns = {
        "alert_id": number,
        "event": domain.OPENED,
        "at": datetime(2026, 3, 2, 12, 0, tzinfo=UTC),
        "reason": "",
        "rule": "Peg",
        "symbol": f"COIN-{number}",
        "severity": "critical",
        "summary": f"COIN-{number} is below 0.99",
        "url": f"https://fintech.example/alert/{number}",
    }
    return domain.MessageItem(**(columns | more))


def render(*events, actions=ACTIONS):
    """Return the letter that a message about these is."""
    subject, text = domain.compose(events, url=PAGE)
    return replace(
        RENDERED, subject=subject, text=text, severity=domain.highest_severity(events), items=events, actions=actions
    )


def parts_of(mail):
    """Return (text, HTML) of a mail that was received."""
    assert mail.get_content_type() == "multipart/alternative"
    text, html = mail.iter_parts()
    assert (text.get_content_type(), html.get_content_type()) == ("text/plain", "text/html")
    return text.get_content(), html.get_content()


def compose_message(html):
    """Return what a person reads in HTML, line by line."""
    body = html.partition("<body")[2].partition(">")[2]
    lines = unescape(re.sub(r"<[^>]+>", "", re.sub(r"</(p|h1|h2|div|a|span)>|<br>", "\n", body))).splitlines()
    return [line.strip() for line in lines if line.strip()]


class Server:
    """Answers RCPT and DATA as it is scripted to, and keeps what it took."""

    def __init__(self):
        self.sender_answer = self.recipient_answer = self.data_answer = "250 OK"
        self.taken = []

    async def handle_MAIL(self, server, session, envelope, address, options):
        envelope.mail_from = address
        return self.sender_answer

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
    receipt = Email().send(RENDERED, TO)

    ((recipients, mail),) = server.taken
    assert receipt == Receipt("taken by 127.0.0.1")
    assert recipients == ["ada@example.org"]
    assert (mail["From"], mail["To"]) == ("Fintech <alerts@fintech.example>", "ada@example.org")
    assert mail["Subject"] == "[critical] Peg: USDC-USD"
    assert mail["Auto-Submitted"] == "auto-generated"
    text, html = parts_of(mail)
    assert text.splitlines() == ["It broke.", ".", "End"]
    assert compose_message(html) == ["[critical] Peg: USDC-USD", "It broke.", ".", "End", "See it on the site"]


def test_each_alert_stands_in_both_parts_with_its_summary_its_time_and_a_link(server):
    Email().send(render(items(1), items(2, severity="warning")), TO)

    text, html = parts_of(server.taken[0][1])
    assert text.splitlines() == [
        *["2 alerts.", ""],
        *["[critical] Peg: COIN-1", "COIN-1 is below 0.99", "Opened 2026-03-02 12:00:00 UTC.", ""],
        *["[warning] Peg: COIN-2", "COIN-2 is below 0.99", "Opened 2026-03-02 12:00:00 UTC.", ""],
        *["https://fintech.example/message/1", ""],
        "Acknowledge: https://fintech.example/action/a:1",
        "Silence 1 h: https://fintech.example/action/b:1",
    ]
    assert compose_message(html) == [
        "[critical] 2 alerts: COIN-1, COIN-2",
        *["critical", "Peg: COIN-1", "COIN-1 is below 0.99", "Opened 2026-03-02 12:00:00 UTC."],
        *["warning", "Peg: COIN-2", "COIN-2 is below 0.99", "Opened 2026-03-02 12:00:00 UTC."],
        *["Acknowledge", "Silence 1 h", "See it on the site"],
    ]
    assert re.findall(r'href="([^"]+)"', html) == [
        "https://fintech.example/alert/1",
        "https://fintech.example/alert/2",
        "https://fintech.example/action/a:1",
        "https://fintech.example/action/b:1",
        "https://fintech.example/message/1",
    ]


def test_what_was_deferred_stands_under_what_deferred_it(server):
    Email().send(render(items(1, deferred_by="quiet hours until seven"), items(2)), TO)

    lines = compose_message(parts_of(server.taken[0][1])[1])
    assert [line for line in lines[1:] if line.startswith(("Peg", "Held"))] == [
        *["Peg: COIN-2", "Held back by quiet hours until seven", "Peg: COIN-1"],
    ]


def test_an_opening_and_its_end_are_one_alert(server):
    end = items(1, event=domain.RESOLVED, at=datetime(2026, 3, 2, 12, 5, tzinfo=UTC), reason="recovered")
    Email().send(render(items(1), end, actions=()), TO)

    assert compose_message(parts_of(server.taken[0][1])[1]) == [
        "[critical] Resolved: Peg, COIN-1",
        *["critical", "Peg: COIN-1", "COIN-1 is below 0.99", "Opened 2026-03-02 12:00:00 UTC."],
        "Resolved 2026-03-02 12:05:00 UTC (the condition is over).",
        "See it on the site",
    ]


def test_an_owners_own_template_is_what_both_parts_say(server):
    Email().send(replace(render(items(1)), text="Peg: look\nat https://fintech.example/alert/1 & <run>"), TO)

    text, html = parts_of(server.taken[0][1])
    assert text.splitlines()[:2] == ["Peg: look", "at https://fintech.example/alert/1 & <run>"]
    assert compose_message(html) == [
        *["[critical] Peg: COIN-1", "Peg: look", "at https://fintech.example/alert/1", "& <run>"],
        *["Acknowledge", "Silence 1 h", "See it on the site"],
    ]
    assert 'href="https://fintech.example/alert/1"' in html


def test_names_are_text_and_not_markup(server):
    evil = "<script>alert(1)</script>&amp;\"'<img src=x>"
    Email().send(render(items(1, rule=evil, symbol=evil, summary=evil, deferred_by=evil), items(2)), TO)
    Email().send(replace(render(items(1)), subject=evil, text=evil), TO)

    for _, mail in server.taken:
        html = parts_of(mail)[1]
        assert evil in unescape(html)
        assert not re.search(r"<(script|img)", html)


def test_the_html_asks_for_nothing_from_other_machines(server):
    Email().send(render(items(1), items(2)), TO)

    html = parts_of(server.taken[0][1])[1]
    assert not re.search(r"<(img|link|script|style|iframe|object)\b|url\(|@import|src=", html)


@pytest.mark.parametrize(("severity", "colour"), [("critical", "#c62828"), ("warning", "#9a6400"), ("info", "#1a6dc4")])
def test_the_highest_severity_colours_the_mail(server, severity, colour):
    Email().send(render(items(1, severity=severity), items(2, severity="info")), TO)

    assert f"border-left:6px solid {colour}" in parts_of(server.taken[0][1])[1]


def test_a_thousand_alerts_are_all_listed(server):
    Email().send(render(*(items(number) for number in range(1_000))), TO)

    text, html = parts_of(server.taken[0][1])
    titles = [f"Peg: COIN-{number}" for number in range(1_000)]
    assert [line.removeprefix("[critical] ") for line in text.splitlines() if line.startswith("[critical]")] == titles
    assert [line for line in compose_message(html)[1:] if line.startswith("Peg")] == titles


def test_mails_about_one_alert_are_one_thread(server):
    Email().send(render(items(7)), TO)
    Email().send(render(items(7, event=domain.RESOLVED)), TO)
    Email().send(render(items(7), items(8)), TO)

    assert [mail["References"] for _, mail in server.taken] == ["<alert-7@fintech.example>"] * 2 + [None]


def test_a_preview_says_what_the_text_says(server):
    rendered = render(items(1))
    Email().send(rendered, TO)

    mail = server.taken[0][1]
    text = parts_of(mail)[0].replace("\r\n", "\n").rstrip("\n")
    assert Email().preview(rendered, TO) == f"{mail['Subject']}\n\n{text}"


def test_every_attempt_carries_the_same_message_id(server):
    Email().send(RENDERED, TO)
    Email().send(RENDERED, TO)

    ids = [mail["Message-ID"] for _, mail in server.taken]
    assert ids == ["<0197a0e0-0000-4000-8000-000000000001@fintech.example>"] * 2


def test_a_line_break_in_a_subject_cannot_add_a_header(server):
    Email().send(replace(RENDERED, subject="Peg\r\nBcc: evil@example.org\r\n\r\nbody"), TO)

    ((recipients, mail),) = server.taken
    assert recipients == ["ada@example.org"]
    assert mail["Subject"] == "Peg Bcc: evil@example.org body"
    assert mail["Bcc"] is None


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


def test_a_mail_has_seven_bits_whatever_the_names_in_it(server):
    names = "Курс € " + "ж" * 2_000
    Email().send(replace(render(items(1, rule=names, summary=names)), subject="Курс"), TO)

    mail = server.taken[0][1]
    assert mail.as_bytes().isascii()
    assert [part["Content-Transfer-Encoding"] for part in mail.iter_parts()] == ["quoted-printable"] * 2
    assert (mail["Subject"], names in parts_of(mail)[0]) == ("Курс", True)


def test_control_characters_reach_no_header(server):
    Email().send(replace(RENDERED, subject="a\0b\x07c\x1b[31m\x7f\x85d\u2028e"), TO)
    assert server.taken[0][1]["Subject"] == "abc[31m d e"


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


def test_a_refused_connection_may_be_tried_again(mail_settings):
    with pytest.raises(TransportUnavailable) as outage:
        Email().send(RENDERED, TO)

    assert (outage.value.reason, outage.value.detail) == ("connection", "ConnectionRefusedError")


def test_a_server_that_says_nothing_is_left_after_the_timeout(mail_settings):
    mail_settings.EMAIL_TIMEOUT = 0.2
    with socket.create_server(("127.0.0.1", mail_settings.EMAIL_PORT)), pytest.raises(TransportUnavailable) as outage:
        Email().send(RENDERED, TO)

    assert (outage.value.reason, outage.value.detail) == ("connection", "SMTPServerDisconnected")


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

    assert (outage.value.reason, outage.value.detail) == ("connection", "SMTPServerDisconnected")
    assert not patience.is_set()


def test_without_a_server_set_it_says_so(settings):
    settings.EMAIL_CONFIGURED = False

    with pytest.raises(TransportUnavailable) as outage:
        Email().send(RENDERED, TO)

    assert (outage.value.reason, outage.value.detail) == ("no_server", "EMAIL_URL is not set")


@pytest.mark.parametrize(
    "address",
    [
        "a", "@", "a@", "@b.org", "a@b.c,evil@x", "a@example.org,evil@example.org", "a@example.org;b@example.org",
        "a@example.org evil@example.org", "Ada <a@example.org>", "<a@example.org>", "a@example..org",
        "a@-example.org", " a@example.org", "a@example.org ", "x" * 250 + "@example.org", "a@[127.0.0.1]",
        "a@localhost", "a@exam\u2028ple.org", "a@exam\u202eple.org", "a\u2028@example.org",
    ],
)  # fmt: skip
def test_what_is_not_one_address_is_refused(address):
    with pytest.raises(ChannelInvalid, match="^'to' must be one address, like you@example.org$") as refusal:
        Email().validate({"to": address})

    assert refusal.value.setting == "to"


@pytest.mark.parametrize(
    "address",
    [
        "a@example.org\r\nBcc: evil@example.org", "a@example.org\n", "a@example.org\r", "a\0@example.org",
        None, 5, True, ["a@example.org"], {"a": 1},
    ],
)  # fmt: skip
def test_what_is_no_text_of_one_line_is_refused(address):
    with pytest.raises(ChannelInvalid, match="^'to' must be a text of one line$"):
        Email().validate({"to": address})


def test_one_address_is_taken_and_nothing_else_is():
    assert Email().validate({"to": "ada+alerts@example.org"}) == {"to": "ada+alerts@example.org"}
    with pytest.raises(ChannelInvalid, match="unknown setting 'cc'; a channel of kind email has 'to'"):
        Email().validate({"to": "ada@example.org", "cc": "evil@example.org"})
    for nothing in ({}, {"to": ""}):
        with pytest.raises(ChannelInvalid, match="'to' is missing"):
            Email().validate(nothing)
