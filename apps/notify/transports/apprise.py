"""The services that Apprise knows and that have one address for everybody: Discord, Pushover, SMS gateways and so on.

Apprise says whether a service took a message, and not why it did not; so what failed is always tried again, and where a
message has several recipients, those that had it already get it once more.
"""

import logging
import re
from bisect import bisect_left
from collections.abc import Callable, Mapping
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

from django.conf import settings as django_settings

from apps.notify import domain
from apps.notify.transports.protocol import (
    SEND_SECONDS,
    ChannelDefaults,
    ChannelInvalid,
    ChannelRefused,
    Receipt,
    RenderedMessage,
    Setting,
    TransportUnavailable,
    read_settings,
)

if TYPE_CHECKING:
    from apprise.plugins.base import NotifyBase

SUGGESTED = ("discord", "gchat", "opsgenie", "pagerduty", "pbul", "pover", "prowl", "twilio")
# This project has its own transports for these, which distinguish permanent errors from transient ones.
OURS = {"slack": "Slack", "tgram": "Telegram"}
# Their address is part of something else that the user writes (an organization, an account, a relay), or they read a
# file of this machine.
REACHING = {"bluesky", "bsky", "fcm", "nostr", "vapid", "zulip"}
# What stands after the "?" of an address: these are files or other machines' addresses; Apprise's own, like timeouts
# and redirects, are our business too.
FORBIDDEN = {"blossom", "keyfile", "relay", "subfile", "template"}
# What makes a name a call to everybody in a room, or a person: it stays readable and calls nobody.
_CALL = re.compile(r"@(?=[\w*])|<(?=[!@#&]|users/)")


class Apprise:
    """One Apprise URL per channel."""

    kind = "apprise"
    title = "Another service, by Apprise"
    settings = (
        Setting(
            "url",
            "Apprise URL",
            "Like discord://webhook_id/webhook_token or pover://user@token; https://appriseit.com/services/ says what "
            "each service's is. Only services that have one address for everybody.",
            is_secret=True,
        ),
    )
    defaults = ChannelDefaults(messages_per_minute=20)
    is_for_programs = False

    def validate(self, settings: Mapping[str, Any]) -> dict[str, str]:
        """Return {"url": url}, which Apprise can read."""
        found = read_settings(settings, known=self.settings, kind=self.kind)
        _service(found["url"])
        return found

    def preview(self, rendered: RenderedMessage, settings: Mapping[str, str]) -> str:
        """Return the title, where the service has titles, and the text, cut to what it takes."""
        title, body = _content(rendered, _service(settings["url"]))
        return f"{title}\n\n{body}" if title else body

    def send(self, rendered: RenderedMessage, settings: Mapping[str, str]) -> Receipt:
        """Send once, to each recipient that the URL names."""
        try:
            service = _service(settings["url"])
        except ChannelInvalid as error:
            raise ChannelRefused("apprise_invalid", str(error)) from None
        title, body = _content(rendered, service)
        sender = _library().Apprise(service, asset=service.asset)
        result = sender.notify(title=title, body=body, body_format="text", notify_type=_type(rendered))
        name = str(service.service_name)
        if result:
            return Receipt(f"taken by {name}")
        if result.status.name == "TIMEOUT":
            raise TransportUnavailable("apprise_timeout", f"{name} did not answer in time")
        found = re.search(r"\berror=(\d{3})\b", "\n".join(one.message for one in result.logs()))
        status = int(found[1]) if found else None
        detail = f"{name} did not take it" + (f": HTTP {status}" if status else "")
        raise TransportUnavailable("apprise_failed", detail, status=status)


@cache
def _library() -> ModuleType:
    """Import Apprise on first use: the import is slow.

    Its log lines contain addresses with their secrets, so they are not passed on; `send` reads them from the result.
    """
    import apprise

    logging.getLogger("apprise").propagate = False
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    return apprise


@cache
def allowed_schemas() -> frozenset[str]:
    """Return the schemas of the services that call one address only, by Apprise's own lists.

    No template of theirs has a {host}, and their schema is one that Apprise calls secure: what speaks to this machine
    (D-Bus, syslog, a desktop) has none.
    """
    _library()
    from apprise.manager_plugins import NotificationManager

    found: set[str] = set()
    for service in NotificationManager().plugins(include_disabled=False):
        secure = service.secure_protocol or ()
        if not any("{host}" in template for template in service.templates):
            found.update([secure] if isinstance(secure, str) else secure)
    return frozenset(found - set(OURS) - REACHING)


def _service(url: str) -> "NotifyBase":
    """Return Apprise's service for a URL, with our limits. Raises ChannelInvalid, whose text repeats nothing of it."""
    apprise = _library()
    from apprise.plugins import url_to_dict
    from apprise.plugins.base import NotifyBase

    parts = url_to_dict(url)
    if parts and parts["schema"] in OURS:
        kind = OURS[parts["schema"]]
        raise ChannelInvalid(f"is one for {kind}: choose the kind {kind} instead", setting="url")
    if not parts or parts["schema"] not in allowed_schemas():
        some = ", ".join(f"{schema}://" for schema in SUGGESTED)
        raise ChannelInvalid(
            f"must be an Apprise URL of a service that has one address for everybody, like {some}; "
            "a server of your own takes a webhook",
            setting="url",
        )
    forbidden = sorted((FORBIDDEN | set(NotifyBase.template_args)) & set(parts["qsd"]))
    if forbidden:
        raise ChannelInvalid(f"must not say {forbidden[0]!r} after the '?'", setting="url")
    asset = apprise.AppriseAsset(
        app_id="Fake Fintech OSS",
        app_desc="Market monitor",
        app_url=django_settings.SITE_URL,
        # No pictures: the service, or who reads, would fetch them from elsewhere.
        image_url_mask="",
        image_url_logo="",
        http_redirects=False,
        interpret_emojis=False,
        language="en",
        # A little less than all of our time: it is looked at from outside, while a thread talks.
        service_timeout=SEND_SECONDS - 0.5,
    )
    try:
        service = apprise.Apprise.instantiate(parts, asset=asset, suppress_exceptions=False)
    except Exception:
        # What is wrong with it is in the error's text, and so is what it says.
        service = None
    if service is None:
        raise ChannelInvalid(
            f"is not whole: see what a URL of {parts['schema']}:// needs at https://appriseit.com/services/",
            setting="url",
        )
    service.socket_connect_timeout, service.socket_read_timeout = SEND_SECONDS / 3, SEND_SECONDS / 2
    service.overflow_mode = apprise.OverflowMode.TRUNCATE
    return service


def _content(rendered: RenderedMessage, service: "NotifyBase") -> tuple[str, str]:
    """Return (title, body) as the service takes them: in one message, which says so where it could not hold all."""
    from apprise.conversion import convert_between

    subject, text = (_CALL.sub("\\g<0>\u200b", one) for one in (rendered.subject, rendered.text))
    has_title = service.title_maxlen > 0 and not service.overflow_amalgamate_title
    title, body = (subject, text) if has_title else ("", f"{subject}\n{text}")
    written = service.resolve_format("text")

    def fits(candidate: str) -> bool:
        sent = service.dialect_convert(convert_between("text", written, candidate), written)
        return len(sent) <= service.body_maxlen

    return title, _cut(body, tail=f"…\nAll of it: {rendered.url}", fits=fits)


def _cut(text: str, *, tail: str, fits: Callable[[str], bool]) -> str:
    """Return the text, or as much of its beginning as fits together with the tail, or a mark where that is too long."""
    if fits(text):
        return text
    if not fits(text[:40] + tail):
        tail = "…"
    kept = bisect_left(range(len(text)), True, key=lambda length: not fits(text[: length + 1] + tail))
    return text[:kept].rstrip() + tail


def _type(rendered: RenderedMessage) -> str:
    states = domain.last_states(rendered.items)
    if rendered.items and all(one.event == domain.RESOLVED for one in states):
        return "success" if states else "info"
    return {"critical": "failure", "warning": "warning"}.get(rendered.severity, "info")
