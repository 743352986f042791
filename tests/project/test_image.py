"""The image's start script and its health check, without an image."""

import os
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from compose import check
from fintech.celery import app

ROOT = Path(__file__).resolve().parents[2]
START = ROOT / "compose/start.sh"
DOCUMENT = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
WORKERS = ("worker-watcher", "worker-analyzer", "worker-notifier", "worker-retries", "worker-backtests")


def started(tmp_path, role: str, **variables: str) -> list[str]:
    """Return the command that the script becomes, by programs that print how they were called."""
    (tmp_path / "compose").mkdir(exist_ok=True)
    script = tmp_path / "compose/start.sh"
    script.write_text(START.read_text(encoding="utf-8"), encoding="utf-8")
    programs = tmp_path / ".venv/bin"
    programs.mkdir(parents=True, exist_ok=True)
    for name in ("celery", "gunicorn", "python"):
        (programs / name).write_text(
            f'#!/bin/sh\necho {name} "$@" ${{CELERY_SKIP_CHECKS:+skipping}}\n', encoding="utf-8"
        )
        (programs / name).chmod(0o755)
    environment = {"PATH": os.environ["PATH"], "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics")} | variables
    done = subprocess.run(["/bin/sh", script, role], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_the_workers_read_every_queue_once(tmp_path):
    commands = [started(tmp_path, role, SHARD="0") for role in WORKERS]
    read = [name for command in commands for name in command[command.index("-Q") + 1].split(",")]

    assert sorted(read) == sorted(queue.name for queue in app.conf.task_queues)
    assert all(command[:5] == ["celery", "-A", "fintech", "-q", "worker"] for command in commands)


def test_an_analyzer_imports_no_page():
    program = (
        "import sys; from fintech import celery_app; celery_app.loader.import_default_modules(); "
        "print([name for name in ('apps.panel.admin', 'fintech.urls', 'apps.pipeline.tasks') if name in sys.modules])"
    )
    environment = {"PATH": os.environ["PATH"], "CELERY_SKIP_CHECKS": "true"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "['apps.pipeline.tasks']"


def test_checks_are_left_out_by_processes_that_write_no_links_and_by_no_others(tmp_path):
    roles = [*WORKERS, "beat", "flower"]
    without = [role for role in roles if "skipping" in started(tmp_path, role, SHARD="0")]

    assert without == ["worker-analyzer", "worker-backtests", "beat", "flower"]


def test_an_analyzer_takes_its_shard_from_its_variable(tmp_path):
    assert "analysis.2" in started(tmp_path, "worker-analyzer", SHARD="2")


def test_every_role_is_started_and_documented(tmp_path):
    roles = re.findall(r"^  ([a-z-]+)\)", START.read_text(encoding="utf-8"), re.MULTILINE)

    assert [role for role in roles if not started(tmp_path, role)] == []
    assert [role for role in roles if f"`{role}`" not in DOCUMENT] == []


def test_an_unknown_role_is_refused_with_those_that_there_are():
    done = subprocess.run([START, "wb"], capture_output=True, text=True)

    assert (done.returncode, "'wb' is no role" in done.stderr, "worker-watcher" in done.stderr) == (2, True, True)


@pytest.fixture
def answering():
    """Return a function that listens at a free port, gives one answer there, and returns the port."""
    listeners = []

    def listen(answer: bytes) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def give() -> None:
            connection, _ = listener.accept()
            with connection:
                asked.append(connection.recv(1_000))
                connection.sendall(answer)

        threading.Thread(target=give, daemon=True).start()
        return listener.getsockname()[1]

    asked: list[bytes] = []
    listen.asked = asked
    yield listen
    for listener in listeners:
        listener.close()


def test_the_check_asks_for_200(answering):
    port = answering(b"HTTP/1.1 200 OK\r\n\r\n")

    assert check.check_http(port, "/healthz", host="fintech.example") == ""
    assert answering.asked[0].startswith(b"GET /healthz HTTP/1.0\r\nHost: fintech.example\r\n")


@pytest.mark.parametrize("answer", [b"HTTP/1.1 503 Service Unavailable\r\n\r\n", b"", b"200\r\n"])
def test_any_other_answer_is_unhealthy(answering, answer):
    assert "answers: " in check.check_http(answering(answer), "/healthz", host="localhost")


def test_a_port_at_which_nobody_listens_is_unhealthy(capsys):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert check.main(["port", str(port)]) == 0

    assert check.main(["port", str(port)]) == 1
    assert f"nothing takes connections at port {port}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://fintech.example.org/", "fintech.example.org"),
        ("http://localhost:8080", "localhost"),
        ("http://[::1]:8080", "[::1]"),
        ("http://münchen.example", "localhost"),
        ("", "localhost"),
    ],
)
def test_the_check_asks_by_the_sites_name(url, host):
    assert check.site_host(url) == host


def test_the_check_imports_no_application():
    done = subprocess.run(
        ["python3", "-IS", "-X", "importtime", "compose/check.py"], cwd=ROOT, capture_output=True, text=True
    )

    assert done.returncode == 2
    assert not re.search(r"django|fintech|celery|ssl|email", done.stderr.partition("check.py: ")[0])
