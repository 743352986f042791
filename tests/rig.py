"""The real thing for tests: workers and beat as processes of their own, on the test's database, broker and Redis."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from celery import current_app
from django.conf import settings
from django.db import connection

from apps.pipeline.queues import dead_letter_queue, other_queues, work_queues

ROOT = Path(__file__).resolve().parent.parent
# As compose/start.sh starts beat, analyzers and backtests: Django's checks take a third of the time of their start.
WITHOUT_CHECKS = {"CELERY_SKIP_CHECKS": "true"}


class Rig:
    """Processes of one test. Everything that was started is ended with it."""

    def __init__(self, log_folder: Path, environment: dict[str, str]) -> None:
        self._log_folder = log_folder
        self._environment = environment
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str, name: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start `python -m …` in a process group of its own; its output goes to NAME.log in the test's folder."""
        return self.run(sys.executable, "-m", *arguments, name=name, **environment)

    def run(self, *command: str, name: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start any program in the same way."""
        with (self._log_folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=self._environment | environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def worker(
        self, *queues: str, name: str = "worker", concurrency: int = 1, include: str = "", **environment: str
    ) -> Any:
        """Start a worker on these queues (all of them by default); include: a module with further tasks."""
        names = queues or tuple(queue.name for queue in work_queues())
        if all(one.startswith("analysis.") or one == "backtests" for one in names):
            environment |= WITHOUT_CHECKS
        return self.start(
            *("celery", "-A", "fintech", "worker", "-n", f"{name}@%h", "-Q", ",".join(names)),
            *("-c", str(concurrency), "--without-mingle", "--without-gossip", "-l", "INFO"),
            *(("-I", include) if include else ()),
            name=name,
            **environment,
        )

    def beat(self, *, name: str = "beat", **environment: str) -> Any:
        """Start a beat."""
        environment |= WITHOUT_CHECKS
        return self.start("celery", "-A", "fintech", "beat", "--pidfile=", "-l", "INFO", name=name, **environment)

    def log(self, name: str) -> str:
        """Return what a process has written."""
        path = self._log_folder / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def kill(self, process: subprocess.Popen[bytes], how: int = signal.SIGKILL) -> None:
        """End a process and its children."""
        with suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        process.wait(timeout=30)

    def stop(self) -> None:
        """End everything that is still there."""
        for process in self.processes:
            if process.poll() is None:
                self.kill(process)


@contextmanager
def rig(log_folder: Path, **environment: str) -> Iterator[Rig]:
    """Give a rig on this test's own database; its queues are empty at the beginning."""
    one = Rig(log_folder, process_environment() | environment)
    purge_queues()
    try:
        yield one
    except BaseException as error:
        for path in sorted(log_folder.glob("*.log")):
            error.add_note(f"The end of {path.name}:\n{path.read_text(errors='replace')[-2_000:]}")
        raise
    finally:
        one.stop()
        purge_queues()


def process_environment() -> dict[str, str]:
    database = connection.settings_dict
    url = "postgres://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format(**database)
    # As `make dev` starts them: nobody names the settings there.
    inherited = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    return inherited | {
        "DATABASE_URL": url,
        "CELERY_BROKER_URL": settings.CELERY_BROKER_URL,
        "REDIS_URL": settings.REDIS_URL,
        "DJANGO_DEBUG": "true",
        "DJANGO_SECRET_KEY": settings.SECRET_KEY,
        "C_FORCE_ROOT": "1",
        "PYTHONWARNINGS": "ignore",
    }


def purge_queues() -> None:
    """Declare every queue and empty it."""
    with current_app.connection_for_write() as broker:
        channel = broker.default_channel
        for queue in (*other_queues(), *work_queues()):
            bound = queue.bind(channel)
            bound.declare()
            bound.purge()


def queue_lengths() -> dict[str, int]:
    """Return queue -> messages waiting, asked of the broker itself (rabbitmqctl lags by seconds)."""
    with current_app.connection_for_write() as broker:
        channel = broker.default_channel
        return {
            queue.name: channel.queue_declare(queue.name, passive=True).message_count
            for queue in (*other_queues(), *work_queues())
        }


class DeadMessage(NamedTuple):
    """A message in the queue of dead letters. task is None for what is not a task; queue and reason say where it was,
    and why it is there (RabbitMQ's words)."""

    task: str | None
    queue: str
    reason: str
    body: bytes


def dead_letters() -> list[DeadMessage]:
    """Return what is in the queue of dead letters, and leave nothing there."""
    with current_app.connection_for_write() as broker:
        found = []
        # Not by Kombu's queue, which unpacks what it gets.
        while (one := broker.default_channel.basic_get(dead_letter_queue().name, no_ack=True)) is not None:
            body = one.body if isinstance(one.body, bytes) else one.body.encode("utf-8", "surrogatepass")
            first = one.headers["x-death"][-1]
            found.append(DeadMessage(one.headers.get("task"), first["queue"], first["reason"], body))
        return found


def free_port() -> int:
    """Return a port of the loopback that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_until(what: Callable[[], Any], *, timeout_seconds: float = 60, every_seconds: float = 0.05) -> Any:
    """Return the first true answer of `what`; fail after the timeout.

    A time in which this process stood still counts as a second at most: the whole machine may have stood still.
    """
    waited = 0.0
    while waited < timeout_seconds:
        began = time.monotonic()
        answer = what()
        if answer:
            return answer
        time.sleep(every_seconds)
        waited += min(time.monotonic() - began, 1.0)
    raise AssertionError(f"not within {timeout_seconds} s: {what}")
