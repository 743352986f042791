"""What must never be seen: the half of a transaction that evaluates or plans. SQL, since that is what others would
see."""

from django.db import connection

# name -> how many rows are the half of something
HALVES = {
    "alert without its opening": """
        SELECT count(*) FROM alerts_alert a WHERE NOT EXISTS
        (SELECT FROM alerts_alertevent e WHERE e.alert_id = a.id AND e.kind = 'opened')""",
    "alert over without its end, or the reverse": """
        SELECT count(*) FROM alerts_alert a WHERE (a.resolved_at IS NOT NULL) <> EXISTS
        (SELECT FROM alerts_alertevent e WHERE e.alert_id = a.id AND e.kind = 'resolved')""",
    "event without a notification to each of its rule's channels": """
        SELECT count(*) FROM alerts_alertevent e JOIN alerts_alert a ON a.id = e.alert_id
        JOIN notify_rulechannel r ON r.rule_id = a.rule_id JOIN notify_channel c ON c.id = r.channel_id
        WHERE c.is_enabled AND NOT EXISTS
        (SELECT FROM notify_notification o WHERE o.event_id = e.id AND o.channel_id = r.channel_id)""",
    "state that is not that of the last transition": """
        SELECT count(*) FROM rules_rulestate s LEFT JOIN LATERAL (
            SELECT t.to_state FROM rules_transition t WHERE t.rule_id = s.rule_id AND t.asset_id = s.asset_id
            ORDER BY t.id DESC LIMIT 1
        ) last ON true WHERE last.to_state IS DISTINCT FROM s.state
        AND NOT (last.to_state IS NULL AND s.since IS NULL)""",
    "transition that opens without its alert": """
        SELECT count(*) FROM rules_transition t WHERE NOT t.suppressed AND t.to_state = 'firing'
        AND t.from_state NOT IN ('firing', 'recovering') AND NOT EXISTS
        (SELECT FROM alerts_alert a WHERE a.entry_id = t.entry_id AND a.rule_id = t.rule_id
         AND a.asset_id = t.asset_id AND a.opened_at = t.at)""",
    "batch evaluated and not marked, or the reverse": """
        SELECT count(*) FROM market_feedentry b JOIN market_evaluationcursor p ON p.feed_id = b.feed_id
        WHERE (b.evaluated_at IS NOT NULL) <> (b.seq <= p.seq)""",
    "message whose items are not its notifications": """
        SELECT count(*) FROM notify_message m WHERE m.kind = 'alert' AND jsonb_array_length(m.items) <>
        (SELECT count(*) FROM notify_notification o WHERE o.message_id = m.id)""",
}


def halves_seen() -> dict[str, int]:
    """Return name -> count of what there is of it, as one snapshot sees it."""
    columns = ", ".join(f"({query})" for query in HALVES.values())
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {columns}")
        return {name: count for name, count in zip(HALVES, cursor.fetchone(), strict=True) if count}
