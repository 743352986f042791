"""What a derived series is, and its quotes, from those of its legs. Pure: no Django, no clock, no I/O.

Times and spans are microseconds, prices whole units of 1e-18.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from itertools import chain
from typing import Any, NamedTuple, Protocol

from apps.market.calendars import open_between
from apps.market.domain import PRICE_DECIMALS, QuoteRejected, admit_price
from apps.notation import SECOND, WIDE, read_duration, read_number, write_duration, write_number

LEGS_MOST = 50
LEVELS_MOST = 5
WEIGHT_HIGHEST = Decimal("1e6")
SKEW_LONGEST = 30 * 86_400 * SECOND
# By default a leg counts for so many effective intervals after its quote, and its feed is left behind after so many.
SKEW_INTERVALS, TIMEOUT_INTERVALS = 2, 3
TIMEOUT_LEAST = 60 * SECOND

# (at, units), oldest first.
Path = Sequence[tuple[int, int]]
# What a series has to know of its own past, as JSON has it.
State = Mapping[str, Any]


class SeriesInvalid(ValueError):
    """A series cannot be made so. place: the key that is wrong, like "legs[1].weight"; the text is for people."""

    def __init__(self, place: str, what: str) -> None:
        super().__init__(f"{place}: {what}")
        self.place, self.what = place, what


class Kind(StrEnum):
    """How the prices of the legs become one. ratio: the first by the second; spread: the first less the second; basket:
    the sum of each by its weight."""

    RATIO = "ratio"
    SPREAD = "spread"
    BASKET = "basket"


@dataclass(frozen=True, slots=True)
class Leg:
    """One of the series that another is made of.

    max_skew: it counts at a time where its quote is at most that old; calendar: its trading hours, of which only the
    open ones count, or "".
    """

    asset_id: int
    max_skew: int
    weight: Decimal = Decimal(1)
    calendar: str = ""

    def counts(self, at: int, *, quoted_at: int) -> bool:
        """Tell whether a quote of this time stands for the leg at `at`."""
        if at - quoted_at <= self.max_skew:
            return True
        return bool(self.calendar) and open_between(self.calendar, quoted_at, at) <= self.max_skew

    def document(self) -> dict[str, Any]:
        """Return it as it is stored."""
        weight = write_number(self.weight)
        return {"asset": self.asset_id, "max_skew": self.max_skew, "weight": weight, "calendar": self.calendar}

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> "Leg":
        """Return what `document` has stored."""
        return cls(document["asset"], document["max_skew"], Decimal(document["weight"]), document["calendar"])


@dataclass(slots=True)
class Derived:
    """The quotes of a series in a span: (at, price); rejected: reason -> how many values were no price; state: that of
    the series after it, None where it has none."""

    quotes: list[tuple[int, Decimal]] = field(default_factory=list)
    rejected: Counter[str] = field(default_factory=Counter)
    state: State | None = None

    def add(self, at: int, value: Decimal | None, *, signed: bool) -> None:
        """Add a value as a quote, or count why it is no price."""
        try:
            self.quotes.append((at, admit_price(value, signed=signed)))
        except QuoteRejected as rejection:
            self.rejected[rejection.reason] += 1


class AnyDefinition(Protocol):
    """A derived series, as it is from one entry of its feed's log on.

    signed: its value may be 0 or less; splits_known: the newest split of its legs that it knows, None where it need not
    know them.
    """

    @property
    def legs(self) -> tuple[Leg, ...]: ...

    @property
    def signed(self) -> bool: ...

    @property
    def splits_known(self) -> int | None: ...

    def document(self) -> dict[str, Any]:
        """Return it as it is stored, with the ids of its legs."""

    def due_at(self, state: State | None) -> int | None:
        """Return the earliest time of its next quote, None where that may be any."""

    def derive(self, paths: Mapping[int, Path], *, after: int, until: int, state: State | None) -> Derived:
        """Return its quotes in (after, until]. paths: asset id -> its path, from the quote in force at `after` on;
        state: its own at `after`, None at its beginning."""


@dataclass(frozen=True, slots=True)
class Definition:
    """A series that is made of others by a formula. signed: its value may be 0 or less."""

    kind: Kind
    legs: tuple[Leg, ...]
    signed: bool = False

    @property
    def splits_known(self) -> int | None:
        """Prices alone are read through splits."""
        return None

    def due_at(self, state: State | None) -> int | None:
        """A quote may come at any time."""
        return None

    def derive(self, paths: Mapping[int, Path], *, after: int, until: int, state: State | None) -> Derived:
        """Return its quotes in (after, until]."""
        return derive(self, paths, after=after, until=until)

    def value(self, prices: Sequence[int]) -> Decimal | None:
        """Return the price that the prices of the legs make; None where there is none."""
        if self.kind == Kind.RATIO:
            numerator, denominator = prices
            return WIDE.divide(Decimal(numerator), Decimal(denominator)) if denominator else None
        if self.kind == Kind.SPREAD:
            total = Decimal(prices[0] - prices[1])
        else:
            total = Decimal(0)
            for leg, price in zip(self.legs, prices, strict=True):
                total = WIDE.add(total, WIDE.multiply(leg.weight, Decimal(price)))
        return total.scaleb(-PRICE_DECIMALS, context=WIDE)

    def document(self) -> dict[str, Any]:
        """Return it as it is stored, with the ids of its legs."""
        return {"kind": self.kind.value, "legs": [leg.document() for leg in self.legs], "signed": self.signed}

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> "Definition":
        """Return what `document` has stored."""
        return cls(Kind(document["kind"]), tuple(map(Leg.of_document, document["legs"])), document["signed"])


# Kind -> the reader of its documents.
_READERS: dict[str, Callable[[Mapping[str, Any]], AnyDefinition]] = {
    kind.value: Definition.of_document for kind in Kind
}


def register(kinds: Iterable[str], read: Callable[[Mapping[str, Any]], AnyDefinition]) -> None:
    """Have documents of further kinds read: of series that an app above makes."""
    _READERS.update(dict.fromkeys(kinds, read))


def definition_of(document: Mapping[str, Any]) -> AnyDefinition:
    """Return the definition that a document has stored, of any kind."""
    return _READERS[document["kind"]](document)


class WrittenLeg(NamedTuple):
    """A leg as people write it. max_skew: None where the default is wanted."""

    symbol: str
    weight: Decimal = Decimal(1)
    max_skew: int | None = None


class Written(NamedTuple):
    """A series as people write it."""

    kind: Kind
    legs: tuple[WrittenLeg, ...]

    def document(self) -> dict[str, Any]:
        """Return its written form, as `read_written` takes it."""
        legs: list[dict[str, Any]] = []
        for leg in self.legs:
            row: dict[str, Any] = {"asset": leg.symbol}
            if self.kind == Kind.BASKET:
                row["weight"] = write_number(leg.weight)
            if leg.max_skew is not None:
                row["max_skew"] = write_duration(leg.max_skew)
            legs.append(row)
        return {"kind": self.kind.value, "legs": legs}


def read_written(document: Any) -> Written:
    """Read the written form: {kind, legs: [{asset, weight, max_skew}]}, where a leg may be a symbol alone. Raises
    SeriesInvalid."""
    if not isinstance(document, Mapping):
        raise SeriesInvalid("series", "must be a mapping with kind and legs")
    for key in document:
        if key not in ("kind", "legs"):
            raise SeriesInvalid(f"series.{key}", "is no key of a series: kind, legs")
    kinds = [kind.value for kind in Kind]
    if document.get("kind") not in kinds:
        raise SeriesInvalid("kind", f"must be one of {', '.join(kinds)}")
    kind, legs = Kind(document["kind"]), document.get("legs")
    if not isinstance(legs, list) or not legs:
        raise SeriesInvalid("legs", "must be a list of assets")
    if kind != Kind.BASKET and len(legs) != 2:
        raise SeriesInvalid("legs", f"must be two assets for a {kind.value}")
    if len(legs) > LEGS_MOST:
        raise SeriesInvalid("legs", f"must be at most {LEGS_MOST} assets")
    read = tuple(_read_leg(leg, kind, f"legs[{index}]") for index, leg in enumerate(legs))
    symbols = Counter(leg.symbol for leg in read)
    for index, leg in enumerate(read):
        if symbols[leg.symbol] > 1:
            raise SeriesInvalid(f"legs[{index}].asset", f"{leg.symbol} is there twice")
    return Written(kind, read)


def _read_leg(leg: Any, kind: Kind, place: str) -> WrittenLeg:
    leg = {"asset": leg} if isinstance(leg, str) else leg
    if not isinstance(leg, Mapping):
        raise SeriesInvalid(place, "must be a symbol, or a mapping with asset")
    keys = ("asset", "max_skew", "weight") if kind == Kind.BASKET else ("asset", "max_skew")
    for key in leg:
        if key not in keys:
            raise SeriesInvalid(f"{place}.{key}", f"is no key of a leg of a {kind.value}: {', '.join(keys)}")
    symbol = leg.get("asset")
    if not isinstance(symbol, str) or not symbol:
        raise SeriesInvalid(f"{place}.asset", "must be the symbol of an asset")
    try:
        weight = read_number(str(leg.get("weight", "1")))
    except ValueError:
        raise SeriesInvalid(f"{place}.weight", "must be a number, like 0.5") from None
    if not weight or abs(weight) > WEIGHT_HIGHEST or weight != round(weight, PRICE_DECIMALS):
        raise SeriesInvalid(f"{place}.weight", f"must be other than 0, within ±{WEIGHT_HIGHEST:f}")
    return WrittenLeg(symbol, weight, _read_skew(leg.get("max_skew"), f"{place}.max_skew"))


def _read_skew(text: Any, place: str) -> int | None:
    if text is None:
        return None
    try:
        skew = read_duration(text)
    except ValueError:
        raise SeriesInvalid(place, "must be a duration, like 90s") from None
    if not 0 < skew <= SKEW_LONGEST:
        raise SeriesInvalid(place, "must be from 1s to 30d")
    return skew


def derive(definition: Definition, paths: Mapping[int, Path], *, after: int, until: int) -> Derived:
    """Return the quotes of a series in (after, until]: one at each time at which a leg was quoted and all count.

    paths: asset id -> its path, from the quote in force at `after` on. A value that is no price is left out.
    """
    derived = Derived()
    legs = [(leg, paths.get(leg.asset_id, ())) for leg in definition.legs]
    if not all(path for _, path in legs):
        return derived
    # The position of each leg before the first time.
    indexes = [bisect_right(path, after, key=_time_of) - 1 for _, path in legs]
    lasts = [bisect_right(path, until, key=_time_of) for _, path in legs]
    spans = zip(legs, indexes, lasts, strict=True)
    for at in sorted({path[index][0] for (_, path), first, last in spans for index in range(first + 1, last)}):
        prices = []
        for number, (leg, path) in enumerate(legs):
            while indexes[number] + 1 < lasts[number] and path[indexes[number] + 1][0] <= at:
                indexes[number] += 1
            index = indexes[number]
            if index >= 0 and leg.counts(at, quoted_at=path[index][0]):
                prices.append(path[index][1])
        if len(prices) < len(legs):
            continue
        derived.add(at, definition.value(prices), signed=definition.signed)
    return derived


def _time_of(point: tuple[int, int]) -> int:
    return point[0]


def derive_closes(definition: Definition, closes: Mapping[int, Mapping[int, tuple[int, int]]]) -> Derived:
    """Return the quotes that closes make: one for each candle that all legs have.

    closes: asset id -> begin of the candle -> (time of its last quote, units). The quote is of the newest of the times.
    """
    derived = Derived()
    candles = [closes.get(leg.asset_id, {}) for leg in definition.legs]
    for begin in sorted(set(candles[0]).intersection(*candles[1:])) if candles else ():
        found = [one[begin] for one in candles]
        value = definition.value([units for _, units in found])
        derived.add(max(at for at, _ in found), value, signed=definition.signed)
    return derived


class LegClock(NamedTuple):
    """The clock of a leg's feed. as_of: None before its first entry; timeout: how long it may stand while others go on;
    calendars: the trading hours of its assets, "" for one that is always open."""

    feed_id: int
    as_of: int | None
    timeout: int
    calendars: Collection[str] = ("",)

    def stands_for(self, now: int) -> int:
        """Return for how long it stands at `now`; where it trades, in open hours only."""
        if self.as_of is None or now <= self.as_of:
            return 0
        begin = self.as_of
        return max(open_between(code, begin, now) if code else now - begin for code in self.calendars)


class Watermark(NamedTuple):
    """Up to when quotes are derived, None where nothing can be, and the feeds that are left behind."""

    until: int | None
    behind: frozenset[int]


def watermark(clocks: Iterable[LegClock]) -> Watermark:
    """Return the lowest clock of the legs that are not left behind: those that stand for longer than their timeout
    while the fastest goes on."""
    clocks = list(clocks)
    if not clocks or any(clock.as_of is None for clock in clocks):
        return Watermark(None, frozenset())
    newest = max(chain((clock.as_of for clock in clocks if clock.as_of is not None), (0,)))
    behind = frozenset(clock.feed_id for clock in clocks if clock.stands_for(newest) > clock.timeout)
    return Watermark(min(clock.as_of for clock in clocks if clock.feed_id not in behind and clock.as_of), behind)
