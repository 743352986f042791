"""What would be sent is what is sent, and nothing is written."""

import re
from datetime import timedelta

import pytest
from django.utils import timezone

from apps.notify import services
from apps.notify.models import Channel, Message, Notification
from tests.notify.notifying import items, send

pytestmark = pytest.mark.django_db


def _would_send(channel, rule, **columns):
    Channel.objects.filter(pk=channel.pk).update(**columns)
    channel.refresh_from_db()
    now = timezone.now()
    return services.would_send(
        channel=channel, event=services.last_opening(owner=rule.owner, rule=rule, now=now), now=now
    )


def test_the_last_alert_is_shown_as_it_was_sent(feed, rule, channel, outside):
    items(feed, channel, (0, "99"), (1, "101"))
    send(channel)
    before = (Message.objects.count(), Notification.objects.count())

    preview = _would_send(channel, rule)

    # But for the address of the message itself, of which there is none.
    assert preview.text == outside.rendered_messages[0].text
    assert (preview.decision, preview.deferral, preview.is_whole) == ("send", None, True)
    assert (Message.objects.count(), Notification.objects.count()) == before


def test_a_rule_that_never_fired_is_shown_by_an_example(rule, channel):
    preview = _would_send(channel, rule, text_template="{rule}/{asset}/{severity}/{summary}")

    assert preview.text == "Peg/BTC-USD/warning/An example: BTC-USD is above 100"
    assert not Message.objects.exists()


def test_what_holds_it_back_now_is_said(feed, rule, channel):
    now = timezone.now()
    silence = services.create_silence(
        author=rule.owner, owner=rule.owner, rule=rule, starts_at=now, ends_at=now + timedelta(hours=1), comment="x"
    )

    preview = _would_send(channel, rule)
    assert (preview.decision, preview.deferral.silence_id) == ("silenced", silence.pk)


def test_a_channel_that_cannot_send_as_it_is_set_shows_subject_and_text(rule, channel):
    preview = _would_send(channel, rule, kind="email", config={}, subject_template="About {asset}", text_template="Hey")

    assert (preview.text, preview.is_whole) == ("About BTC-USD\n\nHey", False)


def test_its_links_are_seen_to_be_none(owner, rule):
    mail = services.create_channel(owner=owner, name="Mail", kind="email", config={"to": "ada@example.org"})

    assert re.findall(r"/action/([^/\s]+)", _would_send(mail, rule).text) == ["example"] * 3
