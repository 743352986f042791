"""Telegram's Bot API, by a server on loopback: what it is sent, and what each of its answers means."""

import json
import logging
import re
import traceback
from dataclasses import replace

import pytest

from apps.notify.transports.cutting import utf16
from apps.notify.transports.protocol import (
    Action,
    ChannelInvalid,
    ChannelMoved,
    ChannelRefused,
    Receipt,
    RefusedForNow,
    RenderedMessage,
    TooLarge,
    TransportFailure,
    TransportRejected,
    TransportUnavailable,
)
from apps.notify.transports.telegram import Telegram, chats_of

CANARY = "canary-5f1c9e-AAHdqTcvCH1vGWJxfSeofSAs0K5"
TOKEN = f"123456789:{CANARY}"
CHANNEL = {"token": TOKEN, "chat": "-1001234567890"}
RENDERED = RenderedMessage(
    id="0197a0e0-0000-4000-8000-000000000001",
    subject="[critical] Peg: USDC-USD",
    text="It broke: 0.98.\n\nhttps://fintech.example/alert/7",
    url="https://fintech.example/message/5",
    severity="critical",
    actions=(
        Action("Acknowledge", "https://fintech.example/action/1"),
        Action("Silence 1 h", "https://fintech.example/action/2"),
    ),
)


@pytest.fixture
def api(httpserver, settings):
    """Return a server that stands in for Telegram's; OUTBOUND_ALLOW says nothing of it."""
    settings.TELEGRAM_API_URL = f"http://127.0.0.1:{httpserver.port}/api"
    return httpserver


def answer(api, said, *, status=200, **options):
    said = said if isinstance(said, str) else json.dumps(said)
    api.expect_request(f"/api/bot{TOKEN}/sendMessage", method="POST").respond_with_data(said, status=status, **options)


def sent_to(api):
    (request,) = [request for request, _ in api.log]
    return json.loads(request.get_data())


def failure_of(rendered=RENDERED):
    with pytest.raises(TransportFailure) as caught:
        Telegram().send(rendered, CHANNEL)
    return caught.value


def unescaped(text):
    return re.sub(r"\\(.)", r"\1", text)


def test_a_message_goes_to_the_chat_with_its_subject_in_bold_and_links_as_buttons(api):
    answer(api, {"ok": True, "result": {"message_id": 1}})

    receipt = Telegram().send(RENDERED, CHANNEL)

    assert receipt == Receipt("taken by 127.0.0.1", status=200, answer='{"ok": true, "result": {"message_id": 1}}')
    assert sent_to(api) == {
        "chat_id": "-1001234567890",
        "text": "*\\[critical\\] Peg: USDC\\-USD*\n\nIt broke: 0\\.98\\.\n\nhttps://fintech\\.example/alert/7",
        "parse_mode": "MarkdownV2",
        "link_preview_options": {"is_disabled": True},
        "reply_markup": {
            "inline_keyboard": [
                [
                    {"text": "Acknowledge", "url": "https://fintech.example/action/1"},
                    {"text": "Silence 1 h", "url": "https://fintech.example/action/2"},
                ]
            ]
        },
    }


def test_a_message_without_links_has_no_buttons(api):
    answer(api, {"ok": True})
    Telegram().send(replace(RENDERED, actions=()), CHANNEL)
    assert "reply_markup" not in sent_to(api)


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1:8000", "192.168.1.5", "[::1]:8000", "monitor"])
def test_where_telegram_would_refuse_a_button_the_links_stand_in_the_text(api, host):
    answer(api, {"ok": True})
    rendered = replace(
        RENDERED, actions=tuple(replace(action, url=f"http://{host}/act_1") for action in RENDERED.actions)
    )

    Telegram().send(rendered, CHANNEL)

    sent = sent_to(api)
    assert "reply_markup" not in sent
    assert unescaped(sent["text"]).endswith(f"\n\nAcknowledge: http://{host}/act_1\nSilence 1 h: http://{host}/act_1")


@pytest.mark.parametrize("mark", "_*[]()~`>#+-=|{}.!\\")
def test_every_mark_of_markdown_is_escaped(api, mark):
    answer(api, {"ok": True})
    Telegram().send(replace(RENDERED, subject=f"a{mark}", text=f"{mark}{mark}b"), CHANNEL)
    assert sent_to(api)["text"] == f"*a\\{mark}*\n\n\\{mark}\\{mark}b"


@pytest.mark.parametrize(
    ("name", "escaped"),
    [
        ("<b>&amp;", "<b\\>&amp;"),
        ("*_[", "\\*\\_\\["),
        ("<!channel>", "<\\!channel\\>"),
        ("@everyone", "@everyone"),
        ("[x](tg://user?id=1)", "\\[x\\]\\(tg://user?id\\=1\\)"),
        ("||spoiler||", "\\|\\|spoiler\\|\\|"),
        ("\\*", "\\\\\\*"),
    ],
)
def test_what_people_have_written_is_text(api, name, escaped):
    answer(api, {"ok": True})
    Telegram().send(replace(RENDERED, subject=name, text=name), CHANNEL)
    assert sent_to(api)["text"] == f"*{escaped}*\n\n{escaped}"


@pytest.mark.parametrize("mark", ["a", "*", "😀", "*😀", "\\."])
def test_a_long_text_is_cut_to_what_people_see_of_4096_units(api, mark):
    answer(api, {"ok": True})
    text = mark * 10_000
    Telegram().send(replace(RENDERED, text=text), CHANNEL)

    sent = sent_to(api)["text"]
    seen = unescaped(sent.replace("*\\[critical\\] Peg: USDC\\-USD*", "[critical] Peg: USDC-USD"))
    kept, _, ending = seen.removeprefix("[critical] Peg: USDC-USD\n\n").rpartition("\n… ")
    assert 4_090 <= utf16(seen) <= 4_096
    assert text.startswith(kept)
    assert ending == f"{len(text) - len(kept):,} more characters: https://fintech.example/message/5"
    assert sent.encode("utf-16").decode("utf-16") == sent


def test_links_in_the_text_are_not_what_is_cut(api):
    answer(api, {"ok": True})
    actions = (Action("Acknowledge", "http://localhost/action/1"),)
    Telegram().send(replace(RENDERED, text="a" * 10_000, actions=actions), CHANNEL)

    seen = unescaped(sent_to(api)["text"])
    assert seen.endswith("https://fintech.example/message/5\n\nAcknowledge: http://localhost/action/1")
    assert 4_090 <= utf16(seen.replace("*", "")) <= 4_096


@pytest.mark.parametrize(
    ("status", "description", "kind", "detail"),
    [
        (400, "Bad Request: chat not found", ChannelRefused, "Telegram knows no such chat, or the bot may not"),
        (400, "Bad Request: group chat was upgraded to a supergroup chat", ChannelRefused, "Telegram knows no such"),
        (400, "Bad Request: not enough rights to send text messages to the chat", RefusedForNow, "Telegram says: Bad"),
        (400, "Bad Request: TOPIC_CLOSED", RefusedForNow, "Telegram says: Bad Request: TOPIC_CLOSED"),
        (400, "Bad Request: CHAT_WRITE_FORBIDDEN", RefusedForNow, "Telegram says: Bad Request: CHAT_WRITE_FORBIDDEN"),
        (
            400,
            "Bad Request: can't parse entities",
            TransportRejected,
            "Telegram says: Bad Request: can't parse entities",
        ),
        (400, "Bad Request: message is too long", TooLarge, "Telegram says: Bad Request: message is too long"),
        (401, "Unauthorized", ChannelRefused, "Telegram does not know the bot's token"),
        (403, "Forbidden: bot was blocked by the user", ChannelRefused, "the bot may not write to the chat: it was"),
        (404, "Not Found", ChannelRefused, "Telegram does not know the bot's token"),
        (409, "Conflict", TransportRejected, "127.0.0.1 answered 409 Conflict"),
        (502, "Bad Gateway", TransportUnavailable, "127.0.0.1 answered 502 Bad Gateway"),
    ],
)
def test_what_telegram_answers_says_whether_message_or_chat_is_wrong(api, status, description, kind, detail):
    said = {"ok": False, "error_code": status, "description": description}
    answer(api, said, status=status)

    failure = failure_of()

    assert (type(failure), failure.reason, failure.status) == (kind, f"http_{status}", status)
    assert failure.detail.startswith(detail)
    assert json.loads(failure.answer) == said


def test_a_group_that_became_a_supergroup_is_followed(api):
    description = "Bad Request: group chat was upgraded to a supergroup chat"
    parameters = {"migrate_to_chat_id": -1001234567}
    answer(api, {"ok": False, "description": description, "parameters": parameters}, status=400)

    failure = failure_of()

    assert (type(failure), failure.settings) == (ChannelMoved, {"chat": "-1001234567"})


@pytest.mark.parametrize("chat", ["-100", None, True, 0, -(10**30), [1]])
def test_a_number_that_is_none_is_not_followed(api, chat):
    said = {"ok": False, "description": "upgraded to a supergroup", "parameters": {"migrate_to_chat_id": chat}}
    answer(api, said, status=400)
    assert type(failure_of()) is ChannelRefused


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_a_proxy_says_in_place_of_telegram_is_no_refusal_for_ever(api, status):
    answer(api, "<html>", status=status)
    assert type(failure_of()) is RefusedForNow


def test_the_chats_that_wrote_to_the_bot_are_found_the_last_first(api):
    updates = [
        {"update_id": 1, "message": {"chat": {"id": 5, "first_name": "Ada", "type": "private"}}},
        {"update_id": 2, "my_chat_member": {"chat": {"id": -1007, "title": "Ops\n\x07room", "type": "supergroup"}}},
        {"update_id": 3, "message": {"chat": {"id": 5, "username": "ada", "type": "private"}}},
        {"update_id": 4, "poll": {}},
    ]
    api.expect_request(f"/api/bot{TOKEN}/getUpdates").respond_with_json({"ok": True, "result": updates})
    assert chats_of(TOKEN) == [("5", "Ada"), ("-1007", "Ops room")]


@pytest.mark.parametrize(
    "said", ["[]", "{}", "x", '{"result": 5}', '{"result": [5]}', '{"result": [{"message": {"chat": 5}}]}']
)
def test_chats_in_an_answer_that_cannot_be_read_are_none(api, said):
    api.expect_request(f"/api/bot{TOKEN}/getUpdates").respond_with_data(said)
    with pytest.raises(TransportRejected, match="unreadable"):
        chats_of(TOKEN)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ({"ok": False, "parameters": {"retry_after": 35}}, 35),
        ({"ok": False, "parameters": {"retry_after": 0}}, 1),
        ({"ok": False, "parameters": {"retry_after": 10**30}}, 3_600),
        ({"ok": False, "parameters": {"retry_after": "soon"}}, 7),
        ({"ok": False, "parameters": {"retry_after": True}}, None),
        ({"ok": False, "parameters": [35]}, 7),
        ({"ok": False}, 7),
        ("[35]", 7),
        ('{"parameters": {"retry_after": ' + "1" * 5_000 + "}}", 7),
        ("[" * 60_000, 7),
        ("<html>", 7),
        ("", 7),
    ],
)
def test_it_is_left_alone_as_long_as_it_asks(api, said, seconds):
    answer(api, said, status=429, headers={"Retry-After": "7"})

    failure = failure_of()

    assert (type(failure), failure.reason) == (TransportUnavailable, "http_429")
    assert failure.retry_after_seconds == seconds


@pytest.mark.parametrize("status", [200, 302, 400, 401, 429, 500])
def test_the_token_is_revealed_nowhere(api, caplog, capfd, status):
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.CRITICAL, logger="werkzeug")  # It is the server that stands in.
    said = {"ok": False, "description": f"chat not found /bot{TOKEN}/sendMessage"}
    answer(api, said, status=status, headers={"Location": f"/bot{TOKEN}/"})

    items = ""
    try:
        items += repr(Telegram().send(RENDERED, CHANNEL))
    except TransportFailure as failure:
        items += repr(vars(failure)) + "".join(traceback.format_exception(failure)) + repr(failure.__context__)
    items += Telegram().preview(RENDERED, CHANNEL) + caplog.text + "".join(capfd.readouterr())

    assert len(api.log) == 1
    assert "bot123456789:…/sendMessage" in items
    assert CANARY not in items


def test_the_token_is_revealed_nowhere_where_nothing_answers(settings, serve, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    settings.TELEGRAM_API_URL = f"http://127.0.0.1:{serve(lambda connection: None)}"

    failure = failure_of()

    items = repr(vars(failure)) + "".join(traceback.format_exception(failure)) + repr(failure.__context__)
    assert failure.detail == "127.0.0.1 could not be reached, or broke off"
    assert CANARY not in items + caplog.text + "".join(capfd.readouterr())


def test_the_preview_is_what_people_see():
    assert Telegram().preview(RENDERED, CHANNEL) == (
        "[critical] Peg: USDC-USD\n\nIt broke: 0.98.\n\nhttps://fintech.example/alert/7\n\n[Acknowledge] [Silence 1 h]"
    )
    assert (
        Telegram()
        .preview(replace(RENDERED, actions=(Action("Ack", "http://localhost/"),)), CHANNEL)
        .endswith("\n\nAck: http://localhost/")
    )


@pytest.mark.parametrize("chat", ["1", "-1001234567890", "99999999999999999999", "@fintech_alerts"])
def test_a_chat_is_a_number_or_a_public_name(chat):
    assert Telegram().validate({"token": TOKEN, "chat": chat}) == {"token": TOKEN, "chat": chat}


@pytest.mark.parametrize(
    "chat",
    [
        "fintech", "@", "@a", "@1abc", "@a-bcde", "@" + "a" * 33, "0", "-0", "--1", "1.5", "1e5", "+1", " 1", "1 ",
        "１２３", "9" * 21, "https://t.me/fintech",
    ],
)  # fmt: skip
def test_another_chat_is_refused(chat):
    with pytest.raises(ChannelInvalid, match="^'chat' must be the chat's number or the @name") as caught:
        Telegram().validate({"token": TOKEN, "chat": chat})
    assert caught.value.setting == "chat"


@pytest.mark.parametrize(
    "token",
    [
        "canary", f":{CANARY}", f"bot{TOKEN}", TOKEN + "/", TOKEN + "?", f"123456789:{CANARY[:29]}", " " + TOKEN,
        TOKEN.replace(":", "%3A"), TOKEN.replace("-", "/../"), f"１２３４:{CANARY}",
    ],
)  # fmt: skip
def test_what_is_no_token_is_refused_without_repeating_it(token):
    with pytest.raises(ChannelInvalid, match="^'token' must be what BotFather gave you") as caught:
        Telegram().validate({"token": token, "chat": "1"})
    assert caught.value.setting == "token"
    assert "canary" not in str(caught.value)
