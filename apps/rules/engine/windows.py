"""What a rule sees of the past: rolling aggregates over a piecewise constant price path, exact and bounded.

The two that most rules have, Extreme and Path, are in pure.py, and so is how each of them takes quotes.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from apps.market.domain import ONE, Factor, PathCandle, PathItem, Switch, scaled
from apps.notation import SECOND
from apps.rules.engine import core, pure
from apps.rules.engine.pure import FOREVER, grid_of

# A window that looks back further than so many steps of one of the grids has that grid, or a coarser one: W / 60 + 1.
COARSE = 61
HOLIDAYS_LONGEST = 15 * 86_400 * SECOND


def edge_of(at: int, width: int, grid: int) -> int:
    """Return e, where the window that ends at `at` begins."""
    edge = at - width
    return edge - edge % grid


class Spread(pure.Path):
    """A path that sums the square of the price as well: squares, over the part of [e, t) whose price is known."""

    __slots__ = ("area_of_squares", "front_area_of_squares", "queue_of_squares", "squares")

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.area_of_squares = self.front_area_of_squares = self.squares = 0
        # Beside the queue of the path: the sum of squares up to the same quotes.
        self.queue_of_squares: deque[int] = deque()

    def push(self, at: int, price: int) -> None:
        """Take the next quote; `at` is later than every one before."""
        before, since = self.price, self.at
        queued = len(self.queue)
        closes = at > self.cell and self.start != -FOREVER
        super().push(at, price)
        if closes:
            self.queue_of_squares.append(self.area_of_squares)
        for _ in range(queued + closes - len(self.queue)):
            self.front_area_of_squares = self.queue_of_squares.popleft()
        if since != -FOREVER:
            self.area_of_squares += before * before * (at - since)
        self.squares = self.area_of_squares
        if self.front_cell != -FOREVER:
            self.squares -= self.front_area_of_squares + self.front_price**2 * (self.edge - self.front_at)

    def take(self, candle: PathCandle) -> None:
        """Take the quotes of a candle, as a path does."""
        super().take(candle)
        if candle.last_at > candle.first_at:
            rest = candle.square_time - candle.open**2 * (candle.last_at - candle.first_at)
            self.area_of_squares += rest
            self.squares += rest

    def dump(self) -> list[Any]:
        """Return what `load` needs, as plain lists."""
        own = [self.area_of_squares, self.front_area_of_squares, self.squares, list(self.queue_of_squares)]
        return [*super().dump(), own]

    def load(self, state: list[Any]) -> None:
        """Become what was dumped."""
        *path, own = state
        super().load(path)
        self.area_of_squares, self.front_area_of_squares, self.squares, queue = own
        self.queue_of_squares = deque(queue)


class Newest:
    """The newest quote, the price before it (None while there is none), and the moment of evaluating.

    quiet_for: for how long there has been no quote at the moment, of open time alone where calendar is not "".
    """

    __slots__ = ("at", "before", "calendar", "moment", "price", "quiet_for")

    def __init__(self) -> None:
        self.at = self.moment = -FOREVER
        self.price: int | None = None
        self.before: int | None = None
        self.quiet_for = 0
        self.calendar = ""

    def push(self, at: int, price: int) -> None:
        """Take the next quote; `at` is later than every one before."""
        self.before = self.price
        self.price = price
        self.at = self.moment = at
        self.quiet_for = 0
        self.calendar = ""

    def take(self, candle: PathCandle) -> None:
        """Take the quotes of a candle; the price before its last one is not known to it, and of no use once another
        quote has come."""
        self.push(candle.first_at, candle.given.open)
        if candle.last_at > candle.first_at:
            self.push(candle.last_at, candle.given.close)

    def forget(self) -> None:
        """Know no price before the next quote."""
        self.price = None

    def advance(self, moment: int, *, calendar: str = "", quiet_for: int | None = None) -> None:
        """Take the clock, and where there is a calendar, how much of the time since the newest quote counts by it."""
        self.moment = moment
        self.quiet_for = moment - self.at if quiet_for is None else quiet_for
        self.calendar = calendar

    def dump(self) -> list[Any]:
        """Return what `load` needs, as plain lists."""
        return [self.at, self.moment, self.price, self.before, self.quiet_for, self.calendar]

    def load(self, state: list[Any]) -> None:
        """Become what was dumped."""
        self.at, self.moment, self.price, self.before, self.quiet_for, self.calendar = state


class Run:
    """The quotes since the price changed last.

    at, price: the newest quote; since: the first of those of its price that is known; is_whole: another price is known
    before; hours: (begin, end) -> how much of that time counts, None where all of it does.
    """

    __slots__ = ("at", "hours", "is_whole", "price", "since")

    def __init__(self) -> None:
        self.at = self.since = -FOREVER
        self.price: int | None = None
        self.is_whole = False
        self.hours: Callable[[int, int], int] | None = None

    def push(self, at: int, price: int) -> None:
        """Take the next quote; `at` is later than every one before."""
        if price != self.price:
            self.is_whole = self.price is not None
            self.price = price
            self.since = at
        self.at = at

    def take(self, candle: PathCandle) -> None:
        """Take the quotes of a candle. When the price changed last within it is not known: at its last quote, if it has
        changed there at all."""
        self.push(candle.first_at, candle.given.open)
        self.at = candle.last_at
        if candle.given.low != candle.given.high:
            self.price, self.since, self.is_whole = candle.given.close, candle.last_at, True

    @property
    def length(self) -> int:
        """For how long the price has been the same, up to the newest quote."""
        return self.at - self.since if self.hours is None else self.hours(self.since, self.at)

    def dump(self) -> list[Any]:
        """Return what `load` needs, as plain lists."""
        return [self.at, self.price, self.since, self.is_whole]

    def load(self, state: list[Any]) -> None:
        """Become what was dumped."""
        self.at, self.price, self.since, self.is_whole = state


Window = pure.Extreme | pure.Path | Spread | Newest | Run
# What a condition needs of its asset's past: (lowest | highest | path | spread | newest | run, width). Equal keys share
# one window.
WindowKey = tuple[str, int]


def new_window(key: WindowKey) -> Window:
    """Return an empty window for `key`."""
    name, width = key
    if name == "path":
        return core.Path(width)
    return core.Extreme(width, lowest=name == "lowest") if name in ("lowest", "highest") else new_pure_window(key)


def new_pure_window(key: WindowKey) -> Window:
    """Return an empty window for `key` that is Python's: only such take candles."""
    name, width = key
    if name == "newest":
        return Newest()
    if name == "run":
        return Run()
    if name == "spread":
        return Spread(width)
    return pure.Path(width) if name == "path" else pure.Extreme(width, lowest=name == "lowest")


def push_into(windows: Iterable[Window], at: int, price: int, factor: Factor) -> None:
    """Let windows take the next quote: its price · factor. The newest quote, and whether it is another than the one
    before, is known by the price as given."""
    seen = scaled(price, *factor)
    for window in windows:
        window.push(at, price if isinstance(window, Newest | Run) else seen)


def filled(key: WindowKey, past: Iterable[PathItem]) -> Window:
    """Return a window that has seen this past, oldest first.

    Of candles that are too coarse for it, it knows the last price: that is in force until the first of the others.
    """
    window = new_pure_window(key)
    hidden: PathCandle | None = None
    factor = ONE
    for one in past:
        if isinstance(one, Switch):
            factor = one.factor
            continue
        if isinstance(one, PathCandle) and not isinstance(window, Newest | Run) and window.grid % one.resolution:
            hidden = one
            continue
        if hidden is not None:
            window.push(hidden.last_at, hidden.close)
            hidden = None
        if isinstance(one, PathCandle):
            window.take(one)
        else:
            push_into([window], *one, factor)
    if hidden is not None:
        window.push(hidden.last_at, hidden.close)
    its_own = new_window(key)
    if type(its_own) is type(window):
        return window
    its_own.load(window.dump())
    return its_own


def needs_of(keys: Iterable[WindowKey]) -> tuple[tuple[int, int], ...]:
    """Return (grid, how far back) of the windows of `keys`, finest grid first, in microseconds: in steps of its grid a
    window tells nothing apart. A run has none."""
    needs: dict[int, int] = {}
    for name, width in keys:
        grid = 1 if name == "run" else grid_of(width)
        needs[grid] = max(needs.get(grid, 0), width + grid_of(width))
    return tuple(sorted(needs.items()))


def sums_prices(key: WindowKey) -> bool:
    """Tell whether a window of this key sums prices over time."""
    return key[0] in ("path", "spread")


def looking_back(keys: Iterable[WindowKey], *, by_hours: bool) -> set[WindowKey]:
    """Return `keys` as they are to be filled: a run by how far back it may look.

    by_hours: the asset has a calendar, so that so much open time may lie far back: no exchange is open for less than an
    eighth of the time, or closed for longer than HOLIDAYS_LONGEST.
    """
    return {(name, 8 * width + HOLIDAYS_LONGEST if by_hours and name == "run" else width) for name, width in keys}


def reach_of(keys: Iterable[WindowKey]) -> int:
    """Return how far back the windows of `keys` may look, in microseconds."""
    return max((width + grid_of(width) for _, width in keys), default=0)
