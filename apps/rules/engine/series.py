"""One watched asset as the engine keeps it: its newest quotes, its windows, its instances."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from apps.market.domain import ONE, PathCandle, PathItem, Switch, epoch_microseconds
from apps.rules.engine import core
from apps.rules.engine.instance import Instance
from apps.rules.engine.leaves.binding import Test
from apps.rules.engine.pure import FOREVER
from apps.rules.engine.windows import Newest, Window, WindowKey, filled, new_window
from apps.rules.engine.written import from_units, write_factor, write_moment

# Takes asset id -> the windows to be filled. Returns asset id -> (at, price), oldest first: what is stored at this
# place in the log, from the price in force where the longest of them begins, and at least the two newest quotes. Where
# these windows see the same, candles stand for quotes; a change of provider stands before its first quote, and the one
# in force at the beginning before all. Or the series of an engine that has evaluated all that, and has these windows.
# Assets without quotes may be absent.
Past = Sequence[PathItem]
History = Callable[[Mapping[int, Collection[WindowKey]]], Mapping[int, "Iterable[PathItem] | Series"]]
# Test, whether an episode lasts, and the verdict that changes nothing.
Evaluating = tuple[Test, bool, Any]


class Series(core.Track):
    """One watched asset: its newest two quotes, its windows, its live instances in order of rule.

    keys, windows: what is seen of the past, in one order; evaluating: (test, firing, quiet) of each instance, in their
    order; deadline: when the first of them expires; switch: the last change of provider, or None; factor: what windows
    multiply its prices by, or None for 1; calendar: by which its silence is measured, or "".
    """

    __slots__ = ("asset_id", "calendar", "keys", "switch")

    windows: tuple[Window, ...]
    instances: tuple[Instance, ...]
    evaluating: list[Evaluating]

    def __init__(self, asset_id: int) -> None:
        self.asset_id = asset_id
        self.at = self.before_at = -FOREVER
        self.price = self.before_price = 0
        self.keys: tuple[WindowKey, ...] = ()
        self.windows = ()
        self.instances = ()
        self.evaluating = []
        self.deadline = FOREVER
        self.switch: Switch | None = None
        self.factor = None
        self.calendar = ""

    @property
    def is_switched(self) -> bool:
        """The newest quote comes from another provider than the one before."""
        return self.switch is not None and self.switch.at == self.at

    def begin_switch(self, switch: Switch | None) -> None:
        """Take the prices from here on for those of another provider."""
        self.switch = switch
        self.factor = None if switch is None or switch.factor == ONE else switch.factor

    def keys_wanted(self) -> set[WindowKey]:
        """Return what the live instances need of the past."""
        return {key for one in self.instances if one.spec for key in one.spec.window_keys}

    def forget_runs(self) -> None:
        """Have no runs, until they are filled again."""
        kept = [(key, window) for key, window in zip(self.keys, self.windows, strict=True) if key[0] != "run"]
        self.keys = tuple(key for key, _ in kept)
        self.windows = tuple(window for _, window in kept)

    def begin_at(self, past: "Past | Series") -> None:
        """Take the newest two of these quotes, oldest first, or none where there are fewer, and the last change of
        provider for its own."""
        if isinstance(past, Series):
            self.at, self.price = past.at, past.price
            self.before_at, self.before_price = past.before_at, past.before_price
            self.begin_switch(past.switch)
            return
        quotes: list[tuple[int, int]] = []
        for one in [item for item in past if not isinstance(item, Switch)][-2:]:
            if isinstance(one, PathCandle):
                quotes += sorted({(one.first_at, one.given.open), (one.last_at, one.given.close)})
            else:
                quotes.append(one)
        if past:
            self.begin_switch(next((one for one in reversed(past) if isinstance(one, Switch)), None))
        nothing = (-FOREVER, 0)
        (self.before_at, self.before_price), (self.at, self.price) = [nothing, nothing, *quotes][-2:]

    def dump(self) -> list[Any]:
        """Return what `load` needs, but for the instances, as plain data."""
        windows = [[*key, window.dump()] for key, window in zip(self.keys, self.windows, strict=True)]
        return [self.at, self.price, self.before_at, self.before_price, self.switch, self.calendar, windows]

    def load(self, dumped: Sequence[Any]) -> None:
        """Become the series that was dumped, without instances."""
        self.at, self.price, self.before_at, self.before_price, switch, self.calendar, windows = dumped
        if switch is not None:
            since, before, now, (numerator, denominator) = switch
            self.begin_switch(Switch(since, before, now, (numerator, denominator)))
        self.keys = tuple((name, width) for name, width, _ in windows)
        self.windows = tuple(new_window(key) for key in self.keys)
        for window, (_, _, its_own) in zip(self.windows, windows, strict=True):
            window.load(its_own)


def evidence_of(instance: Instance, series: Series) -> dict[str, Any]:
    """Return what the instance's condition sees at the newest quote."""
    firing, _ = instance.mode
    evidence = instance.bound.explain(series.price, series.windows, firing)
    evidence |= {"price": from_units(series.price), "at": write_moment(series.at)}
    if series.before_at != -FOREVER:
        evidence["previous"] = {"price": from_units(series.before_price), "at": write_moment(series.before_at)}
    switch = series.switch
    if switch is not None:
        names = {"from": switch.before, "to": switch.now}
        if _compares_across(evidence, switch.at):
            evidence["switched"] = names | {"at": write_moment(switch.at), "factor": write_factor(*switch.factor)}
        elif series.is_switched:
            evidence["switched"] = names
    return evidence


def _compares_across(seen: Mapping[str, Any], at: int) -> bool:
    """Tell whether a part of a condition compared the newest price with one from before `at`."""
    members = seen.get("all") or seen.get("any") or ([seen["not"]] if "not" in seen else [])
    if members:
        return any(_compares_across(member, at) for member in members)
    # A mean is one of the whole window.
    oldest = seen["reference"]["at"] if "reference" in seen else seen["window_from"] if "mean" in seen else None
    return oldest is not None and epoch_microseconds(datetime.fromisoformat(oldest)) < at


def past_of(asset_id: int, stored: Mapping[int, "Iterable[PathItem] | Series"]) -> Past | Series:
    """Return what was found of one asset, to be read more than once."""
    found = stored.get(asset_id, ())
    return found if isinstance(found, Series) else list(found)


def fill(series: Series, key: WindowKey, past: Past | Series) -> Window:
    """Return a window that has seen this past, which knows no price before a quote of another provider."""
    if isinstance(past, Series):
        window = new_window(key)
        if not isinstance(window, Newest):
            window.load(past.windows[past.keys.index(key)].dump())
            return window
        # As a path gives it: the clock has not been looked at.
        newest = ((past.before_at, past.before_price), (past.at, past.price))
        past = [quote for quote in newest if quote[0] != -FOREVER]
    window = filled(key, past)
    if isinstance(window, Newest) and series.is_switched:
        window.before = None
    return window
