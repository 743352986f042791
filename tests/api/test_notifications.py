"""The notifications of an alert as its owner reads them: channel, status, attempts and why."""

import pytest
from django.utils import timezone

from apps.alerts.models import Alert
from apps.notify.models import Attempt, Message, Notification
from apps.notify.services import create_channel
from tests.builders import at, make_notified_alerts, make_owner

pytestmark = pytest.mark.django_db

ATTEMPT = "number startedAt finishedAt milliseconds outcome reason detail status"
NOTIFICATIONS = f"""{{ alerts(first: 1) {{ edges {{ node {{ notifications(first: 5) {{ edges {{ node {{
  event reminder status reason createdAt dueAt deliveredAt channel {{ name }} message {{ id subject }}
  attempts {{ {ATTEMPT} }}
}} }} }} }} }} }} }}"""


@pytest.fixture
def ada(client):
    """Return an owner who is signed in, with one alert that has a message."""
    ada = make_owner("ada")
    make_notified_alerts(ada, 1)
    client.force_login(ada)
    return ada


def notifications(ask, **options):
    [alert] = ask(NOTIFICATIONS, **options).json()["data"]["alerts"]["edges"]
    return [edge["node"] for edge in alert["node"]["notifications"]["edges"]]


def test_a_notification_that_was_delivered_says_when_and_by_which_attempt(ask, ada):
    message, row = Message.objects.get(), Notification.objects.get()
    [found] = notifications(ask)
    assert {name: found.pop(name) is None for name in ("createdAt", "dueAt", "deliveredAt")} == {
        "createdAt": False,
        "dueAt": False,
        "deliveredAt": False,
    }
    [attempt] = found.pop("attempts")
    assert (attempt["number"], attempt["outcome"], attempt["reason"]) == (1, "DELIVERED", "")
    assert found == {
        "event": "OPENED",
        "reminder": 0,
        "status": "DELIVERED",
        "reason": None,
        "channel": {"name": row.channel.name},
        "message": {"id": str(message.pk), "subject": message.subject},
    }


@pytest.mark.parametrize(
    ("deferred_by", "status", "reason"),
    [("", "WAITING", None), ("silence", "DEFERRED", "silence"), ("quiet", "DEFERRED", "quiet")],
)
def test_a_notification_without_a_message_says_what_it_waits_for(ask, ada, deferred_by, status, reason):
    Notification.objects.update(message=None, deferred_by=deferred_by, due_at=at(60))
    [found] = notifications(ask)
    assert (found["status"], found["reason"], found["message"], found["attempts"]) == (status, reason, None, [])
    assert found["dueAt"] == "2026-03-02T12:01:00Z"


def test_a_notification_that_was_deferred_says_what_became_of_its_message(ask, ada):
    Notification.objects.update(deferred_by="silence")
    [found] = notifications(ask)
    assert (found["status"], found["reason"]) == ("DELIVERED", None)


def test_a_failed_attempt_says_why_without_an_address(ask, ada):
    message = Message.objects.get()
    Message.objects.update(status=Message.Status.PENDING, delivered_at=None)
    Attempt.objects.filter(message=message).update(
        outcome="transient_failure", reason="http_503", status=503, detail="POST https://example.org/secret failed"
    )
    running = {"message": message, "number": 2, "started_at": timezone.now()}
    Attempt.objects.create(**running)
    [found] = notifications(ask)
    assert (found["status"], found["deliveredAt"]) == ("PENDING", None)
    first, second = found["attempts"]
    assert (first["outcome"], first["reason"], first["status"]) == ("TRANSIENT_FAILURE", "http_503", 503)
    assert first["detail"] == "POST … failed"
    assert (second["outcome"], second["reason"], second["finishedAt"]) == (None, "", None)
    # The second is under way: the first is the last that has failed.
    assert found["reason"] == "http_503"


def test_a_reader_sees_the_notifications_on_their_own_channels_alone(ask, ada, admin_user):
    other = create_channel(owner=make_owner("eve"), name="astray", kind="inbox", config={})
    Notification.objects.create(event=Alert.objects.get().events.get(), channel=other, due_at=at(0))
    mine = Notification.objects.get(channel__owner=ada).channel.name
    assert [one["channel"]["name"] for one in notifications(ask)] == [mine]
    assert [one["channel"]["name"] for one in notifications(ask, user=admin_user)] == [mine, "astray"]
