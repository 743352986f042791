"""What notify asks of a transport, and what may come of it. No ORM here: values in, an outcome out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


class TransportUnavailable(Exception):
    """It did not get through this time. reason: short, fit for a metric label; detail: for people, without secrets."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


class TransportRejected(Exception):
    """It will never get through as it stands (no such recipient, refused for good)."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


class ChannelInvalid(ValueError):
    """A channel's config is wrong; the text is for people and names the key."""


@dataclass(frozen=True, slots=True)
class Letter:
    """What is sent. id: the same on every attempt; subject: one line; text: plain."""

    id: str
    subject: str
    text: str


class Transport(Protocol):
    """One way to tell somebody. A transport is a module-level object without state between calls."""

    kind: str

    def validate_config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the config as it is stored. Raises ChannelInvalid."""

    def send(self, letter: Letter, config: Mapping[str, Any]) -> str:
        """Send once and return what the other side said. Raises TransportUnavailable or TransportRejected."""
