"""A chat on Telegram, by a bot of the user's own. The Bot API knows no key for repeats: a message may come twice."""

import json
import re
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from ipaddress import ip_address
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from django.conf import settings as django_settings

from apps.mail import header_text
from apps.notify.transports import posting
from apps.notify.transports.cutting import cut, utf16
from apps.notify.transports.protocol import (
    ANSWER_KEPT,
    ChannelDefaults,
    ChannelInvalid,
    ChannelMoved,
    ChannelRefused,
    Receipt,
    RefusedForNow,
    RenderedMessage,
    Setting,
    TooLarge,
    TransportRejected,
    read_settings,
)
from apps.outbound import target_of
from apps.strict_json import NotJson, read_json

# In UTF-16 units, of the text as people see it: the marks that escape do not count.
LONGEST = 4_096
_TOKEN = re.compile(r"[0-9]{3,20}:[A-Za-z0-9_-]{30,100}")
_CHAT = re.compile(r"-?[1-9][0-9]{0,19}|@[A-Za-z][A-Za-z0-9_]{3,31}")
_MARKUP = re.compile(r"[_*\[\]()~`>#+\-=|{}.!\\]")
# What the Bot API says with 400 although it is the chat that is wrong, not the message.
_NO_CHAT = ("chat not found", "user not found", "supergroup", "peer_id_invalid")
# An administrator of the chat can undo these, and may have meant them to be temporary.
_CLOSED = ("topic_closed", "chat_write_forbidden", "rights to send", "administrator rights")
CLOSED_AFTER = timedelta(minutes=30)
_REFUSED = {
    400: "Telegram knows no such chat, or the bot may not write to it",
    401: "Telegram does not know the bot's token",
    403: "the bot may not write to the chat: it was blocked there, or is no member",
    404: "Telegram does not know the bot's token",
}


class Telegram:
    """One bot and one chat per channel."""

    kind = "telegram"
    title = "Telegram"
    settings = (
        Setting("token", "Bot token", "What BotFather gave you, like 123456789:AbC…", is_secret=True),
        Setting(
            "chat",
            "Chat",
            "The chat's number, which may be negative, or @name of a public channel. To find the number, write to the "
            "bot or to a group that it is in, leave this empty and save: the numbers are named then.",
        ),
    )
    defaults = ChannelDefaults(messages_per_minute=20)
    is_for_programs = False

    def validate(self, settings: Mapping[str, Any]) -> dict[str, str]:
        """Return the settings."""
        found = read_settings(settings, known=self.settings, kind=self.kind)
        if not _TOKEN.fullmatch(found["token"]):
            raise ChannelInvalid("must be what BotFather gave you, like 123456789:AbC…", setting="token")
        if not _CHAT.fullmatch(found["chat"]):
            raise ChannelInvalid("must be the chat's number or the @name of a public channel", setting="chat")
        return found

    def preview(self, rendered: RenderedMessage, settings: Mapping[str, str]) -> str:
        """Return what people see, and the labels of the buttons."""
        buttons = " ".join(f"[{action.label}]" for action in rendered.actions) if _takes_buttons(rendered) else ""
        return "\n\n".join(part for part in (rendered.subject, _text(rendered), buttons) if part)

    def send(self, rendered: RenderedMessage, settings: Mapping[str, str]) -> Receipt:
        """Send one message."""
        message: dict[str, Any] = {
            "chat_id": settings["chat"],
            "text": f"*{_escaped(rendered.subject)}*\n\n{_escaped(_text(rendered))}",
            "parse_mode": "MarkdownV2",
            "link_preview_options": {"is_disabled": True},
        }
        if rendered.actions and _takes_buttons(rendered):
            message["reply_markup"] = {
                "inline_keyboard": [[{"text": one.label, "url": one.url} for one in rendered.actions]]
            }
        answer = _ask(settings["token"], "sendMessage", message)
        said = _said(answer.text)
        status, kept, reason = answer.status, answer.text[:ANSWER_KEPT], f"http_{answer.status}"
        if not said.description or status not in _REFUSED:
            return posting.receipt_of(answer, retry_after=said.retry_after)
        if status == 400 and said.moved_to:
            raise ChannelMoved(
                "moved", "the group has another number now", settings={"chat": said.moved_to}, status=400
            )
        detail, lower = f"Telegram says: {said.description}", said.description.lower()
        if status == 400 and any(phrase in lower for phrase in _CLOSED):
            raise RefusedForNow(reason, detail, off_after=CLOSED_AFTER, status=status, answer=kept)
        if status != 400 or any(phrase in lower for phrase in _NO_CHAT):
            raise ChannelRefused(reason, f"{_REFUSED[status]} ({detail})", status=status, answer=kept)
        # Also what is not known: it is about this message.
        kind = TooLarge if "too long" in lower else TransportRejected
        raise kind(reason, detail, status=status, answer=kept)


def chats_of(token: str) -> list[tuple[str, str]]:
    """Return (number, name) of the chats in which somebody has written to the bot lately, the last first, so that a
    person need not look for the number. Raises TransportFailure."""
    if not _TOKEN.fullmatch(token):
        raise TransportRejected("no_token", "this is no token of a bot")
    answer = _ask(token, "getUpdates", {"limit": 100, "allowed_updates": ["message", "my_chat_member"]})
    if answer.status != 200:
        raise TransportRejected(f"http_{answer.status}", _said(answer.text).description or "Telegram did not say why")
    try:
        updates = read_json(answer.text.encode())["result"]
        chats = [(update.get("message") or update.get("my_chat_member") or {}).get("chat") for update in updates]
        found = {str(chat["id"]): _name_of(chat) for chat in reversed(chats) if chat is not None}
    except (NotJson, LookupError, TypeError, AttributeError):
        raise TransportRejected("unreadable", "Telegram's answer could not be read") from None
    return list(found.items())


def _name_of(chat: Mapping[str, Any]) -> str:
    return header_text(str(chat.get("title") or chat.get("username") or chat.get("first_name") or "?"))[:64]


def _ask(token: str, method: str, document: Mapping[str, Any]) -> posting.Answer:
    """Return the answer of the Bot API, without the token's secret."""
    server = target_of(django_settings.TELEGRAM_API_URL)
    return posting.post(
        f"{django_settings.TELEGRAM_API_URL}/bot{token}/{method}",
        body=json.dumps(document).encode(),
        headers={"Content-Type": "application/json"},
        allow=[(server.host, server.port)],
        hide=[token.partition(":")[2]],
    )


def _text(rendered: RenderedMessage) -> str:
    """Return the text with as much of it as has room below the subject."""
    links = [] if _takes_buttons(rendered) else [f"{action.label}: {action.url}" for action in rendered.actions]
    below = "".join(f"\n{link}" for link in ["", *links]) if links else ""
    room = LONGEST - utf16(f"{rendered.subject}\n\n{below}")
    return cut(rendered.text, room=room, url=rendered.url, size=utf16) + below


def _takes_buttons(rendered: RenderedMessage) -> bool:
    """Return whether Telegram takes the message's links as buttons. It refuses the whole message for a button that
    leads to a host without a dot, and perhaps for one that leads to an IP address."""
    for action in rendered.actions:
        host = urlsplit(action.url).hostname or ""
        try:
            ip_address(host)
        except ValueError:
            if "." in host:
                continue
        return False
    return True


_escaped = partial(_MARKUP.sub, r"\\\g<0>")


class _Said(NamedTuple):
    """An answer of the Bot API, as far as it can be read. moved_to: the number of the supergroup that it is now."""

    description: str = ""
    retry_after: str | None = None
    moved_to: str = ""


def _said(text: str) -> _Said:
    try:
        said = read_json(text.encode())
    except NotJson:
        return _Said()
    if not isinstance(said, dict):
        return _Said()
    parameters = said.get("parameters")
    parameters = parameters if isinstance(parameters, dict) else {}
    wait, chat = parameters.get("retry_after"), parameters.get("migrate_to_chat_id")
    return _Said(
        header_text(str(said.get("description") or ""))[:300],
        str(wait) if isinstance(wait, int | float) else None,
        str(chat) if isinstance(chat, int) and _CHAT.fullmatch(str(chat)) else "",
    )
