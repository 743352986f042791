"""The server of the streams."""

import logging
import socket
from typing import Any

import uvicorn

from apps.api.live.application import Live
from apps.api.live.hub import STREAMS_LARGEST

# A client that accepts no data for so long is gone.
_SILENT_CLIENT_MILLISECONDS = 30_000
_END_WITHIN_SECONDS = 10


def listen(*, host: str, port: int) -> socket.socket:
    """Return a socket that listens there; port 0 takes a free one. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=1024)
    # Connections that are accepted have it too.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENT_CLIENT_MILLISECONDS)
    return listener


class LiveServer(uvicorn.Server):
    """uvicorn, which cuts the streams first when it stops: they would never end by themselves."""

    def __init__(self, *, streams_largest: int = STREAMS_LARGEST) -> None:
        self.live = Live(streams_largest=streams_largest)
        # It writes of a stream whose last bytes nobody took as of an error.
        logging.getLogger("uvicorn.error").addFilter(_is_no_cut_stream)
        for name in ("uvicorn.error", "uvicorn.access"):
            logging.getLogger(name).setLevel(logging.WARNING)
        config: dict[str, Any] = {"http": "h11", "loop": "asyncio", "ws": "none", "lifespan": "on"}
        super().__init__(
            uvicorn.Config(
                self.live,
                **config,
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                # Those who ask and are refused, besides.
                limit_concurrency=streams_largest + 200,
                timeout_graceful_shutdown=_END_WITHIN_SECONDS,
            )
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Cut all streams, and stop."""
        self.live.hub.cut_all()
        await super().shutdown(sockets)


def _is_no_cut_stream(record: logging.LogRecord) -> bool:
    return "without completing response" not in record.getMessage()
