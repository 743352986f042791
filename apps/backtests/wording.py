"""Why backtests failed and what their openings saw: what rows hold, and what people read of it. Pure."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from apps.locales import STANDARD, Reader
from apps.market.domain import epoch_microseconds
from apps.rules.domain import describe_evidence
from apps.rules.engine.conditions import Condition
from apps.rules.engine.rule import RuleSpec
from apps.rules.engine.written import RuleInvalid
from apps.wording import format_number


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


def describe_failure(failure: str, data: Mapping[str, Any], *, reader: Reader = STANDARD) -> str:
    """Return why a backtest failed, in one line; "" where it did not.

    data: what stands beside the failure; reader: whom it is for, here and below.
    """
    written = {name: format_number(one, reader=reader) if isinstance(one, int) else one for name, one in data.items()}
    return _SENTENCES.get(failure, failure).format_map(written)


def describe_openings(openings: Iterable[Mapping[str, Any]], *, document: Any, reader: Reader = STANDARD) -> list[str]:
    """Return what each opening of a report saw. document: the rule that was tried. What cannot be described by its
    evidence, since it was tried by an older version, is as the report has it."""
    found = list(openings)
    try:
        condition = RuleSpec.read(document).condition
    except RuleInvalid:
        return [one["summary"] for one in found]
    return [_describe_opening(one, condition=condition, reader=reader) for one in found]


def _describe_opening(opening: Mapping[str, Any], *, condition: Condition, reader: Reader) -> str:
    try:
        return describe_evidence(
            symbol=opening["asset"],
            condition=condition,
            evidence=opening["evidence"],
            opened_at=epoch_microseconds(datetime.fromisoformat(opening["opened_at"])),
            reader=reader,
        )
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return str(opening["summary"])
