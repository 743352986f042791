"""What it costs to be watched: slots fetched, stored and evaluated with and without spans, in turns, by the CPU time of
the process that does it, its exporter's thread included; a scrape of the metrics of rows; the count of a task.
"""

import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import timedelta
from statistics import median
from uuid import uuid4

import pytest
from django.utils import timezone
from structlog.contextvars import bound_contextvars

from apps import spans
from apps.market.domain import slot_of
from apps.market.models import Asset, FeedEntry
from apps.metrics.exposition import read_rows
from apps.pipeline import flow, tasks
from apps.pipeline.task_metrics import count_outcome, worker_metrics
from apps.pipeline.traces import trace_tick
from apps.sources.services import create_feed
from apps.tracing import new_trace_id
from tests.benchmarks.sizes import OBSERVED_ASSETS as ASSETS
from tests.benchmarks.sizes import OBSERVED_ROUNDS as ROUNDS
from tests.benchmarks.sizes import OBSERVED_RUNS as RUNS
from tests.benchmarks.sizes import OBSERVED_SLOTS as SLOTS
from tests.benchmarks.test_pipeline import AHEAD, CONDITIONS
from tests.benchmarks.timing import milliseconds
from tests.builders import make_owner, make_rule
from tests.rig import ROOT, free_port, wait_until

SCRAPED_EVERY_SECONDS = 5
# tick, fetch with its two steps, evaluate, and the task that evaluated
SPANS_A_SLOT = 6

pytestmark = [pytest.mark.benchmark, pytest.mark.servers, pytest.mark.django_db(transaction=True)]

# In a process of its own; a line for each request, with the number of its spans.
RECEIVER = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        sent = ExportTraceServiceRequest()
        sent.ParseFromString(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.end_headers()
        found = sum(len(scope.spans) for resource in sent.resource_spans for scope in resource.scope_spans)
        print(found, file=file, flush=True)

    def log_message(self, *arguments):
        pass

file = open(sys.argv[2], "a")
HTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
"""


@contextmanager
def receiver(path):
    """Give the address of a receiver of spans; the numbers that came are lines of `path`."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", RECEIVER, str(port), str(path)], cwd=ROOT)
    try:
        wait_until(path.exists)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def test_slots_with_and_without_spans_a_scrape_and_the_count_of_a_task(tmp_path, monkeypatch):
    first_slot = slot_of(at=timezone.now() + AHEAD, interval_seconds=1)
    feed = create_feed(name="observed", interval_seconds=1, sources=[("simulated", {})], now=first_slot)
    Asset.objects.bulk_create(Asset(symbol=f"A{one}", feed=feed) for one in range(ASSETS))
    owner = make_owner()
    for number, condition in enumerate(CONDITIONS):
        make_rule(owner, name=f"{number}", assets={"feed": feed.name}, condition=condition)
    slots = iter(first_slot + timedelta(seconds=number) for number in range(1_000_000))

    def cpu_seconds(address):
        """Return the CPU time of a slot, with spans sent to `address`; "": without."""
        monkeypatch.setenv(spans.ENDPOINT, address)
        began = time.process_time()
        for _ in range(SLOTS):
            slot, trace_id = next(slots), new_trace_id()
            trace_tick(trace_id=trace_id, feed_id=feed.pk, slot=slot, began_at=timezone.now())
            tasks.fetch_quotes.run(feed.pk, slot.isoformat(), trace_id)
            with bound_contextvars(task_id=str(uuid4())):
                flow.evaluate_pending(feed_id=feed.pk)
        spans.flush()
        return (time.process_time() - began) / SLOTS

    came = tmp_path / "came"
    with receiver(came) as address:
        # Without first: the entries of the rules are evaluated with it.
        for warm in ("", address):
            cpu_seconds(warm)
        turns = [(cpu_seconds(""), cpu_seconds(address)) for _ in range(ROUNDS)]
        sent = SPANS_A_SLOT * SLOTS * (ROUNDS + 1)
        wait_until(lambda: sum(map(int, came.read_text().split())) == sent, timeout_seconds=10)
    stored = FeedEntry.objects.filter(feed=feed, slot__isnull=False, failure="", evaluated_at__isnull=False)
    assert stored.count() == 2 * SLOTS * (ROUNDS + 1)
    without, within = (median(one[turn] for one in turns) * 1_000 for turn in (0, 1))
    scrape = milliseconds(read_rows, runs=RUNS)

    def count():
        count_outcome("pipeline.tick", "succeeded")
        worker_metrics()["fintech_task_seconds"].labels("pipeline.tick").observe(0.1)

    counted = milliseconds(count, runs=RUNS * 100) * 1_000
    more = median(on / off for off, on in turns) - 1
    share = scrape / SCRAPED_EVERY_SECONDS / 1_000
    print(f"\n  a slot of {ASSETS:>5,} quotes, without spans {without:>10.2f} ms of CPU")
    print(f"  the same with {SPANS_A_SLOT} spans                {within:>10.2f} ms   = {more:+.1%}")
    print(f"  a scrape of rows                    {scrape:>10.2f} ms   = {share:.2%} of a core at one in 5 s")
    print(f"  the count of a task                 {counted:>10.1f} us")
