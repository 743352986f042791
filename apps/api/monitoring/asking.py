"""HTTP calls to Prometheus and Loki: bounded in time and size, with errors that clients can be shown."""

import logging
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Any, NamedTuple

import requests
from urllib3.exceptions import HTTPError

from apps.outbound import CONNECT_SECONDS, Session, Wire, within
from apps.strict_json import NotJson, read_json

logger = logging.getLogger(__name__)

# For all calls of one GraphQL request together, which keeps a thread and a database connection meanwhile.
SECONDS_ALLOWED = 5.0
ANSWER_LARGEST_BYTES = 4_000_000
RANGE_DEFAULT = timedelta(hours=1)
_CHUNK_BYTES = 65_536
_MESSAGE_LONGEST = 300
# The statuses by which both servers refuse a query that takes too long.
_TOO_SLOW = (503, 504)


class Code(StrEnum):
    """Why there is no answer; docs/api.md says what each means."""

    FORBIDDEN = "forbidden"
    INVALID = "invalid"
    LIMIT_EXCEEDED = "limit_exceeded"
    NOT_CONFIGURED = "not_configured"
    TIMEOUT = "timeout"
    UNAVAILABLE = "unavailable"


class NoAnswer(Exception):
    """There is no answer, for a reason that the client can be shown."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Allowance:
    """The time that the calls of one request may take together. It begins with the first call."""

    def __init__(self) -> None:
        self._ends_at: float | None = None

    def left_seconds(self) -> float:
        """Return the seconds that are left; 0 or less: none."""
        now = time.monotonic()
        if self._ends_at is None:
            self._ends_at = now + SECONDS_ALLOWED
        return self._ends_at - now


class Span(NamedTuple):
    """From when until when is asked for."""

    since: datetime
    until: datetime

    @property
    def seconds(self) -> float:
        return (self.until - self.since).total_seconds()


class Server(NamedTuple):
    """A server that is asked. url: empty where there is none; setting: the variable that has it."""

    name: str
    url: str
    setting: str


def span_of(
    since: datetime | None,
    until: datetime | None,
    *,
    now: datetime,
    longest: timedelta,
    default: timedelta = RANGE_DEFAULT,
) -> Span:
    """Return the span that is asked for; without `since`, the default one up to `until`, or now. Raises NoAnswer."""
    until = now if until is None else until
    try:
        span = Span(until - default if since is None else since, until)
    except OverflowError:
        raise NoAnswer(Code.INVALID, "range.until is too early.") from None
    if span.since >= span.until:
        raise NoAnswer(Code.INVALID, "range.since must be before range.until.")
    if span.until - span.since > longest:
        raise NoAnswer(Code.LIMIT_EXCEEDED, f"The range is longer than {longest.days} days: ask for a shorter one.")
    return span


def ask(server: Server, path: str, params: Mapping[str, Any], *, allowance: Allowance) -> Any:
    """Return the `data` of what a server answers to a GET. Raises NoAnswer."""
    if not server.url:
        raise NoAnswer(
            Code.NOT_CONFIGURED, f"{server.name} is not set up for this site: {server.setting} has no address."
        )
    seconds = allowance.left_seconds()
    if seconds <= 0:
        raise _too_slow(server)
    failure: NoAnswer
    try:
        exchange = partial(_exchange, url=f"{server.url.rstrip('/')}{path}", params=params, seconds=seconds)
        status, content = within(seconds, exchange, name="monitoring")
        return _data_of(server, status, content)
    except NoAnswer as error:
        failure = error
    except TimeoutError:
        failure = _too_slow(server)
    except (OSError, HTTPError, ValueError):
        # ValueError: an address that cannot be sent.
        failure = NoAnswer(Code.UNAVAILABLE, f"{server.name} cannot be reached. Try again later.")
    if failure.code in (Code.UNAVAILABLE, Code.TIMEOUT):
        logger.warning("monitoring not answered", extra={"server": server.name, "reason": failure.code.value})
    # Raised out here: in a handler above it would carry the address as its context.
    raise failure


def strange_answer(server: Server) -> NoAnswer:
    """Return what is raised for an answer of another form than is documented."""
    return NoAnswer(Code.UNAVAILABLE, f"{server.name} answers in a form that is not known here.")


def _too_slow(server: Server) -> NoAnswer:
    text = f"{server.name} did not answer within {SECONDS_ALLOWED:.0f} s: ask for a shorter range, or for less at once."
    return NoAnswer(Code.TIMEOUT, text)


def _exchange(wire: Wire, *, url: str, params: Mapping[str, Any], seconds: float) -> tuple[int, bytes]:
    """Return status and decompressed body."""
    asked = {"params": params, "stream": True, "allow_redirects": False, "timeout": (CONNECT_SECONDS, seconds + 1)}
    with Session(wire=wire) as session, session.get(url, **asked) as response:
        body = bytearray()
        for part in response.iter_content(_CHUNK_BYTES):
            body += part
            if len(body) > ANSWER_LARGEST_BYTES:
                text = f"The answer is larger than {ANSWER_LARGEST_BYTES} bytes: ask for a shorter range, or for less."
                raise NoAnswer(Code.LIMIT_EXCEEDED, text)
        return response.status_code, bytes(body)


def _data_of(server: Server, status: int, content: bytes) -> Any:
    try:
        answer = read_json(content)
    except NotJson:
        answer = None
    if status == requests.codes.ok:
        if not isinstance(answer, dict) or answer.get("status") != "success" or "data" not in answer:
            raise strange_answer(server)
        return answer["data"]
    said = answer.get("error") if isinstance(answer, dict) else None
    if status in (400, 422):
        # Prometheus says it in JSON, Loki as text.
        text = said if isinstance(said, str) else content.decode(errors="replace")
        raise NoAnswer(Code.INVALID, f"{server.name} refuses the query: {_shortened(text)}")
    if status in _TOO_SLOW and isinstance(answer, dict) and answer.get("errorType") in ("timeout", "canceled"):
        raise _too_slow(server)
    raise NoAnswer(Code.UNAVAILABLE, f"{server.name} answers with the status {status}. Try again later.")


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _MESSAGE_LONGEST else f"{text[: _MESSAGE_LONGEST - 1]}…"
