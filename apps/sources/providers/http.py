"""JSON over HTTP from a server that is not trusted: bounded in time and size, and silent about addresses and keys."""

import os
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from math import ceil
from typing import Any
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError

from apps import spans
from apps.outbound import CONNECT_SECONDS, Session, Wire, retry_after_seconds, within
from apps.sources.providers.protocol import ProviderMisconfigured, ProviderRejected, ProviderUnavailable
from apps.strict_json import UNTYPED, NotJson, read_json

CHUNK_BYTES = 16_384
# One answer, however many calls it takes.
ANSWER_SECONDS = 10.0
ANSWER_LIMIT_BYTES = 2_000_000
# A ban is obeyed for as long as the provider says, and no longer than this.
BAN_LIMIT_SECONDS = 7 * 86_400

_UNTIL = re.compile(
    r"\buntil\W{1,3}(\d{13}\b|\d{10}\b|\d{4}-\d\d-\d\d[T ][\d:.]{5,15}(?:Z|[+-]\d\d:?\d\d))", re.IGNORECASE
)
_WAIT = re.compile(r"\b(?:for|in|after)\s{1,3}(\d{1,7})\s{0,3}(seconds?|minutes?|hours?|days?)\b", re.IGNORECASE)
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def get_json(
    *,
    url: str,
    headers: Mapping[str, str] | None = None,
    params: Mapping[str, str | int] | None = None,
    deadline_seconds: float = 10.0,
    limit_bytes: int | None = None,
    ban_status: int | None = None,
) -> Any:
    """Return the JSON object or list at `url`, its floats as Decimal.

    deadline_seconds: for everything, name lookup included; limit_bytes: of the body, decompressed; None is what the
    environment says; ban_status: one that says rate_limited too, beside 429.
    Raises ProviderUnavailable: timeout, connection, redirect, rate_limited, http_5xx, too_large, bad_payload;
    ProviderRejected: unauthorized, http_4xx, bad_request (an address or header that cannot be sent).
    """
    failure: ProviderUnavailable | ProviderRejected
    exchange = partial(
        _exchange,
        url=url,
        headers=headers,
        params=params,
        read_seconds=deadline_seconds + 1,
        limit_bytes=answer_limit_bytes() if limit_bytes is None else limit_bytes,
        ban_status=ban_status,
    )
    try:
        # The host alone: some providers want their key in the address.
        with spans.step("GET", **{"server.address": urlsplit(url).hostname}):
            return _json_of(within(deadline_seconds, exchange, name="get_json"))
    except TimeoutError:
        failure = ProviderUnavailable("timeout")
    except requests.exceptions.ContentDecodingError:
        failure = ProviderUnavailable("bad_payload")
    except ValueError:
        failure = ProviderRejected("bad_request")
    except (OSError, HTTPError):
        failure = ProviderUnavailable("connection")
    # Raised out here: in a handler above it would carry the first error, and so the address, as its context.
    raise failure


def _exchange(
    wire: Wire,
    *,
    url: str,
    headers: Mapping[str, str] | None,
    params: Mapping[str, str | int] | None,
    read_seconds: float,
    limit_bytes: int,
    ban_status: int | None,
) -> bytes:
    """Return the decompressed body of a good answer."""
    with (
        Session(wire=wire) as session,
        session.get(
            url,
            headers=headers,
            params=params,
            stream=True,
            allow_redirects=False,
            timeout=(CONNECT_SECONDS, read_seconds),
        ) as response,
    ):
        _refuse_unless_json(response, ban_status=ban_status)
        body = bytearray()
        for part in response.iter_content(CHUNK_BYTES):
            body += part
            if len(body) > limit_bytes:
                raise ProviderUnavailable("too_large")
        return bytes(body)


def _refuse_unless_json(response: requests.Response, *, ban_status: int | None) -> None:
    status = response.status_code
    if status in (401, 403):
        raise ProviderRejected("unauthorized")
    retry_after = response.headers.get("Retry-After")
    if status in (429, ban_status):
        said = [
            retry_after_seconds(retry_after, now=now(), limit_seconds=BAN_LIMIT_SECONDS),
            wait_said_in(_beginning_of(response), now=now()),
        ]
        seconds = max((one for one in said if one is not None), default=None)
        raise ProviderUnavailable("rate_limited", retry_after_seconds=seconds)
    if status >= 500:
        raise ProviderUnavailable(f"http_{status}", retry_after_seconds=retry_after_seconds(retry_after, now=now()))
    if status >= 400:
        raise ProviderRejected(f"http_{status}")
    if status >= 300:
        raise ProviderUnavailable("redirect")
    content_type = response.headers.get("Content-Type", "json").lower()
    if "json" not in content_type and content_type.partition(";")[0].strip() not in UNTYPED:
        raise ProviderUnavailable("bad_payload")


def _beginning_of(response: requests.Response) -> str:
    """Return the beginning of a body, or "" where it cannot be read: what the status says holds without it."""
    with suppress(OSError, HTTPError):
        return next(response.iter_content(CHUNK_BYTES), b"").decode(errors="replace")
    return ""


def wait_said_in(text: str, *, now: datetime) -> int | None:
    """Return for how many seconds a text says not to ask, cut to [1, 7 days]; None where it names no time.

    "until" an epoch in seconds or milliseconds, or ISO 8601 with zone; "for", "in" or "after" some seconds, minutes,
    hours or days. Of several the longest.
    """
    waits = [float(count) * _UNIT_SECONDS[unit[0].lower()] for count, unit in _WAIT.findall(text)]
    for moment in _UNTIL.findall(text):
        if moment.isdecimal():
            waits.append(int(moment) / (1_000 if len(moment) == 13 else 1) - now.timestamp())
            continue
        with suppress(ValueError):
            at = datetime.fromisoformat(moment)
            waits += [] if at.tzinfo is None else [(at - now).total_seconds()]
    return ceil(min(max(*waits, 1), BAN_LIMIT_SECONDS)) if waits else None


def _json_of(body: bytes) -> dict[str, Any] | list[Any]:
    try:
        value = read_json(body, exact=True, with_nan=True)
    except NotJson:
        value = None
    if not isinstance(value, dict | list):
        raise ProviderUnavailable("bad_payload")
    return value


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


def check_base_url(value: str) -> None:
    """Raise ProviderMisconfigured for what is no address of an API."""
    if not _is_base_url(value):
        raise ProviderMisconfigured("base_url must be an http or https address without user, query or fragment")


def _is_base_url(value: str) -> bool:
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not any(mark in value for mark in "@?#")
