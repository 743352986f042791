"""What an alert's evidence holds, laid out for people. Pure.

Evidence is plain data: operands by name, at any depth where conditions are combined.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from itertools import islice
from typing import Any

from apps.wording import format_number, format_plain

FIGURES_MOST = 500
_LEVELS = ("level", "low", "high", "mean")
_LEVELS_MOST = 6


def figures(evidence: Any) -> list[tuple[str, str, str]]:
    """Return (where in the condition, figure, value) for each value, in the order in which they stand."""
    found = islice(_walk(evidence), FIGURES_MOST)
    named = ((path[:-1], path[-1] if path else "", one) for path, one in found)
    return [(" › ".join(place), name, _value(name, one)) for place, name, one in named]


def sections(evidence: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return (title, [(name, value)] by name) for what came from outside, as it was written: labels, annotations, and
    what else there is."""
    parts = {"Labels": evidence.get("labels"), "Annotations": evidence.get("annotations")}
    rest = {name: one for name, one in evidence.items() if name not in ("labels", "annotations")}
    if rest:
        parts["What else was said"] = rest
    return [
        (title, sorted((str(name), str(one)) for name, one in part.items()) if isinstance(part, Mapping) else [])
        for title, part in parts.items()
    ]


def levels(evidence: Any) -> list[tuple[str, Decimal]]:
    """Return (name, price) of the prices that the condition was compared with, each once."""
    found: dict[tuple[str, Decimal], None] = {}
    for path, one in _walk(evidence):
        name = path[-1] if path else ""
        if path[-2:] == ["reference", "price"]:
            name = "reference"
        if name in (*_LEVELS, "reference") and (price := _number(one)) is not None:
            found[("average" if name == "mean" else name, price)] = None
    return list(found)[:_LEVELS_MOST]


def seen_since(evidence: Any) -> datetime | None:
    """Return the earliest moment that the evidence names."""
    return min(_moments(evidence), default=None)


@dataclass(frozen=True, slots=True)
class HealthAlert:
    """An alert about health that is to be open.

    owner_id: whose it is, None: the operators'; subject, subject_id: what has stopped; evidence: in the shape of
    Alertmanager's; is_known: somebody knows, so it is notified once, and acknowledged from its beginning.
    """

    owner_id: int | None
    subject: str
    subject_id: int
    severity: str
    summary: str
    evidence: Mapping[str, Any]
    is_known: bool = False

    @property
    def key(self) -> tuple[int | None, str, int]:
        """Return what tells it from every other that is open."""
        return (self.owner_id, self.subject, self.subject_id)


@dataclass(frozen=True, slots=True)
class CorrectionSeen:
    """A correction of a price that an alert saw.

    at, before, after: the time, and its price before and after the correction, None where there was none or is none;
    day: instead of these, a day whose prices were all replaced.
    """

    at: datetime | None = None
    before: Decimal | None = None
    after: Decimal | None = None
    day: date | None = None

    def as_data(self, price_then: Callable[[datetime, Decimal], Decimal]) -> dict[str, str | None]:
        """Return it as a row stores it. price_then: what a price of a time counted when the alert opened."""
        at = self.at
        if at is None:
            return {"day": self.day.isoformat() if self.day is not None else None}
        before, after = (
            None if price is None else format_plain(price_then(at, price)) for price in (self.before, self.after)
        )
        return {"at": at.isoformat(), "before": before, "after": after}


def correction_seen(
    evidence: Any,
    *,
    corrected: Mapping[datetime, tuple[Decimal | None, Decimal | None]],
    days: Collection[date] = (),
    since: datetime | None = None,
) -> CorrectionSeen | None:
    """Return what a correction changed between the earliest and the latest moment that the evidence names, None where
    that is nothing.

    corrected: time -> price before and after; days: whole days whose prices were replaced or deleted; since: when the
    price was quoted that was in force at the earliest moment, if that is known. Of several quotes that which the
    evidence names, else the newest.
    """
    named = set(_moments(evidence))
    if not named:
        return None
    first, last = min([*named, *([since] if since is not None else [])]), max(named)
    seen = [at for at in corrected if first <= at <= last]
    if seen:
        at = max(seen, key=lambda at: (at in named, at))
        return CorrectionSeen(at, *corrected[at])
    over = [day for day in days if first.date() <= day <= last.date()]
    return CorrectionSeen(day=max(over)) if over else None


def _moments(evidence: Any) -> list[datetime]:
    return [at for _, one in _walk(evidence) if (at := _moment(one)) is not None]


def _walk(part: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[list[str], Any]]:
    if isinstance(part, Mapping):
        for name, one in part.items():
            yield from _walk(one, (*path, str(name).replace("_", " ")))
    elif isinstance(part, list):
        for number, one in enumerate(part, start=1):
            # Lists stand for their name's members: "all" holds "all 1", "all 2".
            yield from _walk(one, (*path[:-1], f"{path[-1]} {number}" if path else str(number)))
    else:
        yield list(path), part


def _value(name: str, one: Any) -> str:
    if one is None:
        return "unknown"
    if isinstance(one, bool):
        return "yes" if one else "no"
    moment = _moment(one)
    if moment is not None:
        return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
    number = _number(one)
    if number is None:
        return str(one)
    return format_number(number) + (" %" if name.endswith("percent") else "")


def _number(one: Any) -> Decimal | None:
    if isinstance(one, bool) or not isinstance(one, str | int | float | Decimal):
        return None
    try:
        number = Decimal(str(one))
    except InvalidOperation:
        return None
    return number if number.is_finite() and abs(number.adjusted()) < 40 else None


def _moment(one: Any) -> datetime | None:
    if not isinstance(one, str) or len(one) < 19 or "T" not in one:
        return None
    try:
        moment = datetime.fromisoformat(one)
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment.tzinfo is not None else None
