"""Quotes per second through everything that is real, beside bare COPY and beside one task per quote with the ORM.

At full size 10 000 assets in 10 feeds, batches of 1 000, 10 rules each (3 windows), on PostgreSQL, RabbitMQ and Redis.
One run, ratios. With one analyzer and with two: what each process and PostgreSQL use of the processors for a quote, and
how many quotes a second a core of each can do at most. RabbitMQ and Redis are not counted, which may serve others too.
"""

import csv
import gzip
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from apps.market.domain import slot_of
from apps.market.models import Asset, EvaluationCursor, FeedEntry, FeedHead
from apps.pipeline import flow
from apps.sources.services import Due, create_feed
from tests import builders
from tests.benchmarks import per_quote
from tests.benchmarks.bare_copy import copy_rate
from tests.benchmarks.sizes import PIPELINE_ASSETS_PER_FEED as ASSETS_PER_FEED
from tests.benchmarks.sizes import PIPELINE_FEEDS as FEEDS
from tests.benchmarks.sizes import PIPELINE_STEPS as STEPS
from tests.benchmarks.sizes import PIPELINE_WARM_UP as WARM_UP
from tests.benchmarks.timing import database_seconds, processor_seconds
from tests.rig import rig, wait_until

# A slot that lies back is moved to the present, and each slot is to give one step of the recording: so all of them lie
# ahead.
AHEAD = timedelta(hours=1)

CONDITIONS = [
    {"kind": "rises", "percent": "10", "window": "5m"},
    {"kind": "rises", "percent": "5", "window": "5m"},
    {"kind": "falls", "percent": "10", "window": "15m"},
    {"kind": "falls", "percent": "5", "window": "15m"},
    {"kind": "above_average", "percent": "5", "window": "1h"},
    {"kind": "below_average", "percent": "5", "window": "1h"},
    {"kind": "above_average", "percent": "2", "window": "1h"},
    {"kind": "above", "level": "1000"},
    {"kind": "below", "level": "10"},
    {"kind": "above", "level": "500"},
]

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.servers,
    pytest.mark.django_db(transaction=True),
]


def write_recording(path: Path, *, feed: int) -> None:
    """Write one feed's recording: every asset once a second, prices around 100, every 50th step a spike that fires
    rules."""
    with gzip.open(path, "wt", newline="", compresslevel=1) as file:
        rows = csv.writer(file)
        rows.writerow(["time", "symbol", "price"])
        for step in range(STEPS + WARM_UP):
            moment = (builders.START + timedelta(seconds=step)).isoformat()
            for asset in range(ASSETS_PER_FEED):
                spike = 12 if (step * 7 + asset) % 5_000 == 0 else 0
                rows.writerow([moment, f"F{feed}A{asset}", f"{100 + (step * 13 + asset * 7) % 100 / 100 + spike:.2f}"])


def drained() -> bool:
    return not EvaluationCursor.objects.exclude(seq=F("feed__head__seq")).exists()


class Measured(NamedTuple):
    """quotes, stored in so many seconds; each: process -> microseconds of processor time for a quote, PostgreSQL's
    among them; share: analyzer -> the part of the quotes that is of its shard."""

    entries: QuerySet[FeedEntry]
    quotes: int
    seconds: float
    each: dict[str, float]
    share: dict[str, float]

    @property
    def rate(self) -> float:
        return self.quotes / self.seconds

    @property
    def microseconds(self) -> float:
        return sum(self.each.values())


def measure_pipeline(folder: Path, *, analyzers: int = 1) -> Measured:
    """Let the recordings of all feeds pass through real workers, and return what it took after the warm-up."""
    owner = builders.make_owner()
    first_slot = slot_of(at=timezone.now() + AHEAD, interval_seconds=1)
    feeds = []
    for number in range(FEEDS):
        recording = folder / f"recording-{number}.csv.gz"
        write_recording(recording, feed=number)
        feed = create_feed(
            name=f"feed-{number}", interval_seconds=1, sources=[("recording", {"path": str(recording)})], now=first_slot
        )
        Asset.objects.bulk_create(Asset(symbol=f"F{number}A{one}", feed=feed) for one in range(ASSETS_PER_FEED))
        feeds.append(feed)
    with transaction.atomic():
        for feed in feeds:
            for index, condition in enumerate(CONDITIONS):
                builders.make_rule(owner, name=f"{feed.name} {index}", assets={"feed": feed.name}, condition=condition)
    with rig(folder, ANALYSIS_SHARDS=str(analyzers)) as processes:
        workers = {"watcher": processes.worker("assets-tasks", "notifications", name="watcher", concurrency=2)}
        for shard in range(analyzers):
            workers[f"analyzer{shard}"] = processes.worker(f"analysis.{shard}", name=f"analyzer{shard}")

        def used():
            return {name: processor_seconds([one.pid]) for name, one in workers.items()} | {
                "PostgreSQL": database_seconds()
            }

        for feed in feeds:
            flow.start_chain(Due(feed.pk, first_slot, builders.TRACE))
        wait_until(
            lambda: FeedEntry.objects.filter(slot=first_slot).count() == FEEDS and drained(), timeout_seconds=120
        )
        send_slots(feeds, slots_after(first_slot, range(1, WARM_UP)))

        before, began = used(), time.monotonic()
        send_slots(feeds, slots_after(first_slot, range(WARM_UP, STEPS + WARM_UP)))
        seconds, after = time.monotonic() - began, used()
    measured = FeedEntry.objects.filter(slot__gte=first_slot + timedelta(seconds=WARM_UP))
    quotes = sum(measured.values_list("accepted", flat=True))
    assert quotes == FEEDS * ASSETS_PER_FEED * STEPS
    assert {feed.pk % analyzers for feed in feeds} == set(range(analyzers))
    share = {
        f"analyzer{shard}": sum(feed.pk % analyzers == shard for feed in feeds) / FEEDS for shard in range(analyzers)
    }
    each = {name: (after[name] - before[name]) / quotes * 1e6 for name in before}
    return Measured(measured, quotes, seconds, each, share)


@pytest.mark.parametrize("analyzers", [1, 2])
def test_quotes_through_the_whole_pipeline(tmp_path, settings, analyzers):
    settings.ANALYSIS_SHARDS = analyzers
    found = measure_pipeline(tmp_path, analyzers=analyzers)
    pipeline, whole = found.rate, found.microseconds
    print(f"\n  {analyzers} analyzer{'s' * (analyzers > 1)}")
    print(f"  pipeline            {pipeline:>10,.0f} quotes/s   ({found.quotes:,} quotes in {found.seconds:.1f} s)")
    print(f"  processor time      {whole:>10,.1f} us a quote   = {whole * pipeline / 1e6:.0%} of a core")
    for name, microseconds in found.each.items():
        # Of each analyzer, for a quote of its own shard.
        a_quote = microseconds / found.share.get(name, 1)
        print(
            f"    {name:<18}{a_quote:>10,.1f} us a quote   a core does {1e6 / max(a_quote, 0.01):,.0f} quotes/s at most"
        )
    if analyzers > 1:
        return
    copied = copy_rate(found.entries)
    print(f"  bare COPY           {copied:>10,.0f} quotes/s   pipeline / COPY = 1/{copied / pipeline:.1f}")
    one_by_one = per_quote.rate(tmp_path)
    print(f"  one task per quote  {one_by_one:>10,.0f} quotes/s   pipeline / that = {pipeline / one_by_one:.0f} x")


def slots_after(first: datetime, steps: range) -> list[datetime]:
    """Return the slots of these steps, a second each."""
    return [first + timedelta(seconds=step) for step in steps]


def send_slots(feeds, slots) -> None:
    """Send each feed through these slots, the next when the last is stored, and return when all of it is evaluated.

    A feed has one fetch at a time, so a feed's next slot is sent as soon as its head has moved on: beat without the
    waiting.
    """
    upcoming = {feed.pk: list(slots) for feed in feeds}
    sent: dict[int, object] = {}
    while upcoming or sent:
        heads = dict(FeedHead.objects.values_list("feed_id", "next_slot"))
        for feed_id in [feed_id for feed_id, slot in sent.items() if heads[feed_id] > slot]:
            del sent[feed_id]
        for feed_id in [feed_id for feed_id in upcoming if feed_id not in sent]:
            slot = upcoming[feed_id].pop(0)
            flow.start_chain(Due(feed_id, slot, builders.TRACE))
            sent[feed_id] = slot
            if not upcoming[feed_id]:
                del upcoming[feed_id]
        time.sleep(0.01)
    wait_until(drained, timeout_seconds=120, every_seconds=0.01)
