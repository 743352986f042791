"""Tasks counted in a worker's main process: each once, by how it ended, whatever becomes of the children."""

import urllib.request

import pytest
from billiard.exceptions import Terminated, TimeLimitExceeded
from celery import current_app
from celery.exceptions import Ignore, Reject, Retry, WorkerLostError
from celery.signals import task_revoked
from prometheus_client.parser import text_string_to_metric_families

from apps.metrics.domain import Process
from apps.metrics.serving import ProcessMetrics, serve
from apps.pipeline.task_metrics import CountedRequest, worker_metrics
from tests.rig import free_port, rig, wait_until

TASKS = "tests.pipeline.counted_tasks"


def scraped(port):
    """Return (name, *values of its labels by their names) -> value of what a process gives; nothing where none
    listens yet."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    except OSError:
        return {}
    families = text_string_to_metric_families(text)
    return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}


class Received(CountedRequest):
    """A request without its message."""

    def __init__(self, *, acks_late=True, is_cancelled=False):
        self._task = type("Task", (), {"acks_late": acks_late, "reject_on_worker_lost": True})
        self._already_cancelled = is_cancelled


@pytest.mark.parametrize(
    ("error", "request_", "outcome"),
    [
        (ValueError("x"), Received(), "failed"),
        (TimeLimitExceeded(60), Received(), "timed_out"),
        (WorkerLostError("x"), Received(), None),
        (WorkerLostError("x"), Received(acks_late=False), "failed"),
        (SystemExit(1), Received(), None),
        (Terminated(15), Received(is_cancelled=True), None),
        (Terminated(15), Received(), ""),
        (Retry("x"), Received(), None),
        (Reject("x", requeue=True), Received(), None),
        (Reject("x", requeue=False), Received(), "failed"),
        (Ignore("x"), Received(), "succeeded"),
    ],
)
def test_a_run_that_ended_without_success_is_an_outcome_or_comes_again(error, request_, outcome):
    assert request_._outcome_of(error) == outcome


def test_a_task_that_was_not_run_since_it_was_late_or_revoked_is_counted():
    counts = worker_metrics()["fintech_tasks_total"]
    task = type("Task", (), {"name": "counted.late"})
    for expired in (True, False, True):
        task_revoked.send(sender=task, request=None, terminated=False, signum=None, expired=expired)

    assert [counts.labels("counted.late", one)._value.get() for one in ("expired", "revoked", "failed")] == [2, 1, 0]


def test_a_port_that_is_taken_stops_no_process():
    registry = ProcessMetrics(Process.BEAT).registry
    port = free_port()
    first = serve(registry, listen=("127.0.0.1", port))

    assert serve(registry, listen=("127.0.0.1", port)) is None
    assert serve(registry, listen=None) is None
    assert ("fintech_beat_sent_total",) not in scraped(port)
    first.shutdown()
    first.server_close()


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_each_task_is_counted_once_whatever_becomes_of_the_children(tmp_path):
    port = free_port()
    queue = "assets-tasks"
    send = {"queue": queue, "confirm_timeout": 3}
    with rig(tmp_path, METRICS_LISTEN=f"127.0.0.1:{port}") as processes:
        for _ in range(20):
            current_app.send_task("counted.succeed", **send)
        for _ in range(5):
            current_app.send_task("counted.fail", **send)
        for number in range(3):
            current_app.send_task("counted.die_once", (str(tmp_path / f"mark-{number}"),), **send)
        current_app.send_task("counted.hang", **send)
        # One child for four tasks.
        processes.start(
            *("celery", "-A", "fintech", "worker", "-n", "counted@%h", "-Q", queue, "-c", "2", "-I", TASKS),
            *("--max-tasks-per-child", "4", "--without-mingle", "--without-gossip"),
            name="counted",
        )

        def ended():
            found = scraped(port)
            outcomes = {key[1:]: count for key, count in found.items() if key[0] == "fintech_tasks_total" and count}
            return found if sum(outcomes.values()) >= 29 else None

        found = wait_until(ended, timeout_seconds=60)
        outcomes = {key[1:]: count for key, count in found.items() if key[0] == "fintech_tasks_total" and count}
        assert outcomes == {
            ("succeeded", "counted.succeed"): 20,
            ("failed", "counted.fail"): 5,
            ("succeeded", "counted.die_once"): 3,
            ("timed_out", "counted.hang"): 1,
        }
        repeats = {key[1:]: count for key, count in found.items() if key[0] == "fintech_task_repeats_total" and count}
        assert repeats == {("counted.die_once",): 3}
        assert found["fintech_task_seconds_count", "counted.succeed"] == 20
        # What has not happened is there too.
        assert found["fintech_tasks_total", "failed", "pipeline.tick"] == 0


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_beat_and_the_process_of_rows_give_theirs(tmp_path):
    of_beat, of_rows = free_port(), free_port()
    with rig(tmp_path) as processes:
        processes.start(
            *("celery", "-A", "fintech", "beat", "--pidfile="),
            name="beat",
            METRICS_LISTEN=f"127.0.0.1:{of_beat}",
        )
        processes.start("manage", "metrics", name="metrics", METRICS_LISTEN=f"127.0.0.1:{of_rows}")

        sent = wait_until(lambda: scraped(of_beat).get(("fintech_beat_sent_total", "pipeline.tick")))
        found = wait_until(lambda: scraped(of_rows))
    assert sent >= 1
    assert (found["fintech_database_up",], found["fintech_broker_up",]) == (1, 1)
    assert found["fintech_queue_messages", "ticks"] >= 1
    assert 0 < found["fintech_reading_seconds",] < 1
