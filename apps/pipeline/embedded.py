"""Worker, beat, web server and the server of streams as threads of one process, for a demo with nothing but Python.

The in-process broker loses its queues when the process ends; `sweep` dispatches the work again from the rows.
"""

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery
from celery.beat import Service
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.utils.module_loading import import_string

from apps.pipeline.queues import work_queues
from apps.web_server import WebServer

# One of them may be busy with a backtest for a while; flow.py starts no second one meanwhile.
WORKER_THREADS = 5
STREAMS_LARGEST = 50
WEB_THREADS = 4
STOP_SECONDS = 5


class PortTaken(OSError):
    """Another process listens there already."""


def listen(*, host: str, port: int) -> socket.socket:
    """Return a socket that listens there; port 0 takes a free one. Raises PortTaken."""
    try:
        return socket.create_server((host, port))
    except OSError as error:
        raise PortTaken(str(error)) from None


@contextmanager
def running(app: Celery, *, listener: socket.socket, streams: socket.socket) -> Iterator[int]:
    """Run everything while the context lasts; gives the port that the site listens on. streams: of /graphql/stream."""
    logging.getLogger("waitress").setLevel(logging.ERROR)
    server = WebServer(get_wsgi_application(), listeners=[listener], threads=WEB_THREADS)
    app.loader.import_default_modules()
    app.finalize()
    queues = [queue.name for queue in work_queues()]
    worker = app.Worker(
        pool="threads", concurrency=WORKER_THREADS, queues=queues, quiet=True, without_mingle=True,
        without_gossip=True, without_heartbeat=True, loglevel="WARNING",
    )  # fmt: skip
    beat = Service(app, max_interval=1, scheduler_cls=app.conf.beat_scheduler)
    live = import_string(settings.STREAM_SERVER)(streams_largest=STREAMS_LARGEST)
    is_stopping = threading.Event()

    def serve() -> None:
        while not is_stopping.is_set():
            server.turn()
        server.close(within_seconds=STOP_SECONDS)

    threads = [
        threading.Thread(target=target, args=args, name=name, daemon=True)
        for name, target, args in (
            ("web", serve, ()),
            ("live", live.run, ([streams],)),
            ("worker", worker.start, ()),
            ("beat", beat.start, (True,)),
        )
    ]
    for thread in threads:
        thread.start()
    try:
        yield server.port
    finally:
        is_stopping.set()
        live.should_exit = True
        beat.stop()
        worker.stop()
        _join(threads)


def _join(threads: list[Any]) -> None:
    for thread in threads:
        thread.join(timeout=STOP_SECONDS)
