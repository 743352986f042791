"""Metrics that a process counts by itself, and the server at which Prometheus reads any. It reads no rows, and knows no
models: a worker loads it before Django is set up."""

import logging
from typing import Any
from wsgiref.simple_server import WSGIServer

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    start_http_server,
)

from apps.metrics.domain import Kind, Metric, Process, of_process
from apps.totals import BOUNDS

logger = logging.getLogger(__name__)
# A further series for each counter, of when it was made.
disable_created_metrics()


class ProcessMetrics:
    """The metrics that one process counts by itself, and how that process does."""

    def __init__(self, process: Process) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._counted: dict[str, Any] = {metric.name: self._made(metric) for metric in of_process(process)}

    def _made(self, metric: Metric) -> Any:
        given = {"labelnames": list(metric.labels), "registry": self.registry}
        if metric.kind == Kind.HISTOGRAM:
            return Histogram(metric.name, metric.text, buckets=BOUNDS, **given)
        return Counter(metric.name.removesuffix("_total"), metric.text, **given)

    def __getitem__(self, name: str) -> Any:
        """Return the counter or histogram of this name."""
        return self._counted[name]


def serve(registry: CollectorRegistry, *, listen: tuple[str, int] | None) -> WSGIServer | None:
    """Serve the registry's metrics at `listen` in a thread, and return the server; None where nothing is to listen, or
    something else does: a process is worth more than its metrics."""
    if listen is None:
        return None
    host, port = listen
    try:
        server, _ = start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        logger.warning("metrics not served", extra={"host": host, "port": port, "reason": str(error)})
        return None
    return server
