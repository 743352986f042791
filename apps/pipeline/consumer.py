"""The worker's reader of its queues: a message that is no task of ours is rejected, once, and ends as a dead letter.

Celery reads a message in the worker's main process. What it does not foresee there ends the worker, and the message
comes back to the next one.
"""

import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any

from celery.worker import consumer
from kombu.message import Message

logger = logging.getLogger(__name__)

_TEXTS = ("shadow", "root_id", "parent_id", "group", "origin", "argsrepr", "kwargsrepr", "expires")
ID_LONGEST = 255


def why_refused(headers: Any, decode: Callable[[], Any], *, known: Collection[str]) -> str:
    """Return what is wrong with a message, "" where it is a task that a worker can run.

    decode: returns its body, and may raise; known: the names of the tasks.
    """
    if not isinstance(headers, Mapping) or not isinstance(headers.get("task"), str):
        return "it has no header `task`"
    if headers["task"] not in known:
        return "there is no such task"
    task_id = headers.get("id")
    if not isinstance(task_id, str) or not 0 < len(task_id) <= ID_LONGEST:
        return f"its header `id` is no text of 1 to {ID_LONGEST} characters"
    if headers.get("eta") is not None:
        # It would wait in the worker, whose only process it may be. What is to happen later stands in a row.
        return "it has an `eta`; tasks run at once"
    if wrong := next((name for name in _TEXTS if not isinstance(headers.get(name), str | None)), ""):
        return f"its header `{wrong}` is no text"
    if not _is_count(headers.get("retries")):
        return "its header `retries` is no whole number"
    limits = headers.get("timelimit")
    if limits is not None and not (
        isinstance(limits, list | tuple) and len(limits) == 2 and all(map(_is_limit, limits))
    ):
        return "its header `timelimit` is no pair of seconds"
    try:
        body = decode()
    except Exception as error:
        return f"its body cannot be read ({type(error).__name__})"
    return _why_body_refused(body)


def _why_body_refused(body: Any) -> str:
    if not isinstance(body, list | tuple) or len(body) != 3:
        return "its body is no list of arguments, named arguments and links"
    arguments, named, links = body
    if not isinstance(arguments, list | tuple) or not isinstance(named, Mapping):
        return "its arguments are no list and object"
    if links is not None and not isinstance(links, Mapping):
        return "its links are no object"
    return ""


def _is_count(value: Any) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0)


def _is_limit(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and value >= 0)


class Consumer(consumer.Consumer):  # type: ignore[misc]
    """Celery's consumer, which takes only messages that a worker can run, and declares no queues for later tasks."""

    class Blueprint(consumer.Consumer.Blueprint):  # type: ignore[misc]
        """Celery's steps, without the 28 exchanges and queues for tasks with an `eta`, which are refused: to declare
        them takes a hundred round trips on each connection, which a bad network may end each time."""

        default_steps = [one for one in consumer.Consumer.Blueprint.default_steps if "DelayedDelivery" not in one]

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Message], Any]:
        """Return the function that is given each message."""
        take = super().create_task_handler(*args, **kwargs)

        def take_or_refuse(message: Message) -> Any:
            why = why_refused(message.headers, message.decode, known=self.strategies)
            if why:
                return self.refuse(message, why=why)
            try:
                return take(message)
            except (*self.connection_errors, *self.channel_errors):
                raise
            except Exception as error:
                logger.exception("task message not read")
                return self.refuse(message, why=f"{type(error).__name__} while it was read")

        return take_or_refuse

    def refuse(self, message: Message, *, why: str) -> None:
        """Reject a message, which makes it a dead letter."""
        headers = message.headers if isinstance(message.headers, Mapping) else {}
        info = message.delivery_info or {}
        facts = {"why": why, "task": str(headers.get("task"))[:ID_LONGEST], "queue": info.get("routing_key")}
        logger.error("task message refused", extra=facts)
        message.reject_log_error(logger, self.connection_errors)

    def on_decode_error(self, message: Message, exc: Exception) -> None:
        """Reject what cannot be read, which Celery would acknowledge."""
        self.refuse(message, why=f"its body cannot be read ({type(exc).__name__})")
