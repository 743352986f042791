"""What the width of prices costs: the engine over units of 1e-18 beside the same over units of 1e-10, and admission
beside bare decimals. One core, plain Python."""

import time
from decimal import Decimal

import pytest

from apps.market.domain import UNITS_PER_ONE, RawQuote, admit
from apps.rules.engine.entries import QuotesEntry
from tests.benchmarks.sizes import ENGINE_RUNS, NUMBERS_ASSETS, NUMBERS_STEPS
from tests.benchmarks.test_engine import engine_with, entries_of, ten_rules
from tests.builders import START

pytestmark = pytest.mark.benchmark

NARROW = 10**10


def best_of(*works):
    """Return the shortest time of each, all of them run in turn, so that a busy machine slows them alike."""
    best = [float("inf")] * len(works)
    for _ in range(3 * ENGINE_RUNS):
        for index, work in enumerate(works):
            started = time.process_time()
            work()
            best[index] = min(best[index], time.process_time() - started)
    return best


def in_units(entries, units_per_one):
    """Return the entries with prices in other units, cut to 10 decimals."""
    factor = UNITS_PER_ONE // NARROW
    return [
        QuotesEntry(
            entry.seq,
            entry.as_of,
            [(asset, at, price // factor * (units_per_one // NARROW)) for asset, at, price in entry.quotes],
        )
        for entry in entries
    ]


def test_the_engine_over_wide_prices_beside_narrow_ones():
    entries = entries_of(assets=NUMBERS_ASSETS, steps=NUMBERS_STEPS, step_seconds=3)

    def evaluated(prices):
        engine = engine_with(ten_rules("5m"), assets=NUMBERS_ASSETS)
        for entry in prices:
            engine.evaluate(entry, None)

    wide, narrow = in_units(entries, UNITS_PER_ONE), in_units(entries, NARROW)
    ours, theirs = best_of(lambda: evaluated(wide), lambda: evaluated(narrow))
    print(f"\nengine, prices in units of 1e-18: {theirs / ours:.2f} of its speed in units of 1e-10")


def test_admission_beside_bare_decimals():
    written = [f"{100 + number % 1_000 / 100:.2f}" for number in range(NUMBERS_ASSETS * NUMBERS_STEPS)]
    quotes = [RawQuote(str(number), price) for number, price in enumerate(written)]
    asset_ids = {str(number): number for number in range(len(quotes))}
    last = Decimal("1e-10")

    ours, theirs = best_of(
        lambda: admit(quotes, asset_ids=asset_ids, as_of=START, assumed_at=START),
        lambda: [Decimal(price).quantize(last) for price in written],
    )
    print(f"\nadmission: {len(quotes) / ours:,.0f} quotes/s, {theirs / ours:.2f} of bare decimals of 10 places")
