"""Apprise's services, their addresses turned to a local server: what they are sent, and who is not called at all."""

import json
import logging
import socket
import threading
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest
import requests
from apprise.manager_plugins import NotificationManager
from werkzeug import Response

from apps.notify import domain
from apps.notify.transports import apprise as transport
from apps.notify.transports.apprise import Apprise, allowed_schemas
from apps.notify.transports.protocol import (
    ChannelInvalid,
    ChannelRefused,
    Receipt,
    RenderedMessage,
    TransportUnavailable,
)
from apps.notify.transports.registry import transport_named

CANARY = "canary4711canary4711canary4711ca"
DISCORD = {"url": f"discord://4711/{CANARY}"}
RENDERED = RenderedMessage(
    id="0197a0e0-0000-4000-8000-000000000001",
    subject="[critical] Peg: USDC-USD",
    text="It broke.\nOpened 2026-03-02 12:00:00 UTC.",
    url="https://fintech.example/message/1",
    severity="critical",
)
EVIL = "evil.example.org"


def service_of(schema):
    """Return Apprise's class for a schema."""
    return NotificationManager()[schema]


@pytest.fixture
def discord(httpserver, monkeypatch):
    """Discord, at this machine."""
    monkeypatch.setattr(service_of("discord"), "notify_url", httpserver.url_for("/hooks"))
    return httpserver


def bodies_of(server):
    """Return what the server was sent, as data."""
    return [json.loads(request.data) for request, _ in server.log]


def test_a_service_gets_subject_and_text_once(discord):
    discord.expect_oneshot_request(f"/hooks/4711/{CANARY}", method="POST").respond_with_data(status=204)

    receipt = Apprise().send(RENDERED, DISCORD)

    assert receipt == Receipt("taken by Discord")
    (sent,) = bodies_of(discord)
    # Discord would take ":00:" for one of its pictures.
    assert sent["content"] == "[critical] Peg: USDC-USD\nIt broke.\nOpened 2026-03-02 12\\:00:00 UTC."
    assert "avatar_url" not in sent


def test_a_service_that_has_titles_gets_the_subject_as_the_title(httpserver, monkeypatch):
    monkeypatch.setattr(service_of("pover"), "notify_url", httpserver.url_for("/messages"))
    httpserver.expect_request("/messages").respond_with_json({"status": 1})

    Apprise().send(RENDERED, {"url": f"pover://{'u' * 30}@{'t' * 30}"})

    request, _ = httpserver.log[0]
    assert (request.form["title"], request.form["message"]) == (RENDERED.subject, RENDERED.text)


def test_what_is_written_in_names_calls_nobody_and_stays_readable(discord):
    discord.expect_request(f"/hooks/4711/{CANARY}").respond_with_data(status=204)

    Apprise().send(
        replace(RENDERED, subject="<!channel> *_[ @everyone", text="<@5> <users/all> a < b @here @**all**"), DISCORD
    )

    (sent,) = bodies_of(discord)
    assert sent["content"].replace("\u200b", "|") == (
        "<|!channel> *_[ @|everyone\n<|@|5> <|users/all> a < b @|here @|**all**"
    )


def test_markup_in_names_is_escaped_where_a_service_wants_markdown(httpserver, monkeypatch):
    monkeypatch.setattr(service_of("simplepush"), "notify_url", httpserver.url_for("/tasks"))
    httpserver.expect_request("/tasks").respond_with_json({"status": "OK"}, status=201)

    Apprise().send(replace(RENDERED, text="Peg *_[x](http://evil.example)"), {"url": "simplepush://HuxgBB"})

    assert "Peg \\*\\_\\[x\\]\\(" in httpserver.log[0][0].get_data(as_text=True).replace("\\\\", "\\")


def test_a_long_text_is_one_message_that_says_where_the_rest_is(discord):
    discord.expect_request(f"/hooks/4711/{CANARY}").respond_with_data(status=204)

    Apprise().send(replace(RENDERED, text="\n".join(f"alert {number}" for number in range(1_000))), DISCORD)

    (sent,) = bodies_of(discord)
    assert sent["content"].startswith("[critical] Peg: USDC-USD\nalert 0\nalert 1\n")
    assert sent["content"].endswith("…\nAll of it: https://fintech.example/message/1")
    assert 1_990 <= len(sent["content"]) <= 2_000


def test_where_escapes_make_a_text_longer_they_are_counted():
    body = Apprise().preview(replace(RENDERED, text="*" * 10_000), {"url": "gchat://a/b/c"})

    assert body.endswith("…\nAll of it: https://fintech.example/message/1")
    assert 1_800 <= body.count("*") <= 2_000


def test_a_short_message_has_room_for_the_alert_rather_than_for_a_long_link(httpserver, monkeypatch):
    monkeypatch.setattr(service_of("freemobile"), "notify_url", httpserver.url_for("/sms"))
    httpserver.expect_request("/sms").respond_with_data("")

    Apprise().send(
        replace(RENDERED, text="It broke. " * 40, url="https://fintech.example/" + "m" * 140),
        {"url": "freemobile://12345678@abcdefgh"},
    )

    sent = json.loads(httpserver.log[0][0].data)["msg"]
    assert sent == f"[critical] Peg: USDC-USD\n{'It broke. ' * 40}"[:159].rstrip() + "…"


def test_a_preview_is_what_is_sent(discord):
    discord.expect_request(f"/hooks/4711/{CANARY}").respond_with_data(status=204)
    rendered = replace(RENDERED, text="@here " * 1_000)

    Apprise().send(rendered, DISCORD)

    assert Apprise().preview(rendered, DISCORD) == bodies_of(discord)[0]["content"]


@pytest.mark.parametrize(
    ("severity", "events", "expected"),
    [
        ("critical", [domain.OPENED], "failure"),
        ("warning", [domain.OPENED], "warning"),
        ("info", [domain.OPENED], "info"),
        ("", [], "info"),
        ("critical", [domain.RESOLVED, domain.RESOLVED], "success"),
        ("critical", [domain.RESOLVED, domain.CORRECTED], "success"),
        ("critical", [domain.CORRECTED], "info"),
        ("critical", [domain.RESOLVED, domain.OPENED], "failure"),
        ("critical", [domain.OPENED, domain.RESOLVED], "success"),
    ],
)
def test_a_service_gets_the_severity(httpserver, monkeypatch, severity, events, expected):
    monkeypatch.setattr(service_of("ifttt"), "notify_url", httpserver.url_for("/{event}"))
    httpserver.expect_request("/alerts").respond_with_data("")
    items = tuple(
        domain.MessageItem(1, event, datetime(2026, 3, 2, tzinfo=UTC), "", "Peg", "USDC-USD", severity, "It broke.", "")
        for event in events
    )

    Apprise().send(replace(RENDERED, severity=severity, items=items), {"url": "ifttt://webhookid/alerts"})

    assert bodies_of(httpserver)[0]["value3"] == expected


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
def test_what_a_service_did_not_take_may_be_tried_again_whatever_it_said(discord, monkeypatch, status):
    monkeypatch.setattr(service_of("discord"), "default_delay_sec", 0.01, raising=False)
    discord.expect_request(f"/hooks/4711/{CANARY}").respond_with_data("no", status=status)

    with pytest.raises(TransportUnavailable) as outage:
        Apprise().send(RENDERED, DISCORD)

    failure = outage.value
    assert (failure.reason, failure.detail, failure.status) == (
        *("apprise_failed", f"Discord did not take it: HTTP {status}", status),
    )


def test_a_refused_connection_may_be_tried_again(monkeypatch):
    monkeypatch.setattr(service_of("discord"), "notify_url", "http://127.0.0.1:9/hooks")

    with pytest.raises(TransportUnavailable) as outage:
        Apprise().send(RENDERED, DISCORD)

    assert (outage.value.reason, outage.value.detail) == ("apprise_failed", "Discord did not take it")


def test_a_redirection_is_not_followed(discord):
    discord.expect_request(f"/hooks/4711/{CANARY}").respond_with_response(
        Response(status=302, headers={"Location": discord.url_for("/elsewhere")})
    )

    with pytest.raises(TransportUnavailable):
        Apprise().send(RENDERED, DISCORD)

    assert [request.path for request, _ in discord.log] == [f"/hooks/4711/{CANARY}"]


def test_a_service_that_trickles_is_left_at_the_end_of_the_time(discord, monkeypatch):
    monkeypatch.setattr(transport, "SEND_SECONDS", 1.0)
    is_over, is_lost = threading.Event(), threading.Event()

    def trickle():
        for _ in range(200):
            if is_over.wait(0.1):
                return
            yield b"x"
        is_lost.set()

    discord.expect_request(f"/hooks/4711/{CANARY}").respond_with_handler(lambda _: Response(trickle()))

    with pytest.raises(TransportUnavailable) as outage:
        Apprise().send(RENDERED, DISCORD)
    is_over.set()

    assert (outage.value.reason, outage.value.detail) == ("apprise_timeout", "Discord did not answer in time")
    assert not is_lost.is_set()


@pytest.fixture
def lines(caplog):
    """What a handler of this site is given when everything is logged. (pytest's own listens to loggers that pass
    nothing on, too.)"""
    found = []
    handler = logging.Handler()
    handler.emit = lambda record: found.append(record.getMessage())
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG - 1, logger="apprise")
    # That is the server, which is in this process too.
    caplog.set_level(logging.ERROR, logger="werkzeug")
    logging.getLogger().addHandler(handler)
    yield found
    logging.getLogger().removeHandler(handler)


def test_no_log_line_and_no_failure_has_the_secret(discord, lines):
    discord.expect_request(f"/hooks/4711/{CANARY}").respond_with_data(CANARY, status=404)

    Apprise().validate(DISCORD)
    with pytest.raises(TransportUnavailable) as outage:
        Apprise().send(RENDERED, DISCORD)
    with pytest.raises(ChannelInvalid) as refusal:
        Apprise().validate({"url": f"discord://{CANARY}"})
    logging.getLogger("apps.notify").debug("this is heard")

    assert "this is heard" in lines
    said = [str(refusal.value), str(outage.value), outage.value.detail, outage.value.answer]
    assert [one for one in (*said, *lines) if CANARY in one] == []


def test_a_url_that_this_apprise_does_not_know_any_more_refuses_the_channel():
    with pytest.raises(ChannelRefused) as refusal:
        Apprise().send(RENDERED, {"url": "gone://token"})

    assert refusal.value.reason == "apprise_invalid"


@pytest.mark.parametrize(
    "url",
    [
        DISCORD["url"],
        f"https://discord.com/api/webhooks/4711/{CANARY}",
        f"pover://{'u' * 30}@{'t' * 30}?priority=high",
        "prowl://" + "a" * 40,
    ],
)
def test_a_service_with_one_address_for_everybody_is_taken(url):
    assert Apprise().validate({"url": url}) == {"url": url}


@pytest.mark.parametrize(
    "url",
    [
        f"json://{CANARY}", f"jsons://127.0.0.1/{CANARY}", f"xml://localhost/{CANARY}", f"form://redis/{CANARY}",
        f"mailto://ada:{CANARY}@example.org", f"mailtos://ada:{CANARY}@example.org?smtp=127.0.0.1",
        f"ntfys://10.0.0.1/{CANARY}", f"gotify://postgres/{CANARY}", f"matrixs://ada:{CANARY}@10.0.0.1",
        f"mqtt://rabbitmq/{CANARY}", f"apprise://10.0.0.1/{CANARY}", f"rsyslog://10.0.0.1/{CANARY}",
        f"zulip://bot@org.{EVIL}/{CANARY}", f"bluesky://ada.{EVIL}@{CANARY}", f"nostr://{CANARY}?relay=wss://{EVIL}",
        f"vapid://ada@example.org/{CANARY}", f"fcm://project/{CANARY}?keyfile=/etc/passwd",
        "dbus://", "gnome://", "glib://", "macosx://", "windows://", "syslog://", "blink1://",
        f"file:///etc/{CANARY}", f"http://10.0.0.1/{CANARY}", f"{CANARY}://x", CANARY, f"://{CANARY}", " ",
    ],
)  # fmt: skip
def test_any_other_address_is_refused_and_not_repeated(url):
    with pytest.raises(ChannelInvalid) as refusal:
        Apprise().validate({"url": url})

    assert refusal.value.setting == "url"
    assert str(refusal.value).startswith("'url' must be an Apprise URL of a service that has one address for everybody")
    assert "discord://" in str(refusal.value)
    assert CANARY not in str(refusal.value)
    assert EVIL not in str(refusal.value)


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        (f"slack://T1JJ3T3L2/A1BRTD4JD/{CANARY}", "Slack"),
        (f"https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/{CANARY}", "Slack"),
        (f"tgram://123456789:{CANARY}/123", "Telegram"),
    ],
)
def test_where_a_kind_of_its_own_is_better_it_is_named(url, kind):
    with pytest.raises(ChannelInvalid) as refusal:
        Apprise().validate({"url": url})

    assert str(refusal.value) == f"'url' is one for {kind}: choose the kind {kind} instead"
    assert refusal.value.setting == "url"


@pytest.mark.parametrize(
    "said",
    [
        "template=/etc/passwd", "template=http://127.0.0.1/", "TEMPLATE=x", "%74emplate=x", "overflow=split",
        "format=html", "cto=60", "rto=60", "redirect=yes", "verify=no", "retry=5", "wait=60", "optional=yes",
        "emojis=yes", "store=yes", "tz=UTC",
    ],
)  # fmt: skip
def test_what_is_ours_to_say_cannot_be_said_in_the_url(said):
    with pytest.raises(ChannelInvalid, match="'url' must not say '[a-z]+' after the '\\?'"):
        Apprise().validate({"url": f"{DISCORD['url']}?{said}"})


def test_a_url_that_is_not_whole_is_refused():
    with pytest.raises(ChannelInvalid, match="'url' is not whole: see what a URL of discord:// needs"):
        Apprise().validate({"url": "discord://4711"})
    with pytest.raises(ChannelInvalid, match="'url' is missing"):
        Apprise().validate({})


def test_what_is_suggested_is_allowed():
    assert set(transport.SUGGESTED) <= allowed_schemas()


def test_a_new_apprise_brings_no_service_that_nobody_has_looked_at():
    # Before this number is changed: does the address of what is new contain something that its user writes, or does it
    # read a file? Then it belongs to REACHING.
    assert len(allowed_schemas()) == 127


def test_no_allowed_service_calls_an_address_that_stands_in_the_url(monkeypatch):
    called = set()

    def refuse(session, request, **more):
        called.add(urlsplit(request.url).hostname)
        raise requests.ConnectionError

    def refuse_socket(self, address):
        called.add(address[0])
        raise ConnectionRefusedError

    monkeypatch.setattr(requests.Session, "send", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse_socket)
    shapes = [
        f"user:password@{EVIL}:8080/a/b/c/d",
        f"a@{EVIL}/{'a' * 32}",
        f"{EVIL}/{'a' * 40}/x",
        f"{'a' * 32}/{EVIL}",
    ]
    for schema in sorted(allowed_schemas()):
        for shape in shapes:
            for more in ("", f"?region={EVIL}&host={EVIL}&hostname={EVIL}&url=http://{EVIL}&server={EVIL}&env={EVIL}"):
                try:
                    settings = Apprise().validate({"url": f"{schema}://{shape}{more}"})
                except ChannelInvalid:
                    continue
                service = transport._service(settings["url"])
                service.request_rate_per_sec = 0
                service.notify(title="title", body="body")
    assert len(called) > 40
    assert [host for host in called if EVIL in host] == []


def test_it_stands_in_the_registry():
    assert transport_named("apprise").settings[0].is_secret
