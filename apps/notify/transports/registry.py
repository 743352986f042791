"""The transports by kind. Adding one is one module, one line here, one test file."""

from django.conf import settings

from apps.notify.transports.apprise import Apprise
from apps.notify.transports.email import Email
from apps.notify.transports.inbox import Inbox
from apps.notify.transports.protocol import ChannelInvalid, Transport
from apps.notify.transports.slack import Slack
from apps.notify.transports.telegram import Telegram
from apps.notify.transports.webhook import Webhook

TRANSPORTS: dict[str, Transport] = {
    transport.kind: transport for transport in (Apprise(), Email(), Inbox(), Slack(), Telegram(), Webhook())
}


def transport_named(kind: str) -> Transport:
    """Return the transport. Raises ChannelInvalid for an unknown kind, with the known ones."""
    try:
        return TRANSPORTS[kind]
    except KeyError:
        raise ChannelInvalid(f"unknown kind {kind!r}; known are {', '.join(sorted(TRANSPORTS))}") from None


def why_not_chosen(kind: str) -> str:
    """Return why no new channel of a kind can be made here, "" where it can."""
    if kind == Email.kind and not settings.EMAIL_CONFIGURED:
        return "This installation sends no mail: EMAIL_URL is not set."
    return ""
