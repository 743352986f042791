"""A hundred feeds of ten assets with two rules each, a slot a second: what a slot takes of the processors, beside two
tasks that do nothing. One run, ratios.

RabbitMQ and Redis are not counted, which may serve others too.
"""

import time
from pathlib import Path
from typing import NamedTuple

import pytest
from celery import current_app
from django.db import transaction
from django.utils import timezone

from apps.market.models import Asset, FeedEntry
from apps.sources.services import create_feed
from tests import builders
from tests.benchmarks.sizes import SMALL_FEEDS as FEEDS
from tests.benchmarks.sizes import SMALL_FEEDS_ASSETS as ASSETS
from tests.benchmarks.sizes import SMALL_FEEDS_SLOTS as SLOTS
from tests.benchmarks.timing import database_seconds, processor_seconds
from tests.rig import queue_lengths, rig, wait_until

CONDITIONS = [{"kind": "rises", "percent": "10", "window": "5m"}, builders.above(10**11)]

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.servers,
    pytest.mark.django_db(transaction=True),
]


def make_feeds():
    owner = builders.make_owner()
    with transaction.atomic():
        for number in range(FEEDS):
            name = f"small-{number}"
            feed = create_feed(name=name, interval_seconds=1, sources=[("simulated", {})], now=timezone.now())
            Asset.objects.bulk_create(Asset(symbol=f"S{number}A{one}", feed=feed) for one in range(ASSETS))
            for index, condition in enumerate(CONDITIONS):
                builders.make_rule(owner, name=f"{name} {index}", assets={"feed": name}, condition=condition)


def evaluated():
    return FeedEntry.objects.filter(kind=FeedEntry.Kind.QUOTES, evaluated_at__isnull=False)


class Measured(NamedTuple):
    """slots, evaluated in so many seconds; each: process -> seconds of processor time, PostgreSQL's among them; empty:
    those of two tasks that do nothing for each slot; waits: seconds from receipt to evaluation, sorted."""

    slots: int
    seconds: float
    each: dict[str, float]
    empty: float
    waits: list[float]

    @property
    def rate(self) -> float:
        return self.slots / self.seconds

    @property
    def cores(self) -> float:
        """Return how many cores it kept at work."""
        return sum(self.each.values()) / self.seconds


def measure_small_feeds(folder: Path) -> Measured:
    """Let beat and workers fetch all feeds for so many slots of each, and return what it took."""
    make_feeds()
    with rig(folder) as processes:
        # Celery's own tasks that do nothing are the reference.
        watcher = processes.worker(
            *("ticks", "assets-tasks", "notifications"),
            name="watcher",
            concurrency=2,
            include="tests.pipeline.counted_tasks",
        )
        analyzer = processes.worker("analysis.0", name="analyzer")
        beat = processes.beat()
        wait_until(lambda: evaluated().values("feed").distinct().count() == FEEDS, timeout_seconds=120)

        def used():
            each = {"watcher": watcher, "analyzer": analyzer, "beat": beat}
            return {name: processor_seconds([one.pid]) for name, one in each.items()} | {
                "PostgreSQL": database_seconds()
            }

        before, began, since = used(), time.monotonic(), timezone.now()
        wait_until(lambda: evaluated().filter(received_at__gte=since).count() >= FEEDS * SLOTS, timeout_seconds=600)
        seconds, after = time.monotonic() - began, used()
        measured = list(evaluated().filter(received_at__gte=since))
        processes.kill(beat)
        wait_until(lambda: not any(queue_lengths()[queue] for queue in ("ticks", "assets-tasks", "analysis.0")))

        tasks = 2 * len(measured)
        idle = processor_seconds([watcher.pid])
        for _ in range(tasks):
            current_app.send_task("counted.succeed", queue="assets-tasks")
        wait_until(lambda: queue_lengths()["assets-tasks"] == 0)
        empty = processor_seconds([watcher.pid]) - idle
    assert [one.failure for one in measured if one.failure] == []
    waits = sorted((one.evaluated_at - one.received_at).total_seconds() for one in measured)
    each = {name: after[name] - before[name] for name in before}
    return Measured(len(measured), seconds, each, empty, waits)


def test_a_slot_of_a_small_feed(tmp_path):
    found = measure_small_feeds(tmp_path)
    whole, reference = (1_000 * one / found.slots for one in (sum(found.each.values()), found.empty))
    half, most = (found.waits[int(len(found.waits) * part)] * 1_000 for part in (0.5, 0.99))
    parts = ", ".join(f"{name} {1_000 * one / found.slots:.1f}" for name, one in found.each.items())
    print(f"\n  {FEEDS} feeds of {ASSETS} assets, a slot a second each")
    print(f"  kept up with        {found.rate:>10,.1f} slots/s of {FEEDS}")
    print(f"  processor time      {whole:>10,.1f} ms a slot   = {found.cores:.0%} of a core")
    print(f"  of that             {parts}")
    print(f"  two empty tasks     {reference:>10,.1f} ms   a slot / that = {whole / max(reference, 1e-9):.1f} x")
    print(f"  evaluated           {half:>10,.0f} ms after receipt (half of them), {most:,.0f} ms (99 %)")
