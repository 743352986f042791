"""Log lines: one JSON object each, with what is being done, and no line forged by a name."""

import json
import logging
import re
import threading

import pytest
from django.urls import URLResolver
from structlog.contextvars import bound_contextvars, get_contextvars

from apps import spans
from apps.alerts.models import Alert
from apps.notify.domain import span_of_delivery
from apps.notify.models import Message
from apps.notify.services import create_channel, set_channels
from apps.pipeline import flow, tasks
from apps.pipeline.traces import span_of_evaluation
from apps.sources import services as sources
from fintech.celery import begin_log_facts, end_log_facts
from fintech.logs import json_lines, readable_lines
from fintech.urls import urlpatterns
from tests.builders import above, append_quotes, at, make_feed, make_owner, make_rule


class Lines(logging.Handler):
    """Keeps each line as it is written: in the thread that logs it."""

    def __init__(self):
        super().__init__()
        self.setFormatter(json_lines())
        self.found = []

    def emit(self, record):
        self.found.append(json.loads(self.format(record)))


@pytest.fixture
def lines():
    handler, root = Lines(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield handler.found
    root.removeHandler(handler)
    root.setLevel(level)


def test_a_line_is_one_object_whatever_is_in_it(lines):
    logging.getLogger("x").info("a\nb", extra={"name_of_feed": "c\n{}", "odd": object})

    (line,) = lines
    assert (line["message"], line["name_of_feed"], line["level"]) == ("a\nb", "c\n{}", "info")
    (spoken,) = readable_lines().format(logging.makeLogRecord({"msg": "a\nb", "name_of_feed": "c\n{}"})).splitlines()
    assert "a\\nb" in spoken
    assert "name_of_feed='c\\n{}'" in spoken
    assert "\n" not in json_lines().format(logging.makeLogRecord({"msg": "a\nb"}))


def test_facts_are_of_what_is_being_done_and_end_with_it(lines):
    log = logging.getLogger("x")
    with bound_contextvars(feed=1, trace_id="t"):
        with bound_contextvars(entry=5):
            log.info("inner", extra={"feed": 2})
        other = threading.Thread(target=lambda: log.info("elsewhere"))
        other.start()
        other.join()
        log.info("outer")
    log.info("after")

    of_each = [{key: line[key] for key in ("feed", "trace_id", "entry") if key in line} for line in lines]
    # A line's own facts go before those around it.
    assert of_each == [{"feed": 2, "trace_id": "t", "entry": 5}, {}, {"feed": 1, "trace_id": "t"}, {}]
    assert get_contextvars() == {}


@pytest.mark.django_db
def test_the_lines_of_a_request_have_its_id_and_so_has_the_answer(client, lines):
    answer = client.get("/nowhere")

    (line,) = [one for one in lines if one["logger"] == "django.request"]
    assert line["request_id"] == answer.headers["X-Request-ID"]
    assert len(line["request_id"]) == 16
    assert client.get("/healthz").headers["X-Request-ID"] != answer.headers["X-Request-ID"]
    assert get_contextvars() == {}


def fail(*args, **kwargs):
    raise RuntimeError("it failed")


# Whoever knows what stands in these places may act.
SECRET_PLACES = {"token", "uidb64"}
SECRET_ADDRESSES = [
    str(one.pattern)
    for one in urlpatterns
    if not isinstance(one, URLResolver) and SECRET_PLACES & one.pattern.converters.keys()
]


@pytest.mark.parametrize("debug", [True, False], ids=["debug", "production"])
@pytest.mark.parametrize("failing", [True, False], ids=["fails", "is-refused"])
def test_no_line_has_a_link_that_acts_or_what_stands_behind_a_question_mark(
    client, lines, settings, monkeypatch, failing, debug
):
    settings.DEBUG = debug
    assert {name for address in SECRET_ADDRESSES for name in re.findall(r"<(?:str:)?(\w+)>", address)} == SECRET_PLACES
    client.raise_request_exception = False
    if failing:
        monkeypatch.setattr("apps.site.views.message_of_link", fail)
        monkeypatch.setattr("django.contrib.auth.views.PasswordResetConfirmView.get_user", fail)
        monkeypatch.setattr("apps.site.views.render", fail)
    for address in (*SECRET_ADDRESSES, "nowhere/", "ingest/x", "accounts/login/"):
        filled = re.sub(r"<[^>]*>", "CANARY-1:x%2Fy", address)
        client.get(
            f"/{filled}?next=CANARY&a='CANARY%20\"CANARY", headers={"host": "testserver" if failing else "evil.lan"}
        )
    client.get("/nowhere?token=CANARY")
    log = logging.getLogger("x")
    log.info(
        "asked https://example.org/a?key=CANARY and went on", extra={"to": ["/x?CANARY"], "by": {"at": "/y?CANARY"}}
    )

    written = json.dumps(lines)
    assert [line for line in lines if "CANARY" in json.dumps(line)] == []
    assert "asked https://example.org/a?*** and went on" in written
    assert len(lines) > 5


@pytest.mark.django_db
def test_a_task_an_entry_and_its_trace_are_in_the_lines_of_their_work(lines, monkeypatch):
    feed = make_feed("A")
    make_rule(make_owner(), assets=["A"], condition=above(100))
    entry = append_quotes(feed, [("A", at(1), "90")])
    log = logging.getLogger("x")
    evaluate, fetch = flow.rules.evaluate, sources.fetch

    def evaluated(**columns):
        log.info("evaluating")
        return evaluate(**columns)

    def fetched(**columns):
        log.info("fetching")
        return fetch(**columns)

    monkeypatch.setattr(flow.rules, "evaluate", evaluated)
    monkeypatch.setattr(sources, "fetch", fetched)
    # As a worker does around each task; it also closes connections, which a test's transaction would not outlive.
    begin_log_facts(task_id="task-1", task=tasks.evaluate_rules)
    flow.evaluate_pending(feed_id=feed.pk)
    end_log_facts(task_id="task-1")
    tasks.fetch_quotes.run(feed.pk, at(2).isoformat(), "f" * 32)

    found = {line["message"]: line for line in lines}
    assert (found["evaluating"]["task"], found["evaluating"]["task_id"]) == ("pipeline.evaluate_rules", "task-1")
    assert (found["evaluating"]["feed"], found["evaluating"]["entry"]) == (feed.pk, entry.seq)
    assert found["evaluating"]["trace_id"] == entry.trace_id
    assert (found["fetching"]["trace_id"], found["fetching"]["feed"]) == ("f" * 32, feed.pk)
    assert get_contextvars() == {}


@pytest.mark.django_db
def test_an_entry_that_changes_alerts_says_which_in_a_line_with_its_span_where_spans_are_sent(lines, monkeypatch):
    monkeypatch.setenv(spans.ENDPOINT, "http://127.0.0.1:9")
    monkeypatch.setattr(spans, "record", lambda *arguments, **columns: None)
    feed = make_feed("A")
    make_rule(make_owner(), assets=["A"], condition=above(100))
    append_quotes(feed, [("A", at(1), "90")])
    entry = append_quotes(feed, [("A", at(2), "101")])
    flow.evaluate_pending(feed_id=feed.pk)

    (line,) = [one for one in lines if one["message"] == "alerts changed"]
    assert (line["alerts"], line["count"], line["entry"]) == ([Alert.objects.get().pk], 1, entry.seq)
    assert line["span_id"] == f"{span_of_evaluation(entry.trace_id, feed.pk, entry.seq):016x}"


@pytest.mark.django_db
def test_the_lines_of_a_delivery_have_the_trace_of_the_entry_and_the_alert(lines, monkeypatch):
    monkeypatch.setenv(spans.ENDPOINT, "http://127.0.0.1:9")
    monkeypatch.setattr(spans, "record", lambda *arguments, **columns: None)
    ada = make_owner()
    feed = make_feed("A")
    rule = make_rule(ada, assets=["A"], condition=above(100))
    channel = create_channel(owner=ada, name="Inbox", kind="inbox", config={})
    set_channels(rule=rule, channels=[channel])
    append_quotes(feed, [("A", at(1), "90")])
    entry = append_quotes(feed, [("A", at(2), "101")])
    flow.notify_channels(channel_ids=flow.evaluate_pending(feed_id=feed.pk))
    flow.deliver(channel_id=channel.pk)
    message = Message.objects.get()

    (line,) = [one for one in lines if one["message"] == "message tried"]
    assert (line["message_id"], line["attempt"], line["outcome"]) == (str(message.pk), 1, "delivered")
    assert (line["alerts"], line["trace_id"]) == ([Alert.objects.get().pk], entry.trace_id)
    assert line["span_id"] == f"{span_of_delivery(entry.trace_id, message.pk, 1):016x}"
    assert get_contextvars() == {}
