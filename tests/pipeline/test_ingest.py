"""`manage.py ingest` on a real broker: nothing that was published is lost or doubled, and poison holds nobody up."""

import json
import os
import re
import signal
import subprocess
import sys
import zlib
from contextlib import contextmanager
from datetime import timedelta

import pytest
from celery import current_app
from django.conf import settings
from django.db import connection
from django.db.models import Sum
from django.utils import timezone

from apps.market import services as market
from apps.market.domain import RawQuote
from apps.market.models import Feed, FeedEntry, Quote
from apps.pipeline.queues import EXCHANGE, PUSHED
from apps.sources import services as sources
from apps.sources.services import Pushed
from tests.builders import TRACE, make_feed
from tests.forwarder import Forwarder
from tests.project.test_docs import ROOT, blocks
from tests.rig import dead_letters, queue_lengths, rig, wait_until

pytestmark = [pytest.mark.servers, pytest.mark.django_db(transaction=True)]

BEGIN = timezone.now().replace(microsecond=0) - timedelta(hours=1)


@pytest.fixture
def feed():
    return make_feed("A", "B", name="own", provider="push")


def ingest(processes, *, name="ingest", **environment):
    return processes.start("manage", "ingest", name=name, **environment)


def is_reading(processes, *, name="ingest"):
    return wait_until(lambda: "reading pushed quotes" in processes.log(name))


def message(*quotes, feed="own"):
    """Return a message with (symbol, seconds after BEGIN, price)."""
    rows = [
        {"symbol": symbol, "price": price, "at": (BEGIN + timedelta(seconds=seconds)).isoformat()}
        for symbol, seconds, price in quotes
    ]
    return json.dumps({"feed": feed, "quotes": rows})


def publish(*bodies, **properties):
    properties = {"content_type": "application/json", "content_encoding": "utf-8"} | properties
    with current_app.connection_for_write() as broker:
        producer = broker.Producer(exchange=EXCHANGE, routing_key=PUSHED)
        for body in bodies:
            producer.publish(body, delivery_mode="persistent", **properties)


def stored():
    """Return the stored quotes in the form that `message` takes."""
    rows = Quote.objects.values_list("asset__symbol", "at", "price")
    return sorted((symbol, (at - BEGIN).total_seconds(), f"{price.normalize():f}") for symbol, at, price in rows)


# What is published is stored


def test_what_is_published_as_documented_is_stored_and_evaluated(tmp_path):
    make_feed("BTC-USD", name="own-prices", provider="push")
    [example] = [block for block in blocks("docs/feeds.md", "python") if "kombu" in block]
    code = re.sub(r'"amqp://[^"]*"', repr(settings.CELERY_BROKER_URL), example)
    # Its time is one of the past, or of the future, wherever this test runs.
    code = re.sub(r'"at": "[^"]*"', f'"at": "{BEGIN.isoformat()}"', code)

    with rig(tmp_path) as processes:
        processes.worker("analysis.0")
        ingest(processes)
        is_reading(processes)
        exec(code, {})  # noqa: S102 (the document's own)
        wait_until(lambda: FeedEntry.objects.filter(evaluated_at__isnull=False).exists())

    assert stored() == [("BTC-USD", 0, "61230.5")]
    entry = FeedEntry.objects.get()
    assert (entry.accepted, entry.slot, entry.provider) == (1, None, "push")


def test_what_waited_becomes_one_entry_for_each_feed_in_order(tmp_path, feed):
    make_feed("X", name="other", provider="push")
    with rig(tmp_path) as processes:
        publish(
            message(("A", 1, "10")),
            message(("X", 1, "7"), feed="other"),
            message(("A", 2, "11"), ("B", 2, "20")),
            message(("A", 3, "12")),
        )
        wait_until(lambda: queue_lengths()[PUSHED] == 4)
        ingest(processes)
        wait_until(lambda: FeedEntry.objects.count() == 2)

    assert dict(FeedEntry.objects.values_list("feed__name", "accepted")) == {"own": 4, "other": 1}
    assert not FeedEntry.objects.exclude(late=0).exists()


def test_what_was_pushed_by_http_is_evaluated_with_the_next_tick(tmp_path, feed):
    with rig(tmp_path) as processes:
        processes.worker()
        processes.beat()
        # Nobody sends a message for it: a web process has no broker.
        now = timezone.now()
        entry = sources.record_pushed(
            feed_name="own", pushes=[Pushed(now, [RawQuote("A", "10")], "token:1")], now=now, trace_id=TRACE
        )
        wait_until(lambda: FeedEntry.objects.filter(pk=entry.pk, evaluated_at__isnull=False).exists())


# What goes wrong


def test_a_reader_killed_before_and_after_its_commit_loses_and_doubles_nothing(tmp_path, feed):
    make_feed("X", name="other", provider="push")
    expected, bodies = [], []
    for number in range(120):
        quotes = [(symbol, number * 10 + step, "10") for step in range(5) for symbol in ("A", "B")]
        if number % 3 == 0:
            quotes = [("X", number, "7")]
        expected += quotes
        bodies.append(message(*quotes, feed="other" if number % 3 == 0 else "own"))
    folder = tmp_path / "failpoints"
    folder.mkdir()
    places = ["push-before-commit", "push-after-commit"]

    with rig(tmp_path, FAILPOINTS_FOLDER=str(folder)) as processes:
        publish(*bodies)
        wait_until(lambda: queue_lengths()[PUSHED] == len(bodies))
        exits = []
        for place in places:
            (folder / f"{place}.armed").touch()
            exits.append(processes.start("tests.faults.dying_ingest", name=place).wait(timeout=60))
        last = processes.start("tests.faults.dying_ingest", name="last")
        wait_until(lambda: Quote.objects.count() == len(expected), timeout_seconds=60)
        wait_until(lambda: queue_lengths()[PUSHED] == 0)
        last.send_signal(signal.SIGTERM)
        exits.append(last.wait(timeout=30))
        left = queue_lengths()

    assert exits == [-signal.SIGKILL, -signal.SIGKILL, 0]
    assert stored() == sorted(expected)
    assert (left[PUSHED], left["dead-letters"]) == (0, 0)
    for numbers in (list(one.entries.order_by("seq").values_list("seq", flat=True)) for one in Feed.objects.all()):
        assert numbers == list(range(1, len(numbers) + 1))
    # What was committed and not acknowledged came again.
    assert FeedEntry.objects.aggregate(Sum("repeated"))["repeated__sum"] > 0


POISON = [
    b"",
    b"{",
    b"\xff\xfe",
    b"[" * 100_000,
    b"null",
    b"x" * 1_000_001,
    message(("A", 1, "NaN")).encode(),
    message(("A", 1, True)).encode(),
    message(("A", 1, "10"), feed="nobody").encode(),
    message(("A", 1, "10"), feed="own\0").encode(),
    message(("A", 1, "10"), feed="recording").encode(),
    message(("A", 1, "10"), feed="paused").encode(),
    message().encode(),
    json.dumps({"quotes": [{"symbol": "A", "price": 1}]}).encode(),
]


def test_what_can_never_be_taken_goes_to_the_dead_messages_and_holds_nobody_up(tmp_path, feed):
    make_feed("X", name="recording", provider="simulated")
    paused = make_feed("Y", name="paused", provider="push")
    market.pause_feeds([paused.pk])
    good = message(("A", 5, "10")).encode()
    packed = zlib.compress(message(("A", 7, "12")).encode())
    with rig(tmp_path) as processes:
        ingest(processes)
        is_reading(processes)
        publish(*POISON)
        publish(good, content_type="text/html")
        publish(good, content_type="application/x-python-serialize", content_encoding="binary")
        publish(good, content_encoding="unicode_escape")
        publish(b"\\ud800", content_encoding="unicode_escape")
        publish(good, headers={"compression": "application/x-gzip"})
        publish(packed, headers={"compression": "application/x-gzip"})
        publish(message(("A", 6, "11")))
        publish(message(("A", 8, "13")), content_type="text/plain")
        publish(message(("A", 9, "14")).encode("utf-8-sig"), content_type="application/octet-stream")
        wait_until(lambda: queue_lengths()["dead-letters"] == len(POISON) + 5)
        wait_until(lambda: Quote.objects.count() == 4)
        log = processes.log("ingest")
        dead = [message.body for message in dead_letters()]

    assert sorted(dead) == sorted([*POISON, good, good, good, packed, b"\xed\xa0\x80"])
    assert stored() == [("A", 5, "10"), ("A", 6, "11"), ("A", 8, "13"), ("A", 9, "14")]
    assert log.count('"why": "the body is compressed"') == 2
    assert '"why": "quotes[0].price: must be a number, or a text that is one"' in log
    assert log.count("pushed message refused") == len(dead)


@contextmanager
def no_database():
    """Let nobody in, and throw out who is, but for this test's own connection."""
    name = connection.settings_dict["NAME"]
    with connection.cursor() as own:
        own.execute("SELECT pg_backend_pid()")
        [pid] = own.fetchone()
    with connection._nodb_cursor() as cursor:
        cursor.execute(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS false')
        try:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> %s", [name, pid]
            )
            yield
        finally:
            cursor.execute(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS true')


def test_while_the_database_is_away_messages_wait(tmp_path, feed):
    with rig(tmp_path) as processes:
        ingest(processes)
        is_reading(processes)
        publish(message(("A", 1, "10")))
        wait_until(lambda: Quote.objects.count() == 1)
        with no_database():
            publish(message(("A", 2, "11")), message(("A", 3, "12")))
            # In hand, tried more often than a message may come back.
            wait_until(lambda: processes.log("ingest").count("pushed quotes not stored") > 6, timeout_seconds=40)
            meanwhile = queue_lengths()
            late = ingest(processes, name="late")
            wait_until(lambda: "database away" in processes.log("late"))
            late.send_signal(signal.SIGTERM)
            status = late.wait(timeout=30)
        wait_until(lambda: Quote.objects.count() == 3)
        left = queue_lengths()

    assert (meanwhile["dead-letters"], left["dead-letters"], left[PUSHED]) == (0, 0, 0)
    assert status == 0
    assert stored() == [("A", 1, "10"), ("A", 2, "11"), ("A", 3, "12")]


def test_a_broken_connection_to_the_broker_is_made_anew(tmp_path, feed):
    door = Forwarder(5672)
    door.open()
    url = settings.CELERY_BROKER_URL.replace(":5672/", f":{door.port}/")
    try:
        with rig(tmp_path) as processes:
            reader = ingest(processes, CELERY_BROKER_URL=url)
            is_reading(processes)
            for number in range(3):
                publish(message(("A", number, "10")))
                door.cut()
                wait_until(lambda: Quote.objects.count() == number + 1)  # noqa: B023 (it is asked at once)
            is_up = reader.poll() is None
    finally:
        door.close()

    assert is_up
    assert stored() == [("A", number, "10") for number in range(3)]


def test_a_message_that_breaks_the_entry_costs_no_other(tmp_path, feed):
    with rig(tmp_path) as processes:
        with connection.cursor() as cursor:
            cursor.execute(
                "CREATE FUNCTION refuse_13() RETURNS trigger LANGUAGE plpgsql AS "
                "'BEGIN IF NEW.price = 13 THEN RAISE EXCEPTION ''no 13''; END IF; RETURN NEW; END'"
            )
            cursor.execute(
                "CREATE TRIGGER refuse_13 BEFORE INSERT ON market_quote FOR EACH ROW EXECUTE FUNCTION refuse_13()"
            )
        try:
            bad = message(("A", 2, "13"))
            publish(message(("A", 1, "12")), bad, message(("A", 3, "14")))
            wait_until(lambda: queue_lengths()[PUSHED] == 3)
            ingest(processes)
            wait_until(lambda: queue_lengths()["dead-letters"] == 1)
            wait_until(lambda: Quote.objects.count() == 2)
            dead = [message.body for message in dead_letters()]
        finally:
            with connection.cursor() as cursor:
                cursor.execute("DROP FUNCTION refuse_13 CASCADE")

    assert dead == [bad.encode()]
    assert stored() == [("A", 1, "12"), ("A", 3, "14")]


# How it is stopped


def test_a_consumer_that_is_stopped_stores_the_messages_it_has_taken(tmp_path, feed):
    bodies = [message(("A", number, "10")) for number in range(300)]
    with rig(tmp_path) as processes:
        reader = ingest(processes)
        is_reading(processes)
        publish(*bodies)
        wait_until(Quote.objects.exists)
        reader.send_signal(signal.SIGTERM)
        status = reader.wait(timeout=30)
        acknowledged = len(bodies) - queue_lengths()[PUSHED]
        at_the_end = Quote.objects.count()
        ingest(processes, name="next")
        wait_until(lambda: Quote.objects.count() == len(bodies))

    assert status == 0
    assert acknowledged == at_the_end
    assert stored() == [("A", number, "10") for number in range(300)]


def test_who_waits_for_the_broker_stops_at_once(tmp_path):
    with rig(tmp_path) as processes:
        reader = ingest(processes, CELERY_BROKER_URL=f"amqp://a:b@127.0.0.1:{Forwarder(0).port}/x")
        wait_until(lambda: "broker away" in processes.log("ingest"))
        reader.send_signal(signal.SIGTERM)

        assert reader.wait(timeout=30) == 0


def test_without_a_broker_it_refuses_in_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "manage.py", "ingest"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "VAR_DIR": str(tmp_path), "CELERY_BROKER_URL": "memory://"},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "ingest: there is no queue without a broker; set CELERY_BROKER_URL to amqp://…\n"
