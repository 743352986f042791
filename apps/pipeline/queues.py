"""The queues. Every process declares all of them, so that a publisher can route to each."""

from celery import current_app
from django.conf import settings
from kombu import Exchange, Queue
from kombu.exceptions import OperationalError

TICKS = "ticks"
FETCHES = "assets-tasks"
NOTIFICATIONS = "notifications"
RETRIES = "retries"
BACKTESTS = "backtests"
PUSHED = "quotes"
EXCHANGE = Exchange("fintech", "topic")
DEAD_LETTERS = Exchange("fintech.dead", "fanout")
ON_AMQP = settings.CELERY_BROKER_URL.startswith("amqp")

# Arguments of a queue cannot be changed once it is declared: other arguments need another name.
_QUORUM = {"x-queue-type": "quorum"}
_WORK = _QUORUM | {
    "x-delivery-limit": 5,
    "x-dead-letter-exchange": DEAD_LETTERS.name,
    # The default, at-most-once, could lose messages on their way to the dead letters.
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",
    "x-max-length": 100_000,
}
# The newest say all that the older ones do. What is dropped is no failed work, so it becomes no dead letter.
_TICKS = _QUORUM | {"x-delivery-limit": 5, "x-overflow": "drop-head", "x-max-length": 10}
# Nobody reads them but people: the newest are kept.
_FOR_PEOPLE = _QUORUM | {"x-overflow": "drop-head", "x-max-length": 10_000, "x-max-length-bytes": 1_000_000_000}


def analysis_queue(feed_id: int) -> str:
    """Return the queue of the one process that keeps this feed's engine warm."""
    return f"analysis.{feed_id % settings.ANALYSIS_SHARDS}"


def work_queues() -> list[Queue]:
    """Return every queue that a worker reads."""
    analysis = (f"analysis.{shard}" for shard in range(settings.ANALYSIS_SHARDS))
    names = [FETCHES, *analysis, NOTIFICATIONS, RETRIES, BACKTESTS]
    arguments = _WORK if ON_AMQP else None
    return [
        Queue(TICKS, EXCHANGE, routing_key=TICKS, queue_arguments=_TICKS if ON_AMQP else None),
        *(Queue(name, EXCHANGE, routing_key=name, queue_arguments=arguments) for name in names),
    ]


def pushed_queue() -> Queue:
    """Return the queue that other systems push quotes to; `manage.py ingest` reads it."""
    # Each of its messages may have a megabyte.
    arguments = _WORK | {"x-max-length-bytes": 1_000_000_000} if ON_AMQP else None
    return Queue(PUSHED, EXCHANGE, routing_key=PUSHED, queue_arguments=arguments)


def dead_letter_queue() -> Queue:
    """Return the queue of messages that were delivered too often, or rejected. No worker reads it; people do."""
    return Queue("dead-letters", DEAD_LETTERS, queue_arguments=_FOR_PEOPLE if ON_AMQP else None)


def other_queues() -> list[Queue]:
    """Return the queues that no worker of Celery reads."""
    return [dead_letter_queue(), pushed_queue()]


def depths() -> dict[str, tuple[int, int]] | None:
    """Return queue -> (messages that wait, consumers), of every queue; None where the broker does not say."""
    if not ON_AMQP:
        return None
    found = {}
    connection = current_app.connection_for_read()
    try:
        with connection:
            for queue in (*other_queues(), *work_queues()):
                declared = queue.bind(connection.default_channel).queue_declare(passive=True)
                found[queue.name] = (declared.message_count, declared.consumer_count)
    except (OperationalError, *connection.connection_errors, *connection.channel_errors):
        return None
    return found


def readers() -> dict[str, int] | None:
    """Return queue -> how many workers read it, for every queue of work; None where the broker does not say."""
    found = depths()
    return None if found is None else {queue.name: found[queue.name][1] for queue in work_queues()}
