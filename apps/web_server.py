"""The web server: waitress, whose one loop reads requests and writes answers for all clients. A thread works on a
request that is here whole, so a slow client costs a connection and no thread; and health has threads of its own."""

import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.server import TcpWSGIServer
from waitress.task import ThreadedTaskDispatcher

CONNECTIONS_MOST = 500
# A request has to be here whole within so many seconds, and a connection on which nothing moves ends after as many.
REQUEST_SECONDS = 60
HEADER_LARGEST_BYTES = 64 * 1024
BODY_LARGEST_BYTES = 16_000_000
# An answer is taken from its thread whole, up to this size, however slowly it is fetched.
ANSWER_HELD_BYTES = 64_000_000
# Each has threads of its own: what waits for a hanging database keeps none from hearing that the process answers.
PROBES = (("/healthz", 1), ("/readyz", 1), ("/status", 1))


class _Dispatcher:
    """Gives probes to their own threads and everything else to the others."""

    def __init__(self, threads: int) -> None:
        self._others = _threads(threads)
        self._probes = {path: _threads(count) for path, count in PROBES}

    def add_task(self, channel: HTTPChannel) -> None:
        path = getattr(channel.requests[0], "path", "")
        self._probes.get(path, self._others).add_task(channel)

    def shutdown(self, cancel_pending: bool = True, timeout: int = 5) -> None:
        for one in (self._others, *self._probes.values()):
            one.shutdown(cancel_pending, timeout)


def _threads(count: int) -> ThreadedTaskDispatcher:
    dispatcher = ThreadedTaskDispatcher()
    dispatcher.set_thread_count(count)
    return dispatcher


class _Channel(HTTPChannel):
    """began_at: when the request began that is not here whole yet."""

    began_at = 0.0

    def received(self, data: bytes) -> bool:
        if self.request is None:
            self.began_at = time.time()
        return super().received(data)


class _Server(TcpWSGIServer):
    channel_class = _Channel

    def maintenance(self, now: float) -> None:
        """Close what is over its time. waitress counts from the last byte, which may be one of many that never end."""
        super().maintenance(now)
        for channel in self.active_channels.values():
            if channel.request is not None and channel.began_at < now - REQUEST_SECONDS:
                channel.will_close = True


class WebServer:
    """Serves `application` on sockets that listen, in the thread that calls `turn` again and again."""

    def __init__(self, application: Callable[..., Any], *, listeners: Sequence[socket.socket], threads: int) -> None:
        self._map: dict[int, Any] = {}
        self._dispatcher = _Dispatcher(threads)
        adjustments = Adjustments(
            sockets=list(listeners),
            connection_limit=CONNECTIONS_MOST,
            channel_timeout=REQUEST_SECONDS,
            cleanup_interval=5,
            max_request_header_size=HEADER_LARGEST_BYTES,
            max_request_body_size=BODY_LARGEST_BYTES,
            outbuf_high_watermark=ANSWER_HELD_BYTES,
            # Whether they are believed is a setting of the site's.
            clear_untrusted_proxy_headers=False,
            ident=None,
        )
        self._servers = [
            _Server(
                application,
                self._map,
                _sock=one,
                dispatcher=self._dispatcher,
                adj=adjustments,
                sockinfo=(one.family, one.type, one.proto, one.getsockname()),
                bind_socket=False,
            )
            for one in listeners
        ]

    @property
    def port(self) -> int:
        return int(self._servers[0].effective_port)

    def turn(self) -> None:
        """Read and write what can be read and written now, or within a second."""
        wasyncore.loop(timeout=1, map=self._map, use_poll=True, count=1)

    def close(self, *, within_seconds: float) -> None:
        """Take no further connections, answer what is here whole, and end."""
        for server in self._servers:
            server.accepting = False
        deadline = time.monotonic() + within_seconds
        while self._is_busy() and time.monotonic() < deadline:
            self.turn()
        self._dispatcher.shutdown()
        wasyncore.close_all(self._map)

    def _is_busy(self) -> bool:
        return any(
            channel.requests or channel.total_outbufs_len
            for server in self._servers
            for channel in server.active_channels.values()
        )
