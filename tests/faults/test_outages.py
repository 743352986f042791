"""Things that are away: a message, the broker, Redis, providers in their senses. Work goes on when they return."""

import pytest
from django.conf import settings
from pytest_httpserver import HTTPServer

from apps.market import cache, queries
from apps.market.models import Asset, Feed, FeedEntry, FeedHead
from apps.notify import services as notify
from apps.notify.models import Message
from apps.pipeline import flow
from apps.sources import services as sources
from tests import builders
from tests.forwarder import Forwarder
from tests.pipeline import recorded
from tests.rig import rig, wait_until

pytestmark = [pytest.mark.servers, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def doors():
    made = {"broker": Forwarder(5672), "redis": Forwarder(6379)}
    yield made
    for door in made.values():
        door.close()


def test_what_a_lost_message_left_behind_is_finished_by_sweep_within_20_s(tmp_path):
    owner, feed = builders.make_owner(), builders.make_feed("A")
    rule = builders.make_rule(owner, assets=["A"], condition=builders.above(100))
    notify.set_channels(rule=rule, channels=[notify.create_channel(owner=owner, name="in", kind="inbox", config={})])
    # A batch whose chain was lost after it was stored: nothing was ever sent for it, and nobody fetches a further one.
    builders.append_quotes(feed, [("A", builders.at(1), "101")])
    FeedEntry.objects.filter(kind="quotes").update(received_at=builders.START)
    Feed.objects.update(is_enabled=False)

    with rig(tmp_path) as processes:
        processes.worker()
        processes.beat()
        wait_until(lambda: " ready." in processes.log("worker"))
        wait_until(lambda: Message.objects.filter(status="delivered").exists(), timeout_seconds=20)

    assert list(Message.objects.values_list("subject", flat=True)) == ["[warning] rule: A"]
    assert not FeedEntry.objects.filter(evaluated_at=None).exists()


def test_with_broker_and_redis_down_at_start_writes_are_accepted_and_work_goes_on_when_they_return(tmp_path, doors):
    recording = tmp_path / "recording.csv"
    start = "2023-03-11T07:00:00Z"
    rows = recorded.write_recording(recording, begin="2023-03-11T06:30:00Z", end="2023-03-11T08:00:00Z")
    expected = recorded.expected_alerts(rows, start=start)
    broker_url = settings.CELERY_BROKER_URL.replace(":5672/", f":{doors['broker'].port}/")
    redis_url = settings.REDIS_URL.replace(":6379/", f":{doors['redis'].port}/")

    with rig(tmp_path, CELERY_BROKER_URL=broker_url, REDIS_URL=redis_url) as processes:
        processes.worker(concurrency=2)
        processes.beat()
        # A person saves feeds, rules and channels while there is neither broker nor Redis.
        feed, _ = recorded.make_world(recording, start=start, speed=600)
        wait_until(lambda: "Cannot connect" in processes.log("worker") or "refused" in processes.log("worker"))
        stored_meanwhile = FeedEntry.objects.filter(kind="quotes").count()
        doors["broker"].open()
        wait_until(lambda: FeedHead.objects.filter(feed=feed, is_cache_stale=True).exists(), timeout_seconds=40)
        doors["redis"].open()
        wait_until(lambda: recorded.is_over(feed, end=rows[-1][1]), timeout_seconds=60, every_seconds=0.2)
        wait_until(lambda: not FeedHead.objects.filter(feed=feed, is_cache_stale=True).exists(), timeout_seconds=20)

    assert stored_meanwhile == 0
    assert recorded.actual_alerts() == expected
    assert expected


def test_providers_out_of_their_senses_are_counted_and_put_off_and_others_go_on(monkeypatch):
    monkeypatch.setenv("COINCAP_API_KEY", "canary-3f9a")
    answers = {
        "html": {"response_data": "<html>maintenance</html>", "content_type": "text/html"},
        "truncated": {"response_data": '{"data": [{"id": "bitcoin", "pri', "content_type": "application/json"},
        "zeros": {"response_data": b"\0" * 1_000_000, "content_type": "application/json"},
        "nothing": {"response_data": b"", "content_type": "application/json"},
    }
    with HTTPServer(host="127.0.0.1") as server:
        for name, answer in answers.items():
            server.expect_request(f"/{name}/assets").respond_with_data(**answer)
            options = {"base_url": server.url_for(f"/{name}")}
            feed = sources.create_feed(
                name=name, interval_seconds=60, sources=[("coincap", options)], now=builders.START
            )
            Asset.objects.create(symbol=name.upper(), feed=feed)
        builders.make_feed("A", name="healthy", interval_seconds=60)

        for feed_id, slot in sources.claim_due_feeds(now=builders.START):
            sources.fetch(feed_id=feed_id, slot=slot, now=builders.START, trace_id=builders.TRACE)
            flow.evaluate_pending(feed_id=feed_id)

    outcome = dict(FeedEntry.objects.values_list("feed__name", "failure"))
    assert outcome == dict.fromkeys(answers, "bad_payload") | {"healthy": ""}
    waits = {
        name: (next_slot - builders.START).total_seconds()
        for name, next_slot in FeedHead.objects.values_list("feed__name", "next_slot")
    }
    assert waits == dict.fromkeys(answers, 120.0) | {"healthy": 60.0}
    assert dict(FeedEntry.objects.values_list("feed__name", "accepted"))["healthy"] == 1
    healthy = Asset.objects.get(symbol="A").pk
    assert set(queries.latest_prices([healthy], now=builders.START)) == {healthy}
    assert cache.get_latest([healthy], now=builders.START)
