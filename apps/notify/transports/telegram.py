"""A chat on Telegram, by a bot of the user's own. The Bot API knows no key for repeats: a message may come twice."""

import json
import re
from collections.abc import Mapping
from functools import partial
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings as django_settings

from apps.notify.transports import posting
from apps.notify.transports.cutting import cut, utf16
from apps.notify.transports.protocol import (
    ANSWER_KEPT,
    ChannelDefaults,
    ChannelInvalid,
    ChannelRefused,
    Receipt,
    RenderedMessage,
    Setting,
    read_settings,
)
from apps.outbound import target_of

# In UTF-16 units, of the text as people see it: the marks that escape do not count.
LONGEST = 4_096
_TOKEN = re.compile(r"[0-9]{3,20}:[A-Za-z0-9_-]{30,100}")
_CHAT = re.compile(r"-?[1-9][0-9]{0,19}|@[A-Za-z][A-Za-z0-9_]{3,31}")
_MARKUP = re.compile(r"[_*\[\]()~`>#+\-=|{}.!\\]")
# What the Bot API says with 400 although it is the chat that is wrong, not the message.
_NO_CHAT = (
    "chat not found",
    "user not found",
    "supergroup",
    "peer_id_invalid",
    "rights to send",
    "administrator rights",
)
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
        Setting("chat", "Chat", "The chat's number, which may be negative, or @name of a public channel."),
    )
    defaults = ChannelDefaults(messages_per_minute=20)

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
        token = settings["token"]
        server = target_of(django_settings.TELEGRAM_API_URL)
        answer = posting.post(
            f"{django_settings.TELEGRAM_API_URL}/bot{token}/sendMessage",
            body=json.dumps(message).encode(),
            headers={"Content-Type": "application/json"},
            allow=[(server.host, server.port)],
            hide=[token.partition(":")[2]],
        )
        description, retry_after = _said(answer.text)
        is_refused = answer.status != 400 or any(phrase in description.lower() for phrase in _NO_CHAT)
        if answer.status in _REFUSED and is_refused:
            reason = f"http_{answer.status}"
            raise ChannelRefused(
                reason, _REFUSED[answer.status], status=answer.status, answer=answer.text[:ANSWER_KEPT]
            )
        return posting.receipt_of(answer, retry_after=retry_after)


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


def _said(text: str) -> tuple[str, str | None]:
    """Return (description, seconds to wait) of an answer, as far as it can be read."""
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return "", None
    if not isinstance(said, dict):
        return "", None
    parameters = said.get("parameters")
    wait = parameters.get("retry_after") if isinstance(parameters, dict) else None
    return str(said.get("description", "")), str(wait) if isinstance(wait, int | float) else None
