"""The schema `dashboards` of PostgreSQL: views of what dashboards may show, and nothing of owners. The role `grafana`
reads them and no table."""

from typing import Any

from django.db import connections

ROLE = "grafana"
# name -> statement, without the canary's rows (apps.canary); each reads with the rights of who owns the tables.
VIEWS = {
    "feeds": """
        SELECT feed.name, feed.interval_seconds, feed.is_live, feed.is_enabled, head.as_of AS clock,
               head.seq AS appended, evaluated.seq AS evaluated
        FROM market_feed feed
        JOIN market_feedhead head ON head.feed_id = feed.id
        JOIN market_evaluationcursor evaluated ON evaluated.feed_id = feed.id
        WHERE feed.id > 0""",
    "assets": """
        SELECT asset.symbol, asset.name, asset.currency, feed.name AS feed
        FROM market_asset asset LEFT JOIN market_feed feed ON feed.id = asset.feed_id
        WHERE asset.id > 0""",
    "prices": """
        SELECT asset.symbol, quote.at, quote.price, quote.late
        FROM market_quote quote JOIN market_asset asset ON asset.id = quote.asset_id
        WHERE quote.asset_id > 0""",
    "candles": """
        SELECT asset.symbol, candle.resolution, candle.at, candle.open, candle.high, candle.low, candle.close,
               candle.count, candle.volume
        FROM market_candle candle JOIN market_asset asset ON asset.id = candle.asset_id
        WHERE candle.asset_id > 0""",
    "entries": """
        SELECT feed.name AS feed, entry.seq, entry.kind, entry.slot, entry.received_at, entry.evaluated_at,
               entry.provider, entry.failure, entry.accepted, entry.late, entry.repeated, entry.unconfirmed,
               entry.trace_id
        FROM market_feedentry entry JOIN market_feed feed ON feed.id = entry.feed_id
        WHERE entry.feed_id > 0""",
    # Of rules: an alert about the installation has no asset.
    "alerts": """
        SELECT asset.symbol, feed.name AS feed, alert.kind, alert.severity, alert.opened_at, alert.resolved_at,
               entry.trace_id
        FROM alerts_alert alert
        JOIN market_asset asset ON asset.id = alert.asset_id
        JOIN market_feedentry entry ON entry.id = alert.entry_id
        JOIN market_feed feed ON feed.id = entry.feed_id
        WHERE alert.asset_id > 0""",
}
_TABLES = ("market_feed", "market_quote", "market_candle", "alerts_alert")


def drop_views(using: str = "default", **_: Any) -> None:
    """Drop the schema before a migration, which could not change a column that a view shows."""
    connection = connections[using]
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("DROP SCHEMA IF EXISTS dashboards CASCADE")


def make_views(using: str = "default", **_: Any) -> None:
    """Make the schema after a migration, where it is not there, and let the role read its views, where there is such a
    role."""
    connection = connections[using]
    if connection.vendor != "postgresql":
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT bool_and(to_regclass(name) IS NOT NULL) FROM unnest(%s::text[]) name", [list(_TABLES)])
        is_migrated = cursor.fetchone()[0]
        cursor.execute("SELECT to_regnamespace('dashboards') IS NOT NULL, to_regrole(%s) IS NOT NULL", [ROLE])
        is_there, has_role = cursor.fetchone()
        if not is_migrated or is_there:
            return
        cursor.execute("CREATE SCHEMA dashboards")
        for name, statement in VIEWS.items():
            cursor.execute(f"CREATE VIEW dashboards.{name} AS {statement}")
        if has_role:
            cursor.execute(f"GRANT USAGE ON SCHEMA dashboards TO {ROLE}")
            cursor.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA dashboards TO {ROLE}")
