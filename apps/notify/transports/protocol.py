"""What notify asks of a transport, and what may come of it. No ORM here: values in, an outcome out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from apps.notify.domain import MessageItem

# What is kept of an answer; nobody needs more to see what was wrong.
ANSWER_KEPT = 2_048
# One send, whatever the other side does.
SEND_SECONDS = 10.0


class TransportFailure(Exception):
    """A message did not get through.

    reason: short, fit for a metric label; detail: for the channel's owner, without secrets; status: of HTTP or SMTP;
    answer: the beginning of what the other side said, which only operators are shown.
    """

    def __init__(self, reason: str, detail: str = "", *, status: int | None = None, answer: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail
        self.status = status
        self.answer = answer[:ANSWER_KEPT]


class TransportUnavailable(TransportFailure):
    """It did not get through this time. retry_after_seconds: what the other side asked for, within [1, 3600]; nothing
    more is sent on the channel until then."""

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


class TransportRejected(TransportFailure):
    """This message will never get through as it stands; others may."""


class ChannelRefused(TransportRejected):
    """Nothing will get through on this channel before its owner changes it: gone, forbidden, no such recipient."""


class ChannelInvalid(ValueError):
    """What is set of a channel is wrong; the text is for people, names the setting and repeats no secret.

    setting: where it stands in the form, or "" for the whole; message: what is wrong with it, to go on from its name.
    """

    def __init__(self, message: str, *, setting: str = "") -> None:
        super().__init__(f"{setting!r} {message}" if setting else message)
        self.setting = setting
        self.message = message


@dataclass(frozen=True, slots=True)
class Setting:
    """One thing that a kind of channel has to know, a text. is_secret: kept encrypted and never shown again."""

    name: str
    label: str
    help: str
    is_secret: bool = False
    is_required: bool = True


@dataclass(frozen=True, slots=True)
class Action:
    """A link by which who reads the message can do something at once. It is signed, and expires."""

    label: str
    url: str


@dataclass(frozen=True, slots=True)
class RenderedMessage:
    """What is sent. id: the same on every attempt; subject: one line; text: plain, of any length, as the channel's
    template says it; items: the same as data, in order; url: where it stands on the site, with all that it lists.

    severity: the highest of what is told, "" for a test or a notice.
    """

    id: str
    subject: str
    text: str
    url: str
    severity: str = ""
    items: tuple[MessageItem, ...] = ()
    actions: tuple[Action, ...] = ()


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the other side said to a message that it took. detail: who took it, for the owner; answer: as in a
    failure."""

    detail: str
    status: int | None = None
    answer: str = ""


@dataclass(frozen=True, slots=True)
class ChannelDefaults:
    """How a new channel of a kind behaves until its owner says otherwise.

    group_wait_seconds: what opens within it becomes one message; messages_per_minute: 0 is no limit.
    """

    group_wait_seconds: int = 10
    messages_per_minute: int = 0


class Transport(Protocol):
    """One way to tell somebody. A transport is a module-level object without state between calls.

    Its settings come as one mapping, secrets in plain among them.
    """

    kind: str
    title: str
    settings: tuple[Setting, ...]
    defaults: ChannelDefaults

    def validate(self, settings: Mapping[str, Any]) -> dict[str, str]:
        """Return the settings as they are stored. Raises ChannelInvalid."""

    def preview(self, rendered: RenderedMessage, settings: Mapping[str, str]) -> str:
        """Return what would be sent, as text for people, made by the same code as what is sent and without secrets."""

    def send(self, rendered: RenderedMessage, settings: Mapping[str, str]) -> Receipt:
        """Send once, within SEND_SECONDS. Raises TransportUnavailable, TransportRejected or ChannelRefused."""


def read_settings(settings: Mapping[str, Any], *, known: tuple[Setting, ...], kind: str) -> dict[str, str]:
    """Return the settings that are not empty, each a text of one line. Raises ChannelInvalid for an unknown name, a
    missing one, and what is no such text."""
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
