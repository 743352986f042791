"""What is decided about an alert event on a channel: to send it, or why not. Pure.

Whoever notifies and whoever explains it ask here, so that a page shows the reason that counted.
"""

from datetime import timedelta
from enum import StrEnum

from apps.notify.domain import Deferral


class Decision(StrEnum):
    """To send, or the one reason why not, in the order in which they are asked: the first that holds is the reason.

    CHANNEL_DISABLED, OWNER_INACTIVE: there is no notification, and what was planned before is given up; NO_CHANNEL,
    NOTHING_DUE: about all of a channel's notifications; AT_LIMIT, SILENCED, QUIET_HOURS: it waits.
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
    """Return what is decided about a notification that is due.

    refusal: of its channel, as `refuse` returns it; is_at_limit: the channel has reached its limit of messages for this
    minute; deferral: what defers the notification now.
    """
    if refusal is not None:
        return refusal
    if is_at_limit:
        return Decision.AT_LIMIT
    if deferral is not None:
        return Decision.QUIET_HOURS if deferral.silence_id is None else Decision.SILENCED
    return Decision.SEND


def refuse(*, is_enabled: bool, may_be_notified: bool) -> Decision | None:
    """Return why nothing is sent on a channel at all, None where it may be."""
    if not is_enabled:
        return Decision.CHANNEL_DISABLED
    return None if may_be_notified else Decision.OWNER_INACTIVE


def wait_for_group(*, severity: str, group_wait_seconds: int) -> timedelta:
    """Return how long a notification waits for others before it is due."""
    return timedelta(seconds=0 if severity == "critical" else group_wait_seconds)
