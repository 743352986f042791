"""The owners' pages: channels, their form, their health and their buttons."""

from datetime import timedelta

import pytest
from django.contrib.admin import site
from django.contrib.auth.models import Permission
from django.urls import reverse
from django.utils import timezone

from apps.alerts.models import Alert
from apps.notify import queries
from apps.notify.domain import moment
from apps.notify.models import Attempt, Channel, Message, Notification
from apps.notify.services import create_channel
from apps.notify.transports.protocol import TransportRejected
from apps.notify.transports.registry import TRANSPORTS
from apps.panel.channels import ChannelAdmin
from tests.builders import START, at, make_notified_alerts, make_operator, make_owner, notify_all
from tests.notify.notifying import FakeTransport

LIST, ADD = reverse("admin:notify_channel_changelist"), reverse("admin:notify_channel_add")
CHANNEL_PERMISSIONS = [f"notify.{verb}_channel" for verb in ("view", "add", "change", "delete")]
BY_MAIL = {
    **{"name": "Mail", "kind": "email", "email_to": "ada@example.org", "is_enabled": "on", "wants_resolved": "on"},
    **{"group_wait_seconds": "", "messages_per_minute": "", "repeat_minutes": "0", "quiet_zone": "UTC"},
}

NAMING = "The last alert of a rule that names it"

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _mail(settings):
    settings.EMAIL_CONFIGURED = True


@pytest.fixture
def fake(monkeypatch):
    """A kind with a secret, as people may install one."""
    monkeypatch.setitem(TRANSPORTS, "fake", FakeTransport())


def page_of(channel, page="change"):
    return reverse(f"admin:notify_channel_{page}", args=[channel.pk])


def posted(channel, **changes):
    """Return what the form of this channel posts, as it is shown, but for these changes."""
    data = {
        name: getattr(channel, name)
        for name in ("name", "group_wait_seconds", "messages_per_minute", "repeat_minutes", "quiet_zone")
    }
    data |= {name: "on" for name in ("is_enabled", "wants_resolved", "quiet_allow_critical") if getattr(channel, name)}
    data |= {f"{channel.kind}_{name}": value for name, value in channel.config.items()}
    return {name: value for name, value in (data | changes).items() if value is not None}


def errors_of(answer):
    return {name: list(errors) for name, errors in answer.context["adminform"].form.errors.items()}


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
        ("subject_template", {"subject_template": "{price}"}),
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
    assert "E-mail (cannot be chosen)" in answer.content.decode()
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


def _ask(client, action, *channels, **data):
    asked = {"action": action, "_selected_action": [one.pk for one in channels], "index": "0", "back": "page", **data}
    return client.post(LIST, asked, follow=True)


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
    rotated = _ask(admin_client, "rotate_secret", channel)
    channel.refresh_from_db()
    both = channel.transport_settings
    assert (both["secret"] in rotated.text, both["previous_secret"] in rotated.text) == (True, False)
    # An edit of something else keeps both.
    admin_client.post(page_of(channel), posted(channel, name="Other name"))
    channel.refresh_from_db()
    assert channel.transport_settings == both
    assert 'value="retire_secret"' in admin_client.get(page_of(channel)).text
    assert "Retired" in _ask(admin_client, "retire_secret", channel).text
    channel.refresh_from_db()
    assert channel.transport_settings == {"url": "https://example.org/hook", "secret": both["secret"]}


def test_nobody_rotates_the_secret_of_others_nor_by_looking_only(client):
    grace, ada = make_operator("grace", *CHANNEL_PERMISSIONS), make_operator("ada", "notify.view_channel")
    channel = create_channel(owner=ada, name="Hook", kind="webhook", config={"url": "https://example.org/hook"})
    before = channel.transport_settings
    for user in (grace, ada):
        client.force_login(user)
        _ask(client, "rotate_secret", channel)
    assert Channel.objects.get().transport_settings == before


# The preview.


def _preview(client, address, data):
    return client.post(address, data).json()


def test_what_would_be_sent_is_shown_with_what_stands_in_the_form_and_nothing_is_saved(admin_client, admin_user):
    make_notified_alerts(admin_user, 1)
    channel = Channel.objects.get()
    changed = posted(channel, subject_template="{asset}!", text_template="{severity}: {rule}")
    shown = _preview(admin_client, page_of(channel, "preview"), changed)
    assert (shown["about"], shown["text"]) == (NAMING, "NOTIFIED-0!\n\nwarning: rule of NOTIFIED-0")
    assert (shown["errors"], shown["is_whole"]) == ([], True)
    new = _preview(admin_client, reverse("admin:notify_channel_preview_new"), {**BY_MAIL, "owner": admin_user.pk})
    assert new["text"].startswith("[warning] rule of NOTIFIED-0: NOTIFIED-0")
    assert (Channel.objects.get().subject_template, Channel.objects.count()) == ("", 1)
    assert (Message.objects.count(), Notification.objects.count()) == (1, 1)


@pytest.mark.parametrize(
    ("wrong", "said", "is_whole"),
    [
        ({"text_template": "{price}"}, "Text: {price} is no placeholder", True),
        ({"quiet_from": "22:00", "quiet_until": "06:00", "quiet_zone": "Moon/Crater"}, "Time zone: There is no", True),
        ({"email_to": ""}, "", False),
        ({"kind": "pigeon"}, "", False),
        ({"owner": ""}, "", True),
        ({"text_template": "a\0b"}, "Text: Null characters", True),
    ],
)
def test_a_form_that_is_wrong_is_previewed_as_far_as_it_goes(admin_client, admin_user, wrong, said, is_whole):
    data = {**BY_MAIL, "owner": admin_user.pk, **wrong}
    shown = _preview(admin_client, reverse("admin:notify_channel_preview_new"), data)
    assert (shown["about"], "An example: BTC-USD" in shown["text"]) == ("An invented alert", True)
    assert ([one[: len(said)] for one in shown["errors"]], shown["is_whole"]) == ([said] if said else [], is_whole)


def test_a_preview_says_that_quiet_hours_defer_it(admin_client, admin_user):
    now = timezone.now()
    hours = {"quiet_from": (now - timedelta(hours=1)).time(), "quiet_until": (now + timedelta(hours=1)).time()}
    data = {**BY_MAIL, "owner": admin_user.pk, **{name: f"{at:%H:%M:%S}" for name, at in hours.items()}}
    shown = _preview(admin_client, reverse("admin:notify_channel_preview_new"), data)
    assert shown["deferred"].startswith("Quiet hours hold it back until ")


def test_a_preview_prefers_the_alerts_of_rules_that_name_the_channel(admin_client, admin_user):
    make_notified_alerts(admin_user, 2, name="older")
    make_notified_alerts(admin_user, 1, name="newer")
    Alert.objects.filter(asset__symbol="NEWER-0").update(opened_at=at(60))
    channel = Channel.objects.get(name="Inbox of older")
    shown = _preview(admin_client, page_of(channel, "preview"), posted(channel))
    assert (shown["about"], shown["text"].splitlines()[0]) == (NAMING, "[warning] rule of OLDER-1: OLDER-1")
    unnamed = create_channel(owner=admin_user, name="Unnamed", kind="inbox", config={})
    shown = _preview(admin_client, page_of(unnamed, "preview"), posted(unnamed))
    assert (shown["about"], shown["text"].splitlines()[0]) == ("Your last alert", "[warning] rule of NEWER-0: NEWER-0")
    assert "those shown here lead nowhere" in admin_client.get(page_of(unnamed)).text


def test_nobody_previews_with_the_channels_or_the_alerts_of_others(client):
    ada, grace = make_owner("ada"), make_operator("grace", *CHANNEL_PERMISSIONS)
    make_notified_alerts(ada, 1)
    client.force_login(grace)
    assert client.post(page_of(Channel.objects.get(), "preview"), BY_MAIL).status_code == 404
    new = _preview(client, reverse("admin:notify_channel_preview_new"), {**BY_MAIL, "owner": ada.pk})
    assert "NOTIFIED-0" not in new["text"]
    looker = make_operator("eve", "notify.view_channel")
    own = create_channel(owner=looker, name="Own", kind="inbox", config={})
    client.force_login(looker)
    assert client.post(page_of(own, "preview"), {}).status_code == 403
    assert client.post(reverse("admin:notify_channel_preview_new"), {}).status_code == 403


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
    assert _preview(admin_client, page_of(channel, "preview"), posted(channel))["deferred"] == ""
    Channel.objects.update(messages_per_minute=1)
    assert [waits in admin_client.get(page).text for page in pages] == [True, True]
    shown = _preview(admin_client, page_of(channel, "preview"), posted(Channel.objects.get()))
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
        lambda: _ask(admin_client, "switch_on", channel),
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


# Buttons.


def test_a_test_is_asked_for_on_the_channels_page_and_goes_the_way_of_all_messages(admin_client, admin_user):
    channel = create_channel(owner=admin_user, name="Inbox", kind="inbox", config={})
    assert 'value="send_test"' in admin_client.get(page_of(channel)).text
    asked = _ask(admin_client, "send_test", channel)
    assert asked.request["PATH_INFO"] == page_of(channel)
    assert "Test queued for Inbox; it should arrive within a few seconds" in asked.text
    message = Message.objects.get()
    live = reverse("admin:notify_channel_live", args=[channel.pk])
    assert last_test_on(admin_client.get(live))[:1] == ["due since"]
    assert (message.kind, message.status) == ("test", "pending")
    # The database's own clock says what is due, and stands still while a test lasts.
    Message.objects.update(next_attempt_at=START)
    notify_all()
    shown = admin_client.get(reverse("admin:notify_message_change", args=[message.pk])).text
    for text in ("No alert: it tries the channel.", "asked for by admin", "in the inbox"):
        assert text in shown
    again = _ask(admin_client, "send_test", channel)
    assert "tried less than a minute ago" in again.text
    assert Message.objects.count() == 1
    assert last_test_on(admin_client.get(live))[:1] == ["delivered at"]
    Message.objects.update(status="failed")
    Attempt.objects.update(outcome="permanent_failure", reason="http_404", detail="no such webhook")
    assert last_test_on(admin_client.get(live)) == ["given up", "no such webhook"]
    Message.objects.update(created_at=timezone.now() - timedelta(hours=25))
    assert last_test_on(admin_client.get(live)) == []


def last_test_on(answer):
    """Return how the last test went, as a page or the part of it that is read again says."""
    rows = [one.rows[0] for one in answer.context["tables"] if one.title == "Last test"]
    return [text for row in rows for text in (" ".join(row[2].split()[:2]), row[3])]


def test_nobody_reads_the_live_part_of_the_page_of_others(client):
    theirs = create_channel(owner=make_owner("ada"), name="Theirs", kind="inbox", config={})
    address = reverse("admin:notify_channel_live", args=[theirs.pk])
    assert client.get(address).status_code == 302
    client.force_login(make_operator("grace", *CHANNEL_PERMISSIONS))
    assert client.get(address).status_code == 404
    client.force_login(make_operator("eve"))
    assert client.get(address).status_code == 404


def test_a_time_zone_that_no_longer_exists_is_shown_and_must_be_replaced(admin_client, admin_user):
    channel = create_channel(owner=admin_user, name="Inbox", kind="inbox", config={})
    Channel.objects.update(quiet_zone="Moon/Crater")
    form = admin_client.get(page_of(channel)).context["adminform"].form
    assert form["quiet_zone"].subwidgets[0].data["label"] == "Moon/Crater (no longer exists)"
    channel.refresh_from_db()
    refused = admin_client.post(page_of(channel), posted(channel))
    assert errors_of(refused) == {"quiet_zone": ["There is no such time zone; write one like Europe/Kyiv."]}
    assert admin_client.post(page_of(channel), posted(channel, quiet_zone="Asia/Tokyo")).status_code == 302


def test_what_a_channel_gave_up_is_sent_again_from_its_page(admin_client, admin_user):
    make_notified_alerts(admin_user, 2)
    channel = Channel.objects.get()
    assert 'value="redeliver"' not in admin_client.get(page_of(channel)).text
    Message.objects.update(status="failed", attempts=8)
    assert 'value="redeliver"' in admin_client.get(page_of(channel)).text
    assert "2 messages are to be sent again" in _ask(admin_client, "redeliver", channel).text
    assert set(Message.objects.values_list("status", "attempts_before")) == {("pending", 8)}


def test_a_channel_that_notified_something_is_not_deleted_and_an_unused_one_is(admin_client, admin_user):
    make_notified_alerts(admin_user, 1)
    used = Channel.objects.get()
    admin_client.post(ADD, {**BY_MAIL, "owner": admin_user.pk})
    unused = Channel.objects.get(kind="email")
    refused = admin_client.post(page_of(used, "delete"), {"post": "yes"})
    admin_client.post(page_of(unused, "delete"), {"post": "yes"})
    assert refused.status_code == 403
    assert list(Channel.objects.all()) == [used]


def test_a_channel_that_is_used_between_question_and_answer_is_not_deleted(admin_client, admin_user, monkeypatch):
    make_notified_alerts(admin_user, 1)
    monkeypatch.setattr("apps.notify.queries.has_notified", lambda channel: False)
    answer = admin_client.post(page_of(Channel.objects.get(), "delete"), {"post": "yes"}, follow=True)

    assert "The channel is not deleted. Messages about alerts stay on record." in answer.text
    assert Channel.objects.exists()


def test_a_channel_that_was_only_tried_is_deleted_with_its_tests(client):
    grace = make_operator("grace", *CHANNEL_PERMISSIONS)
    client.force_login(grace)
    channel = create_channel(owner=grace, name="Inbox", kind="inbox", config={})
    _ask(client, "send_test", channel)
    assert "Are you sure" in client.get(page_of(channel, "delete")).text
    client.post(page_of(channel, "delete"), {"post": "yes"})
    assert (Channel.objects.count(), Message.objects.count()) == (0, 0)


def test_nobody_has_a_test_sent_on_the_channels_of_others_nor_by_looking_only(client):
    ada, grace = make_owner("ada"), make_operator("grace", *CHANNEL_PERMISSIONS)
    theirs = create_channel(owner=ada, name="Theirs", kind="inbox", config={})
    client.force_login(grace)
    assert "Theirs" not in _ask(client, "send_test", theirs).text
    looker = make_operator("eve", "notify.view_channel")
    own = create_channel(owner=looker, name="Own", kind="inbox", config={})
    client.force_login(looker)
    _ask(client, "send_test", own)
    assert "send_test" not in client.get(page_of(own)).text
    assert not Message.objects.exists()
