"""Every metric of our own: its name, what it means, its labels and the process that gives it. Pure.

Sets of labels are closed: no metric names an owner, a channel or a rule, and of assets there are only counts.
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from apps.totals import BOUNDS


class Kind(StrEnum):
    """The kinds of metrics, as Prometheus calls them."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Process(StrEnum):
    """The processes that give metrics of our own."""

    METRICS = "metrics"
    WORKER = "worker"
    BEAT = "beat"
    INGEST = "ingest"


class Metric(NamedTuple):
    """name: with its unit, and _total where it is a counter; labels: label -> the values it may have, in words."""

    name: str
    kind: Kind
    text: str
    labels: Mapping[str, str] = {}
    process: Process = Process.METRICS


class Histogram(NamedTuple):
    """buckets: (upper bound, how many were not longer), the last of them +Inf; total: the sum of what was measured."""

    buckets: Sequence[tuple[str, float]]
    total: float


class Sample(NamedTuple):
    """One value of one metric; labels: the values of its labels, in its order."""

    name: str
    value: float | Histogram
    labels: tuple[str, ...] = ()


TASK_OUTCOMES = ("succeeded", "failed", "timed_out", "expired", "revoked")
# Of a run that is no outcome, since the task runs again.
MESSAGE_OUTCOMES = ("stored", "refused", "requeued")

_FEED = "the feed's name; owned: all feeds of owners"
_KIND = "kind of the entry: quotes, rules, history, split, correction, series"
_ALERT = {
    "feed": "the feed's name; empty: no feed's",
    "kind": "kind of the alert, like condition, error, system",
    "severity": "info, warning, critical",
}
_PROVIDER = "a provider of docs/feeds.md"
_QUEUE = "the queue's name"

_COUNTER, _GAUGE, _HISTOGRAM = Kind

METRICS: tuple[Metric, ...] = (
    # Quotes and entries received, from the feeds' heads.
    Metric("fintech_entries_total", _COUNTER, "Entries appended to feeds' logs.", {"feed": _FEED, "kind": _KIND}),
    Metric(
        "fintech_quotes_total",
        _COUNTER,
        "Quotes that came, by what became of them; those refused are in fintech_quotes_rejected_total.",
        {"feed": _FEED, "outcome": "accepted, late, repeated, unconfirmed"},
    ),
    Metric(
        "fintech_quotes_rejected_total",
        _COUNTER,
        "Quotes that were not stored.",
        {"feed": _FEED, "reason": "a code of docs/feeds.md"},
    ),
    Metric(
        "fintech_past_quotes_total",
        _COUNTER,
        "Quotes of the past that were appended.",
        {"feed": _FEED, "kind": "history, correction"},
    ),
    Metric(
        "fintech_fetches_failed_total",
        _COUNTER,
        "Slots for which no provider answered.",
        {"feed": _FEED, "reason": "a code of docs/feeds.md"},
    ),
    Metric("fintech_slots_missed_total", _COUNTER, "Slots that passed without a fetch.", {"feed": _FEED}),
    # Evaluations and alerts, from the evaluation cursors.
    Metric("fintech_entries_evaluated_total", _COUNTER, "Entries evaluated.", {"feed": _FEED, "kind": _KIND}),
    Metric(
        "fintech_quote_evaluation_seconds",
        _HISTOGRAM,
        "From the receipt of a quote until its evaluation was written; each accepted quote counts once.",
        {"feed": _FEED},
    ),
    Metric(
        "fintech_quote_to_alert_seconds",
        _HISTOGRAM,
        "From the receipt of the entry that opened an alert until the alert was written.",
        {"feed": _FEED},
    ),
    Metric("fintech_alerts_opened_total", _COUNTER, "Alerts of rules and of the installation that opened.", _ALERT),
    Metric("fintech_alerts_resolved_total", _COUNTER, "Alerts of rules and of the installation that resolved.", _ALERT),
    Metric("fintech_alerts_open", _GAUGE, "Alerts open now.", {key: _ALERT[key] for key in ("kind", "severity")}),
    # Notifications and messages.
    Metric(
        "fintech_delivery_attempts_total",
        _COUNTER,
        "Attempts to send a message that ended.",
        {
            "transport": "kind of the channel, like email, webhook",
            "outcome": "delivered, transient_failure, permanent_failure",
        },
    ),
    Metric(
        "fintech_message_delivery_seconds",
        _HISTOGRAM,
        "From the making of a message, after group wait and silences, until its receiver took it.",
        {"transport": "kind of the channel"},
    ),
    Metric("fintech_notifications_due", _GAUGE, "Notifications that are due and in no message yet."),
    Metric("fintech_oldest_due_notification_age_seconds", _GAUGE, "For how long the oldest of them has been due."),
    Metric("fintech_messages_unsent", _GAUGE, "Messages that are neither delivered nor given up."),
    Metric("fintech_oldest_unsent_message_age_seconds", _GAUGE, "How long ago the oldest of them was made."),
    Metric(
        "fintech_channels",
        _GAUGE,
        "Channels by how they are.",
        {"state": "working, failing (their last attempt failed), off"},
    ),
    # Backlogs and ages.
    Metric("fintech_entries_not_evaluated", _GAUGE, "Entries that wait to be evaluated."),
    Metric("fintech_oldest_entry_not_evaluated_age_seconds", _GAUGE, "How long ago the oldest of them was received."),
    Metric(
        "fintech_log_lag_entries",
        _GAUGE,
        "By how many entries a reader of a feed's log is behind its end.",
        {"feed": _FEED, "reader": "evaluation, rollup"},
    ),
    Metric("fintech_feed_enabled", _GAUGE, "1 where the feed is fetched, 0 where it is paused.", {"feed": _FEED}),
    Metric("fintech_feed_live", _GAUGE, "1 where the feed's clock is this machine's.", {"feed": _FEED}),
    Metric("fintech_feed_interval_seconds", _GAUGE, "How often the feed is fetched.", {"feed": _FEED}),
    Metric("fintech_feed_failures", _GAUGE, "Slots in a row for which no provider answered.", {"feed": _FEED}),
    Metric(
        "fintech_feed_newest_quote_age_seconds",
        _GAUGE,
        "How long ago the newest quote of a live feed was true.",
        {"feed": _FEED},
    ),
    Metric("fintech_assets", _GAUGE, "Assets of the feed.", {"feed": _FEED}),
    Metric(
        "fintech_provider_daily_calls_limit",
        _GAUGE,
        "Calls in 24 hours that a provider allows, of each that feeds ask and that has such a limit.",
        {"provider": _PROVIDER},
    ),
    Metric(
        "fintech_provider_daily_calls_left",
        _GAUGE,
        "About how many of them are left, by the logs of the feeds that ask it at its public address.",
        {"provider": _PROVIDER},
    ),
    # Health.
    Metric("fintech_problems", _GAUGE, "Problems that the last check found.", {"code": "a code of apps/health"}),
    Metric(
        "fintech_problems_by_subject",
        _GAUGE,
        "Problems that the last check found, without those that people intend.",
        {"subject": "system, feed, asset, channel, rule", "level": "degraded, stopped"},
    ),
    Metric("fintech_tick_age_seconds", _GAUGE, "Since the last tick that a worker finished; +Inf: there was none."),
    Metric("fintech_check_age_seconds", _GAUGE, "Since the last check of health; +Inf: there was none."),
    # The servers.
    Metric("fintech_database_up", _GAUGE, "1 where the rows could be read; 0: then no other metric of rows is given."),
    Metric("fintech_database_connections", _GAUGE, "Connections to this database (PostgreSQL)."),
    Metric("fintech_database_connections_limit", _GAUGE, "Connections that the server allows (PostgreSQL)."),
    Metric(
        "fintech_replica_read", _GAUGE, "1 where the replica is read; 0: the primary, for it (DATABASE_REPLICA_URL)."
    ),
    Metric(
        "fintech_replica_behind_seconds",
        _GAUGE,
        "Age of the last transaction that the replica has replayed; absent where it does not say so.",
    ),
    Metric("fintech_broker_up", _GAUGE, "1 where the broker says how long its queues are (RabbitMQ)."),
    Metric("fintech_queue_messages", _GAUGE, "Messages that wait in the queue (RabbitMQ).", {"queue": _QUEUE}),
    Metric("fintech_queue_consumers", _GAUGE, "Consumers of the queue (RabbitMQ).", {"queue": _QUEUE}),
    Metric("fintech_reading_seconds", _GAUGE, "How long it took to read all this."),
    # Tasks, in the main process of each worker.
    Metric(
        "fintech_tasks_total",
        _COUNTER,
        "Tasks that came to an end. Each counts once, unless its acknowledgement was lost and it ran again.",
        {"task": "its name", "outcome": ", ".join(TASK_OUTCOMES)},
        Process.WORKER,
    ),
    Metric(
        "fintech_task_repeats_total",
        _COUNTER,
        "Runs of tasks that did not end, since their process was lost: the task runs again.",
        {"task": "its name"},
        Process.WORKER,
    ),
    Metric(
        "fintech_task_seconds",
        _HISTOGRAM,
        "How long tasks that succeeded ran.",
        {"task": "its name"},
        Process.WORKER,
    ),
    Metric("fintech_beat_sent_total", _COUNTER, "Tasks that beat has sent.", {"task": "its name"}, Process.BEAT),
    Metric(
        "fintech_pushed_messages_total",
        _COUNTER,
        "Messages read from the queue of pushed quotes.",
        {"outcome": ", ".join(MESSAGE_OUTCOMES)},
        Process.INGEST,
    ),
)
BY_NAME = {metric.name: metric for metric in METRICS}


def of_process(process: Process) -> list[Metric]:
    """Return the metrics that a process gives."""
    return [metric for metric in METRICS if metric.process == process]


def as_markdown(web: Iterable[tuple[str, str, str, Sequence[str]]]) -> str:
    """Return docs/metrics.md. web: (name, kind, text, labels) of what the web processes give."""
    parts = [_TOP]
    for process, (title, intro) in _SECTIONS.items():
        parts.append(f"## {title}\n{intro}\n\n| name | kind | labels | what it says |\n|---|---|---|---|\n")
        for one in of_process(process):
            labels = "; ".join(f"`{label}`: {values}" for label, values in one.labels.items()) or "–"
            parts.append(f"| `{one.name}` | {one.kind} | {labels} | {one.text} |\n")
        parts.append("\n")
    parts.append(_WEB)
    for name, kind, text, labels in web:
        parts.append(f"| `{name}` | {kind} | {', '.join(f'`{one}`' for one in labels) or '–'} | {text} |\n")
    return "".join(parts)


_BOUNDS = ", ".join(f"{bound:g}" for bound in BOUNDS)
_TOP = f"""# Metrics
Written by `manage.py metrics --document`; a test compares it.

Histograms have the bounds {_BOUNDS} s. No metric names an owner, a channel or a
rule. Counters of rows are kept in rows that the same transaction writes, so neither a restart nor pruning turns one
back; where a feed is deleted, its series end. See [ADR 49](adr/0049-totals-stand-in-rows.md).

"""
_SECTIONS = {
    Process.METRICS: (
        "What the rows say",
        "By `manage.py metrics`, one process, at port 9108. It reads at each scrape, in one read-only transaction.",
    ),
    Process.WORKER: (
        "Tasks",
        "By the main process of each worker, at the port in its `METRICS_LISTEN`. Its child processes count nothing, "
        "so a child that is killed takes no count with it.",
    ),
    Process.BEAT: ("Beat", "By beat, at port 9106."),
    Process.INGEST: ("Ingest", "By `manage.py ingest`, at port 9105."),
}
_WEB = """## Web
By the web processes together, at `/metrics`, for [a token of the scope `metrics`](operations.md#metrics). Those named
`django_…` are django-prometheus' own, of PostgreSQL and SQLite alike.

| name | kind | labels | what it says |
|---|---|---|---|
"""
