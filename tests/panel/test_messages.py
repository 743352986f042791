"""The owners' pages: messages, and what the lists have in common."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import localize

from apps.alerts.models import Alert, AlertEvent
from apps.notify.domain import moment
from apps.notify.models import Attempt, Channel, Message, Notification
from apps.notify.services import create_channel, create_silence
from tests.builders import START, make_notified_alerts, make_operator, make_owner

ALERT = "admin:alerts_alert_change"
LISTS = [f"admin:notify_{row}_changelist" for row in ("channel", "message", "silence")]


@pytest.mark.django_db
@pytest.mark.parametrize("page", LISTS[:2])
def test_a_list_shows_its_rows(admin_client, admin_user, page):
    make_notified_alerts(admin_user, 1)
    assert "Inbox of notified" in admin_client.get(reverse(page)).text


@pytest.mark.django_db
@pytest.mark.parametrize("page", LISTS[:2])
def test_a_list_costs_the_same_statements_for_3_rows_and_for_9(
    admin_client, admin_user, django_assert_num_queries, page
):
    for number in range(3):
        make_notified_alerts(admin_user, 1, name=f"few-{number}")
    admin_client.get(reverse(page))
    with CaptureQueriesContext(connection) as few:
        admin_client.get(reverse(page))
    for number in range(6):
        make_notified_alerts(admin_user, 1, name=f"more-{number}")
    with django_assert_num_queries(len(few)):
        answer = admin_client.get(reverse(page))
    assert len(answer.context["cl"].result_list) == 9


@pytest.mark.django_db
@pytest.mark.parametrize("page", LISTS)
def test_an_empty_list_says_what_would_fill_it(admin_client, page):
    text = admin_client.get(reverse(page)).text
    hints = ("Add one and send a test", "An alert of a rule that names", "Add one to get no messages")
    assert any(one in text for one in hints)


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
    (alert,) = make_notified_alerts(admin_user, 1)
    message = Message.objects.get()
    answer = admin_client.get(reverse("admin:notify_message_change", args=[message.pk]))
    assert "NOTIFIED-0 is above 10" in answer.text
    tries, alerts = answer.context["tables"]
    assert [(row[0], row[3], row[6]) for row in tries.rows] == [(1, "delivered", "in the inbox")]
    assert (alert.summary in alerts.rows[0][0], reverse(ALERT, args=[alert.pk]) in alerts.rows[0][0]) == (
        True,
        True,
    )
    assert f"delivered at {localize(message.delivered_at)}, 1 attempt" in answer.text


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("status", "attempts", "text"),
    [
        ("pending", 0, "due since 2026-03-02 12:00:00 UTC, not tried yet"),
        ("pending", 2, "due since 2026-03-02 12:00:00 UTC, 2 attempts"),
        ("sending", 1, "being sent: 1 attempt begun"),
        ("failed", 8, "given up after 8 attempts: nobody tries again unless asked to"),
    ],
)
def test_a_message_says_how_far_it_is_and_what_comes_next(admin_client, admin_user, status, attempts, text):
    make_notified_alerts(admin_user, 1)
    Message.objects.update(status=status, attempts=attempts, next_attempt_at=START)
    assert text in admin_client.get(reverse("admin:notify_message_change", args=[Message.objects.get().pk])).text


@pytest.mark.django_db
def test_a_message_that_is_not_due_yet_says_when_it_is_tried(admin_client, admin_user):
    make_notified_alerts(admin_user, 1)
    later = timezone.now() + timedelta(hours=1)
    Message.objects.update(status="pending", attempts=3, next_attempt_at=later)
    page = reverse("admin:notify_message_change", args=[Message.objects.get().pk])
    assert f"to be sent at {localize(later)}, 3 attempts" in admin_client.get(page).text


@pytest.mark.django_db
def test_what_was_given_up_on_a_channel_that_is_off_says_so_and_leads_to_the_channel(admin_client, admin_user):
    make_notified_alerts(admin_user, 1)
    message = Message.objects.get()
    Message.objects.update(status="failed")
    page = reverse("admin:notify_message_change", args=[message.pk])
    assert "its channel is disabled" not in admin_client.get(page).text

    Channel.objects.update(is_enabled=False)

    text = admin_client.get(page).text
    assert "unless asked to, and its channel is disabled" in text
    assert f'href="{reverse("admin:notify_channel_change", args=[message.channel_id])}"' in text


@pytest.mark.django_db
def test_the_list_of_messages_shows_what_each_says(admin_client, admin_user):
    make_notified_alerts(admin_user, 1)
    text = admin_client.get(reverse(LISTS[1]), {"kind": "inbox"}).text
    assert (
        "[warning] rule of NOTIFIED-0: NOTIFIED-0" in text,
        "NOTIFIED-0 is above 10: 11 at 12:00:01 UTC" in text,
    ) == (
        True,
        True,
    )


@pytest.mark.django_db
def test_messages_are_filtered_by_status_and_kind_of_channel(admin_client, admin_user):
    make_notified_alerts(admin_user, 1)

    def listed(**parameters):
        return admin_client.get(reverse(LISTS[1]), parameters).context["cl"].result_list.count()

    assert (listed(kind="inbox"), listed(kind="email")) == (1, 0)
    assert (listed(status__exact="delivered"), listed(status__exact="failed")) == (1, 0)


@pytest.mark.django_db
def test_nobody_edits_a_message(admin_client, admin_user):
    make_notified_alerts(admin_user, 1)
    message = Message.objects.get()
    assert admin_client.get(reverse("admin:notify_message_add")).status_code == 403
    assert admin_client.post(reverse("admin:notify_message_change", args=[message.pk])).status_code == 403


@pytest.mark.django_db
def test_nobody_sees_the_messages_of_others(client):
    make_notified_alerts(make_owner("ada"), 1)
    client.force_login(make_operator("grace", "notify.view_message"))
    assert list(client.get(reverse(LISTS[1])).context["cl"].result_list) == []
    opened = client.get(reverse("admin:notify_message_change", args=[Message.objects.get().pk]))
    assert opened.status_code == 302


@pytest.mark.django_db
def test_an_attempt_shows_status_and_time_and_to_superusers_alone_the_answer(client, admin_client):
    grace = make_operator("grace", "notify.view_message", "alerts.view_alert")
    (alert,) = make_notified_alerts(grace, 1)
    Attempt.objects.update(status=503, milliseconds=42, answer="<b>secret of the network")
    client.force_login(grace)
    for page in (
        reverse("admin:notify_message_change", args=[Message.objects.get().pk]),
        reverse(ALERT, args=[alert.pk]),
    ):
        for_her, for_superusers = client.get(page).text, admin_client.get(page).text
        assert ("42 ms" in for_her, "503" in for_her) == (True, True)
        assert ("secret of the network" in for_her, "&lt;b&gt;secret of the network" in for_superusers) == (False, True)


def _redeliver(client, *messages, **data):
    asked = {"action": "redeliver", "_selected_action": [one.pk for one in messages], "index": "0", **data}
    return client.post(reverse(LISTS[1]), asked, follow=True)


@pytest.mark.django_db
def test_what_was_given_up_is_sent_again_by_who_may_change_its_channel(client):
    grace = make_operator("grace", "notify.view_message", "notify.change_channel")
    make_notified_alerts(grace, 1)
    make_notified_alerts(make_owner("ada"), 1, name="ada")
    Message.objects.update(status="failed", attempts=8)
    own = Message.objects.get(channel__owner=grace)
    page = reverse("admin:notify_message_change", args=[own.pk])
    client.force_login(grace)
    assert 'value="redeliver"' in client.get(page).text
    done = _redeliver(client, *Message.objects.all(), select_across="1")
    assert "1 message is to be sent again" in done.text
    assert list(Message.objects.filter(status="pending").values_list("pk", "attempts_before")) == [(own.pk, 8)]
    assert 'value="redeliver"' not in client.get(page).text
    assert "Nothing is sent again" in _redeliver(client, own, back="page").text


@pytest.mark.django_db
def test_nobody_sends_anything_again_by_looking_only(client):
    grace = make_operator("grace", "notify.view_message")
    make_notified_alerts(grace, 1)
    Message.objects.update(status="failed")
    client.force_login(grace)
    _redeliver(client, Message.objects.get())
    assert Message.objects.get().status == "failed"


@pytest.mark.django_db
def test_an_alert_says_who_will_be_notified_and_what_that_waits_for(admin_client, admin_user):
    (alert,) = make_notified_alerts(admin_user, 1)
    page = reverse(ALERT, args=[alert.pk])
    silence = create_silence(
        author=admin_user, starts_at=START, ends_at=timezone.now() + timedelta(hours=1), comment="works"
    )
    notification = Notification.objects.get()

    def notification_cells():
        (table,) = [one for one in admin_client.get(page).context["tables"] if one.title == "Who is notified"]
        return [tuple(row[:1] + row[2:3] + row[4:]) for row in table.rows]

    later = timezone.now() + timedelta(hours=1)
    Notification.objects.update(message=None, deferred_by="silence", silence=silence, due_at=later)
    waits = f"waits for the end of the silence “works”, at {moment(later)}"
    assert notification_cells() == [("opened", "the silence “works”", waits)]
    Notification.objects.update(deferred_by="quiet", silence=None)
    assert notification_cells() == [("opened", "quiet hours", f"waits for the end of quiet hours, at {moment(later)}")]
    Notification.objects.update(deferred_by="")
    assert notification_cells() == [("opened", "", f"waits for more alerts, which come with it at {moment(later)}")]
    Notification.objects.update(due_at=START)
    assert notification_cells() == [("opened", "", "waits for the next planning, within seconds")]
    Notification.objects.create(event=notification.event, channel=notification.channel, repeat=2, due_at=START)
    assert [row[0] for row in notification_cells()] == ["opened", "reminder 2"]


@pytest.mark.django_db
def test_an_alert_about_the_installation_shows_each_reader_their_own_channels(client, admin_client):
    alert = Alert.objects.create(kind="system", severity="info", opened_at=START, summary="x", evidence={})
    event = AlertEvent.objects.create(alert=alert, kind="opened", at=START)
    grace = make_operator("grace", "alerts.view_alert", "alerts.view_system_alerts")
    for owner in (grace, make_owner("ada")):
        channel = create_channel(owner=owner, name=f"of {owner}", kind="inbox", config={}, wants_system=True)
        message = Message.objects.create(channel=channel, subject=f"to {owner}", text="", next_attempt_at=START)
        Attempt.objects.create(message=message, number=1, started_at=START)
        Notification.objects.create(event=event, channel=channel, due_at=START, message=message)
    client.force_login(grace)
    page = reverse(ALERT, args=[alert.pk])
    hers, everybodys = client.get(page).text, admin_client.get(page).text
    assert [text in hers for text in ("of grace", "to grace", "of ada", "to ada")] == [True, True, False, False]
    assert [text in everybodys for text in ("of ada", "to ada")] == [True, True]
    assert 'value="silence"' not in everybodys


@pytest.mark.django_db
def test_an_alert_about_the_installation_that_notifies_channels_of_others_does_not_say_nobody(client, admin_client):
    alert = Alert.objects.create(kind="system", severity="info", opened_at=START, summary="x", evidence={})
    event = AlertEvent.objects.create(alert=alert, kind="opened", at=START)
    page = reverse(ALERT, args=[alert.pk])
    assert "Nobody: no channel wants it." in admin_client.get(page).text
    channel = create_channel(owner=make_owner("ada"), name="Ops", kind="inbox", config={}, wants_system=True)
    Notification.objects.create(event=event, channel=channel, due_at=START)
    client.force_login(make_operator("grace", "alerts.view_alert", "alerts.view_system_alerts"))
    text = client.get(page).text
    assert "No channel of yours. Superusers see whether channels of others were notified." in text
    assert ("Nobody" in text, "Ops" in text) == (False, False)
