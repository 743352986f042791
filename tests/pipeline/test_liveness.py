"""The marks of workers that work, and the check that reads them without Django."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from celery import current_app

from apps.pipeline.liveness import mark_alive
from tests.rig import rig, wait_until

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path, settings):
    settings.LIVENESS_DIR = tmp_path / "alive"
    return settings.LIVENESS_DIR


def check(folder, *arguments):
    """Return (status, what it says) of the check."""
    command = [sys.executable, "-IS", "compose/check.py", "fresh", *arguments]
    environment = {"PATH": os.environ["PATH"], "LIVENESS_DIR": str(folder)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout.strip()


def test_a_worker_that_has_worked_is_fresh_and_another_queues_is_not(folder):
    mark_alive(queue="notifications")
    assert check(folder, "notifications") == (0, "")
    status, said = check(folder, "retries")
    assert (status, said.startswith("check.py: no worker of the queue retries has left a mark")) == (1, True)


@pytest.mark.parametrize(("ago", "status"), [(0, 0), (100, 0), (130, 1), (-100, 1)])
def test_a_mark_is_fresh_for_two_minutes_and_none_of_before_a_restart_is(folder, ago, status):
    folder.mkdir()
    (folder / "retries").write_text(str(time.monotonic() - ago))
    assert check(folder, "retries")[0] == status
    assert check(folder, "retries", "99999")[0] == (ago < 0)


def test_without_a_folder_nothing_is_marked(settings, tmp_path):
    settings.LIVENESS_DIR = None
    mark_alive(queue="retries")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("folder", "queues"), [("", []), ("alive", ["notifications", "ticks"])])
def test_beat_sends_a_canary_to_each_queue_where_marks_are_wanted(folder, queues):
    code = (
        "from fintech.celery import app; entries = app.conf.beat_schedule.values(); "
        "print(*sorted(e['options']['queue'] for e in entries if e['task'] == 'pipeline.mark_alive'))"
    )
    command = [sys.executable, "-c", code]
    environment = os.environ | {"LIVENESS_DIR": folder, "DJANGO_SETTINGS_MODULE": "fintech.settings"}
    said = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout.split()
    assert [queue for queue in said if queue in ("ticks", "notifications")] == queues
    assert len(said) in (0, 6)


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("task", ["pipeline.mark_alive", "counted.succeed", "counted.fail"])
def test_a_worker_marks_its_queue_after_each_task_however_it_ended(tmp_path, task):
    marks = tmp_path / "alive"
    arguments = ("retries",) if task == "pipeline.mark_alive" else ()
    with rig(tmp_path, LIVENESS_DIR=str(marks)) as processes:
        processes.worker("retries", include="tests.pipeline.counted_tasks")
        current_app.signature(task, arguments, immutable=True).apply_async(queue="retries")
        wait_until((marks / "retries").exists, timeout_seconds=60)
    assert {mark.name for mark in marks.iterdir()} == {"retries"}
