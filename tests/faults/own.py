"""Servers of one run: a RabbitMQ, a PostgreSQL and a Redis that a fault may stop, kill and freeze, on their own ports.

Nobody else's servers are touched. Each listens on loopback, keeps its data in the run's folder and ends with the run.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
from django.db import connection
from django.test import override_settings

from apps.market import cache
from tests.rig import free_port, wait_until

RABBITMQ = Path("/usr/lib/rabbitmq/bin")
POSTGRES = Path("/usr/lib/postgresql")
CONNECTIONS = 40


class Server(ABC):
    """One server: a process that is started in `folder`, and started again there."""

    user = ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        # Not on its disk, which may be full.
        self._log = folder.with_name(f"{folder.name}.log")
        if self._user:
            shutil.chown(folder, self._user, self._user)

    @property
    def _user(self) -> str | None:
        """Return whose process it is: PostgreSQL does not run as root."""
        return self.user if self.user and os.geteuid() == 0 else None

    @abstractmethod
    def command(self) -> list[str]:
        """Return the program and its arguments."""

    def environment(self) -> dict[str, str]:
        return {}

    @abstractmethod
    def answers(self) -> bool:
        """Tell whether somebody can connect."""

    def run(self, *command: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start a program as the server's user."""
        with self._log.open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env=os.environ | self.environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=self._user,
                group=self._user,
                **options,
            )

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.process = self.run(*self.command())
        wait_until(self.answers, timeout_seconds=120, every_seconds=0.1)

    def send(self, how: int) -> None:
        """Send it a signal."""
        assert self.process is not None
        os.killpg(self.process.pid, how)

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def log(self) -> str:
        """Return what it has written."""
        return self._log.read_text(errors="replace")

    def fill_disk(self, *, room_megabytes: int = 0) -> None:
        """Leave only so much room on its disk, which must be its own."""
        with (self.folder / "filler").open("wb", buffering=0) as filler, suppress(OSError):
            while shutil.disk_usage(self.folder).free > room_megabytes * 1_000_000:
                filler.write(bytes(1_000_000))

    def free_disk(self) -> None:
        """Take away what filled it."""
        (self.folder / "filler").unlink()

    def end(self, how: int = signal.SIGKILL) -> None:
        """End it by a signal, and wait until it has ended."""
        if self.process is not None and self.process.poll() is None:
            self.send(how)
            self.process.wait(timeout=60)


class Broker(Server):
    """A RabbitMQ node with a name and an epmd of its own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}//"
        self._names, self._distribution = free_port(), free_port()
        self._epmd: subprocess.Popen[bytes] | None = None

    def environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.folder),
            "RABBITMQ_NODENAME": f"faults{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "none"),
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "none"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._names),
        }

    def command(self) -> list[str]:
        return [str(RABBITMQ / "rabbitmq-server")]

    def answers(self) -> bool:
        return _listens(self.port)

    def start(self) -> None:
        if self._epmd is None:
            self._epmd = self.run("epmd", "-port", str(self._names), "-address", "127.0.0.1")
            wait_until(lambda: _listens(self._names))
        super().start()
        # It listens before it has begun with everything, and await_startup may give up at once.
        wait_until(lambda: self._control("await_startup").returncode == 0, timeout_seconds=60)

    def control(self, *arguments: str) -> None:
        """Run rabbitmqctl."""
        done = self._control(*arguments)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"

    def _control(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | self.environment()
        command = [str(RABBITMQ / "rabbitmqctl"), "-q", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)

    def end(self, how: int = signal.SIGKILL, *, with_names: bool = False) -> None:
        super().end(how)
        if with_names and self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait()


class Postgres(Server):
    """A PostgreSQL cluster."""

    user = "postgres"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._programs = max(POSTGRES.glob("*/bin"), key=lambda path: int(path.parent.name))

    def make(self, program: str, *arguments: str) -> None:
        """Make its files by one of PostgreSQL's programs."""
        assert self.run(str(self._programs / program), "-D", str(self.folder / "data"), *arguments).wait() == 0, (
            self.log()
        )

    def command(self) -> list[str]:
        options = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": CONNECTIONS,
            "superuser_reserved_connections": 1,
            "min_wal_size": "2MB",
            "max_wal_size": "32MB",
        }
        flags = [flag for name, value in options.items() for flag in ("-c", f"{name}={value}")]
        return [str(self._programs / "postgres"), "-D", str(self.folder / "data"), *flags]

    def answers(self) -> bool:
        with suppress(psycopg.OperationalError):
            self.connect("postgres").close()
            return True
        return False

    def connect(self, name: str = "") -> psycopg.Connection[Any]:
        """Return a connection as the role that nobody else of the run has, so that there is always room for it."""
        name = name or connection.settings_dict["NAME"]
        return psycopg.connect(host="127.0.0.1", port=self.port, user="fintech", dbname=name, autocommit=True)


class Database(Postgres):
    """A PostgreSQL cluster with a copy of the test's database, empty as that is."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        # Small segments, so that a small disk has room for some.
        self.make("initdb", "-U", "fintech", "-A", "trust", "-N", "-E", "UTF8", "--wal-segsize=1")

    def copy(self, original: Mapping[str, Any]) -> None:
        """Copy the test's database into the cluster."""
        with self.connect("postgres") as admin:
            admin.execute(f'CREATE DATABASE "{original["NAME"]}"'.encode())
            admin.execute("CREATE ROLE site LOGIN")
            admin.execute(f'ALTER DATABASE "{original["NAME"]}" OWNER TO site'.encode())
        dump = subprocess.run(
            [
                str(self._programs / "pg_dump"),
                *("-h", original["HOST"], "-p", str(original["PORT"]), "-U", original["USER"], "--no-owner", "-x"),
                original["NAME"],
            ],
            env=os.environ | {"PGPASSWORD": original["PASSWORD"]},
            capture_output=True,
            check=True,
        )
        psql = [str(self._programs / "psql"), "-qX", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(self.port)]
        subprocess.run([*psql, "-U", "site", original["NAME"]], input=dump.stdout, capture_output=True, check=True)

    def start(self) -> None:
        super().start()
        # Django's own connection to the one before is dead.
        connection.close()


class Replica(Postgres):
    """A cluster that follows a database by streaming replication."""

    def __init__(self, folder: Path, *, of: Database) -> None:
        super().__init__(folder)
        place = ("-h", "127.0.0.1", "-p", str(of.port), "-U", "fintech")
        self.make("pg_basebackup", *place, "-R", "-X", "stream", "-c", "fast")


class Redis(Server):
    """A Redis that keeps nothing."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        return ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]

    def answers(self) -> bool:
        return _listens(self.port)


@contextmanager
def _disk(folder: Path, *, megabytes: int) -> Iterator[None]:
    assert os.geteuid() == 0, "A disk of a run's own is a mount (tmpfs), for which this test must run as root."
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        # Lazily: whoever still ends has files open there.
        subprocess.run(["umount", "-l", folder], check=True)


def _listens(port: int) -> bool:
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def own_servers(names: Iterable[str], *, disk_megabytes: int = 0) -> Iterator[dict[str, Any]]:
    """Give servers by their names, "broker", "database" and "redis", with the settings of this process set to them.

    disk_megabytes: each has a disk of its own of this size, in memory, for which this process must be root's; 0: none.
    """
    with ExitStack() as stack:
        # Not in the test's folder, which only its user may enter.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True)))
        folder.chmod(0o755)
        made: dict[str, Any] = {}
        for name in names:
            (folder / name).mkdir()
            if disk_megabytes:
                stack.enter_context(_disk(folder / name, megabytes=disk_megabytes))
            made[name] = stack.enter_context(_SERVERS[name](folder / name))
        yield made


@contextmanager
def _broker(folder: Path) -> Iterator[Broker]:
    broker, before = Broker(folder), os.environ["CELERY_BROKER_URL"]
    try:
        broker.start()
        # Celery reads the variable before its setting.
        os.environ["CELERY_BROKER_URL"] = broker.url
        with override_settings(CELERY_BROKER_URL=broker.url):
            yield broker
    finally:
        os.environ["CELERY_BROKER_URL"] = before
        broker.end(with_names=True)


@contextmanager
def _database(folder: Path) -> Iterator[Database]:
    database, before = Database(folder), dict(connection.settings_dict)
    try:
        database.start()
        database.copy(before)
        connection.close()
        connection.settings_dict |= {"HOST": "127.0.0.1", "PORT": database.port, "USER": "site", "PASSWORD": "none"}
        yield database
    finally:
        connection.close()
        connection.settings_dict.update(before)
        database.end(signal.SIGQUIT)


@contextmanager
def own_replica(database: Database) -> Iterator[Replica]:
    """Give a replica of a server that `own_servers` gave."""
    folder = database.folder.with_name("replica")
    folder.mkdir()
    replica = Replica(folder, of=database)
    try:
        replica.start()
        yield replica
    finally:
        replica.end(signal.SIGQUIT)


@contextmanager
def _redis(folder: Path) -> Iterator[Redis]:
    server = Redis(folder)
    try:
        server.start()
        with override_settings(REDIS_URL=server.url):
            cache._client.cache_clear()
            cache._script.cache_clear()
            yield server
    finally:
        cache._client.cache_clear()
        cache._script.cache_clear()
        server.end()


_SERVERS = {"broker": _broker, "database": _database, "redis": _redis}
