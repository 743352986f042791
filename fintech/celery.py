"""The Celery application. Each setting answers a failure that was provoked; docs/operations.md says which."""

import gc
import inspect
import logging
import select
from contextlib import suppress
from datetime import timedelta
from functools import cached_property
from typing import Any

from celery import Celery
from celery.contrib.django.task import DjangoTask
from celery.signals import (
    celeryd_after_setup,
    setup_logging,
    task_postrun,
    task_prerun,
    worker_before_create_process,
)
from django.conf import settings
from django.db import close_old_connections, connections
from structlog.contextvars import bind_contextvars, reset_contextvars

from apps.pipeline import task_metrics  # noqa: F401 (connects to signals)
from apps.pipeline.liveness import mark_alive
from apps.pipeline.queues import EXCHANGE, FETCHES, ON_AMQP, TICKS, other_queues, work_queues

logger = logging.getLogger(__name__)


class ReliableTask(DjangoTask):
    """A task whose publishing cannot wait for ever on a broker that has stopped reading, and whose end is counted."""

    Request = "apps.pipeline.task_metrics:CountedRequest"
    # Here and not in the settings, whose limit would also hold for a task with 0: the pool takes 0 for none given.
    soft_time_limit = 45

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Publish, waiting for the broker's confirm for 3 s at most."""
        options.setdefault("confirm_timeout", 3)
        return super().apply_async(args, kwargs, **options)

    def __call__(self, *args: Any, **named: Any) -> Any:
        """Run without the named arguments that this version does not know: while a release is rolled out, messages of
        the new version reach workers of the old one."""
        if unknown := named.keys() - self._names:
            logger.warning("arguments of another version ignored", extra={"arguments": sorted(unknown)})
            named = {name: value for name, value in named.items() if name not in unknown}
        return super().__call__(*args, **named)

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(inspect.signature(self.run).parameters)


# beat's task -> how often it is sent
PERIODS = {
    "tick": timedelta(seconds=1),
    "sweep": timedelta(seconds=5),
    "check_health": timedelta(seconds=10),
    "rollup": timedelta(seconds=30),
    "reconcile": timedelta(minutes=1),
    "record_nights": timedelta(minutes=10),
    "prune": timedelta(hours=1),
}
# On a broker they do not expire, since the queue is short: an expiry goes by the wall clock, and a worker whose clock
# is ahead of beat's would drop them all. Embedded, nothing bounds the queue, and there is one clock.
_OF_TICKS = {"queue": TICKS} if ON_AMQP else {"queue": TICKS, "expires": 10}

# Only where marks are read: else canaries of a queue without a worker would wait there, and nobody wants them.
_CANARIES = {
    f"canary of {queue.name}": {
        "task": "pipeline.mark_alive",
        "args": [queue.name],
        "schedule": timedelta(seconds=30),
        "options": {"queue": queue.name},
    }
    for queue in work_queues()
    if settings.LIVENESS_DIR is not None
}

app = Celery("fintech", task_cls=ReliableTask)
app.conf.update(
    broker_url=settings.CELERY_BROKER_URL,
    broker_transport_options=(
        {"confirm_publish": True, "read_timeout": 3, "write_timeout": 3} if ON_AMQP else {"polling_interval": 0.01}
    ),
    broker_connection_timeout=4,
    broker_pool_limit=10,
    broker_pool_acquire_timeout=5,
    broker_connection_retry=True,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_heartbeat=10,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_acks_on_failure=True,
    task_acks_on_timeout=True,
    worker_prefetch_multiplier=1,
    worker_cancel_long_running_tasks_on_connection_loss=True,
    worker_enable_prefetch_count_reduction=True,
    worker_soft_shutdown_timeout=10,
    task_time_limit=60,
    worker_consumer="apps.pipeline.consumer:Consumer",
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
    task_ignore_result=True,
    result_backend=None,
    task_serializer="json",
    accept_content=["json"],
    enable_utc=True,
    timezone="UTC",
    task_default_queue=FETCHES,
    task_default_exchange=EXCHANGE.name,
    task_default_exchange_type="topic",
    task_default_routing_key=FETCHES,
    task_default_queue_type="quorum" if ON_AMQP else "classic",
    task_create_missing_queues=False,
    task_queues=work_queues(),
    task_publish_retry_policy={"max_retries": 3, "interval_start": 0, "interval_step": 0.2, "interval_max": 1},
    # Static entries that carry no data, only "look at the rows": a lost or doubled tick changes nothing.
    beat_scheduler="apps.pipeline.scheduler:Scheduler",
    beat_max_loop_interval=5,
    beat_schedule={
        name: {"task": f"pipeline.{name}", "schedule": period, "options": _OF_TICKS} for name, period in PERIODS.items()
    }
    | _CANARIES,
    # Without it Celery closes the connection after every task (celery#10554).
    CELERY_DB_REUSE_MAX=10_000,
)
# task id -> what sets its facts back
_log_facts: dict[str, Any] = {}
app.autodiscover_tasks(["apps.pipeline"])


@setup_logging.connect
def keep_djangos_logging(**_: Any) -> None:
    """Connected so that Celery leaves the logging of settings.LOGGING alone."""


@task_prerun.connect
def forget_broken_connections(**_: Any) -> None:
    """Let a task begin on a live connection: reuse alone loses tasks after the database was restarted.

    Where the server has closed it, or has said something unasked, its socket is readable, and Django asks the server
    before the first statement. Otherwise the task is spared that statement.
    """
    close_old_connections()
    for one in connections.all(initialized_only=True):
        if one.vendor == "postgresql" and one.connection is not None:
            one.health_check_done = not is_readable(one.connection.fileno())


def is_readable(socket: int) -> bool:
    """Tell whether there is something to read at a socket, or its other end is closed."""
    waiting = select.poll()
    waiting.register(socket, select.POLLIN)
    return bool(waiting.poll(0))


@task_prerun.connect
def begin_log_facts(task_id: str = "", task: Any = None, **_: Any) -> None:
    """Let each log line of a task say which it is."""
    _log_facts[task_id] = bind_contextvars(task=task.name, task_id=task_id)


@task_postrun.connect
def end_log_facts(task_id: str = "", **_: Any) -> None:
    """Forget them when it is over."""
    reset_contextvars(**_log_facts.pop(task_id, {}))


@task_postrun.connect
def mark_that_the_worker_works(task: Any = None, **_: Any) -> None:
    """Mark it for the check from outside, after whatever task: where thousands wait, the canary is behind them."""
    # A mark that cannot be written is one that the check misses.
    with suppress(OSError):
        mark_alive(queue=task.request.delivery_info["routing_key"])


@worker_before_create_process.connect
def freeze_what_was_imported(**_: Any) -> None:
    """Keep the collector off what stays for ever: to walk it takes as long as storing some thousand quotes. The main
    process does it, before its first child is made: the collector writes to what it walks, and what a child writes to
    it shares no more. Never again, since what is frozen is not collected."""
    if not gc.get_freeze_count():
        gc.freeze()


@celeryd_after_setup.connect
def declare_queues(**_: Any) -> None:
    """Declare every queue before the first message: what goes to one that is not there is dropped, and Celery, which
    declares only what this worker reads, fails to bind the others to its exchange for delays."""
    with app.connection_for_write() as connection:
        for queue in (*other_queues(), *work_queues()):
            queue.bind(connection.default_channel).declare()
