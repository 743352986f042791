"""Why an instance took a step, and why it can be evaluated neither way, as codes: what rows and logs hold.

What people read of them is made in apps/rules/domain.py. docs/rules.md lists them.
"""

from enum import StrEnum


class Reason(StrEnum):
    """Why an instance took a step."""

    BECAME_TRUE = "became_true"
    BECAME_FALSE = "became_false"
    HELD_LONG_ENOUGH = "held_long_enough"
    RECOVERED = "recovered"
    EVENT = "event"
    ONCE = "once"
    EXPIRED = "expired"
    RULE_CHANGED = "rule_changed"
    # The ratio stands beside it, as the detail.
    SPLIT = "split"
    CONFIRMED = "confirmed"
    # What was raised stands beside it, as the detail.
    EVALUATION_FAILED = "evaluation_failed"


class Unknown(StrEnum):
    """Why the last evaluation could say neither yes nor no."""

    NOT_EVALUATED = "not_evaluated"
    NO_PRICE = "no_price"
    NO_PREVIOUS_PRICE = "no_previous_price"
    NO_REFERENCE_PRICE = "no_reference_price"
    NO_PRICE_AT_WINDOW_START = "no_price_at_window_start"
    NOT_ENOUGH_HISTORY = "not_enough_history"
    ZERO_VARIANCE = "zero_variance"
    PRICE_NOT_POSITIVE = "price_not_positive"


# Columns and GraphQL need a bound; no code is longer.
CODE_LONGEST = 32
DETAIL_LONGEST = 500
