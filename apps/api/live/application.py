"""`/graphql/stream`: subscriptions by server-sent events, in the distinct connections mode of the graphql-sse protocol.

An ASGI application of its own: each stream of Django's would have a thread and a connection to the database."""

import asyncio
import json
import logging
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from io import BytesIO
from typing import Any

from django.core.exceptions import DisallowedHost
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest
from django.utils import timezone

from apps.api.errors import Refused
from apps.api.graphql import operations
from apps.api.graphql.context import Context
from apps.api.graphql.errors import DATABASE_ERRORS
from apps.api.json_requests import check_form
from apps.api.live.hub import READ_LARGEST, STREAMS_LARGEST, Hub, Stream, Subscription, next_event, unavailable
from apps.api.live.kinds import KINDS, MISSED_LARGEST, OLDEST, refuse_too_old, wanted_by
from apps.api.live.viewers import site_origin, viewer_of
from apps.strict_json import NotJson, read_json

logger = logging.getLogger(__name__)

PATH = "/graphql/stream"
HEARTBEAT_SECONDS = 15.0
BODY_WITHIN_SECONDS = 10.0
LAST_WITHIN_SECONDS = 1.0
_PARAMETERS = {"query", "documentId", "variables", "operationName", "extensions"}
_COMPLETE = b"event: complete\ndata:\n\n"
_HEARTBEAT = b":\n\n"
# After how many milliseconds a browser connects again.
_FIRST = b"retry: 1000\n\n"

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]


class Live:
    """The application. streams_largest: of this process."""

    def __init__(self, *, streams_largest: int = STREAMS_LARGEST) -> None:
        self._streams_largest = streams_largest
        self.hub: Hub

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["path"] != PATH:
            refused = Refused("NOT_FOUND", f"Only {PATH} is answered here.", status=404)
            await _answer(send, refused.status, _as_json(refused), [])
        else:
            await self._follow(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self.hub = Hub(streams_largest=self._streams_largest)
            else:
                await self.hub.end()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return

    async def _follow(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        request_id = secrets.token_hex(8)
        headers = [(b"x-request-id", request_id.encode()), (b"cache-control", b"no-store"), *_allowed_origin(scope)]
        if scope["method"] == "OPTIONS":
            await _answer(send, 204, b"", [*headers, *_ALLOWED_ELSEWHERE])
            return
        try:
            try:
                subscription, stream = await self._opened(scope, receive)
            except DATABASE_ERRORS:
                logger.warning("stream not opened", exc_info=True, extra={"request_id": request_id})
                raise unavailable() from None
        except Refused as refused:
            headers += [(name.lower().encode(), value.encode()) for name, value in refused.headers.items()]
            if refused.status == 400:
                # A browser shows nothing of a response that is no 200.
                await _answer(send, 200, _refusal(refused), [*headers, _EVENT_STREAM])
            else:
                await _answer(send, refused.status, _as_json(refused), headers)
            return
        try:
            await self._stream(subscription, stream, receive, send, headers)
        finally:
            self.hub.close(stream)

    async def _opened(self, scope: dict[str, Any], receive: Receive) -> tuple[Subscription, Stream]:
        """Return a stream that was opened. Raises Refused, and the errors of a database that is away."""
        content = await _content(receive)
        subscription = await self.hub.in_pool(_begun, ASGIRequest(scope, BytesIO(content)))
        stream = self.hub.open(subscription)
        if subscription.is_resumed:
            try:
                await self.hub.in_pool(_refuse_too_old, subscription, stream)
            except BaseException:
                self.hub.close(stream)
                raise
        return subscription, stream

    async def _stream(
        self, subscription: Subscription, stream: Stream, receive: Receive, send: Send, headers: list[Any]
    ) -> None:
        """Send until the client goes, or the stream is cut."""
        await send({"type": "http.response.start", "status": 200, "headers": [*headers, _EVENT_STREAM, _UNBUFFERED]})
        tasks = [
            asyncio.ensure_future(one)
            for one in (self._send_all(subscription, stream, send), _gone(receive), stream.cut.wait())
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        if isinstance(results[0], Exception):
            logger.warning("stream cut", exc_info=results[0])
        last = _refusal(stream.refused) if stream.refused is not None else b""
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WITHIN_SECONDS):
                # Without `complete` a client knows that it was cut, and goes on from its cursor.
                await send({"type": "http.response.body", "body": last})

    async def _send_all(self, subscription: Subscription, stream: Stream, send: Send) -> None:
        await _send_part(send, _FIRST)
        after = subscription.after
        while after != stream.place:
            content, after = await self.hub.in_pool(_missed, subscription, stream, after)
            await _send_part(send, content or _HEARTBEAT)
        while True:
            try:
                # Not wait_for, which loses a cancellation that comes together with what it waits for.
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    await stream.arrived.wait()
            except TimeoutError:
                await _send_part(send, _HEARTBEAT)
            else:
                await _send_part(send, stream.take())


def _begun(request: ASGIRequest) -> Subscription:
    """Return what a request wants to follow. Raises Refused, and the errors of a database that is away."""
    try:
        request.get_host()
    except DisallowedHost:
        raise Refused("BAD_REQUEST", "This host name is not served here.") from None
    if not request.accepts("text/event-stream"):
        raise Refused("NOT_ACCEPTABLE", "Accept: text/event-stream is needed.", status=406)
    if request.method != "GET":
        check_form(request, allow="GET, POST")
    viewer, credential = viewer_of(request, now=timezone.now())
    body = _body_by_get(request) if request.method == "GET" else operations.body_of(request)
    context = Context(user=viewer)
    operation = operations.checked(operations.read(body, is_followed=True), context=context)
    name, arguments = operation.root_field()
    kind = KINDS[name]
    wanted = wanted_by(kind, arguments, context)
    # A browser that reconnects sends its last cursor, which is newer than the one its page began with.
    cursor = request.headers.get("Last-Event-ID") or arguments.get("after")
    end = kind.end()
    after = kind.place(cursor, end=end, context=context) if cursor else end
    conflate = bool(arguments.get("conflate"))
    return Subscription(kind, operation, wanted, viewer, credential, conflate, after, bool(cursor))


def _body_by_get(request: HttpRequest) -> operations.Body:
    if request.GET.keys() - _PARAMETERS:
        raise Refused(
            "BAD_REQUEST",
            "The address has query or documentId, variables, operationName and extensions, and nothing else.",
        )
    try:
        read = {
            name: read_json(value.encode()) for name in ("variables", "extensions") if (value := request.GET.get(name))
        }
    except NotJson:
        raise Refused("BAD_REQUEST", "variables and extensions must be JSON.") from None
    texts = {name: request.GET.get(name) for name in ("query", "documentId", "operationName")}
    return operations.body_from(texts | read)


def _refuse_too_old(subscription: Subscription, stream: Stream) -> None:
    """Raise Refused where more was missed than is sent."""
    is_older, missed = subscription.kind.missed(
        subscription.after,
        stream.place,
        wanted=subscription.wanted,
        context=Context(user=subscription.viewer),
        before=timezone.now() - OLDEST,
    )
    if is_older or missed > MISSED_LARGEST:
        raise refuse_too_old()


def _missed(subscription: Subscription, stream: Stream, after: Any) -> tuple[bytes, Any]:
    """Return the next part of what was missed, and the place behind it."""
    rows, reached = subscription.kind.between(
        after, stream.place, wanted=subscription.wanted, now=timezone.now(), limit=READ_LARGEST
    )
    messages = stream.group.messages(rows, after=after, reached=reached)
    return b"".join(message.content for message in messages), reached


async def _content(receive: Receive) -> bytes:
    """Return the body. Raises Refused where it is too large, or too slow."""
    content = b""
    try:
        async with asyncio.timeout(BODY_WITHIN_SECONDS):
            while True:
                message = await receive()
                content += message.get("body", b"")
                if len(content) > operations.BODY_LARGEST_BYTES:
                    message = f"The body is larger than {operations.BODY_LARGEST_BYTES} bytes."
                    raise Refused("LIMIT_EXCEEDED", message)
                if not message.get("more_body"):
                    return content
    except TimeoutError:
        raise Refused("REQUEST_TIMEOUT", "The body did not come in time.", status=408) from None


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send_part(send: Send, content: bytes) -> None:
    await send({"type": "http.response.body", "body": content, "more_body": True})


async def _answer(send: Send, status: int, content: bytes, headers: list[Any]) -> None:
    if not any(name == b"content-type" for name, _ in headers):
        headers = [*headers, (b"content-type", b"application/json; charset=utf-8")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def _as_json(refused: Refused) -> bytes:
    return json.dumps({"errors": refused.errors}).encode()


def _refusal(refused: Refused) -> bytes:
    return next_event({"errors": refused.errors}) + _COMPLETE


_EVENT_STREAM = (b"content-type", b"text/event-stream; charset=utf-8")
# nginx collects what it passes on, unless it is asked not to.
_UNBUFFERED = (b"x-accel-buffering", b"no")
_ALLOWED_ELSEWHERE = [
    (b"access-control-allow-methods", b"GET, POST"),
    (b"access-control-allow-headers", b"content-type, x-csrftoken, last-event-id"),
    (b"access-control-max-age", b"600"),
]


def _allowed_origin(scope: dict[str, Any]) -> list[Any]:
    """Return what lets a page of the site read the answer, where this process is reached at another port."""
    origin = next((value for name, value in scope["headers"] if name == b"origin"), b"")
    if origin != site_origin().encode():
        return [(b"vary", b"Origin")]
    return [
        (b"vary", b"Origin"),
        (b"access-control-allow-origin", origin),
        (b"access-control-allow-credentials", b"true"),
    ]
