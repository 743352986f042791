"""Starts celery-exporter: CE_LISTEN=127.0.0.1:9808 CE_BROKER_URL=amqp://… python run.py

The address of the broker has a password, so it is no argument, which whoever lists processes would see.
"""

import os
import sys
import threading
import time
from contextlib import suppress

from celery import Celery
from kombu.exceptions import OperationalError
from src.cli import cli  # the package's own name for itself

ENABLE_EVERY_SECONDS = 15


def enable_events(broker_url: str) -> None:
    """Ask all workers again and again to send events of their tasks, since one that has just started sends none."""
    app = Celery(broker=broker_url)
    while True:
        with suppress(OperationalError, OSError):
            app.control.enable_events()
        time.sleep(ENABLE_EVERY_SECONDS)


if __name__ == "__main__":
    broker_url = os.environ.get("CE_BROKER_URL", "")
    host, _, port = os.environ.get("CE_LISTEN", "0.0.0.0:9808").rpartition(":")
    if not broker_url or not host or not port.isdecimal():
        sys.exit("celery-exporter: set CE_BROKER_URL, and CE_LISTEN to host:port")
    os.environ |= {"CE_HOST": host, "CE_PORT": port}
    os.environ.setdefault("CE_RETRY_INTERVAL", "5")
    threading.Thread(target=enable_events, args=(broker_url,), daemon=True).start()
    cli(auto_envvar_prefix="CE")
