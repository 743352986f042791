"""When a feed is due again, when a circuit breaker opens and closes, and how far a sender's clock is ahead. Pure: no
Django, no clock, no I/O."""

from datetime import datetime, timedelta
from math import ceil
from typing import NamedTuple

BACKOFF_LIMIT = timedelta(minutes=15)


# A feed is due again after an hour at most, so that its clock goes on; a ban is kept by the circuit.
RETRY_AFTER_LONGEST_SECONDS = 3_600


BAN_LONGEST_SECONDS = 7 * 86_400


# A provider that fails so often in a row is left alone for a while, and back after so many answers in a row.
CIRCUIT_FAILURES = 5


CIRCUIT_OPEN = timedelta(seconds=60)


CIRCUIT_SUCCESSES = 2

REFUSAL_SHORTEST, REFUSAL_LONGEST = timedelta(minutes=10), timedelta(days=1)


def next_slot_after(
    *,
    slot: datetime,
    interval_seconds: int,
    failures: int,
    retry_after_seconds: int | None = None,
    least_seconds: int = 0,
) -> datetime:
    """Return when a feed is due again: the next slot, or while it fails the first slot after a wait that doubles.

    The wait is 15 min at most, or what the provider asks for, up to 1 h; in any case `least_seconds`, which the
    provider's limits want between two rounds, and after a failure a slot more.
    """
    interval, least = timedelta(seconds=interval_seconds), timedelta(seconds=least_seconds)
    wait = max(interval, least)
    if failures:
        wait = min(interval * 2 ** min(failures, 20), max(interval, BACKOFF_LIMIT))
        if retry_after_seconds is not None:
            wait = max(wait, timedelta(seconds=min(max(retry_after_seconds, 1), RETRY_AFTER_LONGEST_SECONDS)))
        if least > interval:
            # Feeds that are due together ask together: one that was refused for that would be refused each time.
            wait = max(wait, least + interval)
    # A whole number of slots: due between two of them, it would be claimed again and again until the later one begins.
    slots: int = -(-wait // interval)
    return slot + slots * interval


def ask_again_after(*, since: datetime, now: datetime) -> datetime:
    """Return when a refused listing is asked for again: after as long as it has been refused, 10 min to a day."""
    return now + min(max(now - since, REFUSAL_SHORTEST), REFUSAL_LONGEST)


class CircuitState(NamedTuple):
    """How a provider has answered lately: failures in a row, successes in a row since it was open, and until when
    nobody asks it (None: closed; a time that has passed: half-open)."""

    failures: int = 0
    successes: int = 0
    open_until: datetime | None = None


def circuit_after_failure(
    state: CircuitState, *, reason: str, retry_after_seconds: int | None, now: datetime
) -> CircuitState:
    """Return the circuit after a failed call: open after five in a row, after one where it was half-open, and at once
    where the provider says that it is asked too often, for as long as it says, up to 7 days."""
    failures = state.failures + 1
    wait = CIRCUIT_OPEN
    if retry_after_seconds is not None:
        longest = BAN_LONGEST_SECONDS if reason == "rate_limited" else RETRY_AFTER_LONGEST_SECONDS
        wait = timedelta(seconds=min(max(retry_after_seconds, 1), longest))
    opens = state.open_until is not None or failures >= CIRCUIT_FAILURES
    if not (opens or reason == "rate_limited" or retry_after_seconds is not None):
        return CircuitState(failures)
    until = now + wait
    return CircuitState(failures, 0, max(until, state.open_until) if state.open_until else until)


def circuit_after_success(state: CircuitState) -> CircuitState:
    """Return the circuit after an answer: one that was open is closed by the second in a row."""
    if state.open_until is None or state.successes + 1 >= CIRCUIT_SUCCESSES:
        return CircuitState()
    return state._replace(successes=state.successes + 1)


# A sender whose quotes have not been ahead for so long has a clock that was set right.
SKEW_FORGOTTEN = timedelta(hours=1)


class Skew(NamedTuple):
    """How far the clock of a sender is ahead of ours: whole seconds, and when a quote of it was ahead last (None: none
    was)."""

    seconds: int = 0
    ahead_at: datetime | None = None


def skew_in_force(skew: Skew, *, now: datetime) -> Skew:
    """Return the skew, or none where it is forgotten: an hour after the last quote that was ahead."""
    is_forgotten = skew.ahead_at is not None and now - skew.ahead_at >= SKEW_FORGOTTEN
    return Skew() if is_forgotten else skew


def skew_after(skew: Skew, *, ahead: timedelta, received_at: datetime) -> Skew:
    """Return the skew by which the quotes of one message are set back.

    ahead: of its newest quote against its receipt, which is rounded up to a whole second. While it is not forgotten,
    the skew only grows, so that a message that comes again gets equal times.
    """
    skew = skew_in_force(skew, now=received_at)
    if ahead <= timedelta(0):
        return skew
    return Skew(max(skew.seconds, ceil(ahead / timedelta(seconds=1))), max(skew.ahead_at or received_at, received_at))
