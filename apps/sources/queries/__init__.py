"""Reads of where quotes come from."""

from apps.sources.queries.backfills import backfills_due, newest_backfills
from apps.sources.queries.limits import (
    ADDRESS_LENGTH,
    BACKFILL_GOES_ON,
    NOT_ASKED,
    Budget,
    address_of,
    bans,
    budget_of,
    circuits_of,
    is_all_left_alone,
    is_open,
    left_alone,
    narrowest_limit,
    seconds_after_extra_calls,
    seconds_between_rounds,
)
from apps.sources.queries.listings import (
    AssetIds,
    asset_ids_by_external_id,
    asset_ids_of_feeds,
    assets_listed,
    left_out_of,
)
from apps.sources.queries.refusals import Refusals, refusals_of, refused_listings_of, refused_rows_of
from apps.sources.queries.senders import senders_ahead
from apps.sources.queries.together import feeds_fetched_together

__all__ = [
    "ADDRESS_LENGTH",
    "BACKFILL_GOES_ON",
    "NOT_ASKED",
    "AssetIds",
    "Budget",
    "Refusals",
    "address_of",
    "asset_ids_by_external_id",
    "asset_ids_of_feeds",
    "assets_listed",
    "backfills_due",
    "bans",
    "budget_of",
    "circuits_of",
    "feeds_fetched_together",
    "is_all_left_alone",
    "is_open",
    "left_alone",
    "left_out_of",
    "narrowest_limit",
    "newest_backfills",
    "refusals_of",
    "refused_listings_of",
    "refused_rows_of",
    "seconds_after_extra_calls",
    "seconds_between_rounds",
    "senders_ahead",
]
