"""The inbox: the message's own row, which the site shows once it is delivered. Nothing leaves the machine."""

from collections.abc import Mapping
from typing import Any

from apps.notify.transports.protocol import ChannelInvalid, Letter


class Inbox:
    """Delivered by being delivered."""

    kind = "inbox"

    def validate_config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return {}: an inbox has nothing to set."""
        if config:
            raise ChannelInvalid(f"an inbox takes no {sorted(config)[0]}")
        return {}

    def send(self, letter: Letter, config: Mapping[str, Any]) -> str:
        """Do nothing: the row is the letter."""
        return "in the inbox"
