"""Receivers of webhooks: one server, a path for each channel, and the requests that came, with their times."""

import json
import socket
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of a receiver. status None: it resets the connection; waits_for: an event that it waits for first."""

    status: int | None = 200
    headers: tuple[tuple[str, str], ...] = ()
    waits_for: threading.Event | None = None


OK = Answer()
# How long a receiver takes for each request: long enough that one is always under way.
WORK_SECONDS = 0.02


@dataclass(slots=True)
class ReceivedRequest:
    """A request that was received. at: when, in seconds of the monotonic clock; answer: what it is answered with."""

    channel: str
    message_id: str
    body: bytes
    answer: Answer
    at: float = field(default_factory=time.monotonic)

    @property
    def is_taken(self) -> bool:
        return self.answer.status is not None and 200 <= self.answer.status < 300

    @property
    def events(self) -> list[tuple[int, str]]:
        """Return (alert id, event) of each of its items, in order."""
        return [(one["alert_id"], one["event"]) for one in json.loads(self.body)["data"]["events"]]


class Asked(NamedTuple):
    """What an answer is chosen by. request: its number on its channel; repeat: its number among those with its id."""

    message_id: str
    request: int
    repeat: int


Behaviour = Callable[[Asked], Answer]


class Receiver:
    """It listens from `open` on; `port` is reserved before that too. defaults: channel -> behaviour, else OK."""

    def __init__(self) -> None:
        self.defaults: dict[str, Behaviour] = {}
        self.requests: list[ReceivedRequest] = []
        self._lock = threading.Lock()
        self._times: dict[str, int] = defaultdict(int)
        self._server: ThreadingHTTPServer | None = None
        self._kept = socket.socket()
        # Bound and not listening: who connects is refused, and nobody else gets the port.
        self._kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._kept.bind(("127.0.0.1", 0))
        self.port: int = self._kept.getsockname()[1]

    def url(self, channel: str) -> str:
        return f"http://127.0.0.1:{self.port}/{channel}"

    def count(self, message_id: str) -> int:
        """Return how many requests there were with this id."""
        return sum(one.message_id == message_id for one in list(self.requests))

    def open(self) -> None:
        self._kept.close()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                answer = receiver._take(self.path.strip("/"), self.headers["webhook-id"], body)
                time.sleep(WORK_SECONDS)
                if answer.waits_for is not None:
                    answer.waits_for.wait(120)
                if answer.status is None:
                    # Linger of 0: closing resets the connection.
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.connection.close()
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                for name, value in (*answer.headers, ("Content-Length", "0")):
                    self.send_header(name, value)
                self.end_headers()

            def do_GET(self) -> None:
                receiver._take(self.path.strip("/"), "", b"")
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_: Any) -> None:
                """Say nothing: senders are killed here in the middle of a request."""

        self._server = Server(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._kept.close()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def _take(self, channel: str, message_id: str, body: bytes) -> Answer:
        with self._lock:
            self._times[channel] += 1
            self._times[message_id] += 1
            behaviour = self.defaults.get(channel, lambda asked: OK)
            answer = behaviour(Asked(message_id, self._times[channel], self._times[message_id]))
            self.requests.append(ReceivedRequest(channel, message_id, body, answer))
            return answer
