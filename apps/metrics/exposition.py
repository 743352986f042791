"""The metrics of rows and queues in the form that Prometheus reads."""

import logging
from collections.abc import Callable, Iterable, Iterator
from threading import Lock

from django.db import DatabaseError, InterfaceError, connection, connections, transaction
from django.utils import timezone
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family

from apps import replica
from apps.metrics.domain import BY_NAME, Histogram, Kind, Metric, Sample
from apps.metrics.queries import Depths, of_queues, samples

logger = logging.getLogger(__name__)

# The rows are read in a second, or not at all.
_READ_ONLY = "SET LOCAL transaction_read_only = on; SET LOCAL statement_timeout = 900"


class RowMetrics:
    """A collector of prometheus_client: asks the servers anew each time it is asked, one reader at a time."""

    def __init__(self, depths: Callable[[], Depths | None]) -> None:
        self._depths = depths
        self._lock = Lock()

    def describe(self) -> list[Family]:
        """Say nothing in advance: to register it reads no rows."""
        return []

    def collect(self) -> Iterator[Family]:
        """Yield the families of all metrics of rows, queues and the replica."""
        with self._lock:
            found = [*read_rows(), *read_queues(self._depths), *read_replica()]
        yield from families(found)


def read_rows() -> list[Sample]:
    """Return what the rows say, or only that they cannot be read."""
    try:
        if connection.vendor == "postgresql":
            with transaction.atomic():
                with connection.cursor() as cursor:
                    cursor.execute(_READ_ONLY)
                found = list(samples(now=timezone.now()))
        else:
            # A transaction of SQLite would wait for whoever writes.
            found = list(samples(now=timezone.now()))
    except (DatabaseError, InterfaceError) as error:
        logger.warning("rows not read", extra={"reason": type(error).__name__})
        return [Sample("fintech_database_up", 0)]
    finally:
        # Each scrape is a thread of its own; what it leaves open nobody closes.
        if not connection.in_atomic_block:
            connection.close()
    return [Sample("fintech_database_up", 1), *found]


def read_queues(depths: Callable[[], Depths | None]) -> list[Sample]:
    """Return what the broker says of its queues, or only that it says nothing."""
    known = depths()
    return [Sample("fintech_broker_up", known is not None), *of_queues(known or {})]


def read_replica() -> list[Sample]:
    """Return how the replica of the database is; nothing where there is none."""
    if not replica.is_configured():
        return []
    state = replica.state()
    for one in connections.all(initialized_only=True):
        if one.alias == replica.ALIAS:
            one.close()
    known = [Sample("fintech_replica_read", not state.why_not)]
    if state.behind is not None:
        known.append(Sample("fintech_replica_behind_seconds", state.behind.total_seconds()))
    return known


def families(found: Iterable[Sample]) -> Iterator[Family]:
    """Yield the samples of each metric together, as the format wants them, in the order of the catalogue."""
    by_name: dict[str, list[Sample]] = {}
    for sample in found:
        by_name.setdefault(sample.name, []).append(sample)
    for name, metric in BY_NAME.items():
        if name in by_name:
            yield _family(metric, by_name.pop(name))
    if by_name:
        raise KeyError(f"not in the catalogue of metrics: {', '.join(by_name)}")


def _family(metric: Metric, found: Iterable[Sample]) -> Family:
    labels = list(metric.labels)
    if metric.kind == Kind.HISTOGRAM:
        timed = HistogramMetricFamily(metric.name, metric.text, labels=labels)
        for sample in found:
            if isinstance(sample.value, Histogram):
                timed.add_metric(sample.labels, list(sample.value.buckets), sample.value.total)
        return timed
    of_kind = CounterMetricFamily if metric.kind == Kind.COUNTER else GaugeMetricFamily
    family = of_kind(metric.name.removesuffix("_total"), metric.text, labels=labels)
    for sample in found:
        family.add_metric(sample.labels, sample.value)
    return family
