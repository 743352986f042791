"""Windows filled from candles are those filled from quotes."""

from itertools import groupby, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.market.domain import Given, PathCandle
from apps.notation import SECOND
from apps.rules.engine.pure import GRIDS, grid_of
from apps.rules.engine.windows import COARSE, Newest, Spread, filled, new_pure_window, new_window
from apps.rules.engine.windows import reach_of as reach_of_keys

MINUTE, HOUR, DAY = 60 * SECOND, 3_600 * SECOND, 86_400 * SECOND
# On, before and behind grid points; within a minute, and over several.
steps = st.one_of(
    st.sampled_from([1, SECOND, 20 * SECOND, MINUTE - 1, MINUTE, 61 * SECOND, 5 * MINUTE, HOUR, 6 * HOUR, DAY]),
    st.integers(1, 40 * SECOND),
    st.integers(1, 20).map(lambda minutes: minutes * MINUTE),
)
streams = st.lists(st.tuples(steps, st.integers(1, 9)), min_size=2, max_size=60)


def timed(stream, *, begin=19_000 * DAY):
    at, quotes = begin, []
    for step, price in stream:
        at += step
        quotes.append((at, price))
    return quotes


def candle_of(quotes, resolution):
    """Return the candle of these quotes, by its definition."""
    low, high = min(price for _, price in quotes), max(price for _, price in quotes)
    return PathCandle(
        resolution,
        *quotes[0],
        max(at for at, price in quotes if price == low),
        low,
        max(at for at, price in quotes if price == high),
        high,
        *quotes[-1],
        sum(price * (after - at) for (at, price), (after, _) in pairwise(quotes)),
        sum(price * price * (after - at) for (at, price), (after, _) in pairwise(quotes)),
        given=Given(quotes[0][1], low, high, quotes[-1][1]),
    )


def candles_of(quotes, resolution):
    return [candle_of(list(part), resolution) for _, part in groupby(quotes, lambda quote: quote[0] // resolution)]


def seen(window):
    """Return everything that a condition may ask of a window."""
    if hasattr(window, "sees_more"):
        return window.at, window.price, window.best, window.best_at, window.sees_more
    if isinstance(window, Newest):
        return window.at, window.price
    squares = window.squares if isinstance(window, Spread) else None
    return window.at, window.price, window.total, window.duration, window.edge, window.in_force(), squares


def test_a_candle_leaves_a_window_as_its_quotes_do_by_hand():
    day = 19_000 * DAY
    quotes = [(day, 3), (day + 1, 9), (day + 30 * SECOND, 1), (day + 59 * SECOND, 4)]
    later = day + HOUR
    known, rebuilt = new_window(("lowest", HOUR)), new_pure_window(("lowest", HOUR))
    for quote in quotes:
        known.push(*quote)
    rebuilt.take(candle_of(quotes, MINUTE))
    known.push(later, 5)
    rebuilt.push(later, 5)
    assert (rebuilt.best, rebuilt.best_at) == (known.best, known.best_at) == (1, day + 30 * SECOND)


# (resolution, width): the grid of the width is a multiple of the resolution.
PAIRS = [
    *((MINUTE, width) for width in (HOUR, 3 * HOUR + SECOND, 5 * HOUR, 60 * HOUR, 60 * DAY)),
    *((HOUR, width) for width in (60 * HOUR, 100 * HOUR, 400 * HOUR)),
    (DAY, 60 * DAY),
]


@settings(max_examples=400)
@given(
    streams,
    st.integers(0, 60),
    st.sampled_from(["lowest", "highest", "path", "spread", "newest"]),
    st.sampled_from(PAIRS),
)
def test_what_a_window_sees_is_the_same_from_quotes_and_from_candles(stream, split, name, resolution_and_width):
    resolution, width = resolution_and_width
    # So that the steps are as dense against this resolution as against a minute.
    quotes = timed([(max(step * (resolution // MINUTE), 1), price) for step, price in stream])
    key = (name, width)
    # The quotes of a candle are gone as a whole.
    whole = [
        one for one in quotes[:split] if one[0] // resolution < (quotes[split:] or [(1 << 62, 0)])[0][0] // resolution
    ]
    rest = quotes[len(whole) :]
    known, rebuilt = filled(key, whole), filled(key, candles_of(whole, resolution))

    assert grid_of(width) % resolution == 0
    assert seen(rebuilt) == seen(known)
    for quote in rest:
        known.push(*quote)
        rebuilt.push(*quote)
        assert seen(rebuilt) == seen(known)
        if name == "newest":
            assert rebuilt.before == known.before
    again = type(known)(width, lowest=name == "lowest") if hasattr(known, "sees_more") else None
    if again is not None:
        again.load(rebuilt.dump())
        assert seen(again) == seen(known)


@settings(max_examples=200)
@given(streams, st.sampled_from(["path", "spread"]), st.sampled_from([10 * SECOND, 59 * MINUTE, 5 * HOUR]))
def test_of_candles_too_coarse_for_it_a_window_knows_the_last_price(stream, name, width):
    quotes = timed(stream)
    candles = candles_of(quotes, HOUR)
    later = quotes[-1][0] // HOUR * HOUR + 3 * HOUR + 2 * width
    known, rebuilt = filled((name, width), quotes), filled((name, width), candles)

    for at in (later, later + width // 2, later + 3 * width):
        known.push(at, 7)
        rebuilt.push(at, 7)
        # Who looks back to where nothing is hidden sees all.
        assert seen(rebuilt) == seen(known)


@pytest.mark.parametrize("resolution", [MINUTE, HOUR, DAY])
def test_who_looks_back_further_than_61_of_a_resolution_has_a_grid_that_takes_it(resolution):
    edges = {60 * grid + shift for grid in GRIDS for shift in (-SECOND, -1, 0, 1, SECOND)} | {
        59 * DAY,
        61 * DAY,
        400 * DAY,
    }
    far = [width for width in edges if reach_of_keys([("path", width)]) > COARSE * resolution]
    assert far
    assert [width for width in far if grid_of(width) % resolution] == []
