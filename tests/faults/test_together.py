"""kill -9 while small feeds are fetched and evaluated together: each feed's log is what it is in peace, and its alerts
are those of the log."""

from datetime import timedelta

import pytest
from django.utils import timezone

from apps.alerts.models import Alert, AlertEvent
from apps.alerts.replay import replay
from apps.market.models import Feed, FeedEntry, FeedHead, Quote
from apps.notify.models import Notification
from apps.notify.services import create_channel, set_channels
from apps.sources.providers.protocol import QuoteRequest
from apps.sources.providers.registry import PROVIDERS
from apps.sources.services import create_feed
from tests import builders
from tests.faults import failpoints
from tests.rig import dead_letters, queue_lengths, rig, wait_until

pytestmark = [pytest.mark.servers, pytest.mark.django_db(transaction=True)]

FEEDS, SYMBOLS = 12, "ABC"
MINUTE = timedelta(minutes=1)
SCRIPT = [{"kind": "pump", "after": "4s", "duration": "3s", "every": "9s", "percent": 12}]


def make_feeds():
    owner = builders.make_owner()
    inbox = create_channel(owner=owner, name="in", kind="inbox", config={})
    began = timezone.now().replace(microsecond=0)
    for number in range(FEEDS):
        feed = create_feed(
            name=f"small-{number}",
            interval_seconds=1,
            sources=[("simulated", {"seed": number, "script": SCRIPT if number % 3 == 0 else []})],
            now=began,
        )
        for symbol in SYMBOLS:
            feed.assets.create(symbol=f"{symbol}{number}")
        condition = {"kind": "rises", "percent": "10", "window": "10s"}
        rule = builders.make_rule(owner, name=feed.name, assets={"feed": feed.name}, condition=condition)
        set_channels(rule=rule, channels=[inbox])


def quotes_in_peace(feed):
    """Return the quotes that the provider gives of a feed in one answer, up to where its log is."""
    head, (source,) = FeedHead.objects.get(feed=feed), feed.sources.all()
    symbols = sorted(feed.assets.values_list("symbol", flat=True))
    request = QuoteRequest(
        external_ids=symbols,
        slot=head.as_of,
        began_at=head.began_at,
        position=None,
        latest={},
        interval_seconds=1,
        options=source.options,
    )
    answer = PROVIDERS["simulated"].fetch(request)
    return {(one.external_id, one.at, one.price) for one in answer.quotes}


def is_evaluated():
    return not FeedEntry.objects.filter(evaluated_at=None).exists()


def test_workers_killed_at_every_stage_change_nothing_but_the_time(tmp_path):
    began = timezone.now()
    make_feeds()
    folder = tmp_path / "failpoints"
    folder.mkdir()

    with rig(tmp_path, FAILPOINTS_FOLDER=str(folder)) as processes:
        module = "tests.faults.failpoints"
        processes.worker("ticks", "assets-tasks", "notifications", name="watcher", concurrency=2, include=module)
        processes.worker("analysis.0", name="analyzer", include=module)
        processes.beat()
        wait_until(lambda: not FeedHead.objects.filter(seq__lt=5).exists())
        failpoints.arm(folder, failpoints.TOGETHER)
        wait_until(
            lambda: failpoints.fired(folder, failpoints.TOGETHER) == set(failpoints.TOGETHER), timeout_seconds=120
        )
        # What was held up by the last death goes on.
        since = FeedEntry.objects.latest("pk").received_at
        wait_until(
            lambda: FeedEntry.objects.filter(received_at__gt=since).values("feed").distinct().count() == FEEDS,
            timeout_seconds=60,
        )
        Feed.objects.update(is_enabled=False)
        wait_until(lambda: not queue_lengths()["assets-tasks"])
        wait_until(is_evaluated, timeout_seconds=60)
        dead = dead_letters()

    feeds = list(Feed.objects.all())
    stored = {
        feed: set(Quote.objects.filter(asset__feed=feed).values_list("asset__symbol", "at", "price")) for feed in feeds
    }
    assert stored == {feed: quotes_in_peace(feed) for feed in feeds}
    numbers = {
        feed: list(FeedEntry.objects.filter(feed=feed).order_by("seq").values_list("seq", flat=True)) for feed in feeds
    }
    assert numbers == {feed: list(range(1, len(seqs) + 1)) for feed, seqs in numbers.items()}
    assert Alert.objects.count() > 4
    assert set(Notification.objects.values_list("event", flat=True)) == set(
        AlertEvent.objects.values_list("pk", flat=True)
    )
    for feed in feeds:
        found = replay(feed, since=began - MINUTE, until=timezone.now() + MINUTE, progress=lambda _: None)
        assert (found.missing, found.extra) == ([], [])
    assert dead == []
