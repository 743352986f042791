"""Changes to where quotes come from: feeds, fetches, backfills, imports, pushed quotes, circuits and listings."""

from apps.sources.services.answers import admit_answer, record_answers, record_failure
from apps.sources.services.backfilling import (
    BackfillRefused,
    Outcome,
    ask_for_past,
    begin_or_resume,
    calls_needed,
    describe_backfill,
    describe_state,
    go_on_with_backfill,
    origin_of,
    pause_between_calls,
    release_backfill,
    take_backfill_step,
)
from apps.sources.services.circuits import note_failure, note_success
from apps.sources.services.feeds import (
    FetchRefused,
    change_interval,
    claim_due_feeds,
    create_feed,
    describe_left_alone,
    fetch_now,
    set_is_live,
)
from apps.sources.services.fetching import Round, fetch
from apps.sources.services.history import Imported, clock_of_past, import_history
from apps.sources.services.leasing import FetchLease, take_fetch_lease
from apps.sources.services.listing import ListingRefused, add_listing
from apps.sources.services.pushing import PushRefused, record_pushed
from apps.sources.services.refusals import note_refusals
from apps.sources.services.senders import Pushed
from apps.sources.services.together import Due, ask_together, record_together
from apps.sources.services.trying import NAMES_TRIED, search_source, try_source

__all__ = [
    "NAMES_TRIED",
    "BackfillRefused",
    "Due",
    "FetchLease",
    "FetchRefused",
    "Imported",
    "ListingRefused",
    "Outcome",
    "PushRefused",
    "Pushed",
    "Round",
    "add_listing",
    "admit_answer",
    "ask_for_past",
    "ask_together",
    "begin_or_resume",
    "calls_needed",
    "change_interval",
    "claim_due_feeds",
    "clock_of_past",
    "create_feed",
    "describe_backfill",
    "describe_left_alone",
    "describe_state",
    "fetch",
    "fetch_now",
    "go_on_with_backfill",
    "import_history",
    "note_failure",
    "note_refusals",
    "note_success",
    "origin_of",
    "pause_between_calls",
    "record_answers",
    "record_failure",
    "record_pushed",
    "record_together",
    "release_backfill",
    "search_source",
    "set_is_live",
    "take_backfill_step",
    "take_fetch_lease",
    "try_source",
]
