"""The whole flow on real PostgreSQL, RabbitMQ and Redis, with a real worker and a real beat."""

import pytest

from apps.alerts.models import Alert, AlertEvent
from apps.market.models import FeedEntry, Quote
from apps.notify.models import Attempt, Message, Notification
from tests.pipeline import recorded
from tests.rig import queue_lengths, rig, wait_until

pytestmark = [pytest.mark.servers, pytest.mark.django_db(transaction=True)]

START = "2023-03-11T00:00:00Z"


def test_a_recorded_day_gives_the_alerts_of_the_oracle_each_notifying_once(tmp_path):
    recording = tmp_path / "recording.csv"
    rows = recorded.write_recording(recording, begin="2023-03-10T22:30:00Z", end="2023-03-12T00:00:00Z")
    expected = recorded.expected_alerts(rows, start=START)
    feed, _ = recorded.make_world(recording, start=START, speed=7_200)

    with rig(tmp_path) as processes:
        processes.worker("ticks", "assets-tasks", "notifications", name="watcher", concurrency=2)
        processes.worker("analysis.0", name="analyzer")
        processes.beat()
        wait_until(lambda: recorded.is_over(feed, end=rows[-1][1]), timeout_seconds=60, every_seconds=0.2)
        left = queue_lengths()

    assert len(expected) > 100
    assert recorded.actual_alerts() == expected
    assert Quote.objects.count() == len(rows)
    entries = FeedEntry.objects.filter(feed=feed).order_by("seq")
    assert list(entries.values_list("seq", flat=True)) == list(range(1, entries.count() + 1))
    assert not entries.filter(evaluated_at=None).exists()
    # Every opening, and every resolution that did not overtake its opening, is in one message that was tried once.
    assert set(Notification.objects.values_list("event_id", flat=True)) == set(
        AlertEvent.objects.values_list("pk", flat=True)
    )
    assert set(Attempt.objects.values_list("number", "outcome")) == {(1, "delivered")}
    assert Attempt.objects.count() == Message.objects.count()
    assert left["dead-letters"] == 0
    assert Alert.objects.exclude(summary="").count() == len(expected)
