"""A client of /graphql/stream as small as can be, and the process that answers it."""

import http.client
import json
import threading
from contextlib import contextmanager
from typing import NamedTuple

from django.db import transaction
from django.utils import timezone

from apps.api.live.application import PATH
from apps.api.live.server import LiveServer, listen
from apps.market.models import FeedEntry
from tests.builders import append_quotes
from tests.rig import wait_until

QUOTES = """subscription ($assets: [AssetId!]!, $after: String) {
  quoteUpdated(assets: $assets, after: $after) { cursor price }
}"""
ALERTS = "subscription ($after: String) { alertChanged(after: $after) { cursor event { kind } alert { summary } } }"
PATIENCE_SECONDS = 10


def append(feed, quotes):
    """Append an entry that came just now, whatever the feed's clock, and return it."""
    with transaction.atomic():
        entry = append_quotes(feed, quotes)
        FeedEntry.objects.filter(pk=entry.pk).update(received_at=timezone.now())
    return entry


class Event(NamedTuple):
    """An event of a stream; data: None where it has none."""

    name: str
    id: str
    data: object


class Follower:
    """One open stream."""

    def __init__(self, port, query, variables=None, *, headers, path=PATH, method="POST"):
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
        body = json.dumps({"query": query, "variables": variables or {}}) if method == "POST" else None
        usual = {"Accept": "text/event-stream"} | ({"Content-Type": "application/json"} if body else {})
        self._connection.request(method, path, body, usual | headers)
        self.response = self._connection.getresponse()

    def _lines(self):
        while (line := self.response.readline().decode().rstrip("\n")) != "":
            yield line

    def next(self):
        """Return the next event that is no heartbeat; None where the connection has ended."""
        while not self.response.isclosed():
            lines = [line.partition(":") for line in self._lines()]
            fields = {name: value.removeprefix(" ") for name, _, value in lines if name}
            if "event" in fields:
                data = fields.get("data")
                return Event(fields["event"], fields.get("id", ""), json.loads(data) if data else None)
        return None

    def data(self):
        """Return what the next event says of its field."""
        event = self.next()
        assert "data" in event.data, event.data
        [content] = event.data["data"].values()
        return content

    def close(self):
        """Leave."""
        self.response.close()
        self._connection.close()


class Service:
    """The process, as threads of this one."""

    def __init__(self, server, port):
        self.server, self.port = server, port
        self.followers = []

    @property
    def hub(self):
        return self.server.live.hub

    def follow(self, query, variables=None, *, token=None, headers=None, **more):
        """Open a stream, by a token, and return it."""
        given = (headers or {}) | ({"Authorization": f"Bearer {token}"} if token else {})
        self.followers.append(Follower(self.port, query, variables, headers=given, **more))
        return self.followers[-1]

    def opened(self):
        """Return how many streams are open."""
        return len(self.hub._streams())


@contextmanager
def running(**options):
    """Give the service, which ends with the context."""
    listener = listen(host="127.0.0.1", port=0)
    port = listener.getsockname()[1]
    server = LiveServer(**options)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    service = Service(server, port)
    try:
        assert wait_until(lambda: server.started and len(server.live.hub._places) == 2)
        yield service
    finally:
        server.should_exit = True
        for follower in service.followers:
            follower.close()
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()
