"""Rules and evidence in words. Pure."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal
from typing import Any, NamedTuple

from apps.locales import STANDARD, Reader
from apps.market.domain import PRICE_DECIMALS
from apps.notation import WIDE
from apps.rules.engine.codes import Reason, Unknown
from apps.rules.engine.conditions import AnyLeaf, Combination, Condition, Not
from apps.rules.engine.leaves.comparisons import Average, Change, ZScore
from apps.rules.engine.leaves.levels import Band, Crossing, Level, Passage
from apps.rules.engine.leaves.silences import Stale, Unchanged
from apps.rules.engine.rule import RuleSpec
from apps.wording import (
    format_age,
    format_duration,
    format_moment,
    format_number,
    format_percent,
    format_prices,
    round_number,
)

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


def describe_condition(condition: Condition, *, reader: Reader = STANDARD) -> str:
    """Return what must hold, as it follows the asset's symbol: "rises 10 % or more within 5 minutes".

    reader: whom it is for; here and below.
    """
    if isinstance(condition, Combination):
        text = [_grouped(member, reader) for member in condition.members]
        return (" and " if condition.kind == "all" else " or ").join(text)
    if isinstance(condition, Not):
        return f"not ({describe_condition(condition.member, reader=reader)})"
    return _describe_leaf(condition, reader)


def _grouped(condition: Condition, reader: Reader) -> str:
    text = describe_condition(condition, reader=reader)
    return f"({text})" if isinstance(condition, Combination) and len(condition.members) > 1 else text


def _describe_leaf(leaf: AnyLeaf, reader: Reader) -> str:
    if isinstance(leaf, Level):
        return f"is {leaf.kind} {format_number(leaf.level, reader=reader)}"
    if isinstance(leaf, Crossing):
        return f"crosses {format_number(leaf.level, reader=reader)}{_SIDES[leaf.kind]}"
    if isinstance(leaf, Band):
        return f"is {leaf.kind} {_band(leaf, reader)}"
    if isinstance(leaf, Passage):
        return f"{'comes into' if leaf.kind == 'enters' else 'leaves'} {_band(leaf, reader)}"
    if isinstance(leaf, Stale):
        return f"has had no quote for {format_duration(leaf.after)}"
    if isinstance(leaf, Unchanged):
        return f"has had the same price for {format_duration(leaf.after)}"
    window = format_duration(leaf.window)
    if isinstance(leaf, Change):
        since = " (against the price at its start)" if leaf.ref == "window_start" else ""
        return f"{leaf.kind} {format_number(leaf.percent, reader=reader)} % or more within {window}{since}"
    if isinstance(leaf, ZScore):
        return f"is {format_number(leaf.n, reader=reader)} or more standard deviations from its average of {window}"
    side = "above" if leaf.kind == "above_average" else "below"
    distance = f"more than {format_number(leaf.percent, reader=reader)} % " if leaf.percent else ""
    if leaf.by:
        distance = f"more than {format_number(leaf.by, reader=reader)} "
    return f"is {distance}{side} its average of {window}"


def _band(leaf: Band | Passage, reader: Reader) -> str:
    return f"{format_number(leaf.low, reader=reader)} to {format_number(leaf.high, reader=reader)}"


def describe_rule(spec: RuleSpec, *, reader: Reader = STANDARD) -> str:
    """Return the whole rule: "BTC-USD rises 10 % or more within 5 minutes, for 1 minute"."""
    assets = spec.assets
    if assets.symbols:
        subject = ", ".join(assets.symbols)
    else:
        subject = f"any asset tagged {assets.tag}" if assets.tag else f"any asset of {assets.feed}"
    text = f"{subject} {describe_condition(spec.condition, reader=reader)}"
    if spec.pending:
        text += f", for {format_duration(spec.pending)}"
    if spec.once:
        text += ", once"
    return text


def describe_evidence(
    *, symbol: str, condition: Condition, evidence: Mapping[str, Any], opened_at: int, reader: Reader = STANDARD
) -> str:
    """Return what was seen: "BTC-USD rose 10.4 % in 5 minutes: 61 230.25 at 12:03:10 UTC → 67 598.00 at 12:07:55 UTC".

    opened_at: microseconds since 1970. A time on another day than that has its date.
    """
    clock = _Clock((_EPOCH + timedelta(microseconds=opened_at)).astimezone(reader.zone).date(), reader)
    seen = _describe_seen(symbol=symbol, condition=condition, evidence=evidence, clock=clock)
    switched = evidence.get("switched")
    return seen if switched is None else f"{seen} ({_describe_switch(switched, clock)})"


class _Clock(NamedTuple):
    """Writes the times of evidence for a reader; those of `day` without a date."""

    day: date
    reader: Reader

    def at(self, written: str) -> str:
        moment = datetime.fromisoformat(written)
        form = "at %X" if self.is_of_the_day(written) else "on %x at %X"
        return format_moment(moment, form, reader=self.reader)

    def is_of_the_day(self, written: str) -> bool:
        return datetime.fromisoformat(written).astimezone(self.reader.zone).date() == self.day


def _describe_switch(switched: Mapping[str, Any], clock: _Clock) -> str:
    before, now = switched["from"], switched["to"]
    if "factor" not in switched:
        return f"the first price from {now}, after {before}"
    factor = format_number(Context(prec=3).plus(Decimal(switched["factor"])), reader=clock.reader)
    return f"compared across a change of provider {clock.at(switched['at'])} from {before} to {now}, factor {factor}"


def _describe_seen(*, symbol: str, condition: Condition, evidence: Mapping[str, Any], clock: _Clock) -> str:
    reader = clock.reader
    claim, at = _claim(condition, evidence, at=evidence["at"], reader=reader), clock.at(evidence["at"])
    newest = f"{format_number(evidence['price'], reader=reader)} {at}"
    if isinstance(condition, Change):
        reference = evidence["reference"]
        before, now = format_prices([reference["price"], evidence["price"]], reader=reader)
        newest = f"{before} {clock.at(reference['at'])} → {now} {at}"
    elif isinstance(condition, Crossing | Passage):
        # The quote before is named with its time only where that is of another day.
        previous = evidence.get("previous")
        is_of_the_day = previous is None or clock.is_of_the_day(previous["at"])
        price_before = evidence["before"] if is_of_the_day else previous["price"]
        before, now = format_prices([price_before, evidence["price"]], reader=reader)
        if not is_of_the_day:
            before += f" {clock.at(previous['at'])}"
        newest = f"{before} → {now} {at}"
    elif isinstance(condition, Stale):
        newest = f"the last was {newest}, and the clock is {clock.at(evidence['clock'])}"
    elif isinstance(condition, Unchanged):
        newest += f", first quoted {clock.at(evidence['unchanged_since'])}"
    elif isinstance(condition, Average | ZScore):
        newest += f", average {format_mean(evidence['mean'], evidence['price'], reader=reader)}"
    return f"{symbol} {claim}: {newest}"


def describe_distance(seen: Mapping[str, Any], *, reader: Reader = STANDARD) -> str:
    """Return how far a price is from a mean, without a sign: in percent, or as an amount with two decimals, or two
    significant digits where these would be 0."""
    if "difference" in seen:
        return format_number(round_number(abs(Decimal(seen["difference"])), decimals=2), reader=reader)
    return format_percent(seen["difference_percent"], reader=reader)


def format_mean(mean: str, price: str, *, reader: Reader = STANDARD) -> str:
    """Return a mean with as many decimals as the price has, two at least, and more where they would be the same."""
    exact, beside = Decimal(mean), Decimal(price)
    places = -int(beside.as_tuple().exponent)
    decimals = range(max(places, 2), PRICE_DECIMALS + 1)
    roundings = (exact.quantize(Decimal(1).scaleb(-count), context=WIDE) for count in decimals)
    return format_number(next((one for one in roundings if one != beside or one == exact), exact), reader=reader)


def _claim(condition: Condition, evidence: Mapping[str, Any], *, at: str, reader: Reader) -> str:
    """Return what the evidence says of the condition: of `any`, only what is true. at: of the newest quote."""
    if isinstance(condition, Combination):
        pairs = list(zip(condition.members, evidence[condition.kind], strict=True))
        if condition.kind == "any":
            pairs = [(member, seen) for member, seen in pairs if seen["result"]] or pairs
        return " and ".join(_claim(member, seen, at=at, reader=reader) for member, seen in pairs)
    if isinstance(condition, Stale | Unchanged) and {"calendar", "trading_seconds"} & evidence.keys():
        return f"{describe_condition(condition, reader=reader)} of trading"
    if isinstance(condition, Change) and evidence["result"]:
        verb, window = ("rose" if condition.kind == "rises" else "fell"), format_duration(condition.window)
        age = datetime.fromisoformat(at) - datetime.fromisoformat(evidence["reference"]["at"])
        microseconds = age // timedelta(microseconds=1)
        gap = f" (last price {format_age(microseconds)} earlier)" if microseconds >= 2 * condition.window else ""
        return f"{verb} {format_percent(evidence['change_percent'], reader=reader)} in {window}{gap}"
    if isinstance(condition, Crossing) and evidence["result"]:
        return f"crossed {format_number(condition.level, reader=reader)}{_SIDES[condition.kind]}"
    if isinstance(condition, Passage) and evidence["result"]:
        return f"{'came into' if condition.kind == 'enters' else 'left'} {_band(condition, reader)}"
    if isinstance(condition, ZScore) and evidence["result"]:
        deviations = format_number(round_number(Decimal(evidence["deviations"]), decimals=2), reader=reader)
        return f"is {deviations} standard deviations from its average of {format_duration(condition.window)}"
    if isinstance(condition, Average) and evidence["result"]:
        side = "above" if condition.kind == "above_average" else "below"
        distance, window = describe_distance(evidence, reader=reader), format_duration(condition.window)
        return f"is {distance} {side} its average of {window}"
    return describe_condition(condition, reader=reader)


_REASONS: dict[str, str] = {
    Reason.BECAME_TRUE: "the condition became true",
    Reason.BECAME_FALSE: "the condition became false",
    Reason.HELD_LONG_ENOUGH: "the condition held for as long as it must",
    Reason.RECOVERED: "the condition is over",
    Reason.EVENT: "an event is over at once",
    Reason.ONCE: "the rule ends with its first opening",
    Reason.EXPIRED: "the rule expired",
    Reason.RULE_CHANGED: "the rule was changed, disabled or deleted, or the asset is chosen no more",
    Reason.SPLIT: "the asset was split",
    Reason.CONFIRMED: "the rule was confirmed after a split",
    Reason.EVALUATION_FAILED: "evaluating failed",
}
_UNKNOWNS: dict[str, str] = {
    Unknown.NOT_EVALUATED: "not evaluated yet",
    Unknown.NO_PRICE: "no price yet",
    Unknown.NO_PREVIOUS_PRICE: "no previous price from the same provider",
    Unknown.NO_REFERENCE_PRICE: "no earlier price",
    Unknown.NO_PRICE_AT_WINDOW_START: "no price at the start of its window",
    Unknown.NOT_ENOUGH_HISTORY: "not enough history",
    Unknown.ZERO_VARIANCE: "the price never changed in its window",
    Unknown.PRICE_NOT_POSITIVE: "there is no percent of a price of 0 or less",
}


def describe_reason(reason: str, detail: str = "") -> str:
    """Return why an instance took a step: "held_long_enough" is "the condition held for as long as it must".

    detail: what was raised, where something was, or the ratio of a split.
    """
    if not reason:
        return ""
    # A newer version may have written one that is not known here.
    text = _REASONS.get(reason, reason)
    return f"{text}: {detail}" if detail else text


def describe_unknown(unknown: str) -> str:
    """Return why an instance can be evaluated neither way: "not enough history"."""
    return _UNKNOWNS.get(unknown, unknown)


def describe_state_reason(*, unknown: str, reason: str, detail: str) -> str:
    """Return why an instance stands where it does: why it is unknown, else why it took its last step."""
    return f"unknown: {describe_unknown(unknown)}" if unknown else describe_reason(reason, detail)


def describe_pause(*, rule: str, symbol: str, ratio: str) -> str:
    """Return what an alert says of a rule that a split has paused."""
    return f"{rule} is paused on {symbol}: check its levels after the split {ratio}, and save or confirm the rule."


def describe_failure(*, rule: str, symbol: str, detail: str) -> str:
    """Return what an alert says of a rule that could not be evaluated. detail: what was raised."""
    return f"{rule} cannot be evaluated on {symbol}: {detail}. Edit the rule to start it again."
