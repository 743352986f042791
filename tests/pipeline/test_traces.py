"""One quote followed from its tick to the message: the spans of a trace are one tree, and none are made unasked."""

import subprocess
import sys
import threading
from collections import defaultdict
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from structlog.contextvars import bound_contextvars

from apps import spans
from apps.market.models import FeedEntry
from apps.notify.models import Attempt, Message
from apps.notify.services import create_channel, set_channels
from apps.pipeline import flow, tasks
from apps.pipeline.traces import trace_delivery, trace_fetch, trace_tick
from apps.sources.providers.http import get_json
from apps.sources.providers.protocol import ProviderUnavailable
from tests.builders import START, above, append_quotes, at, make_feed, make_owner, make_rule
from tests.rig import ROOT, rig, wait_until

TRACE = "0" * 32
UNSAMPLED = "0" * 31 + "1"


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


@pytest.fixture
def unsampled(monkeypatch):
    """Send no trace but one in a million, which is none of ours; return that trace's id and the spans made."""
    found = []

    class Exporter:
        def record(self, name, trace_id, span, parent, times, attributes, links, error):
            found.append({"name": name, "trace_id": trace_id, "span": span, "parent": parent, "attributes": attributes})

    monkeypatch.setenv(spans.ENDPOINT, "http://127.0.0.1:9")
    monkeypatch.setenv(spans.ONE_IN, "1000000")
    monkeypatch.setattr(spans, "_exporter", lambda pid: Exporter())
    monkeypatch.setattr("tests.builders.TRACE", UNSAMPLED)
    return found


def fetched(feed, entry, **columns):
    """Record the tick and the fetch of an entry."""
    which = {"feed_id": feed.pk, "slot": entry.slot, "trace_id": entry.trace_id, "began_at": START}
    trace_tick(**which)
    trace_fetch(entry, **which, **columns)


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
    fetched(feed, append_quotes(feed, [("A", at(1), "101")]))
    (channel_id,) = flow.evaluate_pending(feed_id=feed.pk)
    flow.notify_channels(channel_ids=[channel_id])
    flow.deliver(channel_id=channel.pk)

    assert parents(made) == [("tick", None), ("fetch", "tick"), ("evaluate", "fetch"), ("deliver", "evaluate")]
    assert {one["trace_id"] for one in made} == {TRACE}
    assert (made[2]["attributes"]["opened"], made[3]["attributes"]["outcome"]) == (1, "delivered")
    assert [one["ended_at"] >= one["began_at"] for one in made] == [True] * 4


@pytest.mark.django_db
def test_what_a_fetch_does_is_below_it_and_so_is_the_evaluation_of_the_past_that_came_with_it(made):
    feed = make_feed("A", provider="simulated")
    (feed_id,) = flow.start_due_feeds()
    tick = made.pop()
    tasks.fetch_quotes.run(feed_id, tick["attributes"]["slot"], tick["trace_id"])
    fetch = made.pop()
    append_quotes(feed, [("A", at(10**6), "90")], history=[("A", at(10**6 - 1), "90")])
    flow.evaluate_pending(feed_id=feed_id)

    assert (fetch["name"], fetch["parent"], fetch["trace_id"]) == ("fetch", tick["span"], tick["trace_id"])
    assert [(one.name, one.parent, one.error) for one in fetch["steps"]] == [
        ("store quotes", None, ""),
        ("cache prices", None, ""),
    ]
    assert [one["attributes"]["kind"] for one in made] == ["quotes", "history", "quotes"]
    assert {one["parent"] for one in made[1:]} == {spans.span_id(TRACE, "fetch")}


def test_calls_of_providers_are_steps_that_name_the_host_alone_and_what_failed(made, httpserver):
    httpserver.expect_request("/prices").respond_with_json([])
    with spans.collected(TRACE) as steps:
        get_json(url=httpserver.url_for("/prices?key=secret"))
        with pytest.raises(ProviderUnavailable):
            get_json(url=httpserver.url_for("/other"))

    assert [(one.name, one.attributes, one.error) for one in steps] == [
        ("GET", {"server.address": "localhost"}, ""),
        ("GET", {"server.address": "localhost"}, "ProviderUnavailable"),
    ]


def test_a_step_within_another_is_its_child_and_without_a_span_nothing_is_noted(made):
    with spans.collected(TRACE) as steps, spans.step("outer"), spans.step("inner"):
        pass
    with spans.step("alone"):
        pass
    inner, outer = steps

    assert (inner.name, inner.parent, outer.name, outer.parent) == ("inner", outer.span, "outer", None)


@pytest.mark.django_db
def test_a_fetch_that_is_delivered_again_is_a_sibling_or_makes_the_span_that_its_dead_process_left(made):
    feed = make_feed("A")
    entry = append_quotes(feed, [("A", at(1), "90")])
    which = {"feed_id": feed.pk, "trace_id": TRACE, "began_at": START, "redelivered": True}
    trace_fetch(None, slot=entry.slot, **which)
    trace_fetch(None, slot=at(50), **which)
    made_anew, sibling = made

    assert made_anew["span"] == spans.span_id(TRACE, "fetch") != sibling["span"]
    assert made_anew["parent"] == sibling["parent"] == spans.span_id(TRACE)
    assert [one["attributes"]["redelivered"] for one in made] == [True, True]
    assert [one["attributes"].get("reconstructed") for one in made] == [True, None]


@pytest.mark.django_db
def test_of_a_trace_that_is_not_sampled_only_what_led_to_an_alert_is_sent_made_from_rows(unsampled):
    feed, channel = notified_feed()
    for second, price in ((0, "90"), (1, "101")):
        entry = append_quotes(feed, [("A", at(second), price)])
        fetched(feed, entry)
        flow.evaluate_pending(feed_id=feed.pk)
    assert [one["name"] for one in unsampled] == ["tick", "fetch", "evaluate"]
    flow.notify_channels(channel_ids=[channel.pk])
    flow.deliver(channel_id=channel.pk)

    assert parents(unsampled) == [("tick", None), ("fetch", "tick"), ("evaluate", "fetch"), ("deliver", "evaluate")]
    assert [one["attributes"]["reconstructed"] for one in unsampled] == [True] * 4
    assert {one["trace_id"] for one in unsampled} == {UNSAMPLED}
    assert unsampled[2]["attributes"]["entry"] == entry.seq


def test_a_span_names_the_task_that_made_it(unsampled):
    with bound_contextvars(task_id="task-1"):
        spans.record("x", trace_id=TRACE, span=1, parent=None, began_at=START, ended_at=START, attributes={})

    assert unsampled[0]["attributes"] == {"task_id": "task-1"}


@pytest.mark.django_db
def test_evaluations_are_linked_to_the_task_that_did_them_whichever_slot_it_was_sent_for(made):
    feed, _ = notified_feed()
    append_quotes(feed, [("A", at(0), "90")])
    append_quotes(feed, [("A", at(1), "101")])
    with bound_contextvars(task_id="0b1c0b1c-0b1c-4b1c-8b1c-0b1c0b1c0b1c"):
        flow.evaluate_pending(feed_id=feed.pk)
        flow.evaluate_pending(feed_id=feed.pk)
    *evaluations, run = made
    trace_id = "0b1c" * 2 + "0b1c4b1c8b1c" + "0b1c" * 3

    assert [(one["name"], one["trace_id"]) for one in evaluations] == [("evaluate", TRACE)] * 3
    assert (run["name"], run["trace_id"], run["parent"]) == ("evaluate pending", trace_id, None)
    assert run["attributes"] == {"feed": feed.pk, "entries": 3}
    assert [one["links"] for one in evaluations] == [[(trace_id, run["span"])]] * 3
    assert run["began_at"] <= evaluations[0]["began_at"]


def test_one_trace_in_n_is_sampled_by_its_id_alike_in_every_process(monkeypatch):
    monkeypatch.setenv(spans.ENDPOINT, "http://127.0.0.1:9")
    monkeypatch.setenv(spans.ONE_IN, "4")

    assert [number for number in range(12) if spans.is_sampled(f"{number:032x}")] == [0, 4, 8]
    monkeypatch.setenv(spans.ONE_IN, "")
    assert spans.is_sampled(UNSAMPLED)
    monkeypatch.delenv(spans.ENDPOINT)
    assert not spans.is_sampled(TRACE)


@pytest.mark.django_db
def test_a_request_is_a_trace_named_by_its_route_with_the_operation_of_graphql_in_it(made, client):
    client.get("/healthz")
    asked = client.post("/graphql", {"query": "query Prices { __typename }"}, content_type="application/json")
    client.get("/action/secret-link")
    query, action = made

    assert (query["name"], query["parent"], query["attributes"]["http.response.status_code"]) == (
        "POST /graphql",
        None,
        200,
    )
    assert query["attributes"]["request_id"] == asked.headers["X-Request-ID"]
    assert [(one.name, one.parent) for one in query["steps"]] == [("query Prices", None)]
    assert action["name"].startswith("GET /action/<")
    assert "secret-link" not in str(action)


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
    which = {"feed_id": feed.pk, "slot": entry.slot, "trace_id": TRACE, "began_at": START}
    trace_fetch(entry, **which)
    trace_fetch(None, **which)

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

        def complete():
            return [one for one in trees(came) if len(one) == 5]

        found = wait_until(lambda: len(complete()) >= 3 and complete(), timeout_seconds=60)
        evaluations = [span for tree in found for span in tree if span.name == "evaluate"]
        linked = {(link.trace_id, link.span_id) for one in evaluations for link in one.links}
        wait_until(lambda: linked <= {(one.trace_id, one.span_id) for one in came if one.name == "evaluate pending"})
    for names in map(names_of, found):
        assert names == [("cache prices", "fetch"), ("evaluate", "fetch"), ("fetch", "tick"), ("store quotes", "fetch")]
    assert [len(one.links) for one in evaluations] == [1] * len(found)
    stored = set(FeedEntry.objects.filter(kind="quotes").values_list("trace_id", flat=True))
    assert {one[0].trace_id.hex() for one in found} <= stored


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_a_fetch_whose_process_dies_is_delivered_again_in_the_same_tree(tmp_path):
    make_feed("A", name="invented", provider="simulated")
    before_commit, after_commit = (tmp_path / f"{place}.armed" for place in ("fetch-answered", "store-after-commit"))
    before_commit.touch()
    with receiver() as (address, came), rig(tmp_path, **{spans.ENDPOINT: address}) as processes:
        processes.worker("ticks", name="ticking")
        processes.worker(
            *("assets-tasks", "analysis.0"),
            name="dying",
            include="tests.faults.failpoints",
            FAILPOINTS_FOLDER=str(tmp_path),
            # The next run need not wait for the lease of the dead one.
            FAULT_LEASE_SECONDS="0.001",
        )
        processes.beat()

        def redelivered():
            return sorted(
                ("evaluate" in dict(names_of(tree)), is_marked(span, "reconstructed"))
                for tree in trees(came)
                for span in tree
                if is_marked(span, "redelivered")
            )

        fetched_anew = [(True, False)]
        wait_until(lambda: redelivered() == fetched_anew, timeout_seconds=60)
        after_commit.touch()
        wait_until(lambda: redelivered() == [*fetched_anew, (True, True)], timeout_seconds=60)
    assert (before_commit.exists(), after_commit.exists()) == (False, False)


def trees(came):
    """Return the spans of each trace whose spans are one tree with a fetch."""
    found = defaultdict(list)
    for span in list(came):
        found[span.trace_id].append(span)
    whole = []
    for of_trace in found.values():
        ids = {span.span_id for span in of_trace}
        roots = [span.name for span in of_trace if span.parent_span_id not in ids]
        if roots == ["tick"] and "fetch" in {span.name for span in of_trace}:
            whole.append(of_trace)
    return whole


def names_of(tree):
    """Return (name, name of its parent) of each span but the first, in order."""
    names = {span.span_id: span.name for span in tree}
    return sorted((span.name, names[span.parent_span_id]) for span in tree if span.parent_span_id)


def is_marked(span, name):
    return any(one.key == name and one.value.bool_value for one in span.attributes)
