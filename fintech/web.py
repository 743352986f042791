"""How gunicorn serves the site: it watches over processes that share a socket, and in each works apps.web_server."""

import os
from logging.config import dictConfig
from typing import Any

from django.conf import settings
from gunicorn import glogging
from gunicorn.workers.base import Worker

from apps.web_server import WebServer


class Logger(glogging.Logger):
    """gunicorn … --logger-class fintech.web.Logger: its lines are written as all others are."""

    def setup(self, cfg: Any) -> None:
        """Leave its lines to the root's handler, which Django has not set yet in the process that watches."""
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True
        dictConfig(settings.LOGGING)


class WebWorker(Worker):
    """gunicorn … --worker-class fintech.web.WebWorker --threads N"""

    def run(self) -> None:
        listeners: list[Any] = [one.sock for one in self.sockets]
        server = WebServer(self.wsgi, listeners=listeners, threads=self.cfg.threads)
        while self.alive and self.ppid == os.getppid():
            self.notify()
            server.turn()
        server.close(within_seconds=self.cfg.graceful_timeout)
