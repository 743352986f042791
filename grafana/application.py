"""The dashboards of the application: what it fetches, evaluates, sends and answers."""

from grafana.panels import POSTGRES, PROMETHEUS, choice, dashboard, lines, now, number, prom, quantile, sql, table

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

_OF_FEED = '{feed=~"$feed"}'
APPLICATION = (
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
            traces="trace_id",
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
            "Calls of providers left",
            "About how many of a provider's calls of 24 hours are left; of those with such a limit.",
            "short",
            prom("fintech_provider_daily_calls_left", "{{provider}}"),
            prom("fintech_provider_daily_calls_limit", "limit of {{provider}}"),
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
            now('fintech_queue_messages{queue="dead-letters"}'),
            bad=1,
        ),
        number(
            "Queues that nobody reads",
            "Queues of work without a consumer.",
            "short",
            now('count(fintech_queue_consumers{queue!="dead-letters"} == 0) or vector(0)'),
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
            "Tasks by the workers' events",
            "As celery-exporter counts them, by queue; it begins anew when it is started.",
            "cps",
            prom("sum by (queue_name) (rate(celery_task_succeeded_total[$__rate_interval]))", "{{queue_name}}"),
        ),
        lines(
            "Processes of workers",
            "How many read each queue, as they say themselves.",
            "short",
            prom("celery_active_process_count", "{{queue_name}}"),
        ),
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
            "Newest prices from the cache",
            "Share of the newest prices that pages and the API found in the cache; the others were read from rows.",
            "percentunit",
            prom(
                'sum(rate(fintech_cache_lookups_total{outcome="hit"}[$__rate_interval]))'
                " / sum(rate(fintech_cache_lookups_total[$__rate_interval]))",
                "hits",
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
