"""The health of feeds."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import takewhile
from typing import NamedTuple

from apps.market.models import Feed, FeedEntry
from apps.sources.providers.failures import hint_on
from apps.sources.providers.registry import PROVIDERS

# What is put off for longer than this is behind: ticks come each second, and a wake-up that is lost is sent again.
BEHIND = timedelta(seconds=30)


class Health(NamedTuple):
    """How a feed is, in one word and in a sentence."""

    state: str
    summary: str


def health_of(feed: Feed, *, now: datetime) -> Health:
    """Return how a feed is that came with_recent_entries: paused, new, failing, finished, behind or fresh."""
    recent: list[FeedEntry] = feed.recent  # type: ignore[attr-defined]
    due = feed.head.next_slot
    pending = feed.evaluation_cursor.seq < feed.head.seq
    if not feed.is_enabled:
        return Health("paused", "Nothing is fetched until it is resumed.")
    if feed.head.failures and recent:
        row = list(takewhile(lambda entry: entry.failure, recent))
        since = f"{'before ' if len(row) < feed.head.failures else ''}{_written(row[-1].received_at if row else due)}"
        times = "" if feed.head.failures == 1 else f", {feed.head.failures} times in a row"
        reason = row[0].failure if row else "unknown"
        asked = [PROVIDERS[one.provider] for one in feed.sources.all() if one.provider in PROVIDERS]
        hint = hint_on(reason, key_variables=[one.key_variable for one in asked])
        means = f": {hint}" if hint else ""
        return Health("failing", f"{reason} since {since}{times}{means}. Asked again at {_written(due)}.")
    if _is_over(feed, recent):
        return Health("finished", f"The recording ended at {_written(recent[0].as_of)}.")
    interval = timedelta(seconds=feed.interval_seconds)
    if due > now + interval + BEHIND:
        return Health("behind", f"Due at {_written(due)}, ahead of the clock. Was this machine's clock set back?")
    if now - due > max(interval, BEHIND):
        return Health("behind", f"Due since {_written(due)}, and nobody has fetched it. Does a watcher run?")
    if pending and recent and any(one.evaluated_at is None and now - one.received_at > BEHIND for one in recent):
        return Health(
            "behind",
            f"Entries that wait to be evaluated: {feed.head.seq - feed.evaluation_cursor.seq}. Does an analyzer run?",
        )
    if feed.head.began_at is None:
        return Health("new", "Never fetched. It is due now." if due <= now else f"Due at {_written(due)}.")
    return Health("fresh", f"Last answer at {_written(recent[0].received_at)}." if recent else "")


def _is_over(feed: Feed, recent: Sequence[FeedEntry]) -> bool:
    """Tell whether a recording has ended: the answers are empty and its clock stands. A live market only rests."""
    last = recent[:3]
    if len(last) < 3 or any(PROVIDERS[one.provider].is_live for one in feed.sources.all() if one.provider in PROVIDERS):
        return False
    return all(not (one.accepted or one.late or one.rejected) and one.as_of == last[0].as_of for one in last)


def _written(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}"
