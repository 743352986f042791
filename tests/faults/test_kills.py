"""kill -9 in the middle of everything: what is on record afterwards is what the oracle finds, and nothing is lost
or doubled."""

from collections import Counter

import pytest
from aiosmtpd.controller import Controller
from django.db.models import Count

from apps.alerts.models import AlertEvent
from apps.market.models import FeedEntry, Quote
from apps.notify.models import Attempt, Message, Notification
from apps.notify.services.sending import LOST
from tests.faults import failpoints
from tests.pipeline import recorded
from tests.rig import dead_letters, free_port, rig, wait_until

pytestmark = [pytest.mark.servers, pytest.mark.django_db(transaction=True)]

START = "2023-03-11T06:30:00Z"


class Mailbox:
    """An SMTP server that keeps the Message-ID of every mail it takes."""

    def __init__(self):
        self.message_ids = []

    async def handle_DATA(self, server, session, envelope):
        lines = envelope.content.decode().splitlines()
        self.message_ids += [line.split("<")[1].split("@")[0] for line in lines if line.startswith("Message-ID:")]
        return "250 OK"


@pytest.fixture
def mailbox():
    box = Mailbox()
    port = free_port()
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    box.url = f"smtp://127.0.0.1:{port}"
    yield box
    controller.stop()


def test_a_worker_killed_at_every_stage_changes_nothing_but_the_time(tmp_path, mailbox):
    recording = tmp_path / "recording.csv"
    rows = recorded.write_recording(recording, begin="2023-03-11T05:00:00Z", end="2023-03-11T09:30:00Z")
    expected = recorded.expected_alerts(rows, start=START)
    channels = {"inbox": {}, "email": {"to": "ada@example.org"}}
    feed, _ = recorded.make_world(recording, start=START, speed=900, channels=channels)
    folder = tmp_path / "failpoints"
    folder.mkdir()
    failpoints.arm(folder)

    with rig(tmp_path, FAILPOINTS_FOLDER=str(folder), EMAIL_URL=mailbox.url) as processes:
        module = "tests.faults.failpoints"
        processes.worker("ticks", "assets-tasks", name="watcher", concurrency=2, include=module)
        processes.worker("analysis.0", name="analyzer", include=module)
        processes.worker("notifications", name="notifier", concurrency=2, include=module)
        # Two beats, which must do no harm either.
        processes.beat()
        processes.beat(name="beat-2")
        wait_until(lambda: recorded.is_over(feed, end=rows[-1][1]), timeout_seconds=90, every_seconds=0.2)
        dead = dead_letters()

    assert failpoints.fired(folder) == set(failpoints.PLACES)
    assert len(expected) > 20
    assert recorded.actual_alerts() == expected
    assert Quote.objects.count() == len(rows)
    numbers = list(FeedEntry.objects.filter(feed=feed).order_by("seq").values_list("seq", flat=True))
    assert numbers == list(range(1, len(numbers) + 1))
    events = set(AlertEvent.objects.values_list("pk", "notifications__channel__kind"))
    assert events == {(pk, kind) for pk in AlertEvent.objects.values_list("pk", flat=True) for kind in channels}
    assert set(Message.objects.values_list("status", flat=True)) == {"delivered"}
    sent = Counter(mailbox.message_ids)
    mails = {str(pk) for pk in Message.objects.filter(channel__kind="email").values_list("pk", flat=True)}
    assert set(sent) == mails
    # One kill after the server had taken the mail: one repeat, with the same id.
    assert sum(sent.values()) - len(sent) == 1
    # The killed attempts are on record as what they are: begun, and never heard of again.
    assert Attempt.objects.filter(reason=LOST).count() == 2
    assert not Attempt.objects.filter(outcome="").exists()
    assert not Notification.objects.values("event", "channel").annotate(times=Count("pk")).filter(times__gt=1).exists()
    assert dead == []
