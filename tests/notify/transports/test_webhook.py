"""A webhook as the standard has it: what is posted, how it is signed, and how a receiver can check it."""

import base64
import hmac
import json
import logging
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from apps.notify.domain import MessageItem
from apps.notify.transports import webhook
from apps.notify.transports.protocol import (
    Action,
    ChannelInvalid,
    ChannelRefused,
    Receipt,
    RenderedMessage,
    TransportFailure,
    TransportUnavailable,
)
from apps.notify.transports.webhook import Webhook

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + base64.b64encode(bytes(range(64))).decode()
AT = datetime(2023, 3, 11, 7, 12, tzinfo=UTC)
ITEM = MessageItem(
    alert_id=7,
    event="opened",
    at=AT,
    reason="",
    rule='Peg "<b>&',
    symbol="USDC-USD",
    severity="critical",
    summary="It broke.",
    url="https://fintech.example/alert/7",
)
RENDERED = RenderedMessage(
    id="0197a0e0-0000-4000-8000-000000000001",
    subject="[critical] Peg: USDC-USD",
    text="It broke.\né",
    url="https://fintech.example/message/5",
    severity="critical",
    items=(ITEM, replace(ITEM, event="resolved", at=AT.replace(hour=9), reason="recovered")),
    actions=(Action("Acknowledge", "https://fintech.example/action/1"),),
)
DOCUMENTATION = Path(__file__).resolve().parents[3] / "docs" / "notifications.md"


@pytest.fixture
def channel(on_loopback, httpserver):
    httpserver.expect_request("/hook").respond_with_data("thanks")
    return {"url": f"http://127.0.0.1:{httpserver.port}/hook", "secret": SECRET}


@pytest.fixture
def is_genuine():
    """Return what the documentation tells receivers to check with."""
    section = DOCUMENTATION.read_text(encoding="utf-8").partition("\n## `webhook`\n")[2]
    (code,) = re.findall(r"^```python\n(.*?)^```", section.partition("\n## ")[0], re.DOTALL | re.MULTILINE)
    module = {}
    exec(code, module)  # noqa: S102
    return module["is_genuine"]


def signed(body=b'{"test": 2432232314}', *, secret=SECRET, at=1_614_265_330):
    signature = webhook.sign(secret, message_id="msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp=at, body=body)
    return {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": str(at),
        "webhook-signature": signature,
    }


def test_standard_webhooks_vector():
    assert signed()["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_items_are_posted_as_data(channel, httpserver):
    receipt = Webhook().send(RENDERED, channel)

    assert receipt == Receipt("taken by 127.0.0.1", status=200, answer="thanks")
    (request,) = [request for request, _ in httpserver.log]
    assert (request.method, request.headers["Content-Type"]) == ("POST", "application/json")
    assert request.headers["webhook-id"] == RENDERED.id
    assert json.loads(request.get_data()) == {
        "type": "alerts.notification",
        "timestamp": "2023-03-11T09:12:00+00:00",
        "data": {
            "subject": "[critical] Peg: USDC-USD",
            "text": "It broke.\né",
            "url": "https://fintech.example/message/5",
            "severity": "critical",
            "events": [
                {
                    "alert_id": 7,
                    "event": "opened",
                    "at": "2023-03-11T07:12:00+00:00",
                    "reason": "",
                    "rule": 'Peg "<b>&',
                    "symbol": "USDC-USD",
                    "severity": "critical",
                    "summary": "It broke.",
                    "url": "https://fintech.example/alert/7",
                    "deferred_by": "",
                    "kind": "condition",
                    "detail": "",
                    "price": "",
                    "reason_text": "",
                },
                {
                    "alert_id": 7,
                    "event": "resolved",
                    "at": "2023-03-11T09:12:00+00:00",
                    "reason": "recovered",
                    "rule": 'Peg "<b>&',
                    "symbol": "USDC-USD",
                    "severity": "critical",
                    "summary": "It broke.",
                    "url": "https://fintech.example/alert/7",
                    "deferred_by": "",
                    "kind": "condition",
                    "detail": "",
                    "price": "",
                    "reason_text": "the condition is over",
                },
            ],
            "actions": [{"label": "Acknowledge", "url": "https://fintech.example/action/1"}],
        },
    }


def test_a_test_is_a_notice_without_alerts(channel, httpserver):
    Webhook().send(RenderedMessage(id="1", subject="[test] Hook", text="t", url="https://fintech.example/"), channel)

    sent = json.loads(httpserver.log[0][0].get_data())
    assert (sent["type"], sent["timestamp"]) == ("channel.test", None)
    assert (sent["data"]["events"], sent["data"]["actions"], sent["data"]["severity"]) == ([], [], "")


def test_a_repeat_carries_the_same_id_and_the_same_body(channel, httpserver, monkeypatch):
    clock = iter([1_700_000_000.9, 1_700_000_060.0])
    monkeypatch.setattr(webhook, "time", SimpleNamespace(time=clock.__next__))
    Webhook().send(RENDERED, channel)
    Webhook().send(RENDERED, channel)

    first, second = (request for request, _ in httpserver.log)
    assert first.get_data() == second.get_data()
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == RENDERED.id
    assert [one.headers["webhook-timestamp"] for one in (first, second)] == ["1700000000", "1700000060"]


def test_what_is_sent_is_genuine_for_who_checks_as_documented(channel, httpserver, is_genuine):
    Webhook().send(RENDERED, channel)

    request = httpserver.log[0][0]
    assert is_genuine(headers=request.headers, body=request.get_data(), secrets=[SECRET], seen=set())
    assert not is_genuine(headers=request.headers, body=request.get_data(), secrets=[OTHER], seen=set())


def test_two_secrets_during_rotation(channel, httpserver, is_genuine):
    Webhook().send(RENDERED, channel | {"secret": OTHER, "previous_secret": SECRET})

    request = httpserver.log[0][0]
    assert len(request.headers["webhook-signature"].split(" ")) == 2
    for known in ([SECRET], [OTHER], [OTHER, SECRET]):
        assert is_genuine(headers=request.headers, body=request.get_data(), secrets=known, seen=set())


class TestIsGenuine:
    BODY = b'{"test": 2432232314}'
    NOW = 1_614_265_330

    def test_the_standards_own_example_is_genuine(self, is_genuine):
        assert is_genuine(headers=signed(), body=self.BODY, secrets=[SECRET], seen=set(), now=self.NOW)

    def test_body_tamper(self, is_genuine):
        assert not is_genuine(headers=signed(), body=self.BODY + b" ", secrets=[SECRET], seen=set(), now=self.NOW)

    @pytest.mark.parametrize(
        "header",
        [
            {"webhook-id": "msg_other"},
            {"webhook-timestamp": "1614265331"},
            {"webhook-signature": ""},
            {"webhook-signature": "v1,"},
            {"webhook-signature": "v1,é"},
            {"webhook-signature": signed()["webhook-signature"].replace("v1,", "v2,")},
            {"webhook-timestamp": "soon"},
            {"webhook-timestamp": "-1"},
        ],
    )
    def test_a_header_that_was_changed_is_refused(self, is_genuine, header):
        headers = signed() | header
        assert not is_genuine(headers=headers, body=self.BODY, secrets=[SECRET], seen=set(), now=self.NOW)

    @pytest.mark.parametrize(("seconds", "genuine"), [(-360, False), (-300, True), (300, True), (360, False)])
    def test_timestamp_6_min_refused(self, is_genuine, seconds, genuine):
        now = self.NOW + seconds
        assert is_genuine(headers=signed(), body=self.BODY, secrets=[SECRET], seen=set(), now=now) is genuine

    def test_replay_same_id_refused(self, is_genuine):
        request = {"headers": signed(), "body": self.BODY, "secrets": [SECRET], "seen": set(), "now": self.NOW}
        assert [is_genuine(**request), is_genuine(**request)] == [True, False]

    def test_what_is_not_genuine_does_not_use_up_an_id(self, is_genuine):
        seen = set()
        is_genuine(headers=signed(), body=b"other", secrets=[SECRET], seen=seen, now=self.NOW)
        assert seen == set()

    def test_compare_digest_used(self, is_genuine, monkeypatch):
        compared = []
        monkeypatch.setattr(hmac, "compare_digest", lambda one, other: compared.append((one, other)))

        assert not is_genuine(headers=signed(), body=self.BODY, secrets=[SECRET], seen=set(), now=self.NOW)
        assert compared == [(b"g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",) * 2]


def test_a_secret_is_made_where_none_is_given(on_loopback):
    url = {"url": "https://hooks.example.org/"}
    made = [Webhook().validate(url | more)["secret"] for more in ({}, {"secret": ""}, {})]

    assert [len(webhook.key_of(secret)) for secret in made] == [32, 32, 32]
    assert len(set(made)) == 3


def test_given_secrets_are_kept():
    given = {"url": "https://hooks.example.org/a?b=c", "secret": SECRET, "previous_secret": OTHER}
    assert Webhook().validate(given) == given


@pytest.mark.parametrize("name", ["secret", "previous_secret"])
@pytest.mark.parametrize(
    "secret",
    [
        "canary", "whsec_", "whsec_canary", SECRET.removeprefix("whsec_"), SECRET.replace("whsec_", "WHSEC_"),
        SECRET + "=", SECRET[:-1], SECRET[:-1] + "-", " " + SECRET, "whsec_é" + SECRET,
        "whsec_" + base64.b64encode(b"a" * 23).decode(), "whsec_" + base64.b64encode(b"a" * 65).decode(),
    ],
)  # fmt: skip
def test_what_is_no_secret_is_refused_without_repeating_it(name, secret):
    with pytest.raises(ChannelInvalid) as caught:
        Webhook().validate({"url": "https://hooks.example.org/", "secret": SECRET, name: secret})

    assert str(caught.value) == f"'{name}' must be whsec_ and 24 to 64 bytes in base64"
    assert caught.value.setting == name


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "ftp://example.org", "https://a:b@example.org", "http://redis/"])
def test_where_nothing_may_be_sent_to_is_refused_when_it_is_set(url):
    with pytest.raises(ChannelInvalid, match="^'url' ") as caught:
        Webhook().validate({"url": url})
    assert caught.value.setting == "url"


@pytest.mark.parametrize("given", [{}, {"url": ""}, {"url": "https://example.org", "headers": "a: b"}])
def test_what_is_missing_or_unknown_is_refused(given):
    with pytest.raises(ChannelInvalid, match="'url' is missing|unknown setting 'headers'"):
        Webhook().validate(given)


def test_what_was_allowed_when_it_was_set_may_be_forbidden_when_it_is_sent(httpserver):
    with pytest.raises(ChannelRefused, match="forbidden_address"):
        Webhook().send(RENDERED, {"url": f"http://127.0.0.1:{httpserver.port}/hook", "secret": SECRET})
    assert httpserver.log == []


def test_the_preview_is_the_document_that_is_sent(channel, httpserver):
    preview = Webhook().preview(RENDERED, channel)
    Webhook().send(RENDERED, channel)

    assert json.loads(preview) == json.loads(httpserver.log[0][0].get_data())
    assert SECRET not in preview
    assert "é" in preview


def test_a_failure_says_so_and_reveals_no_secret(channel, httpserver, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    httpserver.clear()
    httpserver.expect_request("/hook").respond_with_data("later", status=503, headers={"Retry-After": "2"})

    with pytest.raises(TransportFailure) as caught:
        Webhook().send(RENDERED, channel | {"previous_secret": OTHER})

    failure = caught.value
    assert (type(failure), failure.reason, failure.retry_after_seconds) == (TransportUnavailable, "http_503", 2)
    assert (failure.detail, failure.answer) == ("127.0.0.1 answered 503 Service Unavailable", "later")
    sent = str(httpserver.log[0][0].headers) + httpserver.log[0][0].get_data(as_text=True)
    items = sent + repr(vars(failure)) + caplog.text + "".join(capfd.readouterr())
    for secret in (SECRET, OTHER):
        assert secret.removeprefix("whsec_")[:12] not in items
