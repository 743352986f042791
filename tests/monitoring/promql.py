"""What the expressions of rules and dashboards ask for."""

import re
from collections.abc import Iterator

import promql_parser

from apps.metrics.domain import METRICS, Kind

# Of Grafana, in place of a duration; the parser knows none of them.
_VARIABLES = {"$__rate_interval": "1m", "$__interval": "1m", "$__range": "1h"}
# Of Debian's exporters, of celery-exporter, of RabbitMQ's plugin and of Prometheus.
OF_OTHERS = {
    "celery_active_process_count",
    "celery_task_succeeded_total",
    "up",
    "node_filesystem_avail_bytes",
    "node_filesystem_size_bytes",
    "node_load1",
    "node_memory_MemAvailable_bytes",
    "node_memory_MemTotal_bytes",
    "pg_database_size_bytes",
    "pg_stat_database_blks_hit",
    "pg_stat_database_blks_read",
    "pg_stat_database_deadlocks",
    "pg_stat_database_xact_commit",
    "pg_stat_database_xact_rollback",
    "pg_up",
    "rabbitmq_connections",
    "rabbitmq_connections_opened_total",
    "rabbitmq_disk_space_available_bytes",
    "rabbitmq_disk_space_available_limit_bytes",
    "rabbitmq_global_messages_acknowledged_total",
    "rabbitmq_global_messages_received_total",
    "rabbitmq_global_messages_redelivered_total",
    "rabbitmq_process_resident_memory_bytes",
    "rabbitmq_queue_consumers",
    "rabbitmq_queue_messages_ready",
    "rabbitmq_queue_messages_unacked",
    "rabbitmq_resident_memory_limit_bytes",
    "redis_commands_processed_total",
    "redis_connected_clients",
    "redis_keyspace_hits_total",
    "redis_keyspace_misses_total",
    "redis_memory_used_bytes",
    "redis_up",
}
_OF_HISTOGRAM = ("_bucket", "_sum", "_count")


def plain(expression: str) -> str:
    """Return the expression with Grafana's variables replaced: by a minute or an hour, and by whatever there is."""
    for name, value in _VARIABLES.items():
        expression = expression.replace(name, value)
    return re.sub(r"\$\w+", ".*", expression)


def parsed(expression: str):
    """Return the parsed expression; Grafana's variables are replaced. Raises ValueError."""
    return promql_parser.parse(plain(expression))


def selectors(node) -> Iterator[str]:
    """Yield each selector of a parsed expression, as PromQL, without range and offset."""
    if isinstance(node, promql_parser.VectorSelector):
        yield str(node)
        return
    if isinstance(node, promql_parser.MatrixSelector):
        yield from selectors(node.vector_selector)
        return
    for name in ("lhs", "rhs", "expr", "args", "param"):
        child = getattr(node, name, None)
        for one in child if isinstance(child, list) else [child]:
            if one is not None and not isinstance(one, str | int | float | bool):
                yield from selectors(one)


def name_of(selector: str) -> str:
    """Return the name of the metric that a selector asks for."""
    return re.match(r"[a-zA-Z_:][\w:]*", selector).group()


def known_names() -> set[str]:
    """Return the names of the series of every metric of our own."""
    names = {one.name for one in METRICS if one.kind != Kind.HISTOGRAM}
    timed = {one.name for one in METRICS if one.kind == Kind.HISTOGRAM}
    return names | {f"{name}{suffix}" for name in timed for suffix in _OF_HISTOGRAM}
