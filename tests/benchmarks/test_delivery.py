"""From a quote to the webhook that is notified of it, and a full queue of deliveries with one receiver that hangs.

On PostgreSQL, RabbitMQ and Redis, with the deployment's workers and receivers of their own process.
"""

import statistics
import subprocess
import sys
import time
from functools import partial

import pytest
import requests
from django.db.models import F
from django.utils import timezone

from apps.alerts.models import Alert
from apps.market.models import EvaluationCursor
from apps.notify.models import Channel, Message, Notification
from apps.notify.services import create_channel, set_channels
from apps.pipeline import flow
from tests import builders
from tests.benchmarks.sizes import DELIVERY_ALERTS_PER_BATCH as ALERTS_PER_BATCH
from tests.benchmarks.sizes import DELIVERY_BARE_POSTS as BARE_POSTS
from tests.benchmarks.sizes import DELIVERY_BATCHES as BATCHES
from tests.benchmarks.sizes import DELIVERY_CHANNELS as CHANNELS
from tests.benchmarks.sizes import DELIVERY_MESSAGES_PER_CHANNEL as MESSAGES_PER_CHANNEL
from tests.benchmarks.sizes import DELIVERY_QUOTES_PER_BATCH as QUOTES_PER_BATCH
from tests.benchmarks.sizes import DELIVERY_ROUNDS as ROUNDS
from tests.rig import free_port, rig, wait_until

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.servers,
    pytest.mark.django_db(transaction=True),
]

# Ten batches a second, in each of which some alerts open and those of the one before resolve.
EVERY_SECONDS = 0.1
ALLOWED = {"OUTBOUND_ALLOW": "127.0.0.1", "OUTBOUND_PORTS": "80,443"}


@pytest.fixture
def receiver(tmp_path):
    """A receiver in a process of its own: /in answers at once, /hang never. It writes (id, time of arrival) of each."""
    port, file = free_port(), tmp_path / "received"
    process = subprocess.Popen([sys.executable, "-m", "tests.benchmarks.receiver", str(port), str(file)])
    yield port, file
    process.terminate()
    process.wait()


def received(file):
    """Return message id -> when it came first (seconds since 1970)."""
    found = {}
    for line in file.read_text().splitlines() if file.exists() else []:
        message_id, at = line.split()
        found.setdefault(message_id, float(at))
    return found


def percentile(values, share):
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def make_channel(owner, name, url, **options):
    return create_channel(
        owner=owner,
        name=name,
        kind="webhook",
        config={"url": url},
        group_wait_seconds=0,
        messages_per_minute=0,
        **options,
    )


def test_from_a_quote_to_the_webhook(tmp_path, receiver, settings):
    settings.OUTBOUND_ALLOW = [("127.0.0.1", None)]
    port, file = receiver
    owner = builders.make_owner()
    symbols = [f"A{number}" for number in range(QUOTES_PER_BATCH)]
    feed = builders.make_feed(*symbols, jump_percent=0)
    channel = make_channel(owner, "hook", f"http://127.0.0.1:{port}/in")
    rule = builders.make_rule(owner, assets=symbols, condition=builders.above(100))
    set_channels(rule=rule, channels=[channel])
    with rig(tmp_path, **ALLOWED) as processes:
        processes.worker("analysis.0", name="analyzer")
        processes.worker("notifications", "retries", name="notifier", concurrency=2)
        builders.append_quotes(feed, [(symbol, builders.at(0), "99") for symbol in symbols])
        flow.evaluate_soon(feed_id=feed.pk)
        wait_until(lambda: not EvaluationCursor.objects.exclude(seq=F("feed__head__seq")).exists(), timeout_seconds=60)

        sent: dict[int, float] = {}
        began = time.monotonic()
        for number in range(1, BATCHES + 1):
            # Other assets in each entry: some alerts open, and those of the entry before resolve.
            high = {(number * ALERTS_PER_BATCH + one) % QUOTES_PER_BATCH for one in range(ALERTS_PER_BATCH)}
            quotes = [(s, builders.at(number), "101" if i in high else "99") for i, s in enumerate(symbols)]
            time.sleep(max(0.0, began + number * EVERY_SECONDS - time.monotonic()))
            at = time.time()
            sent[builders.append_quotes(feed, quotes).pk] = at
            flow.evaluate_soon(feed_id=feed.pk)
        seconds = time.monotonic() - began
        wait_until(is_all_delivered, timeout_seconds=120)
    assert Alert.objects.count() == BATCHES * ALERTS_PER_BATCH
    arrived = received(file)
    assert set(arrived) == {str(pk) for pk in Message.objects.values_list("pk", flat=True)}
    planned = Notification.objects.values_list("event__entry", "message")
    waits = [arrived[str(message_id)] - sent[entry_id] for entry_id, message_id in planned]
    bare = bare_post(f"http://127.0.0.1:{port}/in")
    print(f"\n  {BATCHES * QUOTES_PER_BATCH / seconds:,.0f} quotes/s, {len(waits) / seconds:.0f} events/s in "
          f"{len(arrived) / seconds:.0f} messages/s")  # fmt: skip
    print(f"  quote in → webhook received: p50 {1_000 * statistics.median(waits):.0f} ms, p99 "
          f"{1_000 * percentile(waits, 0.99):.0f} ms; a bare POST takes {1_000 * bare:.1f} ms")  # fmt: skip


def is_all_delivered() -> bool:
    """Return whether all that was stored is evaluated, planned and delivered."""
    return not (
        EvaluationCursor.objects.exclude(seq=F("feed__head__seq")).exists()
        or Notification.objects.filter(message=None).exists()
        or Message.objects.exclude(status="delivered").exists()
    )


def is_empty(rows) -> bool:
    return not rows.all().exists()


def bare_post(url: str) -> float:
    """Return the median seconds of a POST to the receiver, each on a connection of its own as ours are."""
    took = []
    for _ in range(BARE_POSTS):
        began = time.monotonic()
        requests.post(url, data=b"{}", headers={"webhook-id": "bare"}, timeout=5)
        took.append(time.monotonic() - began)
    return statistics.median(took)


def test_a_full_queue_and_one_receiver_that_hangs(tmp_path, receiver, settings):
    settings.OUTBOUND_ALLOW = [("127.0.0.1", None)]
    port, _ = receiver
    owner = builders.make_owner()
    seconds = {}
    for path in ROUNDS:
        Channel.objects.all().delete()
        urls = [f"http://127.0.0.1:{port}/{path}", *[f"http://127.0.0.1:{port}/in"] * (CHANNELS - 1)]
        channels = [make_channel(owner, f"hook {number}", url) for number, url in enumerate(urls)]
        now = timezone.now()
        Message.objects.bulk_create(
            Message(channel=channel, subject=f"{number}", text="text", next_attempt_at=now)
            for number in range(MESSAGES_PER_CHANNEL)
            for channel in channels
        )
        with rig(tmp_path, **ALLOWED) as processes:
            processes.worker("notifications", name="notifier", concurrency=4)
            processes.worker("retries", name="retries", concurrency=2)
            wait_until(lambda: processes.log("retries").count("ready.") and processes.log("notifier").count("ready."))
            began = time.monotonic()
            processes.beat()
            processes.worker("ticks", "assets-tasks", name="watcher")
            others = Message.objects.exclude(channel=channels[0]).exclude(status="delivered")
            wait_until(partial(is_empty, others), timeout_seconds=300)
            seconds[path] = time.monotonic() - began
    count = (CHANNELS - 1) * MESSAGES_PER_CHANNEL
    first = seconds[ROUNDS[0]]
    print(f"\n  {count:,} messages to {CHANNELS - 1} channels: {count / first:,.0f}/s; beside one that hangs "
          f"{count / seconds['hang']:,.0f}/s, {seconds['hang'] / first:.2f} of the time")  # fmt: skip
