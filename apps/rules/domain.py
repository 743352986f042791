"""Rules and evidence in words. Pure."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from apps.notation import write_number
from apps.rules.engine.conditions import AnyLeaf, Combination, Condition, Not
from apps.rules.engine.leaves import Average, Band, Change, Crossing, Level, Passage, Stale, ZScore
from apps.rules.engine.rule import RuleSpec
from apps.wording import duration_in_words, number_in_words, percent_in_words

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# A checkpoint a minute for the last hour, one an hour for two days, one a day before that.
_THINNED = ((timedelta(hours=1), timedelta(minutes=1)), (timedelta(days=2), timedelta(hours=1)))
_SIDES = {"crosses": "", "crosses_up": " from below", "crosses_down": " from above"}


def checkpoints_kept(clocks: Sequence[datetime], *, oldest: datetime | None = None) -> set[int]:
    """Return the places of the checkpoints to keep; clocks: the feed's clock at each, in order of the log.

    The newest is kept always, and of each minute, hour or day (the older, the longer) the first; none from before
    `oldest`. A clock that stands still, as after the end of a recording, keeps one.
    """
    kept: set[int] = set()
    seen: set[tuple[timedelta, int]] = set()
    for place in range(len(clocks)):
        age = clocks[-1] - clocks[place]
        step = next((step for limit, step in _THINNED if age <= limit), timedelta(days=1))
        slot = (step, (clocks[place] - _EPOCH) // step)
        if slot not in seen and (oldest is None or clocks[place] >= oldest):
            seen.add(slot)
            kept.add(place)
    return kept | {len(clocks) - 1} if clocks else kept


def condition_in_words(condition: Condition) -> str:
    """Return what must hold, as it follows the asset's symbol: "rises 10 % or more within 5 minutes"."""
    if isinstance(condition, Combination):
        words = [_grouped(member) for member in condition.members]
        return (" and " if condition.kind == "all" else " or ").join(words)
    if isinstance(condition, Not):
        return f"not ({condition_in_words(condition.member)})"
    return _leaf_in_words(condition)


def _grouped(condition: Condition) -> str:
    words = condition_in_words(condition)
    return f"({words})" if isinstance(condition, Combination) and len(condition.members) > 1 else words


def _leaf_in_words(leaf: AnyLeaf) -> str:
    if isinstance(leaf, Level):
        return f"is {leaf.kind} {number_in_words(leaf.level)}"
    if isinstance(leaf, Crossing):
        return f"crosses {number_in_words(leaf.level)}{_SIDES[leaf.kind]}"
    if isinstance(leaf, Band):
        return f"is {leaf.kind} {_band(leaf)}"
    if isinstance(leaf, Passage):
        return f"{'comes into' if leaf.kind == 'enters' else 'leaves'} {_band(leaf)}"
    if isinstance(leaf, Stale):
        return f"has had no quote for {duration_in_words(leaf.after)}"
    window = duration_in_words(leaf.window)
    if isinstance(leaf, Change):
        since = " (against the price at its start)" if leaf.ref == "window_start" else ""
        return f"{leaf.kind} {percent_in_words(leaf.percent)} or more within {window}{since}"
    if isinstance(leaf, ZScore):
        return f"is {write_number(leaf.n)} or more standard deviations from its average of {window}"
    side = "above" if leaf.kind == "above_average" else "below"
    distance = f"more than {percent_in_words(leaf.percent)} " if leaf.percent else ""
    return f"is {distance}{side} its average of {window}"


def _band(leaf: Band | Passage) -> str:
    return f"{number_in_words(leaf.low)} to {number_in_words(leaf.high)}"


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
    seen = _seen_in_words(symbol=symbol, condition=condition, evidence=evidence)
    switched = evidence.get("switched")
    return seen if switched is None else f"{seen} (the first price from {switched['to']}, after {switched['from']})"


def _seen_in_words(*, symbol: str, condition: Condition, evidence: Mapping[str, Any]) -> str:
    price, at = number_in_words(evidence["price"]), _clock(evidence["at"])
    if isinstance(condition, Combination | Not):
        return f"{symbol} {_claim(condition, evidence)}: {price} at {at}"
    claim, newest = _claim(condition, evidence), f"{price} at {at}"
    if isinstance(condition, Change):
        reference = evidence["reference"]
        newest = f"{number_in_words(reference['price'])} at {_clock(reference['at'])} → {newest}"
    elif isinstance(condition, Crossing | Passage):
        newest = f"{number_in_words(evidence['before'])} → {newest}"
    elif isinstance(condition, Stale):
        newest = f"the last was {newest}, and the clock is at {_clock(evidence['clock'])}"
    elif isinstance(condition, Average | ZScore):
        # As many decimals as the price has, and two at least.
        decimals = min(Decimal(evidence["price"]).as_tuple().exponent, -2)
        newest += f", average {number_in_words(Decimal(evidence['mean']).quantize(Decimal(1).scaleb(decimals)))}"
    return f"{symbol} {claim}: {newest}"


def _claim(condition: Condition, evidence: Mapping[str, Any]) -> str:
    """Return what the evidence says of the condition: of `any`, only what is true."""
    if isinstance(condition, Combination):
        pairs = list(zip(condition.members, evidence[condition.kind], strict=True))
        if condition.kind == "any":
            pairs = [(member, seen) for member, seen in pairs if seen["result"]] or pairs
        return " and ".join(_claim(member, seen) for member, seen in pairs)
    if isinstance(condition, Stale) and "calendar" in evidence:
        return f"{condition_in_words(condition)} of trading"
    if isinstance(condition, Change) and evidence["result"]:
        verb, window = ("rose" if condition.kind == "rises" else "fell"), duration_in_words(condition.window)
        return f"{verb} {percent_in_words(evidence['change_percent'])} in {window}"
    if isinstance(condition, Crossing) and evidence["result"]:
        return f"crossed {number_in_words(condition.level)}{_SIDES[condition.kind]}"
    if isinstance(condition, Passage) and evidence["result"]:
        return f"{'came into' if condition.kind == 'enters' else 'left'} {_band(condition)}"
    if isinstance(condition, ZScore) and evidence["result"]:
        deviations = number_in_words(Decimal(evidence["deviations"]).quantize(Decimal("0.01")))
        return f"is {deviations} standard deviations from its average of {duration_in_words(condition.window)}"
    if isinstance(condition, Average) and evidence["result"]:
        side = "above" if condition.kind == "above_average" else "below"
        distance, window = percent_in_words(evidence["difference_percent"]), duration_in_words(condition.window)
        return f"is {distance} {side} its average of {window}"
    return condition_in_words(condition)


def _clock(moment: str) -> str:
    return f"{datetime.fromisoformat(moment):%H:%M:%S}"


_REASONS = {
    "true": "the condition became true",
    "false": "the condition became false",
    "held": "the condition held for as long as it must",
    "recovered": "the condition is over",
    "event": "an event is over at once",
    "once": "the rule ends with its first opening",
    "expired": "the rule expired",
    "rule changed": "the rule was changed, switched off or deleted, or the asset is chosen no more",
}


def reason_in_words(reason: str) -> str:
    """Return why an instance took a step: "held" is "the condition held for as long as it must".

    Any other reason is what judging raised.
    """
    if not reason:
        return ""
    return _REASONS.get(reason) or f"judging failed: {reason}"
