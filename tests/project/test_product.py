"""What is started by compose/start.sh with what requirements.txt names and nothing else: it works, and each line that
it writes is a JSON object."""

import json
import subprocess

import pytest
import requests
from celery import current_app

from tests.rig import ROOT, free_port, rig, wait_until

PRODUCT = ROOT / ".venv-product"
# What only the development of it needs.
DEVELOPMENT = ["pytest", "playwright", "honcho", "mypy"]


@pytest.fixture
def start_script(tmp_path):
    """Return the script in a folder whose .venv has the product's packages alone."""
    assert (PRODUCT / "bin/celery").exists(), "make venv-product installs what this test needs"
    folder = tmp_path / "product"
    folder.mkdir()
    for name in ("apps", "fintech", "compose", "manage.py"):
        (folder / name).symlink_to(ROOT / name)
    (folder / ".venv").symlink_to(PRODUCT)
    return str(folder / "compose/start.sh")


def answered(address, **options):
    """Return the status of the answer, None where nobody listens yet."""
    try:
        return requests.get(address, timeout=10, **options).status_code
    except requests.RequestException:
        return None


def test_the_products_packages_have_nothing_of_its_development():
    program = f"from importlib.util import find_spec; print([one for one in {DEVELOPMENT} if find_spec(one)])"
    done = subprocess.run([PRODUCT / "bin/python", "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_web_streams_a_worker_beat_and_flower_start_from_the_products_packages_alone(tmp_path, start_script):
    web, live, flower = (free_port() for _ in range(3))
    at = "http://127.0.0.1:"
    known = {"auth": ("fintech", "open sesame")}
    with rig(tmp_path, PYTHONPATH="", PYTHONWARNINGS="default") as processes:
        processes.run(start_script, "worker-watcher", name="watcher", PROCESSES="1")
        processes.run(start_script, "beat", name="beat")
        processes.run(
            *(start_script, "flower"),
            name="flower",
            # On 3.12 and later Tornado warns before Flower has set up its log.
            PYTHONWARNINGS="default,ignore:There is no current event loop:DeprecationWarning",
            FLOWER_ADDRESS="127.0.0.1",
            FLOWER_PORT=str(flower),
            FLOWER_BASIC_AUTH=":".join(known["auth"]),
        )
        processes.run(start_script, "live", name="live", LIVE_LISTEN=f"127.0.0.1:{live}")
        processes.run(
            *(start_script, "web"),
            name="web",
            WEB_LISTEN=f"127.0.0.1:{web}",
            WEB_PROCESSES="1",
            PROMETHEUS_MULTIPROC_DIR=str(tmp_path / "metrics"),
        )
        wait_until(lambda: answered(f"{at}{web}/readyz") == 200)
        wait_until(lambda: answered(f"{at}{live}/graphql/stream") is not None)
        wait_until(lambda: answered(f"{at}{flower}/workers", **known) == 200)
        assert answered(f"{at}{web}/nowhere") == 404

        def seen_by_flower():
            found = requests.get(f"{at}{flower}/api/tasks", timeout=10, **known).json().values()
            return {one["name"] for one in found if one["state"] == "SUCCESS"} & {"pipeline.tick"}

        wait_until(seen_by_flower, every_seconds=1)
        current_app.send_task("pipeline.prune", args=("too", "many"), queue="ticks", confirm_timeout=3)
        wait_until(lambda: "TypeError" in processes.log("watcher"))
        written = {name: processes.log(name).splitlines() for name in ("watcher", "beat", "flower", "live", "web")}
    for lines in written.values():
        assert [line for line in lines if not is_object(line)] == []
    assert [name for name, lines in written.items() if not lines] == []


def is_object(line):
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
