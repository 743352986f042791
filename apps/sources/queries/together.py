"""Which feeds may be fetched together."""

from collections.abc import Iterable

from django.db import connection

from apps.sources.providers.registry import PROVIDERS

# So few assets that what one feed of a group takes is hardly noticed by the others.
FEW_ASSETS = 30
_SMALL_AND_COMPUTED = """
    SELECT feed_id FROM unnest(%s::bigint[]) AS due (feed_id)
    WHERE EXISTS (SELECT FROM sources_feedsource source WHERE source.feed_id = due.feed_id)
      AND NOT EXISTS (
        SELECT FROM sources_feedsource source WHERE source.feed_id = due.feed_id AND provider <> ALL(%s)
      )
      AND NOT EXISTS (SELECT FROM market_asset asset WHERE asset.feed_id = due.feed_id OFFSET %s LIMIT 1)"""


def feeds_fetched_together(feed_ids: Iterable[int]) -> set[int]:
    """Return those of these feeds that may share a fetch, since none of them can keep the others waiting: small ones
    whose providers call nobody. One statement; none on SQLite, where nothing is won."""
    wanted = list(feed_ids)
    if connection.vendor != "postgresql" or len(wanted) < 2:
        return set()
    computed = [slug for slug, provider in PROVIDERS.items() if provider.is_computed]
    with connection.cursor() as cursor:
        cursor.execute(_SMALL_AND_COMPUTED, [wanted, computed, FEW_ASSETS])
        return {feed_id for (feed_id,) in cursor.fetchall()}
