"""Changes to the market's rows: logs, candles, evaluation cursors, assets that move, quotes that are corrected, and
what is dropped."""

from apps.market.services.assets import forget_assets_changes, mark_assets_changed
from apps.market.services.candles import make_cursor, roll_up
from apps.market.services.corrections import (
    CorrectionRefused,
    Difference,
    delete_quotes,
    deletion,
    difference,
    end_of_piece,
    forget_cached,
    lock_for_correction,
    replace_quotes,
)
from apps.market.services.evaluating import (
    Pending,
    mark_all_evaluated,
    mark_evaluated,
    take_pending,
    take_pending_of,
)
from apps.market.services.feeds import claim_feeds_behind, claim_feeds_pushed_to, pause_feeds, resume_feeds
from apps.market.services.log import append_rules_entry, cache_latest, redo_cache_writes, store_quotes
from apps.market.services.manual import create_manual_asset
from apps.market.services.moving import AssetStays, lock_logs, lock_settled, move_asset, refuse_to_move
from apps.market.services.owning import create_asset, create_bare_feed, delete_asset
from apps.market.services.retention import (
    make_days_ahead,
    prune_minute_candles,
    prune_quotes,
    prune_switches,
    tables_of_old_quotes,
)
from apps.market.services.splitting import SplitRefused, append_split
from apps.market.services.switching import IMPORTED
from apps.market.services.watching import unwatch, watch

__all__ = [
    "IMPORTED",
    "AssetStays",
    "CorrectionRefused",
    "Difference",
    "Pending",
    "SplitRefused",
    "append_rules_entry",
    "append_split",
    "cache_latest",
    "claim_feeds_behind",
    "claim_feeds_pushed_to",
    "create_asset",
    "create_bare_feed",
    "create_manual_asset",
    "delete_asset",
    "delete_quotes",
    "deletion",
    "difference",
    "end_of_piece",
    "forget_assets_changes",
    "forget_cached",
    "lock_for_correction",
    "lock_logs",
    "lock_settled",
    "make_cursor",
    "make_days_ahead",
    "mark_all_evaluated",
    "mark_assets_changed",
    "mark_evaluated",
    "move_asset",
    "pause_feeds",
    "prune_minute_candles",
    "prune_quotes",
    "prune_switches",
    "redo_cache_writes",
    "refuse_to_move",
    "replace_quotes",
    "resume_feeds",
    "roll_up",
    "store_quotes",
    "tables_of_old_quotes",
    "take_pending",
    "take_pending_of",
    "unwatch",
    "watch",
]
