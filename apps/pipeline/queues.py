"""The queues that work travels on. Every process declares all of them, or a publisher could not route to one."""

from django.conf import settings
from kombu import Exchange, Queue

SCHEDULE = "schedule"
FETCHES = "assets-tasks"
NOTIFICATIONS = "notifications"
RETRIES = "retries"
BACKTESTS = "backtests"
PUSHED = "quotes"
EXCHANGE = Exchange("fintech", "topic")
DEAD_LETTERS = Exchange("fintech.dead", "fanout")
ON_AMQP = settings.CELERY_BROKER_URL.startswith("amqp")

# Arguments of a queue cannot be changed once it is declared: another shape needs another name.
_QUORUM = {"x-queue-type": "quorum"}
_WORK = _QUORUM | {
    "x-delivery-limit": 5,
    "x-dead-letter-exchange": DEAD_LETTERS.name,
    # At most once, the default, could lose what it moves.
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",
    "x-max-length": 100_000,
}
# What expires here is dropped: among the dead letters it would look like work that failed.
_SCHEDULE = _QUORUM | {"x-delivery-limit": 5, "x-overflow": "drop-head", "x-max-length": 1_000}


def analysis_queue(feed_id: int) -> str:
    """Return the queue of the one process that keeps this feed's engine warm."""
    return f"analysis.{feed_id % settings.ANALYSIS_SHARDS}"


def work_queues() -> list[Queue]:
    """Return every queue that a worker reads."""
    analysis = (f"analysis.{shard}" for shard in range(settings.ANALYSIS_SHARDS))
    names = [FETCHES, *analysis, NOTIFICATIONS, RETRIES, BACKTESTS]
    arguments = _WORK if ON_AMQP else None
    return [
        Queue(SCHEDULE, EXCHANGE, routing_key=SCHEDULE, queue_arguments=_SCHEDULE if ON_AMQP else None),
        *(Queue(name, EXCHANGE, routing_key=name, queue_arguments=arguments) for name in names),
    ]


def pushed_queue() -> Queue:
    """Return the queue that other systems push quotes to; `manage.py ingest` reads it."""
    # Its messages may have a megabyte each.
    arguments = _WORK | {"x-max-length-bytes": 1_000_000_000} if ON_AMQP else None
    return Queue(PUSHED, EXCHANGE, routing_key=PUSHED, queue_arguments=arguments)


def dead_letter_queue() -> Queue:
    """Return the queue where what was delivered too often, or refused, ends; people look into it, no worker does."""
    return Queue("fintech.dead", DEAD_LETTERS, queue_arguments=_QUORUM if ON_AMQP else None)


def other_queues() -> list[Queue]:
    """Return the queues that no worker of Celery reads."""
    return [dead_letter_queue(), pushed_queue()]
