"""Where an instance stands, and what each part of its condition sees, in words. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_DOWN, Decimal
from typing import Any

from apps.locales import STANDARD, Reader
from apps.market.domain import epoch_microseconds
from apps.notation import SECOND
from apps.rules.domain import describe_condition, describe_distance, describe_reason, describe_unknown, format_mean
from apps.rules.engine.codes import Reason, Unknown
from apps.rules.engine.conditions import AnyLeaf, Combination, Condition, Not
from apps.rules.engine.instance import (
    ENDED,
    ERROR,
    FIRING,
    INACTIVE,
    OPEN,
    PAUSED,
    PENDING,
    RECOVERING,
    InstanceStatus,
)
from apps.rules.engine.leaves.comparisons import Average, Change, ZScore
from apps.rules.engine.leaves.levels import Crossing, Passage
from apps.rules.engine.leaves.silences import Stale, Unchanged
from apps.rules.engine.pure import FOREVER
from apps.rules.engine.rule import RuleSpec
from apps.wording import count_and_unit, format_number, format_percent, format_prices, format_time

_GROUPS = {"all": "all of these", "any": "at least one of these"}


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a condition. summary: what must hold; result: True, False or None (UNKNOWN); figures: what was
    compared; members: what it combines."""

    summary: str
    result: bool | None
    figures: str = ""
    members: tuple["Part", ...] = ()

    @property
    def mark(self) -> str:
        """The result as one character."""
        return "?" if self.result is None else "✓" if self.result else "✗"

    def lines(self, depth: int = 0) -> Iterator[tuple[int, "Part"]]:
        """Give (depth, part) of this part and all below it, as they are read."""
        yield depth, self
        for member in self.members:
            yield from member.lines(depth + 1)


def parts_of(condition: Condition, evidence: Mapping[str, Any], *, is_open: bool, reader: Reader = STANDARD) -> Part:
    """Return the condition as a tree, with what its evidence says of each part.

    is_open: `recovery` is in force; reader: whom the texts are for; here and below.
    """
    price = evidence["price"]
    if isinstance(condition, Combination):
        pairs = zip(condition.members, evidence[condition.kind], strict=True)
        members = tuple(
            parts_of(member, {**seen, "price": price}, is_open=is_open, reader=reader) for member, seen in pairs
        )
        return Part(_GROUPS[condition.kind], evidence["result"], members=members)
    if isinstance(condition, Not):
        member = parts_of(condition.member, {**evidence["not"], "price": price}, is_open=is_open, reader=reader)
        return Part("not", evidence["result"], members=(member,))
    text = describe_condition(condition, reader=reader)
    recovery = getattr(condition, "recovery", None)
    if is_open and recovery is not None:
        sign = " %" if getattr(condition, "percent", None) is not None else ""
        text += f"; while it fires, {format_number(recovery, reader=reader)}{sign} is what counts"
    return Part(text, evidence["result"], _figures(condition, evidence, reader))


def _figures(leaf: AnyLeaf, seen: Mapping[str, Any], reader: Reader) -> str:
    price = f"the price is {format_number(seen['price'], reader=reader)}"
    if isinstance(leaf, Change):
        # How much is known counts under `not` only.
        known = f"; known: {describe_coverage(leaf, seen, reader=reader)}" if "coverage" in seen else ""
        if "reference" not in seen:
            return f"{price}; there is no price to compare it with{known}"
        reference = seen["reference"]
        change = _signed(seen["change_percent"], reader) if "change_percent" in seen else "no percent of that"
        before, now = format_prices([reference["price"], seen["price"]], reader=reader)
        return f"{before} at {_moment(reference['at'], reader)} → {now}: {change}{known}"
    if isinstance(leaf, Crossing | Passage):
        if "before" not in seen:
            return f"{price}; there is no quote before it, or one of another provider"
        return " → ".join(format_prices([seen["before"], seen["price"]], reader=reader))
    if isinstance(leaf, Stale):
        newest, clock = (_moment(seen[name], reader) for name in ("newest_at", "clock"))
        text = f"the newest quote is of {newest}, the clock is at {clock}"
        if "calendar" not in seen:
            return text
        return f"{text}: {_seconds(seen['open_seconds'] * SECOND)} of trading by {seen['calendar']}"
    if isinstance(leaf, Unchanged):
        text = f"{price}, the same since that of {_moment(seen['unchanged_since'], reader)}"
        if "trading_seconds" not in seen:
            return text
        return f"{text}: {_seconds(seen['trading_seconds'] * SECOND)} of trading"
    if isinstance(leaf, Average | ZScore):
        known = describe_coverage(leaf, seen, reader=reader)
        if "mean" not in seen:
            return f"{price}; known: {known}"
        difference = seen.get("difference_percent", seen.get("difference"))
        far = (
            "no percent of that"
            if difference is None
            else f"{_sign(difference)}{describe_distance(seen, reader=reader)}"
        )
        if isinstance(leaf, ZScore):
            far = (
                f"{format_number(seen['deviations'], reader=reader)} deviations"
                if "deviations" in seen
                else "its price never changed"
            )
        return f"{price}, the average {format_mean(seen['mean'], seen['price'], reader=reader)}: {far}; known: {known}"
    return price


def describe_coverage(leaf: Average | Change | ZScore, seen: Mapping[str, Any], *, reader: Reader = STANDARD) -> str:
    """Return how much of a window is known: "3 of 30 days"."""
    count, unit = count_and_unit(leaf.window)
    known = Decimal(seen["coverage"]) * count
    if known >= Decimal("0.1"):
        known = known.quantize(Decimal("0.1"), rounding=ROUND_DOWN)
    return f"{format_number(known, reader=reader)} of {count} {unit}"


def _signed(percent: str, reader: Reader) -> str:
    return f"{_sign(percent)}{format_percent(percent, reader=reader)}"


def _sign(number: str) -> str:
    return "−" if Decimal(number) < 0 else "+"


def _moment(written: str, reader: Reader) -> str:
    return format_time(epoch_microseconds(datetime.fromisoformat(written)), reader=reader)


def cooling_until(spec: RuleSpec, status_of_instance: InstanceStatus, *, moment: int) -> int | None:
    """Return until when the next opening would be silent, or None where it would be told."""
    until = status_of_instance.opened_at + spec.cooldown
    is_over = status_of_instance.opened_at == -FOREVER or moment >= until
    return None if is_over or status_of_instance.state in (*OPEN, ENDED, ERROR, PAUSED) else until


def describe_state(
    spec: RuleSpec | None,
    status_of_instance: InstanceStatus,
    *,
    moment: int,
    newest_at: int | None,
    tree: Part | None,
    reader: Reader = STANDARD,
) -> str:
    """Return where an instance stands at `moment`: "pending for 40 s of 60 s since 2026-03-05 12:03:10 UTC".

    spec: None where what is evaluated cannot be read; newest_at: time of the newest quote, if there is one.
    """
    state, since = (
        status_of_instance.state,
        format_time(status_of_instance.since, reader=reader) if status_of_instance.since > -FOREVER else "",
    )
    if state == ERROR or spec is None:
        return (
            f"in error since {since}: {status_of_instance.detail}"
            if since
            else f"in error: {status_of_instance.detail}"
        )
    if state == ENDED:
        return f"ended at {since}: {describe_reason(status_of_instance.reason)}"
    if state == PAUSED:
        return f"paused since {since}: check its levels after the split {status_of_instance.detail}"
    held = moment - status_of_instance.since
    text = {
        PENDING: f"pending for {_seconds(held)} of {_seconds(spec.pending)} since {since}",
        FIRING: f"firing since {since}",
        RECOVERING: f"recovering for {_seconds(held)} of {_seconds(spec.keep_firing)} since {since}: still open",
    }.get(state, "")
    if status_of_instance.suppressed:
        text += ", silently: its opening came within the cooldown"
    if status_of_instance.unknown == Unknown.NOT_EVALUATED:
        return "not evaluated yet: no quote has come since the rule was put on this asset"
    if status_of_instance.unknown is not None:
        return "; ".join(filter(None, (text, _unknown_part(spec.condition, status_of_instance, reader))))
    if (
        state == INACTIVE
        and status_of_instance.reason == Reason.EVENT
        and newest_at is not None
        and status_of_instance.since >= newest_at
    ):
        return f"fired at {since}, as an event, which is over at once"
    if state == INACTIVE and tree is not None and tree.result:
        return "not firing yet: by what is stored now the condition holds; it is evaluated at the next quote"
    if state == INACTIVE:
        return "not firing: the condition is false"
    return text


def _unknown_part(condition: Condition, status_of_instance: InstanceStatus, reader: Reader) -> str:
    text = f"unknown: {describe_unknown(status_of_instance.unknown or '')}"
    if status_of_instance.evidence is None or not isinstance(condition, Average | ZScore):
        return text
    return f"{text}: {describe_coverage(condition, status_of_instance.evidence, reader=reader)} known"


def _seconds(span: int) -> str:
    """Return a span in seconds up to two minutes, then in the largest units: "1 h 5 min"."""
    seconds = max(span, 0) // SECOND
    if seconds < 120:
        return f"{seconds} s"
    units = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
    index = next(index for index, (size, _) in enumerate(units) if seconds >= size)
    (large, name), (small, part) = units[index], units[index + 1]
    rest = seconds % large // small
    return f"{seconds // large} {name}" + (f" {rest} {part}" if rest else "")
