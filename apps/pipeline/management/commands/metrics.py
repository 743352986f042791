"""`manage.py metrics`: gives the metrics of rows and queues to Prometheus. `--document` prints docs/metrics.md."""

import signal
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from django_prometheus import db, middleware
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.metrics import MetricWrapperBase

from apps.command_line import refuse
from apps.market import cache
from apps.metrics.domain import as_markdown
from apps.metrics.exposition import RowMetrics
from apps.metrics.serving import serve
from apps.pipeline.queues import depths

LISTEN = ("127.0.0.1", 9108)


class Command(BaseCommand):
    """Exit status 0 where it was stopped (SIGTERM, Ctrl-C); 2 with one line on standard error where the port is
    taken."""

    help = "Give the metrics of rows and queues at METRICS_LISTEN (127.0.0.1:9108), until it is stopped."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--document", action="store_true", help="print docs/metrics.md, and end")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["document"]:
            self.stdout.write(as_markdown(_of_web()), ending="")
            return
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        registry.register(RowMetrics(depths))
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        host, port = settings.METRICS_LISTEN or LISTEN
        server = serve(registry, listen=(host, port))
        if server is None:
            refuse("metrics", f"cannot listen at {host}:{port}; set METRICS_LISTEN to another one")
        stop.wait()
        server.shutdown()


def _of_web() -> Iterator[tuple[str, str, str, Sequence[str]]]:
    """Yield (name, kind, text, labels) of what the web processes give: django-prometheus' metrics, and the cache's."""
    counted: list[Any] = [cache.LOOKUPS]
    counted += [one for one in vars(db).values() if isinstance(one, MetricWrapperBase)]
    counted += vars(middleware.Metrics.get_instance()).values()
    found = {}
    for one in counted:
        name = one._name if one._type != "counter" else f"{one._name}_total"
        found[name] = (name, one._type, one._documentation, one._labelnames)
    yield from (found[name] for name in sorted(found))
