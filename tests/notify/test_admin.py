"""The owners' pages: channels and messages."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import localize

from apps.notify.models import Channel, Message
from apps.notify.services import create_channel, deliver
from tests.builders import START, make_operator, make_owner, make_told_alerts

ALERT = "admin:alerts_alert_change"
LISTS = ["admin:notify_channel_changelist", "admin:notify_message_changelist"]
CHANNEL_PERMISSIONS = [f"notify.{verb}_channel" for verb in ("view", "add", "change", "delete")]
BY_MAIL = {
    "name": "Mail",
    "kind": "email",
    "to": "ada@example.org",
    "is_enabled": "on",
    "wants_resolved": "on",
}


@pytest.mark.django_db
@pytest.mark.parametrize("page", LISTS)
def test_a_list_shows_its_rows(admin_client, admin_user, page):
    make_told_alerts(admin_user, 1)
    assert "Inbox of told" in admin_client.get(reverse(page)).text


@pytest.mark.django_db
@pytest.mark.parametrize("page", LISTS)
def test_a_list_costs_the_same_statements_for_3_rows_and_for_30(
    admin_client, admin_user, django_assert_num_queries, page
):
    for number in range(3):
        make_told_alerts(admin_user, 1, name=f"few-{number}")
    admin_client.get(reverse(page))
    with CaptureQueriesContext(connection) as few:
        admin_client.get(reverse(page))
    for number in range(27):
        make_told_alerts(admin_user, 1, name=f"more-{number}")
    with django_assert_num_queries(len(few)):
        answer = admin_client.get(reverse(page))
    assert len(answer.context["cl"].result_list) == 30


@pytest.mark.django_db
@pytest.mark.parametrize("page", LISTS)
def test_an_empty_list_says_what_would_fill_it(admin_client, page):
    assert " yet. " in admin_client.get(reverse(page)).text


@pytest.mark.django_db
@pytest.mark.parametrize("page", LISTS)
def test_a_stranger_is_sent_to_the_sign_in(client, page):
    assert client.get(reverse(page))["Location"].startswith(reverse("admin:login"))


@pytest.mark.django_db
@pytest.mark.parametrize("page", LISTS)
def test_staff_without_the_permission_are_refused(client, page):
    client.force_login(make_operator("grace"))
    assert client.get(reverse(page)).status_code == 403


@pytest.mark.django_db
def test_a_message_shows_its_text_its_attempts_and_its_alert(admin_client, admin_user):
    (alert,) = make_told_alerts(admin_user, 1)
    message = Message.objects.get()
    answer = admin_client.get(reverse("admin:notify_message_change", args=[message.pk]))
    assert "TOLD-0 is above 10" in answer.text
    tries, told = answer.context["tables"]
    assert [(row[0], row[3], row[5]) for row in tries.rows] == [(1, "delivered", "in the inbox")]
    assert (alert.words in told.rows[0][0], reverse(ALERT, args=[alert.pk]) in told.rows[0][0]) == (True, True)
    assert f"delivered at {localize(message.delivered_at)}, 1 attempt" in answer.text


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("status", "attempts", "words"),
    [
        ("pending", 0, "to be sent at 2026-03-02 12:00:00, not tried yet"),
        ("pending", 2, "to be sent at 2026-03-02 12:00:00, 2 attempts"),
        ("sending", 1, "being sent: 1 attempt begun"),
        ("dead", 8, "given up after 8 attempts: it is never tried again"),
    ],
)
def test_a_message_says_how_far_it_is_and_what_comes_next(admin_client, admin_user, status, attempts, words):
    make_told_alerts(admin_user, 1)
    Message.objects.update(status=status, attempts=attempts, next_attempt_at=START)
    assert words in admin_client.get(reverse("admin:notify_message_change", args=[Message.objects.get().pk])).text


@pytest.mark.django_db
def test_the_list_of_messages_shows_what_each_says(admin_client, admin_user):
    make_told_alerts(admin_user, 1)
    text = admin_client.get(reverse(LISTS[1]), {"kind": "inbox"}).text
    assert ("[warning] rule of TOLD-0: TOLD-0" in text, "TOLD-0 is above 10: 11 at 12:00:01" in text) == (True, True)


@pytest.mark.django_db
def test_messages_are_filtered_by_status_and_kind_of_channel(admin_client, admin_user):
    make_told_alerts(admin_user, 1)

    def listed(**parameters):
        return admin_client.get(reverse(LISTS[1]), parameters).context["cl"].result_list.count()

    assert (listed(kind="inbox"), listed(kind="email")) == (1, 0)
    assert (listed(status__exact="delivered"), listed(status__exact="dead")) == (1, 0)


@pytest.mark.django_db
def test_nobody_edits_a_message(admin_client, admin_user):
    make_told_alerts(admin_user, 1)
    message = Message.objects.get()
    assert admin_client.get(reverse("admin:notify_message_add")).status_code == 403
    assert admin_client.post(reverse("admin:notify_message_change", args=[message.pk])).status_code == 403


@pytest.mark.django_db
def test_a_channel_is_added_and_edited(admin_client, admin_user):
    answer = admin_client.post(reverse("admin:notify_channel_add"), {**BY_MAIL, "owner": admin_user.pk})
    assert answer.status_code == 302
    channel = Channel.objects.get()
    assert (channel.owner, channel.config) == (admin_user, {"to": "ada@example.org"})
    page = reverse("admin:notify_channel_change", args=[channel.pk])
    assert admin_client.get(page).status_code == 200
    admin_client.post(page, {**BY_MAIL, "name": "Post", "owner": make_owner("eve").pk})
    channel.refresh_from_db()
    assert (channel.name, channel.owner) == ("Post", admin_user)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("to", {"to": "nowhere"}),
        ("to", {"to": ""}),
        ("to", {"to": "a@b.org,evil@x.org"}),
        ("to", {"to": "a@b.org\r\nBcc: evil@x.org"}),
        ("to", {"to": " a@b.org"}),
        ("to", {"to": "Ada <a@b.org>"}),
        ("to", {"to": f"{'a' * 250}@b.org"}),
        ("kind", {"kind": "pigeon"}),
        ("name", {"name": ""}),
        ("name", {"name": "x" * 65}),
        ("name", {"name": "a\0b"}),
    ],
)
def test_a_channel_that_is_wrong_is_refused_beside_the_field(admin_client, admin_user, field, wrong):
    answer = admin_client.post(reverse("admin:notify_channel_add"), {**BY_MAIL, "owner": admin_user.pk, **wrong})
    assert answer.status_code == 200
    assert field in answer.context["adminform"].form.errors
    assert not Channel.objects.exists()


@pytest.mark.django_db
def test_an_inbox_has_nothing_to_set_and_a_channel_that_becomes_one_forgets_its_address(admin_client, admin_user):
    admin_client.post(reverse("admin:notify_channel_add"), {**BY_MAIL, "owner": admin_user.pk})
    channel = Channel.objects.get()
    page = reverse("admin:notify_channel_change", args=[channel.pk])
    assert 'value="ada@example.org"' in admin_client.get(page).text
    admin_client.post(page, {**BY_MAIL, "kind": "inbox"})
    channel.refresh_from_db()
    assert (channel.kind, channel.config) == ("inbox", {})


@pytest.mark.django_db
def test_an_owner_has_each_name_once(client):
    grace = make_operator("grace", *CHANNEL_PERMISSIONS)
    client.force_login(grace)
    add = reverse("admin:notify_channel_add")
    client.post(add, {**BY_MAIL, "owner": grace.pk})
    again = client.post(add, {**BY_MAIL, "owner": grace.pk})
    client.post(add, {**BY_MAIL, "owner": grace.pk, "name": "Other"})
    other = Channel.objects.get(name="Other")
    renamed = client.post(reverse("admin:notify_channel_change", args=[other.pk]), BY_MAIL)
    assert "already exists" in again.text
    assert "already exists" in renamed.text
    assert sorted(Channel.objects.values_list("name", flat=True)) == ["Mail", "Other"]


@pytest.mark.django_db
def test_an_owner_adds_channels_for_nobody_else_and_sees_nobody_elses(client):
    grace, ada = make_operator("grace", *CHANNEL_PERMISSIONS), make_owner("ada")
    make_told_alerts(ada, 1)
    theirs = Channel.objects.get()
    client.force_login(grace)
    refused = client.post(reverse("admin:notify_channel_add"), {**BY_MAIL, "owner": ada.pk})
    assert refused.status_code == 200
    assert "ada" not in client.get(reverse("admin:notify_channel_add")).context["adminform"].form.as_p()
    assert "Inbox of told" not in client.get(reverse(LISTS[0])).text
    assert client.get(reverse("admin:notify_channel_change", args=[theirs.pk])).status_code == 302
    assert Channel.objects.get() == theirs


@pytest.mark.django_db
def test_nobody_sees_the_messages_of_others(client):
    make_told_alerts(make_owner("ada"), 1)
    client.force_login(make_operator("grace", "notify.view_message"))
    assert list(client.get(reverse(LISTS[1])).context["cl"].result_list) == []
    opened = client.get(reverse("admin:notify_message_change", args=[Message.objects.get().pk]))
    assert opened.status_code == 302


@pytest.mark.django_db
def test_a_channel_that_told_something_is_not_deleted_and_an_unused_one_is(admin_client, admin_user):
    make_told_alerts(admin_user, 1)
    used = Channel.objects.get()
    admin_client.post(reverse("admin:notify_channel_add"), {**BY_MAIL, "owner": admin_user.pk})
    unused = Channel.objects.get(kind="email")
    refused = admin_client.post(reverse("admin:notify_channel_delete", args=[used.pk]), {"post": "yes"})
    admin_client.post(reverse("admin:notify_channel_delete", args=[unused.pk]), {"post": "yes"})
    assert refused.status_code == 403
    assert list(Channel.objects.all()) == [used]


def _ask_for_a_test(client, *channels):
    asked = {"action": "send_test", "_selected_action": [one.pk for one in channels], "index": "0", "back": "page"}
    return client.post(reverse(LISTS[0]), asked, follow=True)


@pytest.mark.django_db
def test_a_test_is_asked_for_on_the_channels_page_and_goes_the_way_of_all_messages(admin_client, admin_user):
    channel = create_channel(owner=admin_user, name="Inbox", kind="inbox", config={})
    page = reverse("admin:notify_channel_change", args=[channel.pk])
    assert 'value="send_test"' in admin_client.get(page).text
    asked = _ask_for_a_test(admin_client, channel)
    assert asked.request["PATH_INFO"] == page
    assert "A test for Inbox is written. It is sent within some seconds" in asked.text
    message = Message.objects.get()
    assert (message.kind, message.status) == ("test", "pending")
    # The database's own clock says what is due, and stands still while a test lasts.
    Message.objects.update(next_attempt_at=START)
    deliver(message_id=message.pk, now=timezone.now())
    shown = admin_client.get(reverse("admin:notify_message_change", args=[message.pk])).text
    for words in ("No alert: it tries the channel.", "asked for by admin", "in the inbox"):
        assert words in shown
    again = _ask_for_a_test(admin_client, channel)
    assert "tried less than a minute ago" in again.text
    assert Message.objects.count() == 1


@pytest.mark.django_db
def test_a_channel_that_was_only_tried_is_deleted_with_its_tests(client):
    grace = make_operator("grace", *CHANNEL_PERMISSIONS)
    client.force_login(grace)
    channel = create_channel(owner=grace, name="Inbox", kind="inbox", config={})
    _ask_for_a_test(client, channel)
    page = reverse("admin:notify_channel_delete", args=[channel.pk])
    assert "Are you sure" in client.get(page).text
    client.post(page, {"post": "yes"})
    assert (Channel.objects.count(), Message.objects.count()) == (0, 0)


@pytest.mark.django_db
def test_nobody_has_a_test_sent_on_the_channels_of_others_nor_by_looking_only(client):
    ada, grace = make_owner("ada"), make_operator("grace", *CHANNEL_PERMISSIONS)
    theirs = create_channel(owner=ada, name="Theirs", kind="inbox", config={})
    client.force_login(grace)
    assert "Theirs" not in _ask_for_a_test(client, theirs).text
    looker = make_operator("eve", "notify.view_channel")
    own = create_channel(owner=looker, name="Own", kind="inbox", config={})
    client.force_login(looker)
    _ask_for_a_test(client, own)
    assert "send_test" not in client.get(reverse("admin:notify_channel_change", args=[own.pk])).text
    assert not Message.objects.exists()
