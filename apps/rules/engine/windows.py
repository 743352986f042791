"""What a rule sees of the past: rolling aggregates over a piecewise constant price path, exact and bounded.

A window [e, t] of width W ends at the quote being evaluated; e = floor(t − W, grid). It sees the price in force at e
and every quote after it. `push` takes each evaluated quote once, in order of time, in amortised constant time. What
leaves a window leaves it at a grid point, so quotes that leave together share one entry: at most W / grid + 2 of them.

A quote touches few objects: with thousands of assets the time goes into fetching memory, not into arithmetic. So what
changes with each quote stands in slots, and the queue is touched only when a grid point has passed.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from apps.market.domain import ONE, Factor, PathCandle, PathItem, Switch, scaled
from apps.notation import SECOND

GRIDS = tuple(seconds * SECOND for seconds in (86_400, 21_600, 3_600, 900, 300, 60, 15, 5, 1))
FOREVER = 1 << 62
# A window that looks back further than so many steps of one of the grids has that grid, or a coarser one: W / 60 + 1.
COARSE = 61
HOLIDAYS_LONGEST = 15 * 86_400 * SECOND


def grid_of(width: int) -> int:
    """Return the grid of a window: the largest that is at most 1/60 of its width; 1 (none) under a minute."""
    return next((grid for grid in GRIDS if grid * 60 <= width), 1)


def edge_of(at: int, width: int, grid: int) -> int:
    """Return e, where the window that ends at `at` begins."""
    edge = at - width
    return edge - edge % grid


class Extreme:
    """The lowest or highest price that the window sees.

    at, price: the newest quote; best, best_at: the most extreme price seen, and when it was quoted last;
    cell: the grid point at which the group of quotes before the newest leaves, with its extreme group, group_at: a
    quote leaves at the first grid point at or after the next quote, since at that edge the next one is in force;
    queue: (cell, price, at) of the groups before, each less extreme than the one that leaves before it; due: when the
    first of them leaves.
    """

    __slots__ = (
        "at",
        "best",
        "best_at",
        "cell",
        "due",
        "front",
        "front_at",
        "grid",
        "group",
        "group_at",
        "lowest",
        "price",
        "queue",
        "width",
    )

    def __init__(self, width: int, *, lowest: bool) -> None:
        self.width = width
        self.grid = grid_of(width)
        self.lowest = lowest
        self.at = self.cell = -FOREVER
        self.price = self.best = self.best_at = self.group = self.group_at = self.front = self.front_at = 0
        self.due = FOREVER
        self.queue: deque[tuple[int, int, int]] = deque()

    @property
    def sees_more(self) -> bool:
        """The window sees a price besides the newest quote's."""
        return self.cell != -FOREVER

    def push(self, at: int, price: int) -> None:
        """Take the next quote; `at` is later than every one before."""
        if self.at == -FOREVER:
            self.at, self.price, self.best, self.best_at = at, price, price, at
            return
        before = self.price
        if at > self.cell:
            self._close(at)
        elif (before <= self.group) if self.lowest else (before >= self.group):
            self.group = before
            self.group_at = self.at
        if at >= self.due:
            self._leave(at)
        self.at = at
        self.price = price
        # The latest of equal extremes is the one that is told.
        best = price
        best_at = at
        if self.lowest:
            if self.group < best:
                best = self.group
                best_at = self.group_at
            if self.due != FOREVER and self.front < best:
                best = self.front
                best_at = self.front_at
        else:
            if self.group > best:
                best = self.group
                best_at = self.group_at
            if self.due != FOREVER and self.front > best:
                best = self.front
                best_at = self.front_at
        self.best = best
        self.best_at = best_at

    def take(self, candle: PathCandle) -> None:
        """Take the quotes of a candle, of which only these can be told."""
        points = {candle.first_at: candle.open, candle.low_at: candle.low, candle.high_at: candle.high}
        points[candle.last_at] = candle.close
        for at in sorted(points):
            self.push(at, points[at])

    def _close(self, at: int) -> None:
        """A grid point has passed: queue the group and begin another with the newest quote."""
        queue = self.queue
        if self.cell != -FOREVER:
            group = self.group
            if self.lowest:
                while queue and queue[-1][1] >= group:
                    queue.pop()
            else:
                while queue and queue[-1][1] <= group:
                    queue.pop()
            queue.append((self.cell, group, self.group_at))
            self._look_at_front()
        self.cell = at + -at % self.grid
        self.group = self.price
        self.group_at = self.at

    def _leave(self, at: int) -> None:
        """Drop what the window sees no more."""
        while self.queue and self.queue[0][0] + self.width <= at:
            self.queue.popleft()
        self._look_at_front()

    def _look_at_front(self) -> None:
        if self.queue:
            cell, self.front, self.front_at = self.queue[0]
            self.due = cell + self.width
        else:
            self.due = FOREVER

    def dump(self) -> list[Any]:
        """Return what `load` needs, as plain lists."""
        return [
            self.at,
            self.price,
            self.best,
            self.best_at,
            self.cell,
            self.group,
            self.group_at,
            [list(entry) for entry in self.queue],
        ]

    def load(self, state: list[Any]) -> None:
        """Become what was dumped."""
        self.at, self.price, self.best, self.best_at, self.cell, self.group, self.group_at, queue = state
        self.queue = deque((cell, price, at) for cell, price, at in queue)
        self._look_at_front()


class Path:
    """The price in force at e, and the time-weighted sum of the price over [e, t).

    at, price, area: the newest quote and the sum of price · time up to it; cell: the grid point that closes its cell;
    queue: (cell, at, price, area) of the last quote of each cell before, without those that lie before the front;
    front_…: the last one at or before e, which is the price in force there; front_cell is -FOREVER while there is none;
    due: when the first of the queue becomes the front;
    total, duration: the sum over the part of [e, t) whose price is known, and its length; edge: e.
    """

    __slots__ = (
        "area",
        "at",
        "cell",
        "due",
        "duration",
        "edge",
        "front_area",
        "front_at",
        "front_cell",
        "front_price",
        "grid",
        "price",
        "queue",
        "start",
        "total",
        "width",
    )

    def __init__(self, width: int) -> None:
        self.width = width
        self.grid = grid_of(width)
        self.at = self.start = self.cell = self.front_cell = self.edge = -FOREVER
        self.price = self.area = self.total = self.duration = 0
        self.front_at = self.front_price = self.front_area = 0
        self.due = FOREVER
        self.queue: deque[tuple[int, int, int, int]] = deque()

    def push(self, at: int, price: int) -> None:
        """Take the next quote; `at` is later than every one before."""
        if at > self.cell:
            self._close(at)
        if at >= self.due:
            self._leave(at)
        area = self.area = self.area + self.price * (at - self.at)
        self.at = at
        self.price = price
        edge = at - self.width
        edge -= edge % self.grid
        self.edge = edge
        if self.front_cell == -FOREVER:
            self.total = area
            self.duration = at - self.start
        else:
            self.total = area - self.front_area - self.front_price * (edge - self.front_at)
            self.duration = at - edge

    def take(self, candle: PathCandle) -> None:
        """Take the quotes of a candle: its first by itself, which may close a cell, then the rest at once."""
        self.push(candle.first_at, candle.open)
        if candle.last_at > candle.first_at:
            self.push(candle.last_at, candle.close)
            # The first price was not in force all the time.
            rest = candle.price_time - candle.open * (candle.last_at - candle.first_at)
            self.area += rest
            self.total += rest

    def _close(self, at: int) -> None:
        """A cell is full: queue its last quote."""
        if self.start == -FOREVER:
            self.start = self.at = at
        else:
            self.queue.append((self.cell, self.at, self.price, self.area))
            self.due = self.queue[0][0] + self.width
        self.cell = at + -at % self.grid

    def _leave(self, at: int) -> None:
        """Move the front on to the last quote at or before e."""
        queue = self.queue
        while queue and queue[0][0] + self.width <= at:
            self.front_cell, self.front_at, self.front_price, self.front_area = queue.popleft()
        self.due = queue[0][0] + self.width if queue else FOREVER

    def in_force(self) -> tuple[int, int] | None:
        """Return (at, price) of the last quote at or before e, or None where none is known."""
        return (self.front_at, self.front_price) if self.front_cell != -FOREVER else None

    def dump(self) -> list[Any]:
        """Return what `load` needs, as plain lists."""
        front = [self.front_cell, self.front_at, self.front_price, self.front_area]
        now = [self.start, self.at, self.price, self.area, self.cell, self.total, self.duration, self.edge]
        return [now, front, [list(entry) for entry in self.queue]]

    def load(self, state: list[Any]) -> None:
        """Become what was dumped."""
        now, front, queue = state
        self.start, self.at, self.price, self.area, self.cell, self.total, self.duration, self.edge = now
        self.front_cell, self.front_at, self.front_price, self.front_area = front
        self.queue = deque((cell, at, price, area) for cell, at, price, area in queue)
        self.due = self.queue[0][0] + self.width if self.queue else FOREVER


class Spread(Path):
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


Window = Extreme | Path | Newest | Run
# What a condition needs of its asset's past: (lowest | highest | path | spread | newest | run, width). Equal keys share
# one window.
WindowKey = tuple[str, int]


def new_window(key: WindowKey) -> Window:
    """Return an empty window for `key`."""
    name, width = key
    if name == "newest":
        return Newest()
    if name == "run":
        return Run()
    if name == "spread":
        return Spread(width)
    return Path(width) if name == "path" else Extreme(width, lowest=name == "lowest")


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
    window = new_window(key)
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
    return window


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
