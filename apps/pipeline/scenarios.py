"""Trouble made on purpose in a running system, each for a while, and undone at its end: to see what dashboards, alerts
and notifications make of it."""

import math
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

from celery import current_app
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from apps.market.models import Feed
from apps.notify.services import create_channel, send_test
from apps.pipeline import flow
from apps.pipeline.queues import ON_AMQP
from apps.sources.models import FeedSource

FLOOD_LARGEST = 10_000
CHANNEL = "Scenario: slow sink"
_ANSWERS_WITHIN_SECONDS = 3
_REPLACED_WITHIN_SECONDS = 30


class ScenarioRefused(ValueError):
    """A scenario cannot be played; the text is for people."""


@contextmanager
def scripted(kind: str, *, feed_name: str, seconds: int, percent: float | None = None) -> Iterator[datetime]:
    """Have an invented market crash and recover, or fail to answer, for so many seconds from its next slot on; gives
    the time at which that is over. kind: an event of its script, flash_crash or outage.

    At the end the event is taken out of the script. Where that comes sooner, an outage ends with it; a crash stays in
    the script and ends by itself, since without it the price would stay low.
    """
    with transaction.atomic():
        source = _simulated(feed_name)
        head = source.feed.head
        if head.began_at is None:
            raise ScenarioRefused(f"the feed {feed_name} has not begun: nothing was fetched of it yet")
        after = max(math.ceil((head.next_slot - head.began_at).total_seconds()), 1)
        event: dict[str, Any] = {"kind": kind, "after": f"{after}s", "duration": f"{seconds}s"}
        if percent is not None:
            event["percent"] = percent
        _write_script(source, [*source.options.get("script", []), event])
    ends_at = head.began_at + timedelta(seconds=after + seconds)
    try:
        yield ends_at
    finally:
        with transaction.atomic():
            source = _simulated(feed_name)
            script = list(source.options.get("script", []))
            clock = source.feed.head.as_of
            if event in script and (kind == "outage" or (clock is not None and clock >= ends_at)):
                script.remove(event)
                _write_script(source, script)


def _simulated(feed_name: str) -> FeedSource:
    """Return the feed's simulated source, locked until the caller's transaction ends."""
    if not Feed.objects.filter(name=feed_name).exists():
        raise ScenarioRefused(f"there is no feed {feed_name}")
    rows = FeedSource.objects.select_related("feed__head").select_for_update(of=("self",))
    source = rows.filter(feed__name=feed_name, provider="simulated").first()
    if source is None:
        raise ScenarioRefused(f"the feed {feed_name} has no simulated source; others are not told what to answer")
    return source


def _write_script(source: FeedSource, script: list[dict[str, Any]]) -> None:
    source.options = {**source.options, "script": script}
    try:
        source.clean()
    except ValidationError as error:
        raise ScenarioRefused(error.messages[0]) from None
    source.save(update_fields=["options"])


@contextmanager
def slow_sink(*, owner_name: str, delay_seconds: float, port: int) -> Iterator[int]:
    """Give an owner a channel whose receiver takes so long to answer, with a message to it; gives the receiver's port.
    At the end the channel is deleted, with its messages."""
    owner = get_user_model().objects.filter(username=owner_name, is_active=True).first()
    if owner is None:
        raise ScenarioRefused(f"there is no active user {owner_name}")
    is_over = Event()

    class Sink(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            is_over.wait(delay_seconds)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            """Write nothing: the command's lines are for people."""

    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), Sink)
    except OSError as error:
        raise ScenarioRefused(f"the port {port} cannot be listened on: {error.strerror}") from None
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    channel = None
    try:
        try:
            url = f"http://127.0.0.1:{server.server_port}/"
            channel = create_channel(owner=owner, name=CHANNEL, kind="webhook", config={"url": url})
        except ValidationError as error:
            raise ScenarioRefused(
                f"{error.messages[0]}: set OUTBOUND_ALLOW=127.0.0.1:{server.server_port} here and for the workers"
            ) from None
        send_test(channel=channel, asked_by="manage.py scenario", now=timezone.now())
        yield server.server_port
    finally:
        is_over.set()
        if channel is not None:
            channel.delete()
        server.shutdown()
        server.server_close()


def kill_child(worker: str) -> tuple[int, list[int]]:
    """Kill one child of a worker of this machine, and return its process id and those of the children that the worker
    has once it has replaced it. worker: its name, like notifier."""
    name, before = _children_of(worker)
    killed = before[0]
    if b"celery" not in Path(f"/proc/{killed}/cmdline").read_bytes():
        raise ScenarioRefused(f"the process {killed} of {name} is no worker of this machine")
    os.kill(killed, signal.SIGKILL)
    until = time.monotonic() + _REPLACED_WITHIN_SECONDS
    while time.monotonic() < until:
        _, children = _children_of(worker)
        if killed not in children and len(children) == len(before):
            return killed, children
    raise ScenarioRefused(f"{name} has not replaced the process {killed} within {_REPLACED_WITHIN_SECONDS} s")


def _children_of(worker: str) -> tuple[str, list[int]]:
    if not ON_AMQP:
        raise ScenarioRefused("the embedded run has one process and no children")
    known = current_app.control.inspect(timeout=_ANSWERS_WITHIN_SECONDS).stats() or {}
    host = socket.gethostname()
    found = [name for name in sorted(known) if name == f"{worker}@{host}"]
    if not found:
        running = ", ".join(sorted(known)) or "none"
        raise ScenarioRefused(f"no worker {worker}@{host} answers; those that do: {running}")
    return found[0], list(known[found[0]]["pool"]["processes"])


def flood(*, feed_name: str, count: int) -> None:
    """Send so many tasks that evaluate a feed, at once: each finds nothing to do, and all wait in one queue."""
    feed = Feed.objects.filter(name=feed_name).first()
    if feed is None:
        raise ScenarioRefused(f"there is no feed {feed_name}")
    for _ in range(count):
        flow.evaluate_soon(feed_id=feed.pk)
