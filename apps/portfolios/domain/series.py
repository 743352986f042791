"""Series of a portfolio: its value, its performance index and its drift from a target, from prices of what it holds.
Pure.

Times are microseconds since 1970, prices of legs whole units of 1e-18. What is held at each time stands in the series
itself, so that a quote follows from it and from the legs' prices alone.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from functools import cached_property
from typing import Any, NamedTuple

from apps.market.derived.series import Derived, Leg, Path, State
from apps.market.domain import PRICE_DECIMALS, from_epoch_microseconds
from apps.notation import SECOND, WIDE, write_number
from apps.portfolios.domain.drift import Shares, drift_on, shares_of
from apps.portfolios.domain.nights import Part
from apps.portfolios.domain.numbers import ONE, ZERO, Exact, total
from apps.portfolios.domain.rates import FoundRate, Pair, RateTable
from apps.portfolios.domain.returns import Day, ReturnUnknown, daily_returns

EVERY_DEFAULT, EVERY_LEAST, EVERY_MOST = 60, 1, 86_400  # seconds
DAY = 86_400 * SECOND
INDEX_BEGINS = Decimal(100)
_EPOCH = date(1970, 1, 1)
_UNITS = 10**PRICE_DECIMALS
_SAME = FoundRate(ONE)
_MOMENT = from_epoch_microseconds(0)


class SeriesKind(StrEnum):
    """value: in the base currency; index: 100 at the first flow, linked as the time-weighted return; drift: the largest
    difference of a share from its target, in points of percent."""

    VALUE = "portfolio_value"
    INDEX = "portfolio_index"
    DRIFT = "portfolio_drift"

    @property
    def caption(self) -> str:
        """What people call it."""
        return {"portfolio_value": "Value", "portfolio_index": "Performance index", "portfolio_drift": "Drift"}[self]


class Step(NamedTuple):
    """From `at` on, so much is held of an asset (by id) or of the cash of a currency."""

    at: int
    key: int | str
    quantity: Fraction


@dataclass(frozen=True, slots=True)
class Link:
    """An index at the end of a day.

    value: of the portfolio, None where it is not known; index: None where it cannot go on; has_begun: it has a day.
    """

    day: date
    value: Fraction | None
    index: Decimal | None = INDEX_BEGINS
    has_begun: bool = False

    def document(self) -> dict[str, Any]:
        """Return it as it is stored."""
        index = None if self.index is None else write_number(self.index)
        return {"day": str(self.day), "value": _text(self.value), "index": index, "has_begun": self.has_begun}

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> "Link":
        """Return what `document` has stored."""
        index = None if document["index"] is None else Decimal(document["index"])
        day = date.fromisoformat(document["day"])
        return cls(day, _number(document["value"]), index, document["has_begun"])


def linked_with(link: Link, day: Day) -> Link:
    """Return an index at the end of the day after the link's. Before the first price of something that is held a day is
    unknown, and the index begins after it; where one is unknown later, the index ends."""
    if link.index is not None and not link.has_begun and None in (link.value, day.value):
        return Link(day.day, day.value, link.index)
    return Link(day.day, day.value, index_on(link, day), has_begun=True)


def index_on(link: Link, day: Day) -> Decimal | None:
    """Return where an index stands on the day after the link's, None where that is not known."""
    if link.index is None or link.value is None:
        return None
    try:
        [one] = daily_returns([day], start=link.value)
    except ReturnUnknown:
        return None
    return WIDE.multiply(link.index, WIDE.add(one.rate, Decimal(1)))


def steps_from(since: int, changes: Iterable[tuple[int, int | str, Fraction]]) -> list[Step]:
    """Return the steps of what is held from a time on: what was held then, and each later change.

    changes: (at, asset or currency, quantity after it), in the order in which they count. Where one counts before
    another of an earlier time, as a corporate event does, both are there from the earlier time on.
    """
    of_key: dict[int | str, list[Step]] = {}
    for one in changes:
        of_key.setdefault(one[1], []).append(Step(*one))
    found: list[Step] = []
    for steps in of_key.values():
        later: list[Step] = []
        at = steps[-1].at
        for step in reversed(steps):
            at = min(at, step.at)
            if not later or at < later[-1].at:
                later.append(step._replace(at=max(at, since)))
            if at <= since:
                break
        found += (step for step in later if step.quantity or step.at > since)
    return sorted(found, key=lambda one: (one.at, str(one.key)))


@dataclass(frozen=True)
class PortfolioSeries:
    """A series of a portfolio, as it is from one entry of its feed's log on.

    base: the currency of its value; legs: assets that are held and exchange rates; currencies: asset id -> that of its
    price; pairs: (asset id, base, currency) of the rates; flows: (at, what came in or, below 0, went), None where it is
    not known; every: at most one quote in so long; target: of a drift; start: its state at that entry; splits_known:
    the newest split that its quantities know.
    """

    kind: SeriesKind
    base: str
    legs: tuple[Leg, ...]
    currencies: Mapping[int, str]
    pairs: Sequence[tuple[int, str, str]]
    steps: Sequence[Step]
    flows: Sequence[tuple[int, Fraction | None]]
    every: int
    target: Shares
    start: State
    splits_known: int

    @property
    def signed(self) -> bool:
        """Cash may be below 0, and a drift is 0 where nothing has drifted."""
        return self.kind != SeriesKind.INDEX

    def document(self) -> dict[str, Any]:
        """Return it as it is stored."""
        return {
            "kind": self.kind.value,
            "base": self.base,
            "legs": [leg.document() for leg in self.legs],
            "currencies": {str(asset): currency for asset, currency in self.currencies.items()},
            "pairs": [list(pair) for pair in self.pairs],
            "steps": [[step.at, step.key, _text(step.quantity)] for step in self.steps],
            "flows": [[at, _text(flow)] for at, flow in self.flows],
            "every": self.every,
            "target": [[asset, _text(share)] for asset, share in self.target.items()],
            "start": dict(self.start),
            "splits_known": self.splits_known,
        }

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> "PortfolioSeries":
        """Return what `document` has stored."""
        return cls(
            kind=SeriesKind(document["kind"]),
            base=document["base"],
            legs=tuple(map(Leg.of_document, document["legs"])),
            currencies={int(asset): currency for asset, currency in document["currencies"].items()},
            pairs=[(asset, base, currency) for asset, base, currency in document["pairs"]],
            steps=[Step(at, key, Exact.of(Fraction(quantity))) for at, key, quantity in document["steps"]],
            flows=[(at, _number(flow)) for at, flow in document["flows"]],
            every=document["every"],
            target={asset: Fraction(share) for asset, share in document["target"]},
            start=document["start"],
            splits_known=document["splits_known"],
        )

    def missing(self) -> list[tuple[str, int | str]]:
        """Return what is held last and cannot be valued: ("feed", asset), ("currency", asset) and ("rate",
        currency)."""
        legs = {leg.asset_id for leg in self.legs}
        table = RateTable(Pair("", base, currency, Decimal(1), _MOMENT) for _, base, currency in self.pairs)
        found: list[tuple[str, int | str]] = []
        currencies: set[str] = set()
        for key, steps in self._of_key.items():
            if not steps[-1].quantity:
                continue
            if isinstance(key, str):
                currencies.add(key)
            elif key not in legs:
                found.append(("feed", key))
            elif not self.currencies.get(key):
                found.append(("currency", key))
            else:
                currencies.add(self.currencies[key])
        return found + [("rate", one) for one in sorted(currencies) if table.find(one, self.base) is None]

    def due_at(self, state: State | None) -> int | None:
        """Return the earliest time of its next quote."""
        last = (state or self.start)["last"]
        return None if last is None else last + self.every

    def derive(self, paths: Mapping[int, Path], *, after: int, until: int, state: State | None) -> Derived:
        """Return its quotes in (after, until]: at times at which a leg was quoted, at most one for each `every`."""
        known = state or self.start
        last, derived = known["last"], Derived()
        link = Link.of_document(known["link"]) if known["link"] is not None else None
        times = {
            path[index][0]
            for leg in self.legs
            if (path := paths.get(leg.asset_id, ()))
            for index in range(bisect_right(path, after, key=_time_of), bisect_right(path, until, key=_time_of))
        }
        for at in sorted(times):
            if last is not None and at < last + self.every:
                continue
            link = self._linked(link, paths, until=at - 1)
            value = self._value_at(at, paths, link)
            if value is not None:
                before = len(derived.quotes)
                derived.add(at, value, signed=self.signed)
                last = at if len(derived.quotes) > before else last
        link = self._linked(link, paths, until=until)
        derived.state = {"last": last, "link": None if link is None else link.document()}
        return derived

    def _value_at(self, at: int, paths: Mapping[int, Path], link: Link | None) -> Decimal | None:
        parts = self.parts_at(at, paths, counted=True)
        if not parts:
            # Nothing is held: not yet, or no more.
            return None
        if self.kind == SeriesKind.DRIFT:
            shares = shares_of(parts)
            return None if shares is None else as_decimal(drift_on(day_of(at), shares, self.target).part * 100)
        value = total(one.value for one in parts)
        if self.kind == SeriesKind.VALUE or value is None or link is None:
            return None if value is None else as_decimal(value)
        return index_on(link, self._day(day_of(at), value, until=at))

    def _linked(self, link: Link | None, paths: Mapping[int, Path], *, until: int) -> Link | None:
        """Return the link at the end of the last day that had ended by then. A day's value is at the last prices of
        that day, or before."""
        if link is None or (link.index is None and link.has_begun):
            return link
        while (end := end_of(link.day + timedelta(days=1))) <= until:
            value = total(one.value for one in self.parts_at(end, paths, counted=False))
            link = linked_with(link, self._day(link.day + timedelta(days=1), value, until=end))
        return link

    def _day(self, day: date, value: Fraction | None, *, until: int) -> Day:
        """Return a day with its flows up to a time."""
        inflow: Fraction | None = ZERO
        outflow: Fraction | None = ZERO
        begin = end_of(day) + 1 - DAY
        for at, flow in self.flows:
            if begin <= at <= until:
                if flow is None or inflow is None or outflow is None:
                    inflow = outflow = None
                elif flow > 0:
                    inflow += flow
                else:
                    outflow -= flow
        return Day(day, value, inflow, outflow)

    def parts_at(self, at: int, paths: Mapping[int, Path], *, counted: bool) -> list[Part]:
        """Return what is held at a time and its prices. counted: only prices that are not too old."""
        prices: dict[int, tuple[int, int]] = {}
        for leg in self.legs:
            path = paths.get(leg.asset_id, ())
            index = bisect_right(path, at, key=_time_of) - 1
            if index >= 0 and (not counted or leg.counts(at, quoted_at=path[index][0])):
                prices[leg.asset_id] = path[index]
        rates = self._rates(prices)
        parts = []
        for key, steps in self._of_key.items():
            index = bisect_right(steps, at, key=_time_of) - 1
            quantity = steps[index].quantity if index >= 0 else ZERO
            if not quantity:
                continue
            if isinstance(key, str):
                parts.append(Part(None, key, quantity, ONE, rates(key)))
                continue
            currency = self.currencies.get(key, "")
            price = Exact.of(Fraction(prices[key][1], _UNITS)) if key in prices else None
            parts.append(Part(key, currency, quantity, price, rates(currency) if currency else None))
        return parts

    def _rates(self, prices: Mapping[int, tuple[int, int]]) -> Any:
        table = RateTable(
            Pair(str(asset), base, currency, _price(prices[asset][1]), from_epoch_microseconds(prices[asset][0]))
            for asset, base, currency in self.pairs
            if asset in prices
        )

        def rate_of(currency: str) -> Fraction | None:
            found = _SAME if currency == self.base else table.find(currency, self.base)
            return None if found is None else found.rate

        return rate_of

    @cached_property
    def _of_key(self) -> dict[int | str, list[Step]]:
        found: dict[int | str, list[Step]] = {}
        for step in self.steps:
            found.setdefault(step.key, []).append(step)
        return found


def day_of(at: int) -> date:
    """Return the day in UTC of a time."""
    return _EPOCH + timedelta(days=at // DAY)


def end_of(day: date) -> int:
    """Return the last microsecond of a day in UTC."""
    return ((day - _EPOCH).days + 1) * DAY - 1


def _time_of(point: Sequence[Any]) -> int:
    at: int = point[0]
    return at


def _price(units: int) -> Decimal:
    return Decimal(units).scaleb(-PRICE_DECIMALS, context=WIDE)


def as_decimal(number: Fraction | Decimal) -> Decimal:
    """Return a number with as many digits as are computed with."""
    if isinstance(number, Decimal):
        return number
    return WIDE.divide(Decimal(number.numerator), Decimal(number.denominator))


def _text(number: Fraction | None) -> str | None:
    return None if number is None else str(number)


def _number(text: str | None) -> Fraction | None:
    return None if text is None else Exact.of(Fraction(text))
