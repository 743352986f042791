"""Channels made, tried, and what they keep secret."""

import contextlib
from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.utils import timezone

from apps.notify import services
from apps.notify.models import Channel, Message, RuleChannel
from apps.notify.transports.protocol import TransportUnavailable
from tests.builders import make_owner
from tests.notify.notifying import LONG_AGO, due, items, outcomes, raising, send
from tests.threads import at_once

pytestmark = pytest.mark.django_db


def test_channels_of_somebody_else_are_refused(feed, rule):
    stranger = services.create_channel(owner=make_owner("bob"), name="B", kind="inbox", config={})

    with pytest.raises(ValueError, match="a rule notifies only channels of its owner"):
        services.set_channels(rule=rule, channels=[stranger])

    assert list(RuleChannel.objects.values_list("channel__name", flat=True)) == ["Fake"]


def test_setting_the_same_channels_again_changes_nothing(rule, channel):
    before = RuleChannel.objects.get().pk

    services.set_channels(rule=rule, channels=[channel, channel])

    assert RuleChannel.objects.get().pk == before


@pytest.mark.parametrize(
    ("kind", "config", "message"),
    [
        ("email", {}, "'to' is missing"),
        ("email", {"to": "a@b.c,evil@x"}, "'to' must be one address, like you@example.org"),
        ("email", {"to": "a@b.c\r\nBcc: x@y.z"}, "'to' must be a text of one line"),
        ("email", {"to": 5}, "'to' must be a text of one line"),
        ("inbox", {"to": "a@example.org"}, "unknown setting 'to'; a channel of kind inbox has nothing"),
    ],
)
def test_a_channel_that_could_not_send_is_refused(owner, kind, config, message):
    with pytest.raises(ValidationError) as refusal:
        services.create_channel(owner=owner, name="x", kind=kind, config=config)

    assert refusal.value.messages == [message]
    assert Channel.objects.count() == 0


def test_an_unknown_kind_is_refused_with_those_that_there_are(owner):
    with pytest.raises(ValidationError, match="unknown kind 'pigeon'; known are .*email.*inbox"):
        services.create_channel(owner=owner, name="x", kind="pigeon", config={})


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"group_wait_seconds": 601}, "group_wait_seconds"),
        ({"messages_per_minute": 6_001}, "messages_per_minute"),
        ({"repeat_minutes": 43_201}, "repeat_minutes"),
        ({"quiet_from": "22:00"}, "quiet_until"),
        ({"quiet_until": "07:00"}, "quiet_from"),
        ({"quiet_from": "22:00", "quiet_until": "22:00"}, "quiet_until"),
        ({"quiet_zone": "Mars/Olympus"}, "quiet_zone"),
        ({"quiet_zone": "../../etc/passwd"}, "quiet_zone"),
        ({"subject_template": "{nobody}"}, "subject_template"),
        ({"text_template": "{"}, "text_template"),
    ],
)
def test_waits_quiet_hours_and_templates_out_of_bounds_are_refused_with_their_field(owner, options, field):
    with pytest.raises(ValidationError) as refusal:
        services.create_channel(owner=owner, name="x", kind="inbox", config={}, **options)

    assert set(refusal.value.message_dict) == {field}
    assert Channel.objects.count() == 0


def test_secrets_are_encrypted_in_the_database_and_read_back(outside, owner, settings):
    config = {"to": "ada", "password": "canary-4711"}
    channel = services.create_channel(owner=owner, name="Encrypted", kind="fake", config=config)

    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM notify_channel")
        row = str(cursor.fetchall())

    assert "canary" not in row
    assert "ada" in row
    stored = Channel.objects.get(pk=channel.pk)
    assert stored.transport_settings == config
    # Keys change by putting the new one in front: what the old one encrypted stays readable.
    settings.CHANNEL_ENCRYPTION_KEYS = ["new key", settings.SECRET_KEY]
    assert Channel.objects.get(pk=channel.pk).transport_settings == config


# Tests of a channel


def test_a_test_is_due_at_once_and_goes_the_way_of_all_messages(channel, outside):
    message = services.send_test(channel=channel, asked_by="ada", now=LONG_AGO)

    assert due(behind=timedelta(days=36_500)) == [channel.pk]
    assert send(channel) == "delivered"
    (rendered,) = outside.rendered_messages
    assert (rendered.id, rendered.subject) == (str(message.pk), "[test] Fake")
    assert rendered.text.startswith("This is a test of the channel Fake, asked for by ada at 2020-01-01 00:00:00 UTC.")
    assert rendered.text.endswith(f"/admin/notify/channel/{channel.pk}/change/")
    assert outcomes(message.pk) == [(1, "delivered", "")]


def test_a_channel_is_tried_once_a_minute(channel):
    first = services.send_test(channel=channel, asked_by="ada", now=timezone.now())
    with pytest.raises(services.TestRefused, match="less than a minute ago"):
        services.send_test(channel=channel, asked_by="ada", now=timezone.now())
    Message.objects.filter(pk=first.pk).update(created_at=timezone.now() - timedelta(seconds=61))
    services.send_test(channel=channel, asked_by="ada", now=timezone.now())
    assert Message.objects.count() == 2


def test_a_channel_that_is_switched_off_is_not_tried(channel):
    Channel.objects.update(is_enabled=False)
    with pytest.raises(services.TestRefused, match="Fake is disabled. Enable it first."):
        services.send_test(channel=channel, asked_by="ada", now=timezone.now())
    assert not Message.objects.exists()


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_of_two_tests_asked_for_at_once_one_is_made(channel):
    def ask():
        with contextlib.suppress(services.TestRefused):
            services.send_test(channel=channel, asked_by="ada", now=timezone.now())

    at_once(ask, ask)
    assert Message.objects.count() == 1


def test_a_test_holds_up_no_message_about_an_alert(feed, rule, channel, outside):
    services.send_test(channel=channel, asked_by="ada", now=LONG_AGO)
    outside.script = [raising(TransportUnavailable("timeout"))]
    send(channel)
    items(feed, channel, (0, "101"))
    assert send(channel) == "delivered"


def test_switching_a_channel_on_forgets_why_it_was_off(channel):
    now = timezone.now()
    Channel.objects.update(is_enabled=False, switched_off_because="gone", failing_since=now, resume_at=now)

    services.switch_on(channel=channel)

    found = Channel.objects.get()
    assert (found.is_enabled, found.switched_off_because, found.failing_since, found.resume_at) == (
        True,
        "",
        None,
        None,
    )


@pytest.fixture
def webhook(owner):
    return services.create_channel(owner=owner, name="Hook", kind="webhook", config={"url": "https://example.org/hook"})


def test_a_secret_is_changed_in_two_steps_so_that_no_message_goes_unchecked(webhook):
    old = webhook.transport_settings["secret"]

    new = services.rotate_secret(channel=webhook)

    both = Channel.objects.get(pk=webhook.pk).transport_settings
    assert (both["secret"], both["previous_secret"], both["url"]) == (new, old, "https://example.org/hook")
    assert new != old
    assert services.retire_previous_secret(channel=webhook) is True
    assert Channel.objects.get(pk=webhook.pk).transport_settings == {"url": "https://example.org/hook", "secret": new}
    assert services.retire_previous_secret(channel=webhook) is False


def test_only_a_kind_that_signs_has_a_secret_to_rotate(webhook, channel):
    assert [services.has_rotating_secret(one) for one in (webhook, channel)] == [True, False]
