"""The inbox: the message's own row, which the site shows once it is delivered. Nothing leaves the machine."""

from collections.abc import Mapping
from typing import Any

from apps.notify.transports.protocol import ChannelDefaults, Receipt, RenderedMessage, Setting, read_settings


class Inbox:
    """A message is delivered by its status alone."""

    kind = "inbox"
    title = "Inbox on this site"
    settings: tuple[Setting, ...] = ()
    defaults = ChannelDefaults(group_wait_seconds=0)
    is_for_programs = False

    def validate(self, settings: Mapping[str, Any]) -> dict[str, str]:
        """Return {}: an inbox has nothing to set."""
        return read_settings(settings, known=self.settings, kind=self.kind)

    def preview(self, rendered: RenderedMessage, settings: Mapping[str, str]) -> str:
        """Return subject and text."""
        return f"{rendered.subject}\n\n{rendered.text}"

    def send(self, rendered: RenderedMessage, settings: Mapping[str, str]) -> Receipt:
        """Do nothing: the row of the message is what the inbox shows."""
        return Receipt("in the inbox")
