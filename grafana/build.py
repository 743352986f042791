"""Writes the dashboards in grafana/dashboards, in the classic JSON form that Grafana 10 and later read: `python
grafana/build.py`. A test compares them."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent / "dashboards"
PROMETHEUS = {"type": "prometheus", "uid": "fintech-prometheus"}
POSTGRES = {"type": "grafana-postgresql-datasource", "uid": "fintech-postgres"}
_WIDTH = 24
Panel = dict[str, Any]
Target = dict[str, Any]


def prom(expression: str, legend: str = "") -> Target:
    """Return a query of Prometheus."""
    return {"datasource": PROMETHEUS, "expr": expression, "legendFormat": legend or "__auto", "range": True}


def now(expression: str, legend: str = "") -> Target:
    """Return a query of Prometheus for the newest value alone."""
    one = prom(expression, legend)
    return {**one, "range": False, "instant": True}


def sql(statement: str, *, form: str = "time_series") -> Target:
    """Return a query of PostgreSQL, by the views of the schema dashboards."""
    return {"datasource": POSTGRES, "rawSql": statement, "rawQuery": True, "editorMode": "code", "format": form}


def _panel(kind: str, title: str, text: str, targets: Iterable[Target], unit: str, *, width: int, height: int) -> Panel:
    queries = [{"refId": chr(ord("A") + number), **target} for number, target in enumerate(targets)]
    return {
        "type": kind,
        "title": title,
        "description": text,
        "datasource": queries[0]["datasource"],
        "targets": queries,
        "fieldConfig": {"defaults": {"unit": unit, "custom": {}}, "overrides": []},
        "options": {},
        "gridPos": {"w": width, "h": height, "x": 0, "y": 0},
    }


def lines(title: str, text: str, unit: str, *targets: Target, width: int = 12, height: int = 8) -> Panel:
    """Return a panel of lines over time."""
    return _panel("timeseries", title, text, targets, unit, width=width, height=height)


def number(title: str, text: str, unit: str, *targets: Target, bad: float | None = None, width: int = 6) -> Panel:
    """Return a panel with the newest value; bad: from where on it is red."""
    panel = _panel("stat", title, text, targets, unit, width=width, height=4)
    if bad is not None:
        steps = [{"color": "green", "value": None}, {"color": "red", "value": bad}]
        panel["fieldConfig"]["defaults"]["thresholds"] = {"mode": "absolute", "steps": steps}
    panel["options"] = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}}
    return panel


def table(title: str, text: str, unit: str, *targets: Target, width: int = 24, height: int = 9) -> Panel:
    """Return a table."""
    return _panel("table", title, text, targets, unit, width=width, height=height)


def _intro(content: str) -> Panel:
    return {
        "type": "text",
        "title": "",
        "options": {"mode": "markdown", "content": content},
        "gridPos": {"w": _WIDTH, "h": 3, "x": 0, "y": 0},
    }


def choice(name: str, label: str, query: str, datasource: dict[str, str], *, several: bool = False) -> dict[str, Any]:
    """Return a variable that readers choose."""
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": datasource,
        "query": query,
        "refresh": 2,
        "sort": 1,
        "multi": several,
        "includeAll": several,
        "allValue": ".*" if several else None,
        "current": {"text": "All", "value": "$__all"} if several else {},
    }


FEED = choice("feed", "feed", "label_values(fintech_feed_enabled, feed)", PROMETHEUS, several=True)
SYMBOL = choice("symbol", "asset", "SELECT symbol FROM dashboards.assets ORDER BY symbol", POSTGRES)
ALERTS_OF_SYMBOL = {
    "name": "Alerts",
    "datasource": POSTGRES,
    "enable": True,
    "iconColor": "red",
    "target": {
        "refId": "Anno",
        "rawQuery": True,
        "format": "table",
        "rawSql": "SELECT opened_at AS time, resolved_at AS timeend, severity AS text, trace_id AS tags "
        "FROM dashboards.alerts WHERE symbol = '$symbol' AND $__timeFilter(opened_at)",
    },
}


def dashboard(
    slug: str,
    title: str,
    intro: str,
    *panels: Panel,
    choices: Iterable[dict[str, Any]] = (),
    annotations: Iterable[dict[str, Any]] = (),
    since: str = "now-1h",
) -> dict[str, Any]:
    """Return a dashboard that opens with a text; the panels follow in rows from left to right."""
    placed = list(_placed([_intro(intro), *panels]))
    return {
        "uid": f"fintech-{slug}",
        "title": title,
        "tags": ["fintech"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "timezone": "utc",
        "refresh": "10s",
        "time": {"from": since, "to": "now"},
        "templating": {"list": list(choices)},
        "annotations": {"list": list(annotations)},
        "panels": placed,
    }


def _placed(panels: Iterable[Panel]) -> Iterator[Panel]:
    x = y = height = 0
    for number_, panel in enumerate(panels, start=1):
        place = panel["gridPos"]
        if x + place["w"] > _WIDTH:
            x, y, height = 0, y + height, 0
        yield {"id": number_, **panel, "gridPos": {**place, "x": x, "y": y}}
        x, height = x + place["w"], max(height, place["h"])


def quantile(share: float, name: str, by: str = "", where: str = "") -> Target:
    """Return a quantile of a histogram of ours over the last minutes."""
    groups = f"le, {by}" if by else "le"
    legend = f"{share:.0%}" + (f" {{{{{by}}}}}" if by else "")
    return prom(
        f"histogram_quantile({share}, sum by ({groups}) (rate({name}_bucket{where}[$__rate_interval])))", legend
    )


_OF_FEED = '{feed=~"$feed"}'
DASHBOARDS = (
    dashboard(
        "market",
        "Market",
        "What did the price of this asset do, and which alerts did it open? Read from the stored candles and quotes.",
        lines(
            "Price",
            "Closes of the candles of one minute, from PostgreSQL. Red: an alert was open.",
            "short",
            sql(
                "SELECT at AS time, close AS price FROM dashboards.candles "
                "WHERE symbol = '$symbol' AND resolution = 60 AND $__timeFilter(at) ORDER BY at"
            ),
            width=24,
            height=10,
        ),
        lines(
            "Variation from the first price shown",
            "By how much the closes differ from the first one in the chosen time.",
            "percent",
            sql(
                "SELECT at AS time, (close / nullif(first_value(close) OVER (ORDER BY at), 0) - 1) * 100 AS variation "
                "FROM dashboards.candles WHERE symbol = '$symbol' AND resolution = 60 AND $__timeFilter(at) ORDER BY at"
            ),
        ),
        lines(
            "Quotes a minute",
            "How many quotes each candle is made of.",
            "short",
            sql(
                "SELECT at AS time, count AS quotes FROM dashboards.candles "
                "WHERE symbol = '$symbol' AND resolution = 60 AND $__timeFilter(at) ORDER BY at"
            ),
        ),
        table(
            "Alerts",
            "Alerts on this asset, with the trace by which an alert, its entry and its messages are found in the logs.",
            "short",
            sql(
                "SELECT opened_at, resolved_at, severity, kind, feed, trace_id FROM dashboards.alerts "
                "WHERE symbol = '$symbol' AND $__timeFilter(opened_at) ORDER BY opened_at DESC LIMIT 200",
                form="table",
            ),
        ),
        choices=[SYMBOL],
        annotations=[ALERTS_OF_SYMBOL],
        since="now-6h",
    ),
    dashboard(
        "pipeline",
        "Pipeline",
        "Do quotes come in, and are they evaluated in time? Nothing waits here while all is well.",
        number("Last tick", "How long ago a worker finished a tick.", "s", now("fintech_tick_age_seconds"), bad=10),
        number(
            "Oldest entry not evaluated",
            "How long the oldest entry has waited.",
            "s",
            now("fintech_oldest_entry_not_evaluated_age_seconds"),
            bad=30,
        ),
        number("Entries not evaluated", "How many wait.", "short", now("fintech_entries_not_evaluated"), bad=100),
        number("Database", "1: its rows can be read.", "short", now("fintech_database_up")),
        lines(
            "Quotes",
            "Quotes that came, by what became of them.",
            "cps",
            prom(f"sum by (outcome) (rate(fintech_quotes_total{_OF_FEED}[$__rate_interval]))", "{{outcome}}"),
            prom(f"sum(rate(fintech_quotes_rejected_total{_OF_FEED}[$__rate_interval]))", "rejected"),
        ),
        lines(
            "From receipt to evaluation",
            "How long accepted quotes wait until their evaluation is written.",
            "s",
            *(quantile(share, "fintech_quote_evaluation_seconds", where=_OF_FEED) for share in (0.5, 0.95, 0.99)),
        ),
        lines(
            "Rejected quotes",
            "By reason; docs/feeds.md says what each means.",
            "cps",
            prom(f"sum by (reason) (rate(fintech_quotes_rejected_total{_OF_FEED}[$__rate_interval]))", "{{reason}}"),
        ),
        lines(
            "Fetches that failed",
            "Slots for which no provider answered, by reason.",
            "cps",
            prom(f"sum by (reason) (rate(fintech_fetches_failed_total{_OF_FEED}[$__rate_interval]))", "{{reason}}"),
            prom(f"sum(rate(fintech_slots_missed_total{_OF_FEED}[$__rate_interval]))", "missed slots"),
        ),
        lines(
            "Behind the end of the log",
            "Entries by which evaluation and roll-up are behind.",
            "short",
            prom(f"sum by (reader) (fintech_log_lag_entries{_OF_FEED})", "{{reader}}"),
        ),
        lines(
            "Entries",
            "Entries appended and evaluated.",
            "cps",
            prom(f"sum(rate(fintech_entries_total{_OF_FEED}[$__rate_interval]))", "appended"),
            prom(f"sum(rate(fintech_entries_evaluated_total{_OF_FEED}[$__rate_interval]))", "evaluated"),
        ),
        lines(
            "Age of the newest quote",
            "Of live feeds. It grows while a market is closed.",
            "s",
            prom(f"fintech_feed_newest_quote_age_seconds{_OF_FEED}", "{{feed}}"),
        ),
        lines(
            "Connections to the database",
            "How many are open, and how many the server allows.",
            "short",
            prom("fintech_database_connections", "open"),
            prom("fintech_database_connections_limit", "limit"),
        ),
        choices=[FEED],
    ),
    dashboard(
        "alerts",
        "Alerts and notifications",
        "What fires, and does it reach people? From the alert that opens to the receiver that takes the message.",
        number("Open alerts", "Alerts that are open now.", "short", now("sum(fintech_alerts_open)")),
        number(
            "Oldest due notification",
            "For how long it has been due without a message.",
            "s",
            now("fintech_oldest_due_notification_age_seconds"),
            bad=60,
        ),
        number("Unsent messages", "Neither delivered nor given up.", "short", now("fintech_messages_unsent")),
        number(
            "Failing channels",
            "Channels whose last attempt failed.",
            "short",
            now('fintech_channels{state="failing"}'),
            bad=1,
        ),
        lines(
            "Alerts opened and resolved",
            "In the last minutes.",
            "cps",
            prom(
                f"sum by (severity) (rate(fintech_alerts_opened_total{_OF_FEED}[$__rate_interval]))",
                "opened {{severity}}",
            ),
            prom(f"sum(rate(fintech_alerts_resolved_total{_OF_FEED}[$__rate_interval]))", "resolved"),
        ),
        lines(
            "From the quote to the alert",
            "From the receipt of the entry that opened it until the alert was written.",
            "s",
            *(quantile(share, "fintech_quote_to_alert_seconds", where=_OF_FEED) for share in (0.5, 0.95, 0.99)),
        ),
        lines(
            "Attempts to deliver",
            "By transport and outcome.",
            "cps",
            prom(
                "sum by (transport, outcome) (rate(fintech_delivery_attempts_total[$__rate_interval]))",
                "{{transport}} {{outcome}}",
            ),
        ),
        lines(
            "From the message to its receiver",
            "After group wait and silences, until the receiver took it.",
            "s",
            quantile(0.95, "fintech_message_delivery_seconds", by="transport"),
        ),
        choices=[FEED],
    ),
    dashboard(
        "celery",
        "Celery and queues",
        "Do workers take their tasks, and how long do these run? Counted in each worker's main process.",
        number(
            "Dead letters",
            "Messages that were delivered too often, or could never be taken.",
            "short",
            now('fintech_queue_messages{queue="fintech.dead"}'),
            bad=1,
        ),
        number(
            "Queues that nobody reads",
            "Queues of work without a consumer.",
            "short",
            now('count(fintech_queue_consumers{queue!="fintech.dead"} == 0) or vector(0)'),
            bad=1,
        ),
        number("Broker", "1: it says how long its queues are.", "short", now("fintech_broker_up")),
        number(
            "Repeats in the last hour",
            "Runs whose process was lost.",
            "short",
            now("sum(increase(fintech_task_repeats_total[1h]))"),
            bad=1,
        ),
        lines(
            "Tasks",
            "Tasks that came to an end.",
            "cps",
            prom("sum by (task) (rate(fintech_tasks_total[$__rate_interval]))", "{{task}}"),
        ),
        lines(
            "Tasks that did not succeed",
            "By task and outcome.",
            "cps",
            prom(
                'sum by (task, outcome) (rate(fintech_tasks_total{outcome!="succeeded"}[$__rate_interval])) > 0',
                "{{task}} {{outcome}}",
            ),
        ),
        lines(
            "How long tasks run",
            "95 % of the runs that succeeded are shorter.",
            "s",
            quantile(0.95, "fintech_task_seconds", by="task"),
        ),
        lines("Messages that wait", "In each queue.", "short", prom("fintech_queue_messages", "{{queue}}")),
        lines(
            "Sent by beat",
            "Tasks that beat sends.",
            "cps",
            prom("sum by (task) (rate(fintech_beat_sent_total[$__rate_interval]))", "{{task}}"),
        ),
        lines(
            "Pushed messages",
            "Messages of pushed quotes, by what became of them.",
            "cps",
            prom("sum by (outcome) (rate(fintech_pushed_messages_total[$__rate_interval]))", "{{outcome}}"),
        ),
    ),
    dashboard(
        "web",
        "Web and GraphQL",
        "How many requests come, and how fast are they answered? Counted by django-prometheus in all web processes.",
        lines(
            "Requests",
            "By view.",
            "reqps",
            prom(
                "sum by (view) (rate(django_http_requests_total_by_view_transport_method_total[$__rate_interval]))",
                "{{view}}",
            ),
        ),
        lines(
            "Answers by status",
            "5xx are faults of the site.",
            "reqps",
            prom("sum by (status) (rate(django_http_responses_total_by_status_total[$__rate_interval]))", "{{status}}"),
        ),
        lines(
            "Time of an answer",
            "95 % of the answers of a view are faster.",
            "s",
            quantile(0.95, "django_http_requests_latency_seconds_by_view_method", by="view"),
        ),
        lines(
            "Time of GraphQL",
            "Of requests to /graphql.",
            "s",
            *(
                quantile(share, "django_http_requests_latency_seconds_by_view_method", where='{view="graphql"}')
                for share in (0.5, 0.95)
            ),
        ),
        lines(
            "Statements",
            "Statements of the web processes to the database.",
            "cps",
            prom("sum(rate(django_db_execute_total[$__rate_interval]))", "statements"),
        ),
        lines(
            "Time of a statement",
            "95 % of them are faster.",
            "s",
            quantile(0.95, "django_db_query_duration_seconds"),
        ),
    ),
    dashboard(
        "slo",
        "Objective",
        "Are 99 % of the accepted quotes of live feeds evaluated within a second? The rest is the error budget.",
        number(
            "Late in the last hour",
            "Share of quotes that were evaluated later than a second after their receipt.",
            "percentunit",
            now("fintech:slow_quotes:ratio_rate1h"),
            bad=0.01,
            width=8,
        ),
        number(
            "Late in the last 6 hours",
            "The same over 6 hours.",
            "percentunit",
            now("fintech:slow_quotes:ratio_rate6h"),
            bad=0.01,
            width=8,
        ),
        number(
            "Burn of the last hour",
            "1: the budget lasts just as long as its 30 days. 14.4: two days.",
            "short",
            now("fintech:slow_quotes:ratio_rate1h / 0.01"),
            bad=1,
            width=8,
        ),
        lines(
            "Share of late quotes",
            "Over four windows; an alert needs a short and a long one.",
            "percentunit",
            *(prom(f"fintech:slow_quotes:ratio_rate{window}", window) for window in ("5m", "30m", "1h", "6h")),
            width=24,
        ),
        lines(
            "Slowest feeds",
            "99 % of the quotes of a feed are evaluated faster.",
            "s",
            quantile(0.99, "fintech_quote_evaluation_seconds", by="feed"),
            width=24,
        ),
    ),
    dashboard(
        "rabbitmq",
        "RabbitMQ",
        "Does the broker keep up, and has it room? By its own plugin; *Celery* says what becomes of the tasks.",
        number("Connections", "Of workers, beat and web.", "short", now("rabbitmq_connections")),
        number(
            "Waiting",
            "Messages that no worker has taken yet.",
            "short",
            now('sum(rabbitmq_queue_messages_ready{vhost=~"fintech.*"})'),
        ),
        number(
            "Memory",
            "Share of what it may use; at 1 it takes no more messages.",
            "percentunit",
            now("rabbitmq_process_resident_memory_bytes / rabbitmq_resident_memory_limit_bytes"),
            bad=0.8,
        ),
        number(
            "Room",
            "Free disk beyond the limit below which it takes no more messages.",
            "bytes",
            now("rabbitmq_disk_space_available_bytes - rabbitmq_disk_space_available_limit_bytes"),
        ),
        lines(
            "Messages that wait",
            "Of each queue, those that no worker has taken.",
            "short",
            prom('rabbitmq_queue_messages_ready{vhost=~"fintech.*",queue!~"celery_delayed.*"}', "{{queue}}"),
        ),
        lines(
            "Messages under way",
            "Of each queue, those that a worker has taken and not acknowledged; with the countdown of retries.",
            "short",
            prom('rabbitmq_queue_messages_unacked{vhost=~"fintech.*"} > 0', "{{queue}}"),
        ),
        lines(
            "Consumers",
            "Of each queue, how many read it.",
            "short",
            prom('rabbitmq_queue_consumers{vhost=~"fintech.*",queue!~"celery_delayed.*"}', "{{queue}}"),
        ),
        lines(
            "Messages received and acknowledged",
            "Of all queues; what is received and not acknowledged waits or is under way.",
            "ops",
            prom("sum(rate(rabbitmq_global_messages_received_total[$__rate_interval]))", "received"),
            prom("sum(rate(rabbitmq_global_messages_acknowledged_total[$__rate_interval]))", "acknowledged"),
        ),
        lines(
            "Messages delivered again",
            "Their worker ended before it acknowledged them.",
            "ops",
            prom("sum(rate(rabbitmq_global_messages_redelivered_total[$__rate_interval]))", "again"),
        ),
        lines(
            "Connections opened",
            "Many of them mean clients that lose theirs.",
            "ops",
            prom("rate(rabbitmq_connections_opened_total[$__rate_interval])", "opened"),
        ),
    ),
    dashboard(
        "servers",
        "Servers",
        "Do PostgreSQL, Redis and the machine have what they need? By Debian's exporters.",
        number("PostgreSQL", "1: it answers its exporter.", "short", now("pg_up")),
        number("Redis", "1: it answers its exporter.", "short", now("redis_up")),
        number("Load", "Processes that run or wait, on average of a minute.", "short", now("node_load1")),
        number(
            "Free memory",
            "Share of the machine's memory that can be used.",
            "percentunit",
            now("node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes"),
        ),
        lines(
            "Transactions",
            "Of each database, those that committed and those that did not.",
            "cps",
            prom("sum by (datname) (rate(pg_stat_database_xact_commit[$__rate_interval]))", "{{datname}} committed"),
            prom(
                "sum by (datname) (rate(pg_stat_database_xact_rollback[$__rate_interval]))", "{{datname}} rolled back"
            ),
        ),
        lines(
            "Blocks found in memory",
            "Share of the blocks that PostgreSQL did not have to read.",
            "percentunit",
            prom(
                "sum(rate(pg_stat_database_blks_hit[$__rate_interval])) / (sum(rate(pg_stat_database_blks_hit"
                "[$__rate_interval])) + sum(rate(pg_stat_database_blks_read[$__rate_interval])))",
                "found",
            ),
        ),
        lines("Size of the databases", "On disk.", "bytes", prom("pg_database_size_bytes", "{{datname}}")),
        lines(
            "Deadlocks",
            "Transactions that PostgreSQL ended since they waited for each other.",
            "short",
            prom("increase(pg_stat_database_deadlocks[$__rate_interval])", "{{datname}}"),
        ),
        lines(
            "Redis: commands and clients",
            "Commands in a second, and clients that are connected.",
            "short",
            prom("rate(redis_commands_processed_total[$__rate_interval])", "commands"),
            prom("redis_connected_clients", "clients"),
        ),
        lines(
            "Redis: found keys",
            "Share of the keys asked for that were there.",
            "percentunit",
            prom(
                "rate(redis_keyspace_hits_total[$__rate_interval]) / (rate(redis_keyspace_hits_total[$__rate_interval])"
                " + rate(redis_keyspace_misses_total[$__rate_interval]))",
                "found",
            ),
        ),
        lines("Redis: memory", "What it uses.", "bytes", prom("redis_memory_used_bytes", "used")),
        lines(
            "Free disk",
            "Share of each file system that is left.",
            "percentunit",
            prom(
                'node_filesystem_avail_bytes{fstype!~"tmpfs|ramfs|overlay"} / node_filesystem_size_bytes',
                "{{mountpoint}}",
            ),
        ),
    ),
    dashboard(
        "health",
        "Health",
        "What is wrong by the last check? The front page of the site says of which thing, and what would mend it.",
        number("Last check", "How long ago everything was checked.", "s", now("fintech_check_age_seconds"), bad=45),
        number(
            "Stopped",
            "Problems that stop something, without what people intend.",
            "short",
            now('sum(fintech_problems_by_subject{level="stopped"})'),
            bad=1,
        ),
        number(
            "Degraded",
            "Problems that make something worse.",
            "short",
            now('sum(fintech_problems_by_subject{level="degraded"})'),
            bad=1,
        ),
        number("Reading", "How long it took to read these metrics.", "s", now("fintech_reading_seconds"), bad=0.8),
        lines(
            "Problems by subject",
            "Without what people intend.",
            "short",
            prom("sum by (subject) (fintech_problems_by_subject)", "{{subject}}"),
        ),
        lines("Problems by code", "With what people intend.", "short", prom("fintech_problems > 0", "{{code}}")),
        lines(
            "Feeds that fail",
            "Slots in a row without an answer.",
            "short",
            prom("fintech_feed_failures > 0", "{{feed}}"),
        ),
        lines("Processes", "1: it gives its metrics.", "short", prom("up", "{{job}}")),
    ),
)


def written(one: dict[str, Any]) -> str:
    """Return a dashboard as its file has it."""
    return json.dumps(one, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for one in DASHBOARDS:
        (FOLDER / f"{one['uid']}.json").write_text(written(one), encoding="utf-8")
