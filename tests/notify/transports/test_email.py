"""E-mail through a real SMTP server on loopback: what it is sent, and what each of its answers means."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from html import unescape
from zoneinfo import ZoneInfo

import pytest

from apps.locales import STANDARD, Reader
from apps.notify import domain
from apps.notify.transports.email import Email
from apps.notify.transports.protocol import (
    Action,
    ChannelInvalid,
    Receipt,
)
from tests.notify.transports.mailing import PAGE, RENDERED, TO

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


def render(*events, actions=ACTIONS, reader=STANDARD):
    """Return the letter that a message about these is."""
    subject, text = domain.compose(events, url=PAGE, reader=reader)
    severity = domain.highest_severity(events)
    columns = {"subject": subject, "text": text, "severity": severity, "items": events, "actions": actions}
    return replace(RENDERED, reader=reader, **columns)


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


def test_both_parts_have_the_times_of_one_zone(server):
    Email().send(render(items(1), items(2), reader=Reader(ZoneInfo("Europe/Kyiv"))), TO)

    text, html = parts_of(server.taken[0][1])
    for lines in (text.splitlines(), compose_message(html)):
        assert [line for line in lines if "Opened" in line] == ["Opened 2026-03-02 14:00:00 EET."] * 2
    assert "https://fintech.example/alert/2" in html


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
