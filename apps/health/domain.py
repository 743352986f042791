"""The levels, subjects and codes of health, and what a check finds. Pure: no Django, no clock, no I/O."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

# Ticks come each second, and checks each 10 s.
TICK_LATE_AFTER = timedelta(seconds=10)
CHECK_LATE_AFTER = timedelta(seconds=45)
# Work that is late by more than this is behind: a message that was lost is sent again after 10 s.
BEHIND_AFTER = timedelta(seconds=30)
SILENT_INTERVALS = 3
SILENT_AT_LEAST = timedelta(seconds=60)
UNKNOWN_AT_LEAST = timedelta(hours=1)


class Level(StrEnum):
    """How well something is, the worst last."""

    WELL = "well"
    DEGRADED = "degraded"
    STOPPED = "stopped"


SEVERITY = {Level.WELL: 0, Level.DEGRADED: 1, Level.STOPPED: 2}


class Subject(StrEnum):
    """The kinds of things whose health is checked."""

    SYSTEM = "system"
    FEED = "feed"
    ASSET = "asset"
    CHANNEL = "channel"
    RULE = "rule"


class Code(StrEnum):
    """The kinds of problems; wording.py has a sentence for each."""

    # Of the system.
    NOT_CHECKED = "not_checked"
    NO_WORKER = "no_worker"
    CALENDAR_ENDS = "calendar_ends"
    NO_PARTITION = "no_partition"
    DISK_FULL = "disk_full"
    CANARY_MISSED = "canary_missed"
    REPLICA_NOT_READ = "replica_not_read"
    # Of a feed.
    PAUSED = "paused"
    NO_SOURCE = "no_source"
    NO_FEED_ASSET = "no_feed_asset"
    NO_KEY = "no_key"
    FAILING = "failing"
    BANNED = "banned"
    NOT_FETCHED = "not_fetched"
    DUE_TOO_LATE = "due_too_late"
    NOT_EVALUATED = "not_evaluated"
    NOTHING_PUSHED = "nothing_pushed"
    SENDER_AHEAD = "sender_ahead"
    # Of a derived feed, and of a derived asset.
    LEG_STOPPED = "leg_stopped"
    NOT_DERIVED = "not_derived"
    # Of an asset.
    REFUSED = "refused"
    NO_LISTING = "no_listing"
    NO_PRICE = "no_price"
    SILENT = "silent"
    NO_FEED = "no_feed"
    # Of a channel.
    OFF = "off"
    SWITCHED_OFF = "switched_off"
    NOT_DELIVERED = "not_delivered"
    UNTRIED = "untried"
    NO_MAIL_SERVER = "no_mail_server"
    # Of a rule, beside OFF.
    NO_ASSET = "no_asset"
    ERROR = "error"
    PAUSED_BY_SPLIT = "paused_by_split"
    UNKNOWN = "unknown"
    NOTIFIES_NOBODY = "notifies_nobody"


# A person has decided these: they are shown, and do not count as faults.
INTENDED = frozenset({Code.PAUSED, Code.OFF, Code.NO_FEED})


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem that a check has found with one subject.

    subject_id: its number, 0 for the system; since: from when on, None where only the check knows; facts: what the
    sentence about it needs, fit for JSON; patience: how long it has to last while the system runs before anybody is
    notified of it.
    """

    subject: Subject
    subject_id: int
    code: Code
    level: Level
    since: datetime | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    patience: timedelta = SILENT_AT_LEAST

    @property
    def key(self) -> tuple[str, int, str]:
        """Return what tells it from every other finding."""
        return (self.subject.value, self.subject_id, self.code.value)


class Health(NamedTuple):
    """How one subject is.

    since: from when on; reason, remedy: one sentence each, "" where it is well; code: "" where it is well; checked_at:
    when that was looked at, None: never; facts: what the sentences are made of for another reader, None where they are
    the same for everyone; cause: what `reason` begins with, where something else is the cause.
    """

    level: Level
    since: datetime | None = None
    reason: str = ""
    remedy: str = ""
    code: str = ""
    checked_at: datetime | None = None
    facts: Mapping[str, Any] | None = None
    cause: str = ""


class HealthReader(Protocol):
    """Reads id -> health of rows of one kind."""

    def __call__(self, ids: Iterable[int], *, now: datetime) -> dict[int, Health]: ...


class ProblemCounts(NamedTuple):
    """How many problems there are. stopped, degraded: faults by their level; intended: those that people decided."""

    stopped: int = 0
    degraded: int = 0
    intended: int = 0

    @property
    def faults(self) -> int:
        """Return how many there are without those that people decided."""
        return self.stopped + self.degraded


def is_late(at: datetime, *, now: datetime, at_most: timedelta) -> bool:
    """Tell whether what leaves a mark at least so often has left none. A mark ahead of the clock was left before the
    clock was set back."""
    return not -at_most <= now - at <= at_most


def silent_after(interval: timedelta) -> timedelta:
    """Return after how long without a price something is silent whose prices come at an interval."""
    return max(SILENT_INTERVALS * interval, SILENT_AT_LEAST)
