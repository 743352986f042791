"""Changes to the market's rows: feeds, fetches, entries of a feed's log, its past, and what is dropped."""

from apps.market.services.backfilling import (
    BackfillRefused,
    Outcome,
    backfill_in_words,
    begin_or_resume,
    calls_needed,
    origin_of,
    pause_between_calls,
    release_backfill,
    take_backfill_step,
)
from apps.market.services.candles import roll_up
from apps.market.services.circuits import note_failure
from apps.market.services.feeds import (
    FetchRefused,
    change_interval,
    claim_due_feeds,
    claim_feeds_behind,
    claim_feeds_pushed_to,
    create_feed,
    fetch_now,
    pause_feeds,
    resume_feeds,
)
from apps.market.services.fetching import (
    FetchLease,
    admit_answer,
    fetch,
    record_answers,
    record_failure,
    take_fetch_lease,
)
from apps.market.services.history import Imported, import_history
from apps.market.services.listing import ListingRefused, add_listing
from apps.market.services.log import IMPORTED, append_rules_entry, cache_latest, redo_cache_writes, store_quotes
from apps.market.services.moving import AssetStays, move_asset, refuse_to_move
from apps.market.services.pushing import Pushed, PushRefused, record_pushed
from apps.market.services.retention import make_days_ahead, prune_minute_candles, prune_quotes

__all__ = [
    "IMPORTED",
    "AssetStays",
    "BackfillRefused",
    "FetchLease",
    "FetchRefused",
    "Imported",
    "ListingRefused",
    "Outcome",
    "PushRefused",
    "Pushed",
    "add_listing",
    "admit_answer",
    "append_rules_entry",
    "backfill_in_words",
    "begin_or_resume",
    "cache_latest",
    "calls_needed",
    "change_interval",
    "claim_due_feeds",
    "claim_feeds_behind",
    "claim_feeds_pushed_to",
    "create_feed",
    "fetch",
    "fetch_now",
    "import_history",
    "make_days_ahead",
    "move_asset",
    "note_failure",
    "origin_of",
    "pause_between_calls",
    "pause_feeds",
    "prune_minute_candles",
    "prune_quotes",
    "record_answers",
    "record_failure",
    "record_pushed",
    "redo_cache_writes",
    "refuse_to_move",
    "release_backfill",
    "resume_feeds",
    "roll_up",
    "store_quotes",
    "take_backfill_step",
    "take_fetch_lease",
]
