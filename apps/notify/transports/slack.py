"""A channel on Slack, by an incoming webhook. Slack knows no key for repeats: a message may come twice."""

import json
from collections.abc import Mapping
from typing import Any

from django.conf import settings as django_settings

from apps.notify.transports import posting
from apps.notify.transports.cutting import cut, cut_line, utf16
from apps.notify.transports.protocol import (
    Action,
    ChannelDefaults,
    ChannelInvalid,
    ChannelRefused,
    Receipt,
    RenderedMessage,
    Setting,
    read_settings,
)
from apps.outbound import target_of

HEADER_LONGEST, TEXT_LONGEST = 150, 3_000


class Slack:
    """One incoming webhook per channel."""

    kind = "slack"
    title = "Slack"
    settings = (
        Setting(
            "url",
            "Webhook URL",
            "An incoming webhook's, like https://hooks.slack.com/services/T…/B…/…",
            is_secret=True,
        ),
    )
    defaults = ChannelDefaults(messages_per_minute=60)
    is_for_programs = False

    def validate(self, settings: Mapping[str, Any]) -> dict[str, str]:
        """Return {"url": url}."""
        found = read_settings(settings, known=self.settings, kind=self.kind)
        if why := _why_not(found["url"]):
            raise ChannelInvalid(why, setting="url")
        return found

    def preview(self, rendered: RenderedMessage, settings: Mapping[str, str]) -> str:
        """Return the message as Slack is given it, laid out for reading."""
        return json.dumps(_message(rendered), indent=2, ensure_ascii=False)

    def send(self, rendered: RenderedMessage, settings: Mapping[str, str]) -> Receipt:
        """Post one message."""
        url = settings["url"]
        if why := _why_not(url):
            raise ChannelRefused("forbidden_address", f"the URL {why}")
        answer = posting.post(
            url,
            body=json.dumps(_message(rendered)).encode(),
            headers={"Content-Type": "application/json"},
            # Whoever knows the path may post.
            hide=[part for part in url.split("/")[3:] if len(part) > 3],
        )
        return posting.receipt_of(answer)


def _why_not(url: str) -> str:
    """Return why the URL is not taken for an incoming webhook's, to go on from "the URL"; "" where it is."""
    if why := posting.why_not(url):
        return why
    target = target_of(url)
    is_slack = target.scheme == "https" and target.host in django_settings.SLACK_HOSTS
    if is_slack or target.is_at(django_settings.OUTBOUND_ALLOW):
        return ""
    return f"must begin with {' or '.join(f'https://{host}/' for host in django_settings.SLACK_HOSTS)}"


def _message(rendered: RenderedMessage) -> dict[str, Any]:
    """Return the message. What people have written stands in it so that it calls nobody and leads nowhere."""
    text = cut(rendered.text, room=TEXT_LONGEST, url=rendered.url, size=lambda text: utf16(_escaped(text)))
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": _plain(cut_line(rendered.subject, room=HEADER_LONGEST, size=utf16))}
    ]
    # Slack refuses an empty text, and a template may come to one.
    if text.strip():
        # Verbatim: @everyone and #general are words. The links are below.
        blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": _escaped(text), "verbatim": True}})
    if rendered.severity:
        blocks.append({"type": "context", "elements": [_plain(rendered.severity)]})
    actions = [*rendered.actions, Action("Open", rendered.url)]
    blocks.append(
        {
            "type": "actions",
            "elements": [{"type": "button", "text": _plain(action.label), "url": action.url} for action in actions],
        }
    )
    return {"text": _escaped(rendered.subject), "blocks": blocks}


def _plain(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text, "emoji": False}


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
