"""What has stopped says so, on real servers: beat, a worker, a feed; and nothing is well meanwhile."""

from datetime import timedelta

import pytest
from django.db.models import F
from django.utils import timezone

from apps.alerts.models import Alert
from apps.canary import CANARY
from apps.health.canary import PRICE_EVERY
from apps.health.models import Check, Problem
from apps.market.models import Feed, FeedHead
from apps.market.services import pause_feeds, resume_feeds
from apps.notify.models import Message
from apps.pipeline.queues import readers, work_queues
from tests.builders import make_feed
from tests.rig import rig, wait_until

pytestmark = [pytest.mark.servers, pytest.mark.django_db(transaction=True)]

QUEUES = [queue.name for queue in work_queues()]


def status(client):
    """Return what /status says: its code, and the codes of what has stopped."""
    answer = client.get("/status")
    return answer.status_code, {one["code"] for one in answer.json()["reasons"]}


def test_what_has_stopped_says_so_and_ends_when_it_is_mended(client, tmp_path):
    feed = make_feed("BTC-USD", interval_seconds=1)
    assert status(client) == (503, {"not_checked"})
    with rig(tmp_path) as processes:
        beat = processes.beat()
        watcher = processes.worker("ticks", "assets-tasks", name="watcher")
        processes.worker(*[queue for queue in QUEUES if queue not in ("ticks", "assets-tasks", "retries")], name="rest")
        wait_until(lambda: status(client) == (503, {"no_worker"}), timeout_seconds=120)
        assert Problem.objects.get(code="no_worker").facts == {"queues": ["retries"]}
        retries = processes.worker("retries", name="retries")
        wait_until(lambda: status(client) == (200, set()), timeout_seconds=120)

        pause_feeds([feed.pk])
        wait_until(lambda: Problem.objects.filter(subject="feed", code="paused").exists(), timeout_seconds=60)
        assert status(client) == (200, set())
        resume_feeds([feed.pk])
        wait_until(lambda: not Problem.objects.filter(subject="feed").exists(), timeout_seconds=60)

        processes.kill(beat)
        wait_until(lambda: status(client) == (503, {"not_checked"}), timeout_seconds=60)
        assert timezone.now() - Check.objects.get().ticked_at > timedelta(seconds=10)
        processes.beat(name="beat-again")
        wait_until(lambda: status(client) == (200, set()), timeout_seconds=120)

        processes.kill(watcher)
        wait_until(lambda: status(client) == (503, {"not_checked"}), timeout_seconds=60)
        processes.worker("ticks", "assets-tasks", name="watcher-again")
        wait_until(lambda: status(client) == (200, set()), timeout_seconds=120)
        assert retries.poll() is None
        assert Feed.objects.get().head.seq > 0


def test_a_price_of_the_canary_opens_and_the_next_one_resolves_an_alert_and_its_inbox_gets_both(tmp_path):
    def rounds():
        """Return how many of its alerts are open and over, and how many messages were delivered."""
        alerts = Alert.objects.filter(rule=CANARY)
        delivered = Message.objects.filter(channel=CANARY, status="delivered").count()
        return alerts.filter(resolved_at=None).count(), alerts.exclude(resolved_at=None).count(), delivered

    with rig(tmp_path, CANARY="true") as processes:
        processes.beat()
        processes.worker(*QUEUES, name="everything", concurrency=2)
        wait_until(lambda: rounds() == (1, 0, 1), timeout_seconds=60)
        FeedHead.objects.filter(pk=CANARY).update(as_of=F("as_of") - PRICE_EVERY)
        wait_until(lambda: rounds() == (0, 1, 2), timeout_seconds=60)
        assert not Problem.objects.exclude(code="no_partition").exists()


def test_the_broker_says_how_many_workers_read_each_queue(tmp_path):
    with rig(tmp_path) as processes:
        processes.worker("ticks", "retries", name="two")
        expected = dict.fromkeys(QUEUES, 0) | {"ticks": 1, "retries": 1}
        wait_until(lambda: readers() == expected, timeout_seconds=60)
