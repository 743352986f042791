"""Quotes pushed to the queue `quotes`: read, stored feed by feed, and acknowledged after the commit.

So a message may be stored twice, which adds no quote, and is never lost. A message that can never be stored is
rejected, which moves it to the dead letters.
"""

import logging
import time
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

from django.db import InterfaceError, OperationalError, close_old_connections, connection
from django.utils import timezone
from kombu import Connection, Consumer, Message
from kombu.mixins import ConsumerMixin
from kombu.transport import pyamqp

from apps import tracing
from apps.market.domain import RawQuote
from apps.metrics.domain import MESSAGE_OUTCOMES, Process
from apps.metrics.serving import ProcessMetrics
from apps.pipeline import flow
from apps.pipeline.queues import dead_letter_queue, pushed_queue
from apps.sources.pushed import PushMalformed, read_message
from apps.sources.services import Pushed, PushRefused, record_pushed
from apps.strict_json import UNTYPED

logger = logging.getLogger(__name__)

# Messages are stored together: after so long, or as soon as there are so many messages or quotes.
COLLECT_SECONDS = 0.05
MESSAGES_AT_ONCE = 100
QUOTES_AT_ONCE = 10_000
AWAY_SECONDS = 1.0
CONTENT_TYPES = ("application/json", *UNTYPED)


class AsSent(pyamqp.Message):  # type: ignore[misc]
    """A message whose body is not decompressed. Kombu's own class decompresses it where a header says so, and a
    megabyte may expand to more than there is memory."""

    def __init__(self, msg: Any, channel: Any = None, **columns: Any) -> None:
        self.is_packed = (msg.properties.get("application_headers") or {}).pop("compression", None) is not None
        super().__init__(msg, channel=channel, **columns)


class Arrived(NamedTuple):
    """A well-formed message that is not acknowledged yet."""

    message: Message
    feed: str
    received_at: datetime
    quotes: Sequence[RawQuote]

    @property
    def sender(self) -> str:
        """Return the code of who published it: the user that the broker has checked, where the message names one."""
        # No text that PostgreSQL cannot have.
        return f"queue:{self.message.properties.get('user_id') or ''}".replace("\0", "")

    @property
    def group(self) -> tuple[str, int]:
        """Return the key of the messages of one entry. A redelivered one is alone: it may have broken the others."""
        return self.feed, self.message.delivery_tag if self.message.delivery_info.get("redelivered") else 0


class Ingest(ConsumerMixin):  # type: ignore[misc]
    """The consumer of the queue. While the database is away it keeps the messages it has, and takes no more."""

    def __init__(self, broker: Connection) -> None:
        self.connection = broker
        self._waiting: list[Arrived] = []
        self._due = 0.0  # on the monotonic clock
        self._is_consuming = False

    def stop(self, *_: Any) -> None:
        """End `run` once the messages taken are stored; a signal handler. Raises SystemExit if it consumes nothing."""
        self.should_stop = True
        if not self._is_consuming:
            raise SystemExit(0)

    def create_connection(self) -> Connection:
        """Return a connection once the database can be reached."""
        self._is_consuming = False
        while not _has_database():
            time.sleep(AWAY_SECONDS)
        return super().create_connection()

    def get_consumers(self, consumer: type[Consumer], channel: Any) -> list[Consumer]:
        # Messages of the lost connection cannot be acknowledged, and are delivered again.
        self._waiting = []
        dead_letter_queue().bind(channel).declare()
        channel.Message = AsSent
        return [consumer([pushed_queue()], on_message=self._take, prefetch_count=MESSAGES_AT_ONCE)]

    def on_consume_ready(self, connection: Any, channel: Any, consumers: Any, **kwargs: Any) -> None:
        self._is_consuming = True
        logger.info("reading pushed quotes", extra={"queue": pushed_queue().name})

    def on_connection_error(self, exc: Exception, interval: float) -> None:
        logger.warning("broker away", extra={"reason": type(exc).__name__, "seconds": interval})

    def on_iteration(self) -> None:
        if self._waiting and time.monotonic() >= self._due:
            self._store()

    def on_consume_end(self, connection: Any, channel: Any) -> None:
        # No more messages come, and those taken can still be acknowledged.
        self._store()
        self._is_consuming = False

    def _take(self, message: AsSent) -> None:
        """Read one message and keep it until it is stored; a malformed one is rejected at once."""
        try:
            if message.is_packed:
                raise PushMalformed("the body is compressed")
            if message.content_type not in CONTENT_TYPES:
                raise PushMalformed("the content type is not application/json")
            # A text where the sender has named its encoding, and so perhaps one that cannot be written again.
            body = message.body
            feed, quotes = read_message(body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body)
        except PushMalformed as error:
            _refuse(message, why=str(error))
            return
        if not self._waiting:
            self._due = time.monotonic() + COLLECT_SECONDS
        self._waiting.append(Arrived(message, feed, timezone.now(), quotes))
        quotes_waiting = sum(len(one.quotes) for one in self._waiting)
        if len(self._waiting) >= MESSAGES_AT_ONCE or quotes_waiting >= QUOTES_AT_ONCE:
            self._due = 0.0

    def _store(self) -> None:
        """Store and acknowledge the messages taken, an entry for each feed in the order of arrival."""
        # A connection that a restart of the database has broken would fail for ever.
        close_old_connections()
        while self._waiting:
            group = self._waiting[0].group
            together = [one for one in self._waiting if one.group == group]
            try:
                self._store_together(together, feed=group[0])
            except (InterfaceError, OperationalError) as error:
                # Kept and not requeued: a message that is requeued too often becomes a dead letter.
                logger.warning("pushed quotes not stored", extra={"reason": type(error).__name__, "feed": group[0]})
                self._due = time.monotonic() + AWAY_SECONDS
                return
            self._waiting = [one for one in self._waiting if one.group != group]

    def _store_together(self, together: Sequence[Arrived], *, feed: str) -> None:
        pushes = [Pushed(received_at=one.received_at, quotes=one.quotes, sender=one.sender) for one in together]
        try:
            entry = record_pushed(feed_name=feed, pushes=pushes, now=timezone.now(), trace_id=tracing.new_trace_id())
        except PushRefused as error:
            for one in together:
                _refuse(one.message, why=str(error))
        except (InterfaceError, OperationalError):
            raise
        except Exception:
            # After too many deliveries the queue makes it a dead letter.
            logger.exception("pushed quotes crashed", extra={"feed": feed, "messages": len(together)})
            for one in together:
                one.message.requeue()
            _count("requeued", len(together))
        else:
            for one in together:
                one.message.ack()
            _count("stored", len(together))
            flow.evaluate_soon(feed_id=entry.feed_id)


def _refuse(message: Message, *, why: str) -> None:
    logger.warning("pushed message refused", extra={"why": why, "delivery": message.delivery_tag})
    message.reject()
    _count("refused", 1)


@cache
def ingest_metrics() -> ProcessMetrics:
    """Return what this process counts, with a 0 for whatever has not happened yet."""
    metrics = ProcessMetrics(Process.INGEST)
    for outcome in MESSAGE_OUTCOMES:
        metrics["fintech_pushed_messages_total"].labels(outcome)
    return metrics


def _count(outcome: str, count: int) -> None:
    ingest_metrics()["fintech_pushed_messages_total"].labels(outcome).inc(count)


def _has_database() -> bool:
    close_old_connections()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except (InterfaceError, OperationalError) as error:
        logger.warning("database away", extra={"reason": type(error).__name__})
        return False
    return True
