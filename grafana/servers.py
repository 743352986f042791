"""The dashboards of the servers beside it: RabbitMQ, PostgreSQL, Redis and the machine."""

from grafana.panels import dashboard, lines, now, number, prom

SERVERS = (
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
)
