"""Channels made, changed and tried by the API."""

import pytest

from apps.accounts.models import IdempotencyKey
from apps.notify.models import Channel, Message
from apps.notify.services import create_channel
from tests.builders import make_member, make_notified_alerts

pytestmark = pytest.mark.django_db

FIELDS = "{ channel { id name kind isEnabled repeatMinutes quietFrom quietUntil wantsSystem } errors { field code } }"
CREATE = f"""mutation ($name: String = "new", $kind: String = "inbox", $settings: JSON, $options: ChannelOptions) {{
  createChannel(idempotencyKey: "k", name: $name, kind: $kind, settings: $settings, options: $options) {FIELDS}
}}"""
UPDATE = f"""mutation ($id: UUID!, $name: String, $settings: JSON, $options: ChannelOptions) {{
  updateChannel(id: $id, name: $name, settings: $settings, options: $options) {FIELDS}
}}"""
HOOK = {"url": "https://hooks.example.org/x"}


@pytest.fixture
def webhook(ada):
    return create_channel(owner=ada, name="hook", kind="webhook", config=HOOK)


def answered(response):
    """Return the payload of the one mutation of an answer."""
    [payload] = response.json()["data"].values()
    return payload


def faults(response):
    payload = answered(response)
    assert payload["channel"] is None
    return [(one["field"], one["code"]) for one in payload["errors"]]


def test_a_channel_is_made_with_its_settings_and_what_suits_its_kind(ask, ada):
    asked = {"settings": {}, "options": {"repeatMinutes": 30, "quietFrom": "22:00", "quietUntil": "06:30"}}
    made = answered(ask(CREATE, asked, user=ada))
    assert made == {
        "channel": {
            **{"id": str(Channel.objects.get().public_id), "name": "new", "kind": "inbox", "isEnabled": True},
            **{"repeatMinutes": 30, "quietFrom": "22:00:00", "quietUntil": "06:30:00", "wantsSystem": False},
        },
        "errors": [],
    }


def test_a_secret_that_was_made_is_shown_once_and_stored_nowhere_else(ask, ada):
    query = CREATE.replace("{ channel {", "{ secret channel {")
    asked = {"kind": "webhook", "settings": HOOK}
    first, second = (answered(ask(query, asked, user=ada)) for _ in range(2))

    assert first["secret"] == Channel.objects.get().transport_settings["secret"]
    assert (second["secret"], second["channel"]) == (None, first["channel"])
    assert first["secret"] not in str(IdempotencyKey.objects.values())
    own = {"settings": HOOK | {"secret": first["secret"]}, "kind": "webhook"}
    assert "secret" in ask(query.replace('"k"', '"l"'), own | {"name": "second"}).text
    assert Channel.objects.count() == 2


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"kind": "pigeon"}, ("kind", "INVALID")),
        ({"kind": "webhook"}, ("settings.url", "INVALID")),
        ({"kind": "webhook", "settings": {"url": "http://127.0.0.1/"}}, ("settings.url", "INVALID")),
        ({"kind": "webhook", "settings": HOOK | {"what": "x"}}, ("settings", "INVALID")),
        ({"settings": ["url"]}, ("settings", "INVALID")),
        ({"name": ""}, ("name", "REQUIRED")),
        ({"name": "hook"}, ("name", "TAKEN")),
        ({"options": {"groupWaitSeconds": 601}}, ("options.groupWaitSeconds", "INVALID")),
        ({"options": {"quietFrom": "22:00"}}, ("options.quietUntil", "INVALID")),
        ({"options": {"quietFrom": "late", "quietUntil": "06:00"}}, ("options.quietFrom", "INVALID")),
        ({"options": {"quietZone": "../etc"}}, ("options.quietZone", "INVALID")),
        ({"options": {"textTemplate": "{price"}}, ("options.textTemplate", "INVALID")),
        ({"options": {"wantsSystem": True}}, ("options.wantsSystem", "INVALID")),
    ],
)
def test_what_is_wrong_with_a_channel_is_named(ask, ada, webhook, asked, found):
    assert faults(ask(CREATE, asked, user=ada)) == [found]
    assert Channel.objects.count() == 1


def test_what_is_left_out_of_a_change_stays(ask, ada, webhook):
    stored = webhook.transport_settings
    answer = answered(
        ask(UPDATE, {"id": webhook.public_id, "name": "other", "options": {"isEnabled": False}}, user=ada)
    )
    assert (answer["errors"], answer["channel"]["name"], answer["channel"]["isEnabled"]) == ([], "other", False)

    url = "https://hooks.example.org/y"
    answered(ask(UPDATE, {"id": webhook.public_id, "settings": {"url": url}, "options": {"isEnabled": None}}))
    row = Channel.objects.get()
    assert (row.transport_settings, row.is_enabled) == (stored | {"url": url}, False)
    assert faults(ask(UPDATE, {"id": webhook.public_id, "settings": {"url": "nowhere"}})) == [
        ("settings.url", "INVALID")
    ]


def test_a_channel_that_is_switched_on_has_a_clean_record(ask, ada, webhook):
    Channel.objects.update(is_enabled=False, switched_off_because="gone", failing_since=webhook.created_at)
    answer = answered(ask(UPDATE, {"id": webhook.public_id, "options": {"isEnabled": True}}, user=ada))
    row = Channel.objects.get()
    assert (answer["channel"]["isEnabled"], row.switched_off_because, row.failing_since) == (True, "", None)


def test_secrets_that_cannot_be_read_are_sent_anew(ask, ada, webhook, settings):
    Channel.objects.update(encrypted="x")
    assert faults(ask(UPDATE, {"id": webhook.public_id, "name": "other"}, user=ada)) == [("settings", "CONFLICT")]
    assert answered(ask(UPDATE, {"id": webhook.public_id, "settings": HOOK}))["errors"] == []


def test_an_operator_who_owns_channels_may_want_alerts_about_the_installation(ask):
    grace = make_member("grace")
    grace.groups.add(*make_member("olga", "Operator").groups.all())
    assert answered(ask(CREATE, {"options": {"wantsSystem": True}}, user=grace))["channel"]["wantsSystem"] is True


def test_a_channel_is_tried_once_a_minute(ask, ada, webhook):
    def tried(key):
        selection = "{ message { id status channel { name } } errors { code message } }"
        return answered(
            ask(f'mutation {{ testChannel(idempotencyKey: "{key}", id: "{webhook.public_id}") {selection} }}', user=ada)
        )

    first, repeated, other = tried("k"), tried("k"), tried("l")
    assert (first["message"]["channel"]["name"], first["message"]["status"]) == ("hook", "PENDING")
    assert (repeated, Message.objects.count()) == (first, 1)
    assert (other["message"], [one["code"] for one in other["errors"]]) == (None, ["CONFLICT"])


def test_a_channel_is_deleted_unless_it_was_notified_of_alerts(ask, ada, webhook):
    used = make_notified_alerts(ada, 1)[0].rule.rule_channels.get().channel

    def deleted(channel):
        query = f'mutation {{ deleteChannel(id: "{channel.public_id}") {{ deletedId errors {{ field code }} }} }}'
        return answered(ask(query, user=ada))

    assert deleted(used) == {"deletedId": None, "errors": [{"field": None, "code": "CONFLICT"}]}
    assert deleted(webhook) == {"deletedId": str(webhook.public_id), "errors": []}
    assert list(Channel.objects.all()) == [used]
