"""The owners' pages of channels: their form, their secrets and their health."""

from datetime import timedelta

import pytest
from django.contrib.admin import site
from django.contrib.auth.models import Permission
from django.urls import reverse
from django.utils import timezone

from apps.notify import queries
from apps.notify.domain import moment
from apps.notify.models import Attempt, Channel, Message, Notification
from apps.notify.services import create_channel
from apps.notify.transports.protocol import TransportRejected
from apps.notify.transports.registry import TRANSPORTS
from apps.panel.channels import ChannelAdmin
from tests.builders import START, at, make_notified_alerts, make_operator, make_owner
from tests.notify.notifying import FakeTransport
from tests.panel.channel_pages import ADD, BY_MAIL, CHANNEL_PERMISSIONS, LIST, ask, errors_of, page_of, posted, preview

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _mail(settings):
    settings.EMAIL_CONFIGURED = True


@pytest.fixture
def fake(monkeypatch):
    """A kind with a secret, as people may install one."""
    monkeypatch.setitem(TRANSPORTS, "fake", FakeTransport())


# Making and changing.


def test_a_channel_is_added_and_edited(admin_client, admin_user):
    answer = admin_client.post(ADD, {**BY_MAIL, "owner": admin_user.pk})
    assert answer.status_code == 302
    channel = Channel.objects.get()
    assert (channel.owner, channel.config) == (admin_user, {"to": "ada@example.org"})
    assert admin_client.get(page_of(channel)).status_code == 200
    admin_client.post(page_of(channel), posted(channel, name="Post", owner=make_owner("eve").pk, kind="inbox"))
    channel.refresh_from_db()
    assert (channel.name, channel.owner, channel.kind) == ("Post", admin_user, "email")


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("email_to", {"email_to": "nowhere"}),
        ("email_to", {"email_to": ""}),
        ("email_to", {"email_to": "a@b.org,evil@x.org"}),
        ("email_to", {"email_to": "a@b.org\r\nBcc: evil@x.org"}),
        ("email_to", {"email_to": " a@b.org"}),
        ("email_to", {"email_to": "Ada <a@b.org>"}),
        ("email_to", {"email_to": f"{'a' * 250}@b.org"}),
        ("kind", {"kind": "pigeon"}),
        ("name", {"name": ""}),
        ("name", {"name": "x" * 65}),
        ("name", {"name": "a\0b"}),
        ("group_wait_seconds", {"group_wait_seconds": "601"}),
        ("quiet_until", {"quiet_from": "22:00"}),
        ("quiet_zone", {"quiet_zone": "Moon/Crater"}),
        ("subject_template", {"subject_template": "{level}"}),
        ("text_template", {"text_template": "a { b"}),
    ],
)
def test_a_channel_that_is_wrong_is_refused_beside_the_field_alone(admin_client, admin_user, field, wrong):
    answer = admin_client.post(ADD, {**BY_MAIL, "owner": admin_user.pk, **wrong})
    assert answer.status_code == 200
    assert (list(errors_of(answer)), len(errors_of(answer)[field])) == ([field], 1)
    assert not Channel.objects.exists()


def test_what_is_wrong_is_said_of_the_field_as_the_form_calls_it(admin_client, admin_user):
    refused = admin_client.post(ADD, {**BY_MAIL, "kind": "webhook", "owner": admin_user.pk})
    assert errors_of(refused) == {"webhook_url": ["URL is missing."]}
    slack = {"kind": "apprise", "apprise_url": "slack://T1JJ3T3L2/A1BRTD4JD/x", "owner": admin_user.pk}
    refused = admin_client.post(ADD, {**BY_MAIL, **slack})
    said = "Apprise URL is one for Slack: choose the kind Slack instead."
    assert errors_of(refused) == {"apprise_url": [said]}


def test_mail_cannot_be_chosen_where_none_is_sent_and_a_channel_that_is_there_can_be_edited(
    admin_client, admin_user, settings
):
    mail = create_channel(owner=admin_user, name="Old", kind="email", config={"to": "ada@example.org"})
    settings.EMAIL_CONFIGURED = False

    answer = admin_client.post(ADD, {**BY_MAIL, "owner": admin_user.pk})
    assert errors_of(answer) == {"kind": ["This installation sends no mail: EMAIL_URL is not set."]}
    assert "E-mail: cannot be chosen. This installation sends no mail: EMAIL_URL is not set." in answer.content.decode()
    assert admin_client.post(page_of(mail), posted(mail, name="New")).status_code == 302


@pytest.mark.parametrize(
    ("chats", "said"),
    [
        ([("5", "Ada"), ("-1007", "Ops")], "Write one of these numbers here: 5 (Ada), -1007 (Ops)."),
        ([], "Nobody has written to this bot lately. Write to it, or to a group that it is in, and save again."),
        (TransportRejected("http_401", "Unauthorized"), "The chats of this bot could not be found: Unauthorized."),
    ],
)
def test_the_form_finds_the_chat_of_a_bot(admin_client, admin_user, monkeypatch, chats, said):
    asked = []

    def chats_of(token):
        asked.append(token)
        if isinstance(chats, Exception):
            raise chats
        return chats

    monkeypatch.setattr("apps.panel.channel_form.chats_of", chats_of)
    bot = {"kind": "telegram", "telegram_token": "123456789:" + "A" * 35, "telegram_chat": ""}
    answer = admin_client.post(ADD, {**BY_MAIL, **bot, "owner": admin_user.pk})

    assert errors_of(answer)["telegram_chat"][-1] == said
    assert (asked, Channel.objects.exists()) == ([bot["telegram_token"]], False)


def test_a_new_channel_is_an_inbox_until_another_kind_is_chosen(admin_client):
    assert admin_client.get(ADD).context["adminform"].form["kind"].value() == "inbox"
    assert admin_client.get(ADD, {"kind": "email"}).context["adminform"].form["kind"].value() == "email"


def test_what_is_left_empty_is_what_suits_the_kind(admin_client, admin_user):
    common = {**BY_MAIL, "owner": admin_user.pk}
    admin_client.post(ADD, common)
    admin_client.post(ADD, {**common, "name": "In", "kind": "inbox"})
    admin_client.post(ADD, {**common, "name": "Own", "group_wait_seconds": "0", "messages_per_minute": "7"})
    waits = {one.name: (one.group_wait_seconds, one.messages_per_minute) for one in Channel.objects.all()}
    assert waits == {"Mail": (10, 20), "In": (0, 0), "Own": (0, 7)}


def test_a_form_shows_the_settings_of_the_kind_alone_and_of_a_new_channel_those_of_all(admin_client, admin_user, fake):
    channel = create_channel(owner=admin_user, name="F", kind="fake", config={"to": "me"})
    fields = admin_client.get(page_of(channel)).context["adminform"].form.fields
    assert [name for name in fields if name.startswith(("fake_", "email_"))] == ["fake_to", "fake_password"]
    new = admin_client.get(ADD)
    assert {"fake_to", "email_to"} <= set(new.context["adminform"].form.fields)
    assert 'x-show="kind == &#x27;fake&#x27;"' in new.text


def test_an_owner_has_each_name_once(client):
    grace = make_operator("grace", *CHANNEL_PERMISSIONS)
    client.force_login(grace)
    client.post(ADD, {**BY_MAIL, "owner": grace.pk})
    again = client.post(ADD, {**BY_MAIL, "owner": grace.pk})
    client.post(ADD, {**BY_MAIL, "owner": grace.pk, "name": "Other"})
    other = Channel.objects.get(name="Other")
    renamed = client.post(page_of(other), posted(other, name="Mail"))
    assert "already exists" in again.text
    assert "already exists" in renamed.text
    assert sorted(Channel.objects.values_list("name", flat=True)) == ["Mail", "Other"]


def test_an_owner_adds_channels_for_nobody_else_and_sees_nobody_elses(client):
    grace, ada = make_operator("grace", *CHANNEL_PERMISSIONS), make_owner("ada")
    make_notified_alerts(ada, 1)
    theirs = Channel.objects.get()
    client.force_login(grace)
    refused = client.post(ADD, {**BY_MAIL, "owner": ada.pk})
    assert refused.status_code == 200
    owners = client.get(ADD).context["adminform"].form.fields["owner"].queryset
    assert list(owners) == [grace]
    assert "Inbox of notified" not in client.get(LIST).text
    assert client.get(page_of(theirs)).status_code == 302
    assert Channel.objects.get() == theirs


def test_only_who_may_see_such_alerts_can_have_those_about_the_installation_notified(client):
    grace = make_operator("grace", *CHANNEL_PERMISSIONS)
    client.force_login(grace)
    client.post(ADD, {**BY_MAIL, "owner": grace.pk, "wants_system": "on"})
    channel = Channel.objects.get()
    client.post(page_of(channel), posted(channel, wants_system="on"))
    assert Channel.objects.get().wants_system is False
    grace.user_permissions.add(Permission.objects.get(codename="view_system_alerts"))
    client.post(page_of(channel), posted(channel, wants_system="on"))
    assert Channel.objects.get().wants_system is True


# Secrets.


@pytest.fixture
def secretive(fake, admin_user):
    return create_channel(owner=admin_user, name="F", kind="fake", config={"to": "me", "password": "s3cr3t"})


def test_a_secret_is_never_shown_and_an_empty_field_keeps_it(admin_client, secretive):
    shown = admin_client.get(page_of(secretive)).text
    assert ("s3cr3t" in shown, "An empty field keeps it." in shown, 'type="password"' in shown) == (
        False,
        True,
        True,
    )
    admin_client.post(page_of(secretive), posted(secretive, fake_to="you"))
    secretive.refresh_from_db()
    assert secretive.transport_settings == {"to": "you", "password": "s3cr3t"}
    admin_client.post(page_of(secretive), posted(secretive, fake_password="new one"))
    secretive.refresh_from_db()
    assert (secretive.transport_settings["password"], "new one" in secretive.encrypted) == ("new one", False)


def test_a_refused_form_does_not_show_the_secret_that_was_written(admin_client, secretive):
    refused = admin_client.post(page_of(secretive), posted(secretive, fake_to="nobody", fake_password="hush hush"))
    assert errors_of(refused) == {"fake_to": ["To must be somebody."]}
    assert "hush hush" not in refused.text
    secretive.refresh_from_db()
    assert secretive.transport_settings == {"to": "me", "password": "s3cr3t"}


def test_a_secret_whose_key_is_lost_is_asked_for_anew(admin_client, secretive, settings):
    settings.CHANNEL_ENCRYPTION_KEYS = ["another"]
    assert "cannot be read with the keys of this site" in admin_client.get(page_of(secretive)).text
    refused = admin_client.post(page_of(secretive), posted(secretive, fake_to="nobody"))
    assert errors_of(refused) == {"fake_to": ["To must be somebody."]}
    admin_client.post(page_of(secretive), posted(secretive, fake_password="again"))
    secretive.refresh_from_db()
    assert secretive.transport_settings == {"to": "me", "password": "again"}


def test_a_secret_that_was_made_is_shown_once(admin_client, admin_user):
    hook = {**BY_MAIL, "owner": admin_user.pk, "kind": "webhook", "webhook_url": "https://example.org/hook"}
    made = admin_client.post(ADD, hook)
    channel = Channel.objects.get()
    secret = channel.transport_settings["secret"]
    assert (secret in made.text, "no-store" in made["Cache-Control"]) == (True, True)
    assert secret not in admin_client.get(page_of(channel)).text + admin_client.get(LIST).text
    written = admin_client.post(ADD, {**hook, "name": "Second", "webhook_secret": secret})
    assert written.status_code == 302


def test_a_secret_is_rotated_and_the_previous_one_retired_by_buttons(admin_client, admin_user):
    channel = create_channel(owner=admin_user, name="Hook", kind="webhook", config={"url": "https://example.org/hook"})
    assert 'value="retire_secret"' not in admin_client.get(page_of(channel)).text
    rotated = ask(admin_client, "rotate_secret", channel)
    channel.refresh_from_db()
    both = channel.transport_settings
    assert (both["secret"] in rotated.text, both["previous_secret"] in rotated.text) == (True, False)
    # An edit of something else keeps both.
    admin_client.post(page_of(channel), posted(channel, name="Other name"))
    channel.refresh_from_db()
    assert channel.transport_settings == both
    assert 'value="retire_secret"' in admin_client.get(page_of(channel)).text
    assert "Retired" in ask(admin_client, "retire_secret", channel).text
    channel.refresh_from_db()
    assert channel.transport_settings == {"url": "https://example.org/hook", "secret": both["secret"]}


def test_nobody_rotates_the_secret_of_others_nor_by_looking_only(client):
    grace, ada = make_operator("grace", *CHANNEL_PERMISSIONS), make_operator("ada", "notify.view_channel")
    channel = create_channel(owner=ada, name="Hook", kind="webhook", config={"url": "https://example.org/hook"})
    before = channel.transport_settings
    for user in (grace, ada):
        client.force_login(user)
        ask(client, "rotate_secret", channel)
    assert Channel.objects.get().transport_settings == before


# Health.


def test_a_channel_says_how_it_does(admin_client, admin_user):
    make_notified_alerts(admin_user, 3)
    first, second, third = Message.objects.order_by("created_at")
    Message.objects.filter(pk=second.pk).update(status="failed")
    Message.objects.filter(pk=third.pk).update(status="pending")
    Attempt.objects.filter(message=first).update(milliseconds=40)
    Attempt.objects.filter(message=second).update(outcome="transient_failure")
    Attempt.objects.filter(message=third).update(milliseconds=60)
    Message.objects.filter(pk=first.pk).update(delivered_at=START)
    channel = Channel.objects.get()
    shown = admin_client.get(page_of(channel))
    (health,) = [one for one in shown.context["tables"] if one.title == "Delivery statistics (24 h)"]
    figures = {row[0]: row[1] for row in health.rows}
    assert "It works; the last delivery was at 2026-03-02 12:00:00 UTC." in shown.text
    assert figures["last failure (of 7 days)"] == Attempt.objects.get(message=second).started_at
    assert figures["median delivery time"] == "40 ms"
    names = [
        *("messages delivered in 24 h", "attempts that failed in 24 h", "messages given up in 24 h"),
        *("messages to be sent", "notifications not in a message yet"),
    ]
    assert [figures[name] for name in names] == [1, 1, 1, 1, 0]
    assert "1 delivered, 1 failed try, 1 given up" in admin_client.get(LIST).text


def test_what_is_older_than_a_day_is_not_counted(admin_client, admin_user):
    make_notified_alerts(admin_user, 1)
    Message.objects.update(created_at=timezone.now() - timedelta(days=1, minutes=1))
    channel = queries.with_health(Channel.objects.all(), now=timezone.now()).get()
    assert (channel.delivered, channel.last_delivery) == (0, Message.objects.get().delivered_at)
    assert queries.median_milliseconds(channel, now=timezone.now()) is None


@pytest.mark.parametrize(
    ("columns", "state", "text"),
    [
        ({"is_enabled": False, "switched_off_because": "gone"}, "off", "Disabled: gone."),
        ({"is_enabled": False}, "off", "Disabled by its owner."),
        ({"failing_since": START}, "failing", "Nothing has got through since 2026-03-02 12:00:00 UTC."),
        ({"resume_at": START + timedelta(days=9_000)}, "asked to wait", "Rate-limited by the receiver until"),
        ({"resume_at": START}, "untried", "Nothing was sent on it yet."),
    ],
)
def test_the_state_of_a_channel_has_a_sentence(admin_client, admin_user, columns, state, text):
    channel = create_channel(owner=admin_user, name="C", kind="inbox", config={})
    Channel.objects.update(**columns)
    assert text in admin_client.get(page_of(channel)).text
    channel = queries.with_health(Channel.objects.all(), now=START).get()
    assert queries.channel_state(channel, now=timezone.now())[0] == state


def test_a_channel_whose_test_was_refused_says_why_also_after_it_is_switched_on_again(admin_client, admin_user):
    make_notified_alerts(admin_user, 1)
    Message.objects.update(delivered_at=START)
    channel = Channel.objects.get()
    refused = Message.objects.create(
        channel=channel, kind="test", subject="t", text="", next_attempt_at=START, status="failed", attempts=2
    )
    tries = ((1, "transient_failure", "hooks.slack.com is away."), (2, "permanent_failure", "no such webhook."))
    for number, outcome, text in tries:
        Attempt.objects.create(
            message=refused, number=number, started_at=at(number), outcome=outcome, reason="gone", detail=text
        )
    said = f"The last try, at {moment(at(2))}, did not get through: no such webhook."

    def failing():
        return list(admin_client.get(LIST, {"health": "failing"}).context["cl"].result_list)

    def last_failure():
        (row,) = admin_client.get(LIST).context["cl"].result_list
        return ChannelAdmin(Channel, site).last_reason(row)

    assert said in admin_client.get(page_of(channel)).text
    assert failing() == [channel]
    assert last_failure() == "no such webhook."
    Channel.objects.update(is_enabled=False, switched_off_because="it went away")
    assert last_failure() == "it went away"
    Channel.objects.update(is_enabled=False, switched_off_because="no such webhook", failing_since=START)
    assert failing() == []
    admin_client.post(LIST, {"action": "switch_on", "_selected_action": [channel.pk], "index": "0"})
    assert said in admin_client.get(page_of(channel)).text
    Attempt.objects.filter(number=2).update(detail="")
    assert "did not get through: gone." in admin_client.get(page_of(channel)).text
    Message.objects.exclude(pk=refused.pk).update(delivered_at=at(3))
    assert f"It works; the last delivery was at {moment(at(3))}." in admin_client.get(page_of(channel)).text
    assert failing() == []
    assert last_failure() == ""


def test_a_channel_at_its_limit_says_that_what_is_due_waits_for_room(admin_client, admin_user):
    (alert,) = make_notified_alerts(admin_user, 1)
    channel = Channel.objects.get()
    pages = [page_of(channel), reverse("admin:alerts_alert_change", args=[alert.pk])]
    Notification.objects.update(message=None, due_at=START)
    waits = "room within the channel&#x27;s limit of 1 message a minute, with all else that waits"
    assert [waits in admin_client.get(page).text for page in pages] == [False, False]
    assert preview(admin_client, page_of(channel, "preview"), posted(channel))["deferred"] == ""
    Channel.objects.update(messages_per_minute=1)
    assert [waits in admin_client.get(page).text for page in pages] == [True, True]
    shown = preview(admin_client, page_of(channel, "preview"), posted(Channel.objects.get()))
    deferred = (
        "It waits: the channel's limit of 1 message a minute is used up. What is more comes together in the next."
    )
    assert shown["deferred"] == deferred
    would_send = admin_client.get(reverse("admin:rules_rule_would_send", args=[alert.rule_id]))
    assert [text for _, text in would_send.context["shown"]] == [deferred]
    Message.objects.update(created_at=timezone.now() - timedelta(minutes=1))
    assert [waits in admin_client.get(page).text for page in pages] == [False, False]


def test_channels_are_filtered_by_kind_and_by_how_they_do(admin_client, admin_user):
    for name in ("on", "failing", "off"):
        create_channel(owner=admin_user, name=name, kind="inbox", config={})
    Channel.objects.filter(name="failing").update(failing_since=START)
    Channel.objects.filter(name="off").update(is_enabled=False, failing_since=START)

    def listed(**parameters):
        return sorted(one.name for one in admin_client.get(LIST, parameters).context["cl"].result_list)

    assert [listed(health=one) for one in ("on", "failing", "off")] == [["failing", "on"], ["failing"], ["off"]]
    assert [len(listed(kind=one)) for one in ("inbox", "email")] == [3, 0]


def test_saving_does_not_write_over_what_a_sender_has_noted_meanwhile(admin_client, admin_user, monkeypatch):
    channel = create_channel(owner=admin_user, name="C", kind="inbox", config={})
    save = Channel.save

    def sender_was_faster(self, *args, **kwargs):
        Channel.objects.filter(pk=self.pk).update(failing_since=START)
        save(self, *args, **kwargs)

    monkeypatch.setattr(Channel, "save", sender_was_faster)
    admin_client.post(page_of(channel), posted(channel, name="Renamed"))
    found = Channel.objects.get()
    assert (found.name, found.failing_since) == ("Renamed", START)


def test_switching_on_in_the_form_or_by_the_button_forgets_why_it_was_off(admin_client, admin_user):
    channel = create_channel(owner=admin_user, name="C", kind="inbox", config={})
    off = {"is_enabled": False, "switched_off_because": "gone", "failing_since": START, "resume_at": START}
    for ways in (
        lambda: admin_client.post(page_of(channel), posted(channel, is_enabled="on")),
        lambda: ask(admin_client, "switch_on", channel),
    ):
        Channel.objects.update(**off)
        ways()
        found = Channel.objects.get()
        assert (found.is_enabled, found.switched_off_because) == (True, "")
        assert (found.failing_since, found.resume_at) == (None, None)


def test_other_quiet_hours_are_looked_at_at_once(admin_client, admin_user):
    make_notified_alerts(admin_user, 1)
    later = timezone.now() + timedelta(hours=9)
    Notification.objects.update(message=None, deferred_by="quiet", due_at=later)
    channel = Channel.objects.get()
    admin_client.post(page_of(channel), posted(channel, name="Renamed"))
    assert Notification.objects.get().due_at == later
    admin_client.post(page_of(channel), posted(channel, quiet_from="22:00", quiet_until="06:00"))
    assert Notification.objects.get().due_at < later
