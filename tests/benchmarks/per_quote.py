"""The plain way, to compare with: one Celery task per quote, one row and ten rules through the ORM in each."""

import time
from pathlib import Path

from celery import current_app, shared_task

from apps.market.models import Asset, FeedEntry, LatestQuote, Quote
from apps.rules.models import RuleState
from tests import builders
from tests.benchmarks.sizes import ONE_BY_ONE_QUOTES as COUNT
from tests.benchmarks.sizes import ONE_BY_ONE_WARM_UP as WARM_UP
from tests.rig import queue_lengths, rig, wait_until


@shared_task(name="benchmarks.store_and_evaluate")
def store_and_evaluate(asset_id: int, entry_id: int, second: int, price: str) -> None:
    """Store one quote and compare it with ten levels, as one would write it without thinking of speed."""
    at = builders.at(second)
    Quote.objects.create(asset_id=asset_id, at=at, price=price, entry_id=entry_id)
    LatestQuote.objects.filter(asset_id=asset_id).update(at=at, price=price)
    for state in RuleState.objects.filter(asset_id=asset_id).select_related("version"):
        level = state.version.document["condition"].get("level", "1000000")
        wanted = "firing" if float(price) > float(level) else "inactive"
        if state.state != wanted and wanted == "firing":
            RuleState.objects.filter(pk=state.pk).update(state=wanted, since=at)


def rate(log_folder: Path) -> float:
    """Return quotes per second of one worker process on such tasks, all of them queued beforehand."""
    asset_ids = list(Asset.objects.order_by("pk").values_list("pk", flat=True)[:COUNT])
    entry = FeedEntry.objects.order_by("pk").first()
    seconds_ahead = 3_600
    with rig(log_folder) as processes:
        for place in range(COUNT):
            arguments = [asset_ids[place % len(asset_ids)], entry.pk, seconds_ahead + place // len(asset_ids), "100.25"]
            current_app.send_task("benchmarks.store_and_evaluate", arguments, queue="assets-tasks")
        before = Quote.objects.count()
        processes.worker("assets-tasks", name="plain", concurrency=2, include="tests.benchmarks.per_quote")
        wait_until(lambda: Quote.objects.count() > before + WARM_UP, timeout_seconds=30)
        began, count = time.monotonic(), Quote.objects.count()
        wait_until(lambda: Quote.objects.count() == before + COUNT, timeout_seconds=120)
        seconds = time.monotonic() - began
        wait_until(lambda: queue_lengths()["assets-tasks"] == 0)
    # A small run may be over before it is first looked at.
    return max(before + COUNT - count, 1) / seconds
