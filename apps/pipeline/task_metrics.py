"""Tasks counted in the main process of a worker, which sees the end of each whatever happens to its children; and what
beat sends.

A child counts nothing: children are replaced, and each has memory of its own.
"""

from functools import cache
from typing import Any

from billiard.einfo import ExceptionWithTraceback
from billiard.exceptions import Terminated, TimeLimitExceeded
from celery import current_app
from celery.exceptions import Ignore, Reject, Retry, WorkerLostError
from celery.signals import after_task_publish, beat_init, task_revoked, worker_process_init, worker_ready
from celery.worker.request import Request
from django.conf import settings

from apps.metrics.domain import TASK_OUTCOMES, Process
from apps.metrics.serving import ProcessMetrics, serve

_servers: list[Any] = []


@cache
def worker_metrics() -> ProcessMetrics:
    """Return what this worker counts."""
    return ProcessMetrics(Process.WORKER)


@cache
def _beat_metrics() -> ProcessMetrics:
    return ProcessMetrics(Process.BEAT)


def count_outcome(task: str, outcome: str) -> None:
    """Count the end of a task."""
    worker_metrics()["fintech_tasks_total"].labels(task, outcome).inc()


def _count_repeat(task: str) -> None:
    worker_metrics()["fintech_task_repeats_total"].labels(task).inc()


class CountedRequest(Request):  # type: ignore[misc]
    """A task that this worker received; it counts its own end."""

    def __init_subclass__(cls, **columns: Any) -> None:
        """Let a subclass count as well: Celery makes one for each task, with an on_success that does not call ours."""
        super().__init_subclass__(**columns)
        succeed = cls.on_success

        def on_success(self: Any, failed__retval__runtime: Any, **kwargs: Any) -> Any:
            failed, _, seconds = failed__retval__runtime
            # One that failed comes back as on_failure.
            if not failed:
                count_outcome(self.task.name, "succeeded")
                worker_metrics()["fintech_task_seconds"].labels(self.task.name).observe(seconds)
            return succeed(self, failed__retval__runtime, **kwargs)

        cls.on_success = on_success

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        """Count the failure, or that the task runs again."""
        outcome = self._outcome_of(exc_info.exception)
        if outcome is None:
            _count_repeat(self.task.name)
        elif outcome:
            count_outcome(self.task.name, outcome)
        return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)

    def _outcome_of(self, error: BaseException) -> str | None:
        """Return how a task ends whose run ended so: None where it runs again, "" where another signal counts it."""
        if isinstance(error, ExceptionWithTraceback):
            error = error.exc
        if isinstance(error, Terminated):
            # Celery has ended the run itself: since it lost the broker, which delivers the task again, or revoked it.
            return None if self._already_cancelled else ""
        if isinstance(error, WorkerLostError | SystemExit | KeyboardInterrupt):
            return None if self.task.acks_late and self.task.reject_on_worker_lost else "failed"
        if isinstance(error, Retry) or (isinstance(error, Reject) and error.requeue):
            return None
        if isinstance(error, Ignore):
            return "succeeded"
        return "timed_out" if isinstance(error, TimeLimitExceeded) else "failed"


@task_revoked.connect
def count_revoked(sender: Any = None, expired: bool = False, **_: Any) -> None:
    """Count a task that was not run, since it had waited for too long or was revoked."""
    count_outcome(sender.name, "expired" if expired else "revoked")


@worker_ready.connect
def serve_worker_metrics(**_: Any) -> None:
    """Serve what this worker counts, with a 0 for whatever has not happened yet: so its first increase is seen."""
    metrics = worker_metrics()
    for name in current_app.tasks:
        if name.startswith("pipeline."):
            metrics["fintech_task_repeats_total"].labels(name)
            metrics["fintech_task_seconds"].labels(name)
            for outcome in TASK_OUTCOMES:
                metrics["fintech_tasks_total"].labels(name, outcome)
    _servers.append(serve(metrics.registry, listen=settings.METRICS_LISTEN))


@worker_process_init.connect
def leave_the_port(**_: Any) -> None:
    """Close the socket that a child inherits, or the port stays taken for as long as it lives."""
    while _servers:
        server = _servers.pop()
        if server is not None:
            server.socket.close()


@beat_init.connect
def serve_beat_metrics(**_: Any) -> None:
    """Count and serve what beat sends."""
    metrics = _beat_metrics()
    for entry in current_app.conf.beat_schedule.values():
        metrics["fintech_beat_sent_total"].labels(entry["task"])
    after_task_publish.connect(_count_sent, weak=False)
    serve(metrics.registry, listen=settings.METRICS_LISTEN)


def _count_sent(sender: Any = None, **_: Any) -> None:
    _beat_metrics()["fintech_beat_sent_total"].labels(sender).inc()
