"""The owners' pages: channels and messages."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apps.notify.models import Channel, Message
from tests.builders import make_operator, make_owner, make_told_alerts

LISTS = ["admin:notify_channel_changelist", "admin:notify_message_changelist"]
CHANNEL_PERMISSIONS = [f"notify.{verb}_channel" for verb in ("view", "add", "change", "delete")]
BY_MAIL = {
    "name": "Mail",
    "kind": "email",
    "config": '{"to": "ada@example.org"}',
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
    assert alert.words in told.rows[0][0]
    assert "none: it is settled" in answer.text


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
    "wrong",
    [
        {"config": '{"to": "nowhere"}'},
        {"config": ""},
        {"config": "[]"},
        {"config": "5"},
        {"config": "null"},
        {"kind": "pigeon"},
        {"name": ""},
    ],
)
def test_a_channel_that_is_wrong_is_refused_in_words(admin_client, admin_user, wrong):
    answer = admin_client.post(reverse("admin:notify_channel_add"), {**BY_MAIL, "owner": admin_user.pk, **wrong})
    assert answer.status_code == 200
    assert answer.context["adminform"].form.errors
    assert not Channel.objects.exists()


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
