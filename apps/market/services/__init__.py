"""Changes to the market's rows: feeds, fetches, entries of a feed's log, its past, and what is dropped."""

from apps.market.services.feeds import (
    FetchRefused,
    change_interval,
    claim_due_feeds,
    claim_feeds_behind,
    create_feed,
    fetch_now,
    pause_feeds,
    resume_feeds,
)
from apps.market.services.fetching import FetchLease, fetch, record_answer, record_failure, take_fetch_lease
from apps.market.services.history import IMPORTED, Imported, import_history
from apps.market.services.log import append_rules_entry, cache_latest, redo_cache_writes, store_quotes
from apps.market.services.retention import prune_quotes

__all__ = [
    "IMPORTED",
    "FetchLease",
    "FetchRefused",
    "Imported",
    "append_rules_entry",
    "cache_latest",
    "change_interval",
    "claim_due_feeds",
    "claim_feeds_behind",
    "create_feed",
    "fetch",
    "fetch_now",
    "import_history",
    "pause_feeds",
    "prune_quotes",
    "record_answer",
    "record_failure",
    "redo_cache_writes",
    "resume_feeds",
    "store_quotes",
    "take_fetch_lease",
]
