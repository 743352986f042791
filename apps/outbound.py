"""HTTP calls to servers that are not trusted, and the address checks that protect against SSRF.

A call ends in time, follows no redirect and takes nothing from the environment. Pure of Django: settings are arguments.
"""

import http
import http.client
import logging
import math
import re
import socket
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from threading import Lock
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

CONNECT_SECONDS = 3.0
ANNOUNCED_AT_MOST = 20
LINE_LONGEST = 65_537
# Python counts an answer with more than 100 headers as broken.
http.client._MAXHEADERS = 1_000  # type: ignore[attr-defined]
RETRY_AFTER_LIMIT_SECONDS = 3600

# Below this level urllib3 logs whole addresses, and some servers want their key in the address.
logging.getLogger("urllib3").setLevel(logging.ERROR)

T = TypeVar("T")
# (host, port) -> a connection. Errors that the caller is to see unchanged must not be OSErrors.
Connect = Callable[[str, int], socket.socket]


class Wire:
    """The connection of one call, so that the waiting thread can close it while another one reads."""

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


class _FinalResponse(http.client.HTTPResponse):
    """A response that reads on past 1xx, which announce another (RFC 9110, 15.2). Python knows of 100 alone."""

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(ANNOUNCED_AT_MOST):
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not 100 <= status < 200 or status == http.HTTPStatus.SWITCHING_PROTOCOLS:
                return version, status, reason
            while self.fp.readline(LINE_LONGEST) not in (b"\r\n", b"\n", b""):
                pass
        raise http.client.HTTPException("no final status")


class _Adapter(HTTPAdapter):
    def __init__(self, *, wire: Wire, connect: Connect | None) -> None:
        super().__init__(max_retries=0)
        self._wire = wire
        self._connect = connect

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        wire, connect = self._wire, self._connect

        class Watched(pool.ConnectionCls):  # type: ignore[misc]
            response_class = _FinalResponse

            def _new_conn(self) -> socket.socket:
                return wire.watch(super()._new_conn() if connect is None else connect(self.host, self.port))

        pool.ConnectionCls = Watched
        return pool


def within(seconds: float, exchange: Callable[[Wire], T], *, name: str) -> T:
    """Return what `exchange` returns, or raise what it raises, or TimeoutError after so many seconds, whatever it does.

    `exchange` must connect through the wire, which is cut at the end; name: the name of its thread.
    """
    wire = Wire()
    # A thread, because a socket's timeout is per read and knows no name lookup, and signals are for the main thread.
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
    try:
        return executor.submit(exchange, wire).result(timeout=seconds)
    finally:
        wire.cut()
        executor.shutdown(wait=False)


def retry_after_seconds(
    value: str | None, *, now: datetime, limit_seconds: int = RETRY_AFTER_LIMIT_SECONDS
) -> int | None:
    """Return a Retry-After header (seconds or an HTTP date) cut to [1, limit], or None where it cannot be read."""
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
    return math.ceil(min(max(seconds, 1), limit_seconds))


Address = IPv4Address | IPv6Address


# (network or host name in lower case, port or None for any)
Place = tuple[IPv4Network | IPv6Network | str, int | None]


# Ranges that ipaddress, or an older one, calls public although they stand for or lead to something else: protocol
# assignments, relays (6to4, Teredo, NAT64), site-local and IPv4-compatible addresses, segment routing.
_NOT_PUBLIC = (
    *map(IPv4Network, ["192.0.0.0/24", "192.88.99.0/24"]),
    *map(
        IPv6Network,
        ["64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "fec0::/10", "::/96", "5f00::/16"],
    ),
)


LOCAL_NAMES = (".localhost", ".internal")


_NAME = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?")


_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+")


@dataclass(frozen=True, slots=True)
class Target:
    """The destination of a URL, parsed as requests will parse it. host: in lower case, without a dot at its end;
    address: where the host is one, in any spelling."""

    scheme: str
    host: str
    port: int
    address: Address | None

    def is_at(self, places: Iterable[Place]) -> bool:
        """Return whether it is among the places, as far as can be said without a name lookup."""
        return is_named(self.host, self.port, places) or (
            self.address is not None and is_within(self.address, self.port, places)
        )


def target_of(url: str) -> Target:
    """Return the destination of a URL. Raises ValueError; its text completes "the URL …" and never quotes the URL."""
    if any(ord(mark) <= 32 or mark in '\x7f"<>\\^`{|}' for mark in url):
        raise ValueError("has a character that stands in no URL")
    if not url.lower().startswith(("https://", "http://")):
        raise ValueError("must begin with https:// or http://")
    try:
        # As requests will read it: two readers that differ are a way around every check.
        prepared = urlsplit(requests.Request("POST", url).prepare().url or "")
        host = (prepared.hostname or "").rstrip(".")
        port = prepared.port
    except ValueError:
        raise ValueError("cannot be read") from None
    if "@" in prepared.netloc:
        raise ValueError("must not carry a user or a password")
    if port is None:
        port = 443 if prepared.scheme == "https" else 80
    return Target(scheme=prepared.scheme, host=host, port=port, address=_address_of(host))


def _address_of(host: str) -> Address | None:
    """Return the address that a host is, None for a name. Raises ValueError for what is neither."""
    with suppress(ValueError, OSError):
        if ":" in host:
            return ip_address(host.partition("%")[0])
        if _NUMBER.fullmatch(host.rpartition(".")[2]):
            # Like the C library, which is asked in the end: 127.1, 0x7f.1 and 2130706433 are addresses too.
            return IPv4Address(socket.inet_aton(host))
        if _NAME.fullmatch(host):
            return None
    raise ValueError("has no host that could be reached")


def is_public_address(address: Address) -> bool:
    """Return whether it is one of the public internet. This is not the opposite of `is_private`."""
    address = getattr(address, "ipv4_mapped", None) or address
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not any(address in network for network in _NOT_PUBLIC)
    )


def is_named(host: str, port: int, places: Iterable[Place]) -> bool:
    """Return whether the host and port are among the places by name."""
    return any(place == host and allowed in (None, port) for place, allowed in places)


def is_within(address: Address, port: int, places: Iterable[Place]) -> bool:
    """Return whether the address and port are among the places by network."""
    address = getattr(address, "ipv4_mapped", None) or address
    return any(not isinstance(place, str) and address in place and allowed in (None, port) for place, allowed in places)
