"""Workers of two versions beside each other, while a release is rolled out: what one sends, the other runs."""

import inspect

import pytest
from celery import current_app

from apps.pipeline.queues import FETCHES
from tests.rig import dead_letters, queue_lengths, rig, wait_until

# Task -> the arguments of its messages, by position, in the last version whose messages may still wait in a queue. A
# change here is a change of what two versions agree on: add named arguments with a default instead.
AGREED = {
    "pipeline.backfill": ["backfill_id"],
    "pipeline.check_health": [],
    "pipeline.deliver": ["channel_id", "is_failing"],
    "pipeline.derive_quotes": ["feed_id"],
    "pipeline.evaluate_rules": ["feed_id"],
    "pipeline.fetch_quotes": ["feed_id", "slot", "trace_id"],
    "pipeline.mark_alive": ["queue"],
    "pipeline.notify_alerts": ["channel_ids"],
    "pipeline.prune": [],
    "pipeline.reconcile": [],
    "pipeline.record_nights": [],
    "pipeline.rollup": [],
    "pipeline.run_backtest": ["run_id"],
    "pipeline.sweep": [],
    "pipeline.tick": [],
}


def test_each_task_takes_the_messages_of_the_last_version():
    current_app.loader.import_default_modules()
    tasks = {name: inspect.signature(task.run) for name, task in current_app.tasks.items() if name in AGREED}
    taken = {name: list(one.parameters)[: len(AGREED[name])] for name, one in tasks.items()}
    wanted = {
        name: [more.name for more in list(one.parameters.values())[len(AGREED[name]) :] if more.default is more.empty]
        for name, one in tasks.items()
    }

    assert {name for name in current_app.tasks if name.startswith("pipeline.")} == set(AGREED)
    assert taken == AGREED
    assert wanted == {name: [] for name in AGREED}


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_a_worker_runs_the_messages_of_a_newer_version(tmp_path):
    with rig(tmp_path) as processes:
        processes.worker(FETCHES, include="tests.faults.poison")
        current_app.send_task("faults.harmless", [str(tmp_path)], {"priority_of_next_year": 1}, queue=FETCHES)
        wait_until(lambda: (tmp_path / "harmless").exists())
        wait_until(lambda: queue_lengths()[FETCHES] == 0)
        dead = dead_letters()
        log = processes.log("worker")

    assert dead == []
    assert '"arguments": ["priority_of_next_year"]' in log
