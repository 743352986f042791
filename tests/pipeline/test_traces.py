"""One quote followed from its fetch to the message: the spans of a trace are one tree, and none are made unasked."""

import subprocess
import sys
import threading
from collections import defaultdict
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from apps import spans
from apps.market.models import FeedEntry
from apps.notify.models import Attempt, Message
from apps.notify.services import create_channel, set_channels
from apps.pipeline import flow
from apps.pipeline.traces import trace_delivery, trace_fetch
from tests.builders import START, above, append_quotes, at, make_feed, make_owner, make_rule
from tests.rig import ROOT, rig, wait_until

TRACE = "0" * 32


@contextmanager
def receiver():
    """Give the address of a server that takes spans, and the list of those that came."""
    came = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            sent = ExportTraceServiceRequest()
            sent.ParseFromString(self.rfile.read(int(self.headers["Content-Length"])))
            came.extend(
                span for resource in sent.resource_spans for scope in resource.scope_spans for span in scope.spans
            )
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", came
    server.shutdown()
    server.server_close()


@pytest.fixture
def made(monkeypatch):
    """Return the spans that are made, each as its columns."""
    found = []
    monkeypatch.setenv(spans.ENDPOINT, "http://127.0.0.1:9")
    monkeypatch.setattr(spans, "record", lambda name, **columns: found.append({"name": name, **columns}))
    return found


def notified_feed(kind="inbox", **config):
    """Return a feed with a rule on A that notifies a channel, and the channel."""
    ada = make_owner()
    feed = make_feed("A")
    rule = make_rule(ada, assets=["A"], condition=above(100))
    channel = create_channel(owner=ada, name="Inbox", kind=kind, config=config)
    set_channels(rule=rule, channels=[channel])
    return feed, channel


def parents(found):
    """Return (name, name of its parent) of each span; "?" where no span has that id."""
    names = {one["span"]: one["name"] for one in found}
    return [(one["name"], names.get(one["parent"], "?") if one["parent"] is not None else None) for one in found]


@pytest.mark.django_db
def test_the_spans_of_an_alert_are_one_tree(made):
    feed, channel = notified_feed()
    append_quotes(feed, [("A", at(0), "90")])
    flow.evaluate_pending(feed_id=feed.pk)
    made.clear()
    trace_fetch(append_quotes(feed, [("A", at(1), "101")]), began_at=START)
    (channel_id,) = flow.evaluate_pending(feed_id=feed.pk)
    flow.notify_channels(channel_ids=[channel_id])
    flow.deliver(channel_id=channel.pk)

    assert parents(made) == [("fetch", None), ("evaluate", "fetch"), ("deliver", "evaluate")]
    assert {one["trace_id"] for one in made} == {TRACE}
    assert (made[1]["attributes"]["opened"], made[2]["attributes"]["outcome"]) == (1, "delivered")
    assert [one["ended_at"] >= one["began_at"] for one in made] == [True] * 3


@pytest.mark.django_db
def test_a_change_of_rules_begins_a_trace_of_its_own_and_pushed_quotes_do_with_their_receipt(made):
    feed, _ = notified_feed()
    append_quotes(feed, [("A", at(0), "90")])
    FeedEntry.objects.filter(kind="quotes").update(slot=None)
    flow.evaluate_pending(feed_id=feed.pk)

    assert parents(made) == [("evaluate", None), ("push", None), ("evaluate", "push")]


@pytest.mark.django_db
def test_a_further_attempt_is_a_sibling_and_the_other_alerts_of_a_message_are_linked(made):
    feed, channel = notified_feed()
    append_quotes(feed, [("A", at(0), "90")])
    append_quotes(feed, [("A", at(1), "101")])
    append_quotes(feed, [("A", at(2), "99")])
    (channel_id,) = flow.evaluate_pending(feed_id=feed.pk)
    flow.notify_channels(channel_ids=[channel_id])
    flow.deliver(channel_id=channel.pk)
    message = Message.objects.get()
    Attempt.objects.create(
        message=message, number=2, started_at=at(10**8), finished_at=at(10**8), milliseconds=1, outcome="delivered"
    )
    trace_delivery(channel_id=channel.pk)
    first, second = [one for one in made if one["name"] == "deliver"]
    opened, resolved = FeedEntry.objects.filter(seq__in=(3, 4)).order_by("seq")

    assert first["parent"] == second["parent"] == spans.span_id(TRACE, "evaluate", feed.pk, opened.seq)
    assert first["span"] != second["span"]
    assert [one["attributes"]["redelivered"] for one in (first, second)] == [False, True]
    assert first["links"] == [(TRACE, spans.span_id(TRACE, "evaluate", feed.pk, resolved.seq))]


@pytest.mark.django_db
def test_a_failed_fetch_is_an_error_and_one_that_was_not_needed_no_span(made):
    feed = make_feed("A")
    entry = append_quotes(feed, [])
    entry.failure = "timeout"
    trace_fetch(entry, began_at=START)
    trace_fetch(None, began_at=START)

    assert [(one["name"], one["error"]) for one in made] == [("fetch", "timeout")]


def test_without_an_endpoint_nothing_of_opentelemetry_is_imported():
    program = (
        # The client of Redis imports other parts of it wherever it is installed.
        "SENDING = ('opentelemetry.sdk.trace', 'opentelemetry.exporter'); "
        "import django, sys; django.setup(); import apps.pipeline.tasks; from apps import spans; "
        "spans.record('x', trace_id='0'*32, span=1, parent=None, began_at=None, ended_at=None, attributes={}); "
        "spans.flush(); print([name for name in sys.modules if name.startswith(SENDING)])"
    )
    environment = {"DJANGO_SETTINGS_MODULE": "fintech.settings", "PATH": "/usr/bin:/bin"}
    finished = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )

    assert finished.stdout.strip() == "[]"


@pytest.mark.servers
@pytest.mark.xdist_group("broker")
@pytest.mark.django_db(transaction=True)
def test_the_spans_of_replaced_children_arrive_as_one_tree_for_each_slot(tmp_path):
    make_feed("A", name="invented", provider="simulated")
    with receiver() as (address, came), rig(tmp_path, **{spans.ENDPOINT: address}) as processes:
        processes.start(
            *("celery", "-A", "fintech", "worker", "-n", "traced@%h", "-Q", "ticks,assets-tasks,analysis.0"),
            *("-c", "2", "--max-tasks-per-child", "1", "--without-mingle", "--without-gossip"),
            name="traced",
        )
        processes.beat()

        def trees():
            found = defaultdict(list)
            for span in list(came):
                found[span.trace_id].append(span)
            return [one for one in found.values() if len(one) == 2]

        wait_until(lambda: len(trees()) >= 3, timeout_seconds=60)
        complete = trees()
    for fetch, evaluate in (sorted(one, key=lambda span: span.name, reverse=True) for one in complete):
        assert (fetch.name, fetch.parent_span_id, evaluate.name) == ("fetch", b"", "evaluate")
        assert evaluate.parent_span_id == fetch.span_id
        assert evaluate.start_time_unix_nano >= fetch.start_time_unix_nano
    stored = set(FeedEntry.objects.filter(kind="quotes").values_list("trace_id", flat=True))
    assert {one[0].trace_id.hex() for one in complete} <= stored
