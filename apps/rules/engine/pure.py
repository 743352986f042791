"""What runs at each quote: windows that keep a rolling aggregate, and the loop over quotes. In Python alone; core.py
takes the same from _compiled.c where that has been built.

A window [e, t] of width W ends at the quote being evaluated; e = floor(t − W, grid). It sees the price in force at e
and every quote after it. `push` takes each evaluated quote once, in order of time, in amortised constant time. What
leaves a window leaves it at a grid point, so quotes that leave together share one entry: at most W / grid + 2 of them.

A quote touches few objects: with thousands of assets the time goes into fetching memory, not into arithmetic. So what
changes with each quote stands in slots, and the queue is touched only when a grid point has passed.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from apps.market.domain import Factor, PathCandle
from apps.notation import SECOND

GRIDS = tuple(seconds * SECOND for seconds in (86_400, 21_600, 3_600, 900, 300, 60, 15, 5, 1))
FOREVER = 1 << 62


def grid_of(width: int) -> int:
    """Return the grid of a window: the largest that is at most 1/60 of its width; 1 (none) under a minute."""
    return next((grid for grid in GRIDS if grid * 60 <= width), 1)


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
        """Return what `load` needs, as plain lists. Sums count from the front on: only their differences are used."""
        base = self.front_area
        front = [self.front_cell, self.front_at, self.front_price, 0]
        now = [self.start, self.at, self.price, self.area - base, self.cell, self.total, self.duration, self.edge]
        return [now, front, [[cell, at, price, area - base] for cell, at, price, area in self.queue]]

    def load(self, state: list[Any]) -> None:
        """Become what was dumped."""
        now, front, queue = state
        self.start, self.at, self.price, self.area, self.cell, self.total, self.duration, self.edge = now
        self.front_cell, self.front_at, self.front_price, self.front_area = front
        self.queue = deque((cell, at, price, area) for cell, at, price, area in queue)
        self.due = self.queue[0][0] + self.width if self.queue else FOREVER


def compile_test(kind: str, test: Callable[..., Any], place: int, numbers: Any, parts: Any) -> Callable[..., Any]:
    """Return the test itself. The compiled engine returns one that says the same of its own windows: by the kind of the
    test, the place of its window, its numbers, and its parts (members, or why it is UNKNOWN)."""
    return test


class Track:
    """What the loop reads of one asset; Series says what each is."""

    __slots__ = (
        "at",
        "before_at",
        "before_price",
        "deadline",
        "evaluating",
        "factor",
        "instances",
        "price",
        "windows",
    )

    at: int
    price: int
    before_at: int
    before_price: int
    deadline: int
    factor: Factor | None
    windows: tuple[Any, ...]
    instances: tuple[Any, ...]
    evaluating: list[Any]


def evaluate_quotes(
    tracks: Mapping[int, Any],
    quotes: Sequence[tuple[int, int, int]],
    push_scaled: Callable[[Any, int, int, Factor], None],
    expire: Callable[[Any, int], None],
    step: Callable[[Any, Any, Any, int], None],
    fail: Callable[[Any, Any, Exception, int], None],
) -> None:
    """Evaluate quotes in their order; those that are not newer than the newest of their asset are passed over.

    push_scaled: lets windows take a price by a factor; expire: evaluates a track one of whose instances expires; step:
    takes a verdict that may change something; fail: takes what an instance has raised.
    """
    for asset_id, at, price in quotes:
        track = tracks.get(asset_id)
        if track is None or at <= track.at:
            continue
        track.before_at = track.at
        track.before_price = track.price
        track.at = at
        track.price = price
        windows = track.windows
        if track.factor is None:
            for window in windows:
                window.push(at, price)
        else:
            push_scaled(windows, at, price, track.factor)
        if at >= track.deadline:
            expire(track, at)
            continue
        # What a step changes here (an instance may end) is for the next quote: this one goes on over what it began
        # with.
        instances = track.instances
        for index, (test, firing, quiet) in enumerate(track.evaluating):
            try:
                verdict = test(price, windows, firing)
                if verdict is not quiet:
                    step(track, instances[index], verdict, at)
            except Exception as error:
                fail(track, instances[index], error, at)
