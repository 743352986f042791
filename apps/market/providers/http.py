"""JSON over HTTP from a server that is not trusted: bounded in time and size, and silent about addresses and keys."""

import json
import logging
import math
import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from email.utils import parsedate_to_datetime
from threading import Lock
from typing import Any, NoReturn
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from apps.market.providers.protocol import ProviderMisconfigured, ProviderRejected, ProviderUnavailable

CONNECT_SECONDS = 3.0
CHUNK_BYTES = 16_384
RETRY_AFTER_LIMIT_SECONDS = 3600
# One answer, however many calls it takes.
ANSWER_SECONDS = 10.0
ANSWER_LIMIT_BYTES = 2_000_000

# Below this level urllib3 logs whole addresses, and some providers want their key in the address.
logging.getLogger("urllib3").setLevel(logging.ERROR)


def get_json(
    *,
    url: str,
    headers: Mapping[str, str] | None = None,
    params: Mapping[str, str | int] | None = None,
    deadline_seconds: float = 10.0,
    limit_bytes: int | None = None,
) -> Any:
    """Return the JSON object or list at `url`, its floats as Decimal.

    deadline_seconds: for everything, name lookup included; limit_bytes: of the body, decompressed; None is what the
    environment says.
    Raises ProviderUnavailable: timeout, connection, redirect, rate_limited, http_5xx, too_large, bad_payload;
    ProviderRejected: unauthorized, http_4xx, bad_request (an address or header that cannot be sent).
    """
    wire = _Wire()
    failure: ProviderUnavailable | ProviderRejected
    # A thread, because a socket's timeout is per read and knows no name lookup, and signals are for the main thread.
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="get_json")
    try:
        body = executor.submit(
            _exchange,
            wire=wire,
            url=url,
            headers=headers,
            params=params,
            read_seconds=deadline_seconds + 1,
            limit_bytes=answer_limit_bytes() if limit_bytes is None else limit_bytes,
        )
        return _json_of(body.result(timeout=deadline_seconds))
    except TimeoutError:
        failure = ProviderUnavailable("timeout")
    except requests.exceptions.ContentDecodingError:
        failure = ProviderUnavailable("bad_payload")
    except ValueError:
        failure = ProviderRejected("bad_request")
    except (OSError, HTTPError):
        failure = ProviderUnavailable("connection")
    finally:
        wire.cut()
        executor.shutdown(wait=False)
    # Raised out here: in a handler above it would carry the first error, and so the address, as its context.
    raise failure


class _Wire:
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

    def cut(self) -> None:
        """End the connection, now or as soon as there is one."""
        with self._lock:
            self._is_cut = True
            if self._connection is not None:
                with suppress(OSError):
                    self._connection.shutdown(socket.SHUT_RDWR)
                self._connection.close()


class _Adapter(HTTPAdapter):
    def __init__(self, *, wire: _Wire) -> None:
        super().__init__(max_retries=0)
        self._wire = wire

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        wire = self._wire

        class Watched(pool.ConnectionCls):  # type: ignore[misc]
            def _new_conn(self) -> socket.socket:
                return wire.watch(super()._new_conn())

        pool.ConnectionCls = Watched
        return pool


class _Session(requests.Session):
    """A session for one call, which takes no proxy, password or certificate from the environment."""

    def __init__(self, *, wire: _Wire) -> None:
        super().__init__()
        self.trust_env = False
        self.mount("http://", _Adapter(wire=wire))
        self.mount("https://", _Adapter(wire=wire))

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Know no redirects: requests reads the body of one, without a limit, even where it does not follow it."""


def _exchange(
    *,
    wire: _Wire,
    url: str,
    headers: Mapping[str, str] | None,
    params: Mapping[str, str | int] | None,
    read_seconds: float,
    limit_bytes: int,
) -> bytes:
    """Return the decompressed body of a good answer."""
    with (
        _Session(wire=wire) as session,
        session.get(
            url,
            headers=headers,
            params=params,
            stream=True,
            allow_redirects=False,
            timeout=(CONNECT_SECONDS, read_seconds),
        ) as response,
    ):
        _refuse_unless_json(response)
        body = bytearray()
        for part in response.iter_content(CHUNK_BYTES):
            body += part
            if len(body) > limit_bytes:
                raise ProviderUnavailable("too_large")
        return bytes(body)


def _refuse_unless_json(response: requests.Response) -> None:
    status = response.status_code
    if status in (401, 403):
        raise ProviderRejected("unauthorized")
    if status == 429 or status >= 500:
        raise ProviderUnavailable(
            "rate_limited" if status == 429 else f"http_{status}",
            retry_after_seconds=_retry_after_seconds(response.headers.get("Retry-After")),
        )
    if status >= 400:
        raise ProviderRejected(f"http_{status}")
    if status >= 300:
        raise ProviderUnavailable("redirect")
    if "json" not in response.headers.get("Content-Type", "json").lower():
        raise ProviderUnavailable("bad_payload")


def _json_of(body: bytes) -> dict[str, Any] | list[Any]:
    try:
        value = json.loads(body.decode(), parse_float=Decimal, parse_constant=_refuse_constant)
    except (ValueError, InvalidOperation, RecursionError):
        value = None
    if not isinstance(value, dict | list):
        raise ProviderUnavailable("bad_payload")
    return value


def _refuse_constant(name: str) -> NoReturn:
    """Refuse NaN and Infinity, which are no JSON."""
    raise ValueError(name)


def _retry_after_seconds(value: str | None) -> int | None:
    """Return a Retry-After header (seconds or an HTTP date) cut to [1, 3600], or None where it cannot be read."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - now()).total_seconds()
        except (ValueError, TypeError, OverflowError, IndexError):
            return None
    if math.isnan(seconds):
        return None
    return math.ceil(min(max(seconds, 1), RETRY_AFTER_LIMIT_SECONDS))


def answer_limit_bytes() -> int:
    """Return PROVIDER_ANSWER_LIMIT_BYTES or its default. The settings have refused what is no such number."""
    return int(os.environ.get("PROVIDER_ANSWER_LIMIT_BYTES", "").strip() or ANSWER_LIMIT_BYTES)


def now() -> datetime:
    """Return the clock of this machine, aware UTC: when an answer was received."""
    return datetime.now(UTC)


def time_left() -> Callable[[], float]:
    """Return a function that says how many seconds of ANSWER_SECONDS are left, counted from here."""
    ends_at = time.monotonic() + ANSWER_SECONDS
    return lambda: ends_at - time.monotonic()


def read_base_url(options: Mapping[str, Any], *, default: str) -> str:
    """Return the option base_url without a slash at its end. Raises ProviderMisconfigured."""
    value = options.get("base_url", default)
    if not _is_base_url(value):
        raise ProviderMisconfigured("base_url must be an http or https address without user, query or fragment")
    return value.rstrip("/")


def refuse_unknown_options(options: Mapping[str, Any], known: Iterable[str], *, slug: str) -> None:
    """Raise ProviderMisconfigured for the first option that is not known, by its name."""
    unknown = sorted(options.keys() - set(known))
    if unknown:
        raise ProviderMisconfigured(f"{slug} knows no option {unknown[0]!r}; it knows {', '.join(sorted(known))}")


def _is_base_url(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not any(mark in value for mark in "@?#")
