"""POST to an address that a user has given: to the public internet, or where OUTBOUND_ALLOW says, and nowhere else."""

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from http import HTTPStatus
from ipaddress import ip_address

import requests
from django.conf import settings
from urllib3.exceptions import HTTPError

from apps.notify.transports.protocol import (
    ANSWER_KEPT,
    SEND_SECONDS,
    ChannelRefused,
    Receipt,
    RefusedForNow,
    TooLarge,
    TransportFailure,
    TransportRejected,
    TransportUnavailable,
)
from apps.outbound import (
    CONNECT_SECONDS,
    LOCAL_NAMES,
    Place,
    Session,
    Wire,
    is_named,
    is_public_address,
    is_within,
    retry_after_seconds,
    target_of,
    within,
)

ANSWER_LIMIT_BYTES = 65_536
CHUNK_BYTES = 8_192
REFUSED_AFTER = timedelta(minutes=30)


@dataclass(slots=True)
class Answer:
    """A server's answer. text: at most ANSWER_LIMIT_BYTES of its body, without the texts of `hide`."""

    host: str
    status: int
    headers: Mapping[str, str]
    text: str


def why_not(url: str, *, allow: Sequence[Place] = ()) -> str:
    """Return why nothing may be sent to the URL, to go on from "the URL"; "" where it may. No name is looked up.

    allow: places that are allowed besides those of OUTBOUND_ALLOW.
    """
    try:
        target = target_of(url)
    except ValueError as error:
        return str(error)
    places = [*settings.OUTBOUND_ALLOW, *allow]
    if target.is_at(places):
        return ""
    if target.address is not None:
        is_public = is_public_address(target.address)
    else:
        is_public = "." in target.host and not target.host.endswith(LOCAL_NAMES)
    if not is_public:
        return f"leads to {target.host}, which is not on the public internet; OUTBOUND_ALLOW can allow it"
    # A name may turn out to lead to an allowed network, with its ports: then that is seen when it is sent to.
    may_turn_out = target.address is None and any(
        not isinstance(place, str) and port in (None, target.port) for place, port in places
    )
    if target.port not in settings.OUTBOUND_PORTS and not may_turn_out:
        return f"leads to port {target.port}, which is not among OUTBOUND_PORTS"
    return ""


def post(
    url: str,
    *,
    body: bytes,
    headers: Mapping[str, str],
    allow: Sequence[Place] = (),
    hide: Sequence[str] = (),
    deadline_seconds: float = SEND_SECONDS,
) -> Answer:
    """Return the server's answer, which may be an error too: see `receipt_of`.

    allow: places that are allowed besides those of OUTBOUND_ALLOW; hide: texts to remove from the answer. Raises
    ChannelRefused: forbidden_address; TransportUnavailable: timeout, name_lookup, tls, connection. Of the URL, neither
    names more than its host. An answer that breaks off after its status is an answer.
    """
    if why := why_not(url, allow=allow):
        raise ChannelRefused("forbidden_address", f"the URL {why}")
    host = target_of(url).host
    came = _Came()
    failure: TransportFailure
    exchange = partial(
        _exchange,
        came=came,
        url=url,
        body=body,
        headers=headers,
        places=[*settings.OUTBOUND_ALLOW, *allow],
        read_seconds=deadline_seconds + 1,
    )
    try:
        within(deadline_seconds, exchange, name="outbound")
    except TransportFailure as error:
        failure = error
    except TimeoutError:
        failure = TransportUnavailable("timeout", f"{host} did not answer within {deadline_seconds:g} s")
    except requests.exceptions.SSLError:
        failure = TransportUnavailable("tls", f"{host} has no certificate that can be trusted")
    except (OSError, HTTPError):
        failure = TransportUnavailable("connection", f"{host} could not be reached, or broke off")
    if came.status is not None:
        return Answer(host=host, status=came.status, headers=came.headers, text=_text_of(bytes(came.body), hide=hide))
    # Raised out here: in a handler above it would carry the first error, and so the URL, as its context.
    raise failure


@dataclass(slots=True)
class _Came:
    """The part of an answer that was received so far."""

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)


def _exchange(
    wire: Wire,
    *,
    came: _Came,
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    places: Sequence[Place],
    read_seconds: float,
) -> None:
    """Send, and fill in `came` with what is received."""
    with (
        Session(wire=wire, connect=partial(connect_to_allowed, places=places)) as session,
        session.post(
            url,
            data=body,
            headers={"User-Agent": "Fake-Fintech-OSS", "Accept-Encoding": "identity", **headers},
            stream=True,
            allow_redirects=False,
            timeout=(CONNECT_SECONDS, read_seconds),
        ) as response,
    ):
        if wire.is_cut:
            # A status line that was cut off at the deadline may read like a whole one.
            raise TimeoutError
        came.headers = response.headers
        came.status = response.status_code
        # Raw: nobody asked for it packed, and unpacked it could be any size.
        for part in response.raw.stream(CHUNK_BYTES, decode_content=False):
            came.body += part[: ANSWER_LIMIT_BYTES - len(came.body)]
            if len(came.body) >= ANSWER_LIMIT_BYTES:
                return


def connect_to_allowed(host: str, port: int, *, places: Sequence[Place]) -> socket.socket:
    """Return a connection to the host. It is looked up once, and all of its addresses must be allowed: a name with two
    answers, or another answer a moment later, is how a check is got around.

    places: those that are allowed besides the public internet at OUTBOUND_PORTS. Raises ChannelRefused:
    forbidden_address; TransportUnavailable: name_lookup, connection.
    """
    host = host.strip("[]")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        found = []
    if not found:
        raise TransportUnavailable("name_lookup", f"{host} was not found")
    if not is_named(host.lower().rstrip("."), port, places):
        for *_, endpoint in found:
            address = ip_address(str(endpoint[0]).partition("%")[0])
            if is_within(address, port, places):
                continue
            if not is_public_address(address):
                raise ChannelRefused(
                    "forbidden_address",
                    f"{host} leads to an address that is not on the public internet; OUTBOUND_ALLOW can allow it",
                )
            if port not in settings.OUTBOUND_PORTS:
                raise ChannelRefused("forbidden_address", f"port {port} of {host} is not among OUTBOUND_PORTS")
    for family, kind, protocol, _, endpoint in found:
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(CONNECT_SECONDS)
            connection.connect(endpoint)
        except OSError:
            connection.close()
        else:
            return connection
    raise TransportUnavailable("connection", f"{host} could not be reached")


def _text_of(body: bytes, *, hide: Sequence[str]) -> str:
    text = body.decode(errors="replace").replace("\0", "")
    for secret in hide:
        text = text.replace(secret, "…")
    return text


def receipt_of(answer: Answer, *, retry_after: str | None = None) -> Receipt:
    """Return the receipt of an answer of success. retry_after: its body's value of the header of that name, if any.

    Raises TransportUnavailable for 408, 425, 429 and 5xx, RefusedForNow for 3xx, 401, 403, 404 and 405, which a proxy
    that is being restarted says too, ChannelRefused for 410, TooLarge for 413, and TransportRejected for any other 4xx.
    """
    status, kept = answer.status, answer.text[:ANSWER_KEPT]
    detail = f"{answer.host} answered {status} {_phrase_of(status)}".rstrip()
    if 200 <= status < 300:
        return Receipt(f"taken by {answer.host}", status=status, answer=kept)
    if status in (408, 425, 429) or not 300 <= status < 500:
        asked = retry_after_seconds(retry_after or answer.headers.get("Retry-After"), now=datetime.now(UTC))
        raise TransportUnavailable(f"http_{status}", detail, status=status, answer=kept, retry_after_seconds=asked)
    if status < 400:
        detail += "; redirects are not followed, so set the address that it leads to"
        raise RefusedForNow("redirect", detail, off_after=REFUSED_AFTER, status=status, answer=kept)
    if status in (401, 403, 404, 405):
        raise RefusedForNow(f"http_{status}", detail, off_after=REFUSED_AFTER, status=status, answer=kept)
    if status == 410:
        raise ChannelRefused(f"http_{status}", detail, status=status, answer=kept)
    if status == 413:
        raise TooLarge(f"http_{status}", detail, status=status, answer=kept)
    raise TransportRejected(f"http_{status}", detail, status=status, answer=kept)


def _phrase_of(status: int) -> str:
    """Return the standard's phrase of a status, "" for one without. The server's own phrase is not used."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
