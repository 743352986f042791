"""Slack's incoming webhooks, by a server on loopback: what they are sent, and what each of their answers means."""

import json
import logging
import traceback
from dataclasses import replace

import pytest

from apps.notify.transports.protocol import (
    Action,
    ChannelInvalid,
    ChannelRefused,
    Receipt,
    RefusedForNow,
    RenderedMessage,
    TransportFailure,
    TransportRejected,
    TransportUnavailable,
)
from apps.notify.transports.slack import Slack

CANARY = "canary5f1c9e"
PATH = f"/services/T00000000/B{CANARY}/{CANARY}"
RENDERED = RenderedMessage(
    id="0197a0e0-0000-4000-8000-000000000001",
    subject="[critical] Peg: USDC-USD",
    text="It broke: 0.98.",
    url="https://fintech.example/message/5",
    severity="critical",
    actions=(Action("Acknowledge", "https://fintech.example/action/1"),),
)


@pytest.fixture
def channel(on_loopback, httpserver):
    return {"url": f"http://127.0.0.1:{httpserver.port}{PATH}"}


def answer(httpserver, said="ok", *, status=200, **options):
    httpserver.expect_request(PATH, method="POST").respond_with_data(said, status=status, **options)


def sent_to(httpserver):
    (request,) = [request for request, _ in httpserver.log]
    return json.loads(request.get_data())


def failure_of(channel):
    with pytest.raises(TransportFailure) as caught:
        Slack().send(RENDERED, channel)
    return caught.value


def test_a_message_has_header_text_severity_and_links(channel, httpserver):
    answer(httpserver)

    receipt = Slack().send(RENDERED, channel)

    assert receipt == Receipt("taken by 127.0.0.1", status=200, answer="ok")
    assert sent_to(httpserver) == {
        "text": "[critical] Peg: USDC-USD",
        "blocks": [
            {"type": "header", "text": {"type": "plain_text", "text": "[critical] Peg: USDC-USD", "emoji": False}},
            {"type": "section", "text": {"type": "mrkdwn", "text": "It broke: 0.98.", "verbatim": True}},
            {"type": "context", "elements": [{"type": "plain_text", "text": "critical", "emoji": False}]},
            {
                "type": "actions",
                "elements": [
                    {
                        "type": "button",
                        "text": {"type": "plain_text", "text": "Acknowledge", "emoji": False},
                        "url": "https://fintech.example/action/1",
                    },
                    {
                        "type": "button",
                        "text": {"type": "plain_text", "text": "Open", "emoji": False},
                        "url": "https://fintech.example/message/5",
                    },
                ],
            },
        ],
    }


def test_a_notice_has_neither_severity_nor_links_but_its_own(channel, httpserver):
    answer(httpserver)

    Slack().send(replace(RENDERED, severity="", actions=()), channel)

    blocks = sent_to(httpserver)["blocks"]
    assert [block["type"] for block in blocks] == ["header", "section", "actions"]
    assert [button["text"]["text"] for button in blocks[-1]["elements"]] == ["Open"]


def test_a_text_that_came_to_nothing_is_left_out(channel, httpserver):
    answer(httpserver)
    Slack().send(replace(RENDERED, text=" \n"), channel)
    assert [block["type"] for block in sent_to(httpserver)["blocks"]] == ["header", "context", "actions"]


@pytest.mark.parametrize(
    ("name", "escaped"),
    [
        ("<b>&amp;", "&lt;b&gt;&amp;amp;"),
        ("*_[", "*_["),
        ("<!channel>", "&lt;!channel&gt;"),
        ("<@U123|ada>", "&lt;@U123|ada&gt;"),
        ("<https://evil.example|https://fintech.example>", "&lt;https://evil.example|https://fintech.example&gt;"),
        ("@everyone", "@everyone"),
    ],
)
def test_what_people_have_written_calls_nobody_and_leads_nowhere(channel, httpserver, name, escaped):
    answer(httpserver)

    Slack().send(replace(RENDERED, subject=name, text=name), channel)

    sent = sent_to(httpserver)
    header, section, *_ = sent["blocks"]
    assert sent["text"] == escaped
    assert section["text"] == {"type": "mrkdwn", "text": escaped, "verbatim": True}
    # Slack reads nothing into a plain text, so there it stands as it is.
    assert header["text"] == {"type": "plain_text", "text": name, "emoji": False}


@pytest.mark.parametrize(("mark", "written", "least"), [("a", "a", 2_995), ("&", "&amp;", 2_985), ("😀", "😀", 1_450)])
def test_a_long_text_is_cut_between_characters_as_it_is_written(channel, httpserver, mark, written, least):
    answer(httpserver)

    Slack().send(replace(RENDERED, text=mark * 10_000), channel)

    text = sent_to(httpserver)["blocks"][1]["text"]["text"]
    kept, _, ending = text.rpartition("\n… ")
    count = kept.count(written)
    assert kept == written * count
    assert ending == f"{10_000 - count:,} more characters: https://fintech.example/message/5"
    assert least <= len(text) <= 3_000


@pytest.mark.parametrize(("mark", "kept"), [("a", 149), ("&", 149), ("😀", 74)])
def test_a_long_subject_is_cut_in_the_header_alone(channel, httpserver, mark, kept):
    answer(httpserver)

    Slack().send(replace(RENDERED, subject=mark * 200), channel)

    sent = sent_to(httpserver)
    assert sent["blocks"][0]["text"]["text"] == mark * kept + "…"
    assert sent["text"] == mark.replace("&", "&amp;") * 200


@pytest.mark.parametrize(
    ("status", "said", "kind", "detail"),
    [
        (400, "invalid_payload", TransportRejected, "127.0.0.1 answered 400 Bad Request"),
        (403, "action_prohibited", RefusedForNow, "127.0.0.1 answered 403 Forbidden"),
        (404, "no_service", RefusedForNow, "127.0.0.1 answered 404 Not Found"),
        (410, "channel_is_archived", ChannelRefused, "127.0.0.1 answered 410 Gone"),
        (500, "rollup_error", TransportUnavailable, "127.0.0.1 answered 500 Internal Server Error"),
    ],
)
def test_what_slack_answers_says_whether_message_or_webhook_is_wrong(channel, httpserver, status, said, kind, detail):
    answer(httpserver, said, status=status)

    failure = failure_of(channel)

    assert (type(failure), failure.reason, failure.detail, failure.answer) == (kind, f"http_{status}", detail, said)


def test_it_is_left_alone_as_long_as_it_asks(channel, httpserver):
    answer(httpserver, status=429, headers={"Retry-After": "30"})

    failure = failure_of(channel)

    assert (type(failure), failure.reason, failure.retry_after_seconds) == (TransportUnavailable, "http_429", 30)


@pytest.mark.parametrize("status", [200, 302, 404, 429, 500])
def test_the_url_is_revealed_nowhere(channel, httpserver, caplog, capfd, status):
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.CRITICAL, logger="werkzeug")  # It is the server that stands in.
    answer(httpserver, f"you asked for {PATH}", status=status, headers={"Location": PATH})

    items = ""
    try:
        items += repr(Slack().send(RENDERED, channel))
    except TransportFailure as failure:
        items += repr(vars(failure)) + "".join(traceback.format_exception(failure)) + repr(failure.__context__)
    items += Slack().preview(RENDERED, channel) + caplog.text + "".join(capfd.readouterr())

    assert len(httpserver.log) == 1
    assert "you asked for /…/…/…/…" in items
    assert CANARY not in items


@pytest.mark.parametrize(
    "url",
    [f"https://hooks.slack.com{PATH}", f"https://HOOKS.slack-gov.com:443{PATH}", f"https://hooks.slack.com.{PATH}"],
)
def test_an_incoming_webhook_is_taken(url):
    assert Slack().validate({"url": url}) == {"url": url}


@pytest.mark.parametrize(
    "url",
    [
        f"http://hooks.slack.com{PATH}", f"https://hooks.slack.com.evil.example{PATH}", f"https://evil.example{PATH}",
        f"https://slack.com{PATH}", f"https://evil.example/hooks.slack.com/{CANARY}",
        f"https://evil.example#hooks.slack.com/{CANARY}",
    ],
)  # fmt: skip
def test_another_host_is_refused_when_it_is_set_and_when_it_is_sent(url):
    with pytest.raises(ChannelInvalid) as caught:
        Slack().validate({"url": url})
    assert str(caught.value) == "'url' must begin with https://hooks.slack.com/ or https://hooks.slack-gov.com/"

    failure = failure_of({"url": url})
    assert (type(failure), failure.reason) == (ChannelRefused, "forbidden_address")
    assert CANARY not in failure.detail


@pytest.mark.parametrize(
    "url", [f"http://127.0.0.1{PATH}", f"https://hooks.slack.com@127.0.0.1{PATH}", f"https://hooks.slack.com:22{PATH}"]
)
def test_what_no_channel_may_send_to_is_refused_without_repeating_it(url):
    with pytest.raises(ChannelInvalid) as caught:
        Slack().validate({"url": url})
    assert caught.value.setting == "url"
    assert CANARY not in str(caught.value)


def test_another_host_is_taken_where_the_settings_say_so(settings, channel):
    assert Slack().validate(channel) == channel
    settings.OUTBOUND_ALLOW, settings.SLACK_HOSTS = [], ["mattermost.example.org"]
    assert Slack().validate({"url": "https://mattermost.example.org/hooks/1"})
    with pytest.raises(ChannelInvalid, match="'url' must begin with https://mattermost.example.org/$"):
        Slack().validate({"url": f"https://hooks.slack.com{PATH}"})


def test_the_preview_is_the_message_that_is_sent(channel, httpserver):
    answer(httpserver)
    preview = Slack().preview(RENDERED, channel)
    Slack().send(RENDERED, channel)
    assert json.loads(preview) == sent_to(httpserver)
