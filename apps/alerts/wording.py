"""Why alerts opened and ended, in words. Pure."""

from apps.alerts.episodes import REPORTED_BY_ALERTMANAGER, RESOLVED_BY_ALERTMANAGER
from apps.rules.domain import describe_reason

_SENTENCES = {
    REPORTED_BY_ALERTMANAGER: "reported by Alertmanager",
    RESOLVED_BY_ALERTMANAGER: "resolved by Alertmanager",
}


def describe_event_reason(reason: str, detail: str = "") -> str:
    """Return why an alert opened or ended; where a person did something, their note, which is the detail."""
    if not reason:
        return detail
    return _SENTENCES.get(reason) or describe_reason(reason, detail)
