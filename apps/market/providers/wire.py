"""One call to a server that is not trusted: it ends in time, follows nothing, takes nothing from the environment."""

import logging
import math
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from threading import Lock
from typing import Any, TypeVar

import requests
from requests.adapters import HTTPAdapter

CONNECT_SECONDS = 3.0
RETRY_AFTER_LIMIT_SECONDS = 3600

# Below this level urllib3 logs whole addresses, and some servers want their key in the address.
logging.getLogger("urllib3").setLevel(logging.ERROR)

T = TypeVar("T")
# (host, port) -> a connection. Raises what is no OSError for what the caller shall see as it is.
Connect = Callable[[str, int], socket.socket]


class Wire:
    """The connection of one call, so that the waiting thread can cut it under the reading one."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._is_cut = False
        self._connection: socket.socket | None = None

    def watch(self, connection: socket.socket) -> socket.socket:
        """Return `connection`, now watched. Raises TimeoutError where the wire is cut already."""
        with self._lock:
            if self._is_cut:
                connection.close()
                raise TimeoutError
            # A duplicate, because TLS takes the descriptor away from the socket that it wraps.
            self._connection = connection.dup()
        return connection

    @property
    def is_cut(self) -> bool:
        """Whether nobody waits for this call any more."""
        return self._is_cut

    def cut(self) -> None:
        """End the connection, now or as soon as there is one."""
        with self._lock:
            self._is_cut = True
            if self._connection is not None:
                with suppress(OSError):
                    self._connection.shutdown(socket.SHUT_RDWR)
                self._connection.close()


class Session(requests.Session):
    """A session for one call, which takes no proxy, password or certificate from the environment.

    connect: what makes its connections; None is as usual. Host, certificate and server name stay those of the URL.
    """

    def __init__(self, *, wire: Wire, connect: Connect | None = None) -> None:
        super().__init__()
        self.trust_env = False
        self.mount("http://", _Adapter(wire=wire, connect=connect))
        self.mount("https://", _Adapter(wire=wire, connect=connect))

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Know no redirects: requests reads the body of one, without a limit, even where it does not follow it."""


class _Adapter(HTTPAdapter):
    def __init__(self, *, wire: Wire, connect: Connect | None) -> None:
        super().__init__(max_retries=0)
        self._wire = wire
        self._connect = connect

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        wire, connect = self._wire, self._connect

        class Watched(pool.ConnectionCls):  # type: ignore[misc]
            def _new_conn(self) -> socket.socket:
                return wire.watch(super()._new_conn() if connect is None else connect(self.host, self.port))

        pool.ConnectionCls = Watched
        return pool


def within(seconds: float, exchange: Callable[[Wire], T], *, name: str) -> T:
    """Return what `exchange` returns, or raise what it raises, or TimeoutError after so many seconds, whatever it does.

    It must connect by the wire, which is cut then; name: of its thread.
    """
    wire = Wire()
    # A thread, because a socket's timeout is per read and knows no name lookup, and signals are for the main thread.
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
    try:
        return executor.submit(exchange, wire).result(timeout=seconds)
    finally:
        wire.cut()
        executor.shutdown(wait=False)


def retry_after_seconds(value: str | None, *, now: datetime) -> int | None:
    """Return a Retry-After header (seconds or an HTTP date) cut to [1, 3600], or None where it cannot be read."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - now).total_seconds()
        except (ValueError, TypeError, OverflowError, IndexError):
            return None
    if math.isnan(seconds):
        return None
    return math.ceil(min(max(seconds, 1), RETRY_AFTER_LIMIT_SECONDS))
