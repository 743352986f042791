"""Every message that anybody publishes, seen at the broker itself, and published again."""

import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from celery import current_app
from kombu import Producer, Queue

from apps.pipeline.queues import EXCHANGE

_TWIN = "twin-of"


@dataclass(frozen=True, slots=True)
class Published:
    """One message as it was published."""

    routing_key: str
    body: Any
    headers: dict[str, Any]
    properties: dict[str, Any]


class Wiretap:
    """It hears all that is published from its beginning to its end, and says each once more as soon as it is heard."""

    def __init__(self) -> None:
        self.heard: list[Published] = []
        self._is_over = threading.Event()
        self._is_listening = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> "Wiretap":
        self._thread.start()
        assert self._is_listening.wait(10)
        return self

    def __exit__(self, *_: Any) -> None:
        self._is_over.set()
        self._thread.join(20)

    def _listen(self) -> None:
        with current_app.connection_for_write() as broker:
            producer = Producer(broker.channel())
            queue = Queue("", EXCHANGE, routing_key="#", exclusive=True, auto_delete=True)

            def hear(message: Any) -> None:
                message.ack()
                if _TWIN in message.headers:
                    return
                one = Published(
                    message.delivery_info["routing_key"], message.body, dict(message.headers), dict(message.properties)
                )
                self.heard.append(one)
                say(one, producer=producer)

            with broker.Consumer([queue], on_message=hear, accept=["json"]):
                self._is_listening.set()
                while not self._is_over.is_set():
                    with suppress(TimeoutError):
                        broker.drain_events(timeout=0.2)

    def replay(self) -> int:
        """Say all that was heard once more, and return how many messages that is. None is too old: they do not
        expire."""
        with current_app.connection_for_write() as broker:
            producer = Producer(broker.channel())
            for one in self.heard:
                say(one, producer=producer)
        return len(self.heard)


def say(one: Published, *, producer: Producer) -> None:
    """Publish a message again, as its sender did, but that it does not expire."""
    producer.publish(
        one.body,
        exchange=EXCHANGE.name,
        routing_key=one.routing_key,
        headers={**one.headers, "expires": None, _TWIN: one.headers.get("id", "")},
        content_type=one.properties.get("content_type", "application/json"),
        content_encoding=one.properties.get("content_encoding", "utf-8"),
        correlation_id=one.properties.get("correlation_id"),
        delivery_mode=2,
    )
