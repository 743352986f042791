"""The network between the processes of a run and its servers: N1 holds it up, N2 makes it slow and lossy.

Each server has a door of its own (tests/forwarder.py), and every connection of a process goes through one. A network of
the kernel would need rights that not every machine gives; a door cannot lose single packets, but what TCP makes of lost
packets, which is a pause or an end, it can.
"""

import random
from collections.abc import Mapping
from urllib.parse import urlsplit

from django.conf import settings
from django.db import connection

from tests.forwarder import Forwarder

BROKER, DATABASE, REDIS, RECEIVER = "broker", "database", "redis", "receiver"


class Network:
    """Doors to the broker, the database, Redis, and the receiver of notifications. doors: by these names."""

    def __init__(self, *, receiver_port: int, rng: random.Random) -> None:
        ports = {
            BROKER: urlsplit(settings.CELERY_BROKER_URL).port or 5672,
            DATABASE: int(connection.settings_dict["PORT"] or 5432),
            REDIS: urlsplit(settings.REDIS_URL).port or 6379,
            RECEIVER: receiver_port,
        }
        self.doors = {name: Forwarder(port, rng=rng) for name, port in ports.items()}

    def open(self) -> None:
        for door in self.doors.values():
            door.open()

    def close(self) -> None:
        for door in self.doors.values():
            door.close()
            door.cut()

    def hold(self) -> None:
        for door in self.doors.values():
            door.hold()

    def release(self) -> None:
        for door in self.doors.values():
            door.release()

    @property
    def environment(self) -> Mapping[str, str]:
        """Return the variables of a process whose connections go through the doors."""
        database = "postgres://{USER}:{PASSWORD}@127.0.0.1:{PORT}/{NAME}".format(
            **connection.settings_dict | {"PORT": self.doors[DATABASE].port}
        )
        return {
            "DATABASE_URL": database,
            "CELERY_BROKER_URL": _through(settings.CELERY_BROKER_URL, self.doors[BROKER]),
            "REDIS_URL": _through(settings.REDIS_URL, self.doors[REDIS]),
        }


def _through(url: str, door: Forwarder) -> str:
    parts = urlsplit(url)
    user = parts.netloc.rpartition("@")[0]
    return parts._replace(netloc=f"{user}@127.0.0.1:{door.port}" if user else f"127.0.0.1:{door.port}").geturl()
