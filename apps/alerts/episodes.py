"""What the engine's transitions mean for alerts. Pure."""

from collections.abc import Iterable, Iterator

from apps.rules.engine.codes import Reason
from apps.rules.engine.instance import ERROR, PAUSED, Transition

OPENED, RESOLVED, CORRECTED = "opened", "resolved", "corrected"
# Why an alert about the installation opened and ended.
REPORTED_BY_ALERTMANAGER, RESOLVED_BY_ALERTMANAGER = "reported_by_alertmanager", "resolved_by_alertmanager"
# Why an alert about health opened and ended.
FOUND_BY_HEALTH_CHECK, WELL_AGAIN = "found_by_health_check", "well_again"
# Why an alert about a file of positions opened and ended.
POSITIONS_DIFFER, POSITIONS_FIT = "positions_differ", "positions_fit"
# States that an owner has to hear of and to end: an alert is open as long as one lasts.
STOPPED = (ERROR, PAUSED)
REASONS = (
    *(reason.value for reason in Reason),
    *(REPORTED_BY_ALERTMANAGER, RESOLVED_BY_ALERTMANAGER),
    *(FOUND_BY_HEALTH_CHECK, WELL_AGAIN),
    *(POSITIONS_DIFFER, POSITIONS_FIT),
)


def is_notable(step: Transition) -> bool:
    """Tell whether a step may open or resolve an alert."""
    return step.opens or step.resolves or step.from_state in STOPPED or step.to_state in STOPPED


def events_of(steps: Iterable[Transition], *, open_keys: set[tuple[int, int]]) -> Iterator[tuple[str, Transition]]:
    """Give (opened | resolved, step) in order. open_keys: the (rule, asset) with an open alert; it is kept up to date.

    An evaluation that failed opens an alert too, which ends when the rule is changed; and so does a pause, which ends
    when the rule is saved or confirmed.
    """
    for step in steps:
        key = (step.rule_id, step.asset_id)
        if (step.resolves or step.from_state in STOPPED) and key in open_keys:
            open_keys.remove(key)
            yield RESOLVED, step
        if step.opens or step.to_state in STOPPED:
            open_keys.add(key)
            yield OPENED, step
