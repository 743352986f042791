"""What the engine's transitions mean for alerts. Pure."""

from collections.abc import Iterable, Iterator

from apps.rules.engine.codes import Reason
from apps.rules.engine.instance import ERROR, Transition

OPENED, RESOLVED, CORRECTED = "opened", "resolved", "corrected"
# Why an alert about the installation opened and ended.
REPORTED_BY_ALERTMANAGER, RESOLVED_BY_ALERTMANAGER = "reported_by_alertmanager", "resolved_by_alertmanager"
REASONS = (*(reason.value for reason in Reason), REPORTED_BY_ALERTMANAGER, RESOLVED_BY_ALERTMANAGER)


def is_notable(step: Transition) -> bool:
    """Tell whether a step may open or resolve an alert."""
    return step.opens or step.resolves or ERROR in (step.from_state, step.to_state)


def events_of(steps: Iterable[Transition], *, open_keys: set[tuple[int, int]]) -> Iterator[tuple[str, Transition]]:
    """Give (opened | resolved, step) in order. open_keys: the (rule, asset) with an open alert; it is kept up to date.

    A evaluation that failed opens an alert too, which ends when the rule is changed.
    """
    for step in steps:
        key = (step.rule_id, step.asset_id)
        if (step.resolves or step.from_state == ERROR) and key in open_keys:
            open_keys.remove(key)
            yield RESOLVED, step
        if step.opens or step.to_state == ERROR:
            open_keys.add(key)
            yield OPENED, step
