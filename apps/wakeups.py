"""Wake-ups: a process that wrote something new lets those that wait for it look at once, by Redis.

They look by themselves each second too, so a wake-up that is lost, or a Redis that is away, costs a second and no more.
"""

import logging
import threading
from functools import cache

import redis
from django.conf import settings
from django.db import transaction

logger = logging.getLogger(__name__)

# All databases of a Redis share its channels: a wake-up too many does no harm.
CHANNEL = "fintech:wakeups"
_TIMEOUT_SECONDS = 0.3


@cache
def _client() -> redis.Redis:
    return redis.Redis.from_url(
        settings.REDIS_URL, socket_connect_timeout=_TIMEOUT_SECONDS, socket_timeout=_TIMEOUT_SECONDS
    )


def wake_on_commit() -> None:
    """Wake those that wait, after the commit of the caller's transaction."""
    if settings.REDIS_URL:
        transaction.on_commit(_wake, robust=True)


def _wake() -> None:
    try:
        _client().publish(CHANNEL, "")
    except redis.RedisError as error:
        logger.warning("wake-up not sent", extra={"reason": type(error).__name__})


class Listener:
    """Waits for wake-ups in one thread. Another may set `stopped`, which ends its waiting within a second."""

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self._channel: redis.client.PubSub | None = None

    def wait(self, seconds: float) -> None:
        """Return when a wake-up has come, or after so many seconds."""
        try:
            if self._channel is None and settings.REDIS_URL:
                self._channel = _client().pubsub(ignore_subscribe_messages=True)
                self._channel.subscribe(CHANNEL)
            if self._channel is not None:
                self._wait(self._channel, seconds)
                return
        except (redis.RedisError, OSError) as error:
            logger.warning("wake-ups not heard", extra={"reason": type(error).__name__})
            self.close()
        self.stopped.wait(seconds)

    @staticmethod
    def _wait(channel: redis.client.PubSub, seconds: float) -> None:
        message = channel.get_message(timeout=seconds)
        # Those that have come meanwhile say the same.
        while message is not None:
            message = channel.get_message(timeout=0)

    def close(self) -> None:
        """Close the connection; the next wait opens another."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
