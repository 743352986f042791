"""Why backtests failed: the codes that rows hold, and what people read of them. Pure."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class Failure(StrEnum):
    """Why a backtest failed. The numbers and what was raised are data beside it."""

    WORKER_LOST = "worker_lost"
    RULE_UNREADABLE = "rule_unreadable"
    OPENS_TOO_OFTEN = "opens_too_often"
    TOOK_TOO_LONG = "took_too_long"
    EVALUATION_FAILED = "evaluation_failed"


_SENTENCES: dict[str, str] = {
    Failure.WORKER_LOST: "Its worker ended {starts} times before it was done. Try a shorter range.",
    Failure.RULE_UNREADABLE: "The rule cannot be read: {detail}",
    Failure.OPENS_TOO_OFTEN: (
        "The rule and its other thresholds open more than {at_most} times in all. Try a shorter range, or a condition "
        "that holds less often."
    ),
    Failure.TOOK_TOO_LONG: "It took more than {minutes} minutes. Try a shorter range, or fewer assets.",
    Failure.EVALUATION_FAILED: "{detail}",
}


def describe_failure(failure: str, data: Mapping[str, Any]) -> str:
    """Return why a backtest failed, in one line; "" where it did not. data: what stands beside the failure."""
    return _SENTENCES.get(failure, failure).format_map(data)
