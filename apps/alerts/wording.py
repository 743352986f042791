"""Why alerts opened and ended, and what of them was corrected, in words. Pure."""

from collections.abc import Mapping
from datetime import date, datetime

from apps.alerts.episodes import (
    FOUND_BY_HEALTH_CHECK,
    POSITIONS_DIFFER,
    POSITIONS_FIT,
    REPORTED_BY_ALERTMANAGER,
    RESOLVED_BY_ALERTMANAGER,
    WELL_AGAIN,
)
from apps.locales import STANDARD, Reader
from apps.rules.domain import describe_reason
from apps.wording import format_day, format_moment, format_number, format_prices

_SENTENCES = {
    REPORTED_BY_ALERTMANAGER: "reported by Alertmanager",
    RESOLVED_BY_ALERTMANAGER: "resolved by Alertmanager",
    FOUND_BY_HEALTH_CHECK: "found by the check of health",
    WELL_AGAIN: "the problem is over",
    POSITIONS_DIFFER: "a file of positions differs from what is computed",
    POSITIONS_FIT: "the newest file of positions fits, or there is none",
}


def describe_event_reason(
    reason: str, detail: str = "", correction: Mapping[str, str | None] | None = None, *, reader: Reader = STANDARD
) -> str:
    """Return why an alert opened or ended; where a person did something, their note, which is the detail; or what was
    corrected."""
    if correction:
        return describe_correction(correction, reader=reader)
    if not reason:
        return detail
    return _SENTENCES.get(reason) or describe_reason(reason, detail)


def describe_correction(correction: Mapping[str, str | None], *, reader: Reader = STANDARD) -> str:
    """Return what was corrected of what an alert saw, from the data of domain.CorrectionSeen.

    reader: whom it is for.
    """
    if correction.get("day"):
        day = format_day(date.fromisoformat(correction["day"]), reader=reader)
        return f"the prices of {day}, of which candles are kept, were replaced or deleted"
    at, before, after = correction["at"], correction["before"], correction["after"]
    when = format_moment(datetime.fromisoformat(at or ""), reader=reader)
    if before is None:
        return f"a price of {when}, {format_number(after or 0, reader=reader)}, was added"
    if after is None:
        return f"the price of {when}, {format_number(before, reader=reader)}, was deleted"
    return f"the price of {when}: {' → '.join(format_prices([before, after], reader=reader))}"
