"""How gunicorn serves the site: it watches over processes that share a socket, and in each works apps.web_server."""

import os
from typing import Any

from gunicorn.workers.base import Worker

from apps.web_server import WebServer


class WebWorker(Worker):
    """gunicorn … --worker-class fintech.web.WebWorker --threads N"""

    def run(self) -> None:
        listeners: list[Any] = [one.sock for one in self.sockets]
        server = WebServer(self.wsgi, listeners=listeners, threads=self.cfg.threads)
        while self.alive and self.ppid == os.getppid():
            self.notify()
            server.turn()
        server.close(within_seconds=self.cfg.graceful_timeout)
