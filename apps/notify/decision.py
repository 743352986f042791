"""Decides whether a notification is sent, or for which reason it is not. Pure.

The planner and the pages that explain it call the same function, so a page shows the reason that the planner acts on.
"""

from datetime import timedelta
from enum import StrEnum

from apps.notify.domain import Deferral


class Decision(StrEnum):
    """Send, or the reason why not. Reasons are in the order in which they are checked: the first that applies counts.

    CHANNEL_DISABLED, OWNER_INACTIVE: no notification is created, and unsent messages are given up; AT_LIMIT, SILENCED,
    QUIET_HOURS: the notification waits; NO_CHANNEL, NOTHING_DUE: of a whole channel, there is nothing to plan.
    """

    NO_CHANNEL = "no_channel"
    CHANNEL_DISABLED = "channel_disabled"
    OWNER_INACTIVE = "owner_inactive"
    NOTHING_DUE = "nothing_due"
    AT_LIMIT = "at_limit"
    SILENCED = "silenced"
    QUIET_HOURS = "quiet_hours"
    SEND = "send"


def decide(*, refusal: Decision | None = None, is_at_limit: bool, deferral: Deferral | None) -> Decision:
    """Return the decision on a notification that is due.

    refusal: why its channel sends nothing, as `refuse` returns it; is_at_limit: the channel has reached its limit of
    messages for this minute; deferral: what defers the notification now.
    """
    if refusal is not None:
        return refusal
    if is_at_limit:
        return Decision.AT_LIMIT
    if deferral is not None:
        return Decision.QUIET_HOURS if deferral.silence_id is None else Decision.SILENCED
    return Decision.SEND


def refuse(*, is_enabled: bool, may_be_notified: bool) -> Decision | None:
    """Return why a channel sends nothing at all, None where it may send."""
    if not is_enabled:
        return Decision.CHANNEL_DISABLED
    return None if may_be_notified else Decision.OWNER_INACTIVE


def wait_for_group(*, severity: str, group_wait_seconds: int) -> timedelta:
    """Return how long a notification waits for others before it is due."""
    return timedelta(seconds=0 if severity == "critical" else group_wait_seconds)
