"""Flower beside a worker: it asks for a password, and shows the worker and what it did."""

import pytest
import requests
from celery import current_app

from tests.rig import ROOT, free_port, rig, wait_until


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_flower_shows_workers_and_tasks_to_whoever_has_the_password(tmp_path):
    port = free_port()
    address = f"http://127.0.0.1:{port}"

    def asked(path, **options):
        try:
            return requests.get(f"{address}{path}", timeout=10, **options)
        except requests.RequestException:
            return None

    with rig(tmp_path, FLOWER_PORT=str(port), FLOWER_PASSWORD="open sesame") as processes:
        processes.worker("ticks", name="watched")
        processes.run("compose/flower.sh", name="flower")
        wait_until(lambda: asked("/") is not None, timeout_seconds=60)
        assert [asked(path).status_code for path in ("/", "/workers", "/api/workers")] == [401] * 3
        assert asked("/api/workers", auth=("fintech", "wrong")).status_code == 401
        known = {"auth": ("fintech", "open sesame")}

        def shown():
            # Sent again and again: until Flower has switched the worker's events on, nobody sees a task.
            current_app.send_task("pipeline.sweep", queue="ticks", confirm_timeout=3)
            answer = asked("/api/tasks", **known).json()
            return [one for one in answer.values() if one["state"] == "SUCCESS"]

        tasks = wait_until(shown, timeout_seconds=60, every_seconds=1)
        assert {one["name"] for one in tasks} == {"pipeline.sweep"}
        assert {one["worker"].partition("@")[0] for one in tasks} == {"watched"}
    assert "FLOWER_ADDRESS=127.0.0.1 " in (ROOT / "compose/flower.sh").read_text()
    assert '--address="${FLOWER_ADDRESS:-' in (ROOT / "compose/start.sh").read_text()
