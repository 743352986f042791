"""Rules and evidence in words. Pure."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from apps.rules.engine.conditions import Average, Change, Condition, Level, write_duration, write_number
from apps.rules.engine.rule import RuleSpec

_UNITS = {"s": "second", "m": "minute", "h": "hour", "d": "day"}


def duration_in_words(duration: int) -> str:
    """Return microseconds like "5 minutes"."""
    written = write_duration(duration)
    count, unit = written[:-1], _UNITS[written[-1]]
    return f"{count} {unit}" if count == "1" else f"{count} {unit}s"


def number_in_words(number: str | Decimal) -> str:
    """Return a number with thin groups of thousands: 61230.5 is "61 230.5"."""
    whole, _, part = write_number(Decimal(number)).partition(".")
    return f"{int(whole):,}".replace(",", " ") + (f".{part}" if part else "")


def percent_in_words(percent: str | Decimal) -> str:
    """Return a percent with two decimals at most."""
    return f"{write_number(abs(Decimal(percent)).quantize(Decimal('0.01')))} %"


def condition_in_words(condition: Condition) -> str:
    """Return what must hold, as it follows the asset's symbol: "rises 10 % or more within 5 minutes"."""
    if isinstance(condition, Level):
        return f"is {condition.kind} {number_in_words(condition.level)}"
    window = duration_in_words(condition.window)
    if isinstance(condition, Change):
        since = " (against the price at its start)" if condition.ref == "window_start" else ""
        return f"{condition.kind} {percent_in_words(condition.percent)} or more within {window}{since}"
    side = "above" if condition.kind == "above_average" else "below"
    distance = f"more than {percent_in_words(condition.percent)} " if condition.percent else ""
    return f"is {distance}{side} its average of {window}"


def rule_in_words(spec: RuleSpec) -> str:
    """Return the whole rule: "BTC-USD rises 10 % or more within 5 minutes, for 1 minute"."""
    assets = spec.assets
    if assets.symbols:
        subject = ", ".join(assets.symbols)
    else:
        subject = f"any asset tagged {assets.tag}" if assets.tag else f"any asset of {assets.feed}"
    words = f"{subject} {condition_in_words(spec.condition)}"
    if spec.pending:
        words += f", for {duration_in_words(spec.pending)}"
    if spec.once:
        words += ", once"
    return words


def evidence_in_words(*, symbol: str, condition: Condition, evidence: Mapping[str, Any]) -> str:
    """Return what was seen: "BTC-USD rose 10.4 % in 5 minutes: 61 230.00 at 12:03:10 → 67 598.00 at 12:07:55"."""
    price, at = number_in_words(evidence["price"]), _clock(evidence["at"])
    if isinstance(condition, Level):
        return f"{symbol} is {condition.kind} {number_in_words(condition.level)}: {price} at {at}"
    window = duration_in_words(condition.window)
    if isinstance(condition, Change):
        reference = evidence["reference"]
        verb = "rose" if condition.kind == "rises" else "fell"
        before = f"{number_in_words(reference['price'])} at {_clock(reference['at'])}"
        return f"{symbol} {verb} {percent_in_words(evidence['change_percent'])} in {window}: {before} → {price} at {at}"
    side = "above" if isinstance(condition, Average) and condition.kind == "above_average" else "below"
    # As many decimals as the price has, and two at least.
    decimals = min(Decimal(evidence["price"]).as_tuple().exponent, -2)
    mean = number_in_words(Decimal(evidence["mean"]).quantize(Decimal(1).scaleb(decimals)))
    distance = percent_in_words(evidence["difference_percent"])
    return f"{symbol} is {distance} {side} its average of {window}: {price} at {at}, average {mean}"


def _clock(moment: str) -> str:
    return f"{datetime.fromisoformat(moment):%H:%M:%S}"
