"""C1: the clock of every process is set back and forward while it works."""

import time
from datetime import timedelta
from pathlib import Path

import libfaketime
import pytest

from apps.health.models import Check
from apps.market.models import FeedEntry
from tests import builders
from tests.rig import rig, wait_until

pytestmark = [pytest.mark.servers, pytest.mark.django_db(transaction=True)]

LIBRARY = Path(libfaketime.__file__).parent / "vendor/libfaketime/src/libfaketime.so.1"
SILENT_AT_MOST_SECONDS = 90


def test_a_step_of_the_clock_neither_silences_the_feeds_nor_makes_them_burst(tmp_path):
    clock = tmp_path / "clock"
    clock.write_text("+0\n")
    faked = {
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_NO_CACHE": "1",
    }
    builders.make_feed("A", interval_seconds=1)
    found = []
    with rig(tmp_path) as processes:
        processes.worker("ticks", "assets-tasks", **faked)
        processes.beat(**faked)
        wait_until(FeedEntry.objects.exists)
        for step in ("+0", "-1h", "+1h", "-1d"):
            clock.write_text(f"{step}\n")
            before = FeedEntry.objects.count()
            wait_until(lambda before=before: FeedEntry.objects.count() > before, timeout_seconds=SILENT_AT_MOST_SECONDS)
            began, before = time.monotonic(), FeedEntry.objects.count()
            wait_until(lambda before=before: FeedEntry.objects.count() >= before + 3)
            found.append((step, FeedEntry.objects.count() - before, time.monotonic() - began))
        received = set(FeedEntry.objects.values_list("received_at", flat=True))
        ticked_at = Check.objects.get().ticked_at

    bursts = [(step, entries, seconds) for step, entries, seconds in found if entries > seconds + 3]
    assert bursts == []
    # The last step was to yesterday, so the processes did see the steps.
    assert max(received) - ticked_at > timedelta(days=1)
