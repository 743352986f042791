"""The buttons of channels' pages: a test, sending again, and deleting."""

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from apps.notify.models import Attempt, Channel, Message
from apps.notify.services import create_channel
from tests.builders import START, make_notified_alerts, make_operator, make_owner, notify_all
from tests.panel.channel_pages import ADD, BY_MAIL, CHANNEL_PERMISSIONS, ask, errors_of, page_of, posted

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _mail(settings):
    settings.EMAIL_CONFIGURED = True


def test_a_test_is_asked_for_on_the_channels_page_and_goes_the_way_of_all_messages(admin_client, admin_user):
    channel = create_channel(owner=admin_user, name="Inbox", kind="inbox", config={})
    assert 'value="send_test"' in admin_client.get(page_of(channel)).text
    asked = ask(admin_client, "send_test", channel)
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
    again = ask(admin_client, "send_test", channel)
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
    assert "2 messages are to be sent again" in ask(admin_client, "redeliver", channel).text
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
    ask(client, "send_test", channel)
    assert "Are you sure" in client.get(page_of(channel, "delete")).text
    client.post(page_of(channel, "delete"), {"post": "yes"})
    assert (Channel.objects.count(), Message.objects.count()) == (0, 0)


def test_nobody_has_a_test_sent_on_the_channels_of_others_nor_by_looking_only(client):
    ada, grace = make_owner("ada"), make_operator("grace", *CHANNEL_PERMISSIONS)
    theirs = create_channel(owner=ada, name="Theirs", kind="inbox", config={})
    client.force_login(grace)
    assert "Theirs" not in ask(client, "send_test", theirs).text
    looker = make_operator("eve", "notify.view_channel")
    own = create_channel(owner=looker, name="Own", kind="inbox", config={})
    client.force_login(looker)
    ask(client, "send_test", own)
    assert "send_test" not in client.get(page_of(own)).text
    assert not Message.objects.exists()
