"""The open streams of this process, and the one thread that reads new rows and sends them."""

import asyncio
import json
import logging
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from typing import Any, NamedTuple

from django.db import close_old_connections, connection
from django.utils import timezone

from apps.api.errors import Refused
from apps.api.graphql.context import Context
from apps.api.graphql.errors import DATABASE_ERRORS, formatted_after_execution
from apps.api.graphql.execution import reading
from apps.api.graphql.operations import Operation
from apps.api.live.kinds import KINDS, Kind, Update
from apps.api.live.viewers import Credential, Viewer, in_force
from apps.wakeups import Listener

logger = logging.getLogger(__name__)

# Each has a connection to the database; the reader has another.
POOL_THREADS = 3
LOOK_EVERY_SECONDS = 1.0
CHECK_EVERY_SECONDS = 30.0
STREAMS_PER_VIEWER = 10
STREAMS_LARGEST = 2_000
# Entries or events that are read at once.
READ_LARGEST = 500
# Groups whose messages are made by one thread, and given to the event loop together.
AT_ONCE = 25
# A connection is cut once more than this waits for its slow reader.
WAITING_BYTES = 500_000


class Message(NamedTuple):
    """One update as it is sent. place, subject: those of the kinds.Update."""

    place: tuple[int, int]
    subject: int
    content: bytes


class Subscription(NamedTuple):
    """One operation that somebody follows. after: the place behind which it begins; is_resumed: a cursor named it."""

    kind: Kind
    operation: Operation
    wanted: frozenset[int]
    viewer: Viewer
    credential: Credential
    conflate: bool
    after: Any
    is_resumed: bool


class Group:
    """Streams that are sent the same."""

    def __init__(self, subscription: Subscription) -> None:
        self.kind, self.operation = subscription.kind, subscription.operation
        self.wanted, self.viewer = subscription.wanted, subscription.viewer
        self.streams: set[Stream] = set()

    def messages(self, rows: Sequence[Any], *, after: Any, reached: Any) -> list[Message]:
        """Return what is sent of rows that were read between two places."""
        context = Context(user=self.viewer)
        updates = self.kind.updates(rows, after=after, reached=reached, wanted=self.wanted, context=context)
        with reading():
            return [Message(one.place, one.subject, self._written(one, context)) for one in updates]

    def _written(self, update: Update, context: Context) -> bytes:
        result = self.operation.execute(context=context, root=update.root)
        for error in result.errors or ():
            if isinstance(error.original_error, DATABASE_ERRORS):
                raise error.original_error
        request_id = secrets.token_hex(8) if result.errors else ""
        errors = [formatted_after_execution(error, request_id=request_id) for error in result.errors or ()]
        return next_event(({"errors": errors} if errors else {}) | {"data": result.data}, cursor=update.cursor)


def next_event(answer: Mapping[str, Any], *, cursor: str = "") -> bytes:
    """Return an answer as an event of graphql-sse. A browser that connects again sends the last cursor by itself."""
    written = json.dumps(answer, separators=(",", ":"))
    place = f"id: {cursor}\n" if cursor else ""
    return f"event: next\n{place}data: {written}\n\n".encode()


class Stream:
    """One open connection. All but its making is the business of the event loop's thread.

    key, by: of its group, and of whom it counts for; place: up to here the reader had come when it was opened; refused:
    why it ends, where it is not simply cut.
    """

    def __init__(self, group: Group, subscription: Subscription, *, key: Any, by: Any, place: Any) -> None:
        self.group, self.credential = group, subscription.credential
        self.key, self.by, self.place = key, by, place
        self._conflate, self._after = subscription.conflate, subscription.after
        self._waiting: dict[Any, bytes] = {}
        self._numbers = count()
        self.refused: Refused | None = None
        self.arrived, self.cut = asyncio.Event(), asyncio.Event()

    def put(self, messages: Sequence[Message]) -> None:
        """Let these be sent. Where too much waits, the connection is cut: the client goes on from its cursor."""
        for message in messages:
            # The reader may not yet have come to where it begins.
            if not self.group.kind.is_behind(message.place, self._after):
                continue
            key = ("subject", message.subject) if self._conflate else next(self._numbers)
            # Behind what came meanwhile, so that cursors keep their order.
            self._waiting.pop(key, None)
            self._waiting[key] = message.content
        if sum(map(len, self._waiting.values())) > WAITING_BYTES:
            logger.info("stream cut", extra={"reason": "slow reader"})
            self.cut.set()
        if self._waiting:
            self.arrived.set()

    def take(self) -> bytes:
        """Return what waits."""
        taken, self._waiting = b"".join(self._waiting.values()), {}
        self.arrived.clear()
        return taken

    def refuse(self, refused: Refused) -> None:
        """End it with an error."""
        self.refused = refused
        self.cut.set()


class Hub:
    """All open streams. It is made within a running event loop. streams_largest: the most streams of this process."""

    def __init__(self, *, streams_largest: int = STREAMS_LARGEST) -> None:
        self._streams_largest = streams_largest
        self._loop = asyncio.get_running_loop()
        self._pool = ThreadPoolExecutor(POOL_THREADS, thread_name_prefix="live")
        self._lock = threading.Lock()
        self._groups: dict[Any, Group] = {}
        self._opened: Counter[Any] = Counter()
        self._places: dict[str, Any] = {}
        self._listener = Listener()
        self._reader = threading.Thread(target=self._read_for_ever, name="live-reader", daemon=True)
        self._checker = self._loop.create_task(self._check_for_ever())
        self._reader.start()

    async def in_pool(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Return what a call returns that reads rows. Raises what it raises."""
        return await self._loop.run_in_executor(self._pool, partial(_with_connection, call, *arguments))

    def open(self, subscription: Subscription) -> Stream:
        """Return a new stream. Raises Refused, where there are too many, or where nothing could be read yet."""
        viewer, kind, body = subscription.viewer, subscription.kind, subscription.operation.body
        # Another after is another text of variables, and is sent the same; a group more costs little.
        key = (kind.name, body.query, body.name, json.dumps(body.variables, sort_keys=True), viewer.pk)
        by = viewer.pk or subscription.credential.address
        with self._lock:
            if self._opened[by] >= STREAMS_PER_VIEWER:
                message = f"You have {STREAMS_PER_VIEWER} streams open. Close one first."
                raise Refused("TOO_MANY_STREAMS", message, status=429, headers={"Retry-After": "30"})
            if self._opened.total() >= self._streams_largest or kind.name not in self._places:
                raise unavailable()
            group = self._groups.setdefault(key, Group(subscription))
            stream = Stream(group, subscription, key=key, by=by, place=self._places[kind.name])
            group.streams.add(stream)
            self._opened[by] += 1
        return stream

    def close(self, stream: Stream) -> None:
        """Forget a stream."""
        with self._lock:
            stream.group.streams.discard(stream)
            if not stream.group.streams:
                del self._groups[stream.key]
            self._opened[stream.by] -= 1
            if not self._opened[stream.by]:
                del self._opened[stream.by]

    def cut_all(self) -> None:
        """Cut all connections: their clients go on elsewhere."""
        for stream in self._streams():
            stream.cut.set()

    async def end(self) -> None:
        """Cut all connections, and end the threads."""
        self.cut_all()
        self._checker.cancel()
        self._listener.stopped.set()
        # Each thread of the pool closes the connection that is its own.
        all_at_once = threading.Barrier(POOL_THREADS)
        for _ in range(POOL_THREADS):
            self._pool.submit(_close_connection, all_at_once)
        await asyncio.to_thread(self._reader.join)
        await asyncio.to_thread(self._pool.shutdown)

    def _streams(self) -> list[Stream]:
        with self._lock:
            return [stream for group in self._groups.values() for stream in group.streams]

    # The reader's thread.

    def _read_for_ever(self) -> None:
        while not self._listener.stopped.is_set():
            try:
                for kind in KINDS.values():
                    _with_connection(self._read, kind)
            except Exception as error:
                logger.warning("nothing new read", extra={"reason": type(error).__name__}, exc_info=True)
                connection.close()
            self._listener.wait(LOOK_EVERY_SECONDS)
        self._listener.close()
        connection.close()

    def _read(self, kind: Kind) -> None:
        """Bring what is new of one kind to the streams that were open before it was looked for."""
        end = kind.end()
        with self._lock:
            # A stream that opens from now on begins after this place.
            after, self._places[kind.name] = self._places.get(kind.name, end), end
            groups = [(group, tuple(group.streams)) for group in self._groups.values() if group.kind is kind]
        if not groups:
            return
        wanted = frozenset().union(*(group.wanted for group, _ in groups))
        try:
            while after != end:
                rows, reached = kind.between(after, end, wanted=wanted, now=timezone.now(), limit=READ_LARGEST)
                ids = kind.subjects(rows)
                concerned = [one for one in groups if ids is None or not ids.isdisjoint(one[0].wanted)]
                parts = [concerned[first : first + AT_ONCE] for first in range(0, len(concerned), AT_ONCE)]
                # All of it, before more is read: so what is sent to a stream keeps its order.
                list(self._pool.map(partial(self._send, rows, after, reached), parts))
                after = reached
        except Exception:
            # These streams have missed updates. Their clients reconnect and resume from their cursors.
            self._loop.call_soon_threadsafe(_cut, [stream for _, streams in groups for stream in streams])
            raise

    def _send(
        self, rows: Sequence[Any], after: Any, reached: Any, groups: Sequence[tuple[Group, Sequence[Stream]]]
    ) -> None:
        made = _with_connection(
            lambda: [(streams, group.messages(rows, after=after, reached=reached)) for group, streams in groups]
        )
        self._loop.call_soon_threadsafe(_put, made)

    # Credentials are checked again.

    async def _check_for_ever(self) -> None:
        while True:
            await asyncio.sleep(CHECK_EVERY_SECONDS)
            try:
                await self.check()
            except Exception as error:
                # Keep the task running: the next check must still find tokens that were revoked.
                logger.warning("streams not checked", extra={"reason": type(error).__name__}, exc_info=True)

    async def check(self) -> None:
        """End the streams whose token or session is in force no more, and let the others see by today's permissions."""
        streams = self._streams()
        found = await self.in_pool(partial(in_force, now=timezone.now()), {one.credential for one in streams})
        for stream in streams:
            if stream.credential in found:
                stream.group.viewer = found[stream.credential]
            else:
                message = "The token or session is not in force any more."
                stream.refuse(Refused("INVALID_TOKEN", message, status=401))


def unavailable() -> Refused:
    """Return the refusal of a client that should try again in a few seconds."""
    return Refused("UNAVAILABLE", "Try again in a moment.", status=503, headers={"Retry-After": "5"})


def _with_connection(call: Callable[..., Any], *arguments: Any) -> Any:
    """Make a call in a thread whose connection may have been closed meanwhile."""
    close_old_connections()
    try:
        return call(*arguments)
    finally:
        close_old_connections()


def _close_connection(all_at_once: threading.Barrier) -> None:
    all_at_once.wait()
    connection.close()


def _put(made: Sequence[tuple[Sequence[Stream], Sequence[Message]]]) -> None:
    for streams, messages in made:
        for stream in streams:
            stream.put(messages)


def _cut(streams: Sequence[Stream]) -> None:
    for stream in streams:
        stream.cut.set()
