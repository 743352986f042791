"""Rolling aggregates against the same thing worked out from the whole list, at every quote."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.market.domain import Given, PathCandle
from apps.rules.engine import core
from apps.rules.engine.pure import grid_of
from apps.rules.engine.windows import Run, edge_of, filled

pytestmark = pytest.mark.usefixtures("each_engine")

SECOND = 1_000_000
# The last but one is no whole number of its grid's steps.
WIDTHS = [10 * SECOND, 59 * SECOND, 60 * SECOND, 300 * SECOND, 302 * SECOND, 900 * SECOND]
# Dense against the windows, so that many quotes share a grid cell and edges fall on, before and after them.
dense_steps = st.one_of(
    st.sampled_from([1, SECOND, 5 * SECOND, 10 * SECOND, 60 * SECOND, 300 * SECOND, SECOND // 2, 5 * SECOND - 1]),
    st.integers(1, 20 * SECOND),
)
streams = st.lists(st.tuples(dense_steps, st.integers(1, 12)), min_size=1, max_size=80)


def timed(stream):
    at, quotes = 1_678_500_000 * SECOND, []
    for step, price in stream:
        at += step
        quotes.append((at, price))
    return quotes


def seen(quotes, width):
    """Return what the window that ends at the last quote sees, oldest first, and its edge e."""
    edge = edge_of(quotes[-1][0], width, grid_of(width))
    before = [quote for quote in quotes if quote[0] <= edge]
    return before[-1:] + [quote for quote in quotes if quote[0] > edge], edge


@settings(max_examples=300)
@given(streams, st.sampled_from(WIDTHS), st.booleans())
def test_an_extreme_is_the_last_quoted_of_the_most_extreme_prices_seen(stream, width, lowest):
    quotes = timed(stream)
    aggregate = core.Extreme(width, lowest=lowest)
    for count, (at, price) in enumerate(quotes, start=1):
        aggregate.push(at, price)
        window, _ = seen(quotes[:count], width)
        best = (min if lowest else max)(price for _, price in window)
        assert (aggregate.best, aggregate.best_at) == (best, max(at for at, price in window if price == best))
        assert aggregate.sees_more == (len(window) > 1)


@settings(max_examples=300)
@given(streams, st.sampled_from(WIDTHS))
def test_a_path_knows_the_price_in_force_at_its_edge_and_the_sum_since(stream, width):
    quotes = timed(stream)
    path = core.Path(width)
    for count, (at, price) in enumerate(quotes, start=1):
        path.push(at, price)
        window, edge = seen(quotes[:count], width)
        in_force = window[0] if window[0][0] <= edge else None
        known_from = edge if in_force else window[0][0]
        ends = [at for at, _ in window[1:]]
        starts = [max(at, known_from) for at, _ in window]
        total = sum(price * (end - start) for (_, price), start, end in zip(window, starts, ends, strict=False))
        assert path.in_force() == in_force
        assert (path.total, path.duration, path.edge) == (total, at - known_from, edge)


def test_the_grid_is_the_largest_that_is_at_most_a_sixtieth_of_the_width():
    widths = {10: 0, 59: 0, 60: 1, 299: 1, 300: 5, 899: 5, 900: 15, 3_600: 60, 18_000: 300, 54_000: 900}
    widths |= {216_000: 3_600, 1_296_000: 21_600, 5_183_999: 21_600, 5_184_000: 86_400, 34_560_000: 86_400}

    grids = {seconds: grid_of(seconds * SECOND) // SECOND for seconds in widths}

    assert grids == widths


def test_quotes_of_one_grid_cell_share_an_entry_however_many_they_are():
    lowest, path = core.Extreme(300 * SECOND, lowest=True), core.Path(300 * SECOND)

    for place in range(20_000):
        lowest.push(place * SECOND // 20, 10**12 + place)
        path.push(place * SECOND // 20, 10**12 + place)

    assert len(lowest.dump()[-1]) <= 61
    assert len(path.dump()[-1]) <= 61


def minute(number, *, low, high, close=None):
    """Return the candle of a minute whose first quote came at its 10th second, its last at the 50th."""
    at = number * 60 * SECOND
    first, last = at + 10 * SECOND, at + 50 * SECOND
    close = high if close is None else close
    given = Given(low, low, high, close)
    return PathCandle(60 * SECOND, first, low, first, low, last, high, last, close, 0, 0, given)


def test_of_candles_a_run_begins_at_the_last_quote_of_the_newest_in_which_the_price_moved():
    moved, calm = [minute(0, low=1, high=5), minute(1, low=4, high=5)], [minute(2, low=5, high=5), (200 * SECOND, 5)]
    run = filled(("run", 60 * SECOND), [*moved, *calm])

    assert (run.since, run.at, run.price, run.is_whole) == (110 * SECOND, 200 * SECOND, 5, True)


def test_of_candles_in_which_it_did_not_a_run_begins_at_the_first_quote_of_its_price():
    same = [minute(number, low=5, high=5) for number in (1, 2)]
    never, after_another = filled(("run", SECOND), same), filled(("run", SECOND), [minute(0, low=4, high=4), *same])

    assert [(run.since, run.at, run.is_whole) for run in (never, after_another)] == [
        (70 * SECOND, 170 * SECOND, False), (70 * SECOND, 170 * SECOND, True),
    ]  # fmt: skip


def test_a_run_that_was_dumped_goes_on():
    run, loaded = filled(("run", SECOND), [(1, 5), (2, 6), (3, 6)]), Run()
    loaded.load(run.dump())
    loaded.push(9, 6)

    assert (loaded.since, loaded.length, loaded.is_whole) == (2, 7, True)
