"""What would be sent of a rule, on each of its channels."""

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from apps.notify.models import Channel, Message, Notification
from apps.notify.services import create_channel, create_silence, set_channels
from apps.rules.models import Rule
from tests.builders import above, make_feed, make_notified_alerts, make_operator, make_owner, make_rule

pytestmark = pytest.mark.django_db

CHANNEL = "/admin/notify/channel/add/"


def page_of(rule):
    return reverse("admin:rules_rule_would_send", args=[rule.pk])


def test_the_button_of_a_rule_shows_its_last_alert_as_each_channel_would_send_it(admin_client, admin_user):
    (alert,) = make_notified_alerts(admin_user, 1)
    mail = create_channel(
        owner=admin_user, name="Mail", kind="email", config={"to": "a@b.org"}, text_template="<b>{summary}"
    )
    set_channels(rule=alert.rule, channels=[mail, Channel.objects.get(kind="inbox")])
    assert 'value="would_send"' in admin_client.get(reverse("admin:rules_rule_change", args=[alert.rule_id])).text
    asked = {"action": "would_send", "_selected_action": [alert.rule_id], "index": "0"}
    shown = admin_client.post(reverse("admin:rules_rule_changelist"), asked, follow=True)
    assert shown.request["PATH_INFO"] == page_of(alert.rule)
    texts = {one.channel.name: one.text for one, _ in shown.context["shown"]}
    assert texts.keys() == {"Inbox of notified", "Mail"}
    assert "Opened 2026-03-02 12:00:01 UTC." in texts["Inbox of notified"]
    assert "<b>NOTIFIED-0 is above 10" in texts["Mail"]
    assert ("&lt;b&gt;NOTIFIED-0" in shown.text, "<b>NOTIFIED-0" in shown.text) == (True, False)
    assert (Message.objects.count(), Notification.objects.count()) == (1, 1)


def test_a_rule_that_never_fired_shows_an_example_and_what_holds_it_back(admin_client, admin_user):
    make_feed("BTC-USD")
    rule = make_rule(admin_user, assets=["BTC-USD"], condition=above(10))
    channel = create_channel(owner=admin_user, name="In", kind="inbox", config={})
    set_channels(rule=rule, channels=[channel])
    now = timezone.now()
    create_silence(author=admin_user, starts_at=now, ends_at=now + timedelta(hours=1), comment="works", rule=rule)
    text = admin_client.get(page_of(rule)).text
    assert "it has not fired yet, so this is an example" in text
    assert "An example: BTC-USD is above 10" in text
    assert "The silence “works” holds it back until" in text


def test_it_says_where_nothing_would_be_sent(admin_client, admin_user):
    make_feed("BTC-USD")
    rule = make_rule(admin_user, assets=["BTC-USD"], condition=above(10))
    assert "it names no channel" in admin_client.get(page_of(rule)).text
    channel = create_channel(owner=admin_user, name="In", kind="inbox", config={})
    set_channels(rule=rule, channels=[channel])
    Channel.objects.update(is_enabled=False, kind="email")
    text = admin_client.get(page_of(rule)).text
    assert ("It is disabled" in text, "It cannot send as it is set" in text) == (True, True)


def test_nobody_is_shown_what_others_would_be_sent(client):
    make_notified_alerts(make_owner("ada"), 1)
    client.force_login(make_operator("grace", "rules.view_rule"))
    assert client.get(page_of(Rule.objects.get())).status_code == 404


def test_the_form_of_a_rule_says_where_to_add_a_channel_while_there_is_none(admin_client, admin_user):
    page, way = reverse("admin:rules_rule_add"), f'<a class="text-primary-600 dark:text-primary-500" href="{CHANNEL}">'
    assert way in admin_client.get(page).text

    create_channel(owner=admin_user, name="In", kind="inbox", config={})

    assert way not in admin_client.get(page).text
