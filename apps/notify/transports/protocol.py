"""The interface of transports, and their errors. No ORM here: values in, an outcome out."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from apps.locales import STANDARD, Reader
from apps.notify.domain import MessageItem

# How many characters of an answer are kept.
ANSWER_KEPT = 2_048
# One send, whatever the other side does.
SEND_SECONDS = 10.0


class TransportFailure(Exception):
    """A message was not delivered.

    reason: short, fit for a metric label; detail: for the channel's owner, without secrets; status: of HTTP or SMTP;
    answer: the beginning of the receiver's answer, which only operators are shown.
    """

    def __init__(self, reason: str, detail: str = "", *, status: int | None = None, answer: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail
        self.status = status
        self.answer = answer[:ANSWER_KEPT]


class TransportUnavailable(TransportFailure):
    """It was not delivered this time. retry_after_seconds: the pause that the receiver asked for, within [1, 3600];
    nothing more is sent on the channel until then."""

    def __init__(
        self,
        reason: str,
        detail: str = "",
        *,
        status: int | None = None,
        answer: str = "",
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(reason, detail, status=status, answer=answer)
        self.retry_after_seconds = retry_after_seconds


class RefusedForNow(TransportUnavailable):
    """The channel was refused, which may be a fault of a moment: it is tried again, and disabled where it has been
    refused, and nothing else has come of it, for `off_after`. is_shared: by a server that other channels of its kind
    use too, and which is to blame where it refuses those as well."""

    def __init__(
        self,
        reason: str,
        detail: str = "",
        *,
        off_after: timedelta,
        is_shared: bool = False,
        status: int | None = None,
        answer: str = "",
    ) -> None:
        super().__init__(reason, detail, status=status, answer=answer)
        self.off_after = off_after
        self.is_shared = is_shared


class ChannelMoved(TransportFailure):
    """The channel has another address now, to which the same message is to be sent: settings are those that change."""

    def __init__(
        self, reason: str, detail: str = "", *, settings: Mapping[str, str], status: int | None = None
    ) -> None:
        super().__init__(reason, detail, status=status)
        self.settings = settings


class TransportRejected(TransportFailure):
    """This message will never be taken as it is; others may."""


class TooLarge(TransportRejected):
    """The receiver takes no message of this size; smaller ones it may."""


class ChannelRefused(TransportRejected):
    """No message will be taken on this channel before its owner changes it: gone, forbidden, no such recipient."""


class ChannelInvalid(ValueError):
    """A channel's settings are wrong; the text is for people, names the setting and repeats no secret.

    setting: its name, or "" for all of them; message: what is wrong with it, a sentence whose subject is the setting.
    """

    def __init__(self, message: str, *, setting: str = "") -> None:
        super().__init__(f"{setting!r} {message}" if setting else message)
        self.setting = setting
        self.message = message


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of a kind of channel, a text. is_secret: stored encrypted and never shown again."""

    name: str
    label: str
    help: str
    is_secret: bool = False
    is_required: bool = True


@dataclass(frozen=True, slots=True)
class Action:
    """An action link: it does one thing for the reader of the message. It is signed, and expires."""

    label: str
    url: str


@dataclass(frozen=True, slots=True)
class RenderedMessage:
    """A message as a transport sends it.

    id: the same on every attempt; subject: one line; text: plain text of any length, made by the channel's template;
    items: the content of the text as data, in the same order; url: the page of the message, which lists all items;
    severity: the highest severity of the items, "" for a test or a notice; reader: whom the text is for.
    """

    id: str
    subject: str
    text: str
    url: str
    severity: str = ""
    items: tuple[MessageItem, ...] = ()
    actions: tuple[Action, ...] = ()
    reader: Reader = STANDARD


@dataclass(frozen=True, slots=True)
class Receipt:
    """The answer of a receiver that took the message. detail: who took it, for the owner; answer: as in
    TransportFailure."""

    detail: str
    status: int | None = None
    answer: str = ""


@dataclass(frozen=True, slots=True)
class ChannelDefaults:
    """The defaults of a new channel of a kind.

    group_wait_seconds: alerts that open within it come in one message; messages_per_minute: 0 is no limit.
    """

    group_wait_seconds: int = 10
    messages_per_minute: int = 0


class Transport(Protocol):
    """A kind of channel. A transport is a module-level object without state between calls.

    Its settings come as one mapping, secrets in plain among them. is_for_programs: programs read its messages, so
    their times are in UTC.
    """

    kind: str
    title: str
    settings: tuple[Setting, ...]
    defaults: ChannelDefaults
    is_for_programs: bool

    def validate(self, settings: Mapping[str, Any]) -> dict[str, str]:
        """Return the settings as they are stored. Raises ChannelInvalid."""

    def preview(self, rendered: RenderedMessage, settings: Mapping[str, str]) -> str:
        """Return what would be sent, as text for people, made by the same code as what is sent and without secrets."""

    def send(self, rendered: RenderedMessage, settings: Mapping[str, str]) -> Receipt:
        """Send once, within SEND_SECONDS. Raises TransportUnavailable, ChannelMoved or TransportRejected."""


def read_settings(settings: Mapping[str, Any], *, known: tuple[Setting, ...], kind: str) -> dict[str, str]:
    """Return the settings that are not empty, each a text of one line. Raises ChannelInvalid for an unknown setting, a
    missing one, and a value that is no such text."""
    unknown = sorted(set(settings) - {one.name for one in known})
    if unknown:
        has = ", ".join(repr(one.name) for one in known) or "nothing"
        raise ChannelInvalid(f"unknown setting {unknown[0]!r}; a channel of kind {kind} has {has}")
    found: dict[str, str] = {}
    for one in known:
        value = settings.get(one.name, "")
        if not isinstance(value, str) or len(value) > 2_000 or any(ord(mark) < 32 or mark == "\x7f" for mark in value):
            raise ChannelInvalid("must be a text of one line", setting=one.name)
        if value:
            found[one.name] = value
        elif one.is_required:
            raise ChannelInvalid("is missing", setting=one.name)
    return found
