"""Evaluating a feed's log, and what came of it."""

from apps.pipeline import flow
from apps.rules.models import RuleState, Transition


def evaluate(feed):
    """Evaluate what is pending and return what the log has led to so far."""
    flow.evaluate_pending(feed_id=feed.pk)
    return made_in(feed)


def made_in(feed):
    rows = Transition.objects.filter(entry__feed=feed).order_by("entry__seq", "position")
    return list(rows.values_list("entry__seq", "version__number", "from_state", "to_state", "reason"))


def states_of(rule):
    rows = RuleState.objects.filter(rule=rule).order_by("asset__symbol")
    return list(rows.values_list("asset__symbol", "version__number", "state", "since", "unknown", "reason"))
