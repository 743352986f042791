"""The engine alone, on one core: quotes per second, compiled beside pure, and beside pandas; rebuild and memory."""

import gc
import json
import random
import time
import zlib
from pathlib import Path

import pandas as pd
import pytest

from apps.backtests.simulation import Backtest
from apps.rules.engine import core
from apps.rules.engine.engine import Engine
from apps.rules.engine.entries import QuotesEntry, RuleChange, RulesEntry
from apps.rules.engine.rule import RuleSpec
from tests.benchmarks.sizes import ENGINE_ASSETS_AND_STEPS, ENGINE_REBUILT_ASSETS, ENGINE_RUNS
from tests.benchmarks.sizes import ENGINE_BACKTEST_QUOTES as QUOTES
from tests.benchmarks.sizes import ENGINE_WARM_UP as WARM_UP
from tests.rules.sources import running

SECOND = 1_000_000
BEGIN = 1_700_000_000 * SECOND
RISES = {"kind": "rises", "percent": "10", "window": "5m"}
BELOW_AVERAGE = {"kind": "below_average", "percent": "0", "window": "30d"}

# The compiled engine is measured where it is built.
SOURCES = ("compiled", "pure") if core.IS_COMPILED else ("pure",)

pytestmark = pytest.mark.benchmark


def ten_rules(window):
    """Return ten rules on three windows, of this width."""
    conditions = [
        {"kind": "rises", "percent": "10", "window": window},
        {"kind": "rises", "percent": "5", "window": window},
        {"kind": "falls", "percent": "10", "window": window},
        {"kind": "falls", "percent": "5", "window": window},
        {"kind": "above_average", "percent": "5", "window": window},
        {"kind": "below_average", "percent": "5", "window": window},
        {"kind": "above_average", "percent": "2", "window": window},
        {"kind": "above", "level": "1000"},
        {"kind": "below", "level": "10"},
        {"kind": "above", "level": "500"},
    ]
    return [RuleSpec.read({"assets": ["ANY"], "condition": condition}) for condition in conditions]


def walk(draw, price):
    return int(price * (1 + draw.gauss(0, 0.0005)))


def entries_of(*, assets, steps, step_seconds, first_seq=2):
    """Return entries in which every asset has a quote."""
    draw = random.Random(1)
    prices = [100 * 10**18] * assets
    entries = []
    for step in range(steps):
        at = BEGIN + step * step_seconds * SECOND
        prices = [walk(draw, price) for price in prices]
        quotes = [(asset, at, price) for asset, price in enumerate(prices)]
        entries.append(QuotesEntry(first_seq + step, at, quotes))
    return entries


def engine_with(specs, *, assets):
    engine = Engine()
    changes = [RuleChange(number, number, spec, range(assets)) for number, spec in enumerate(specs)]
    engine.evaluate(RulesEntry(1, BEGIN, changes), lambda reach: {})
    return engine


def resident_bytes():
    """Return the memory of this process, as Linux counts it."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4_096


def seconds_for(work):
    """Return how long it took, the best of some runs."""
    best = float("inf")
    for _ in range(ENGINE_RUNS):
        fresh = work()
        gc.collect()
        started = time.perf_counter()
        next(fresh)
        best = min(best, time.perf_counter() - started)
    return best


@pytest.mark.parametrize(("assets", "steps"), ENGINE_ASSETS_AND_STEPS)
def test_three_windows_and_ten_rules_per_asset(assets, steps):
    rates = {}
    for window in ("5m", "30d"):
        # Polls a hundredth of the window apart: each window is filled and moves on.
        entries = entries_of(assets=assets, steps=WARM_UP + steps, step_seconds=3 if window == "5m" else 25_920)
        for source in SOURCES:

            def evaluated(entries=entries, window=window):
                engine = engine_with(ten_rules(window), assets=assets)
                # What is measured is a feed that has run for a while: each rule knows what it needs.
                for entry in entries[:WARM_UP]:
                    engine.evaluate(entry, None)
                yield [engine.evaluate(entry, None) for entry in entries[WARM_UP:]]

            with running(source):
                rates[source, window] = assets * steps / seconds_for(evaluated)
    for source in SOURCES:
        short = rates[source, "5m"]
        print(
            f"\nengine, {source}, {assets} assets: {short:,.0f} quotes/s at 5 min, "
            f"{rates[source, '30d'] / short:.2f} of that at 30 d, {short / rates['pure', '5m']:.1f} times pure"
        )


def test_one_rule_over_many_quotes_beside_pandas():
    draw = random.Random(2)
    price, quotes = 100 * 10**18, []
    for step in range(QUOTES):
        price = walk(draw, price)
        quotes.append((0, BEGIN + step * 2 * SECOND, price))
    prices = pd.Series(
        [price / 10**18 for _, _, price in quotes], index=pd.to_datetime([at for _, at, _ in quotes], unit="us")
    )

    def rolled_low():
        yield prices >= 1.1 * prices.rolling("300s").min()

    def rolled_mean():
        yield prices < prices.rolling("30D").mean()

    for name, condition, rolled in (("rises", RISES, rolled_low), ("below_average", BELOW_AVERAGE, rolled_mean)):

        def tried(condition=condition):
            backtest = Backtest([RuleSpec.read({"assets": ["ANY"], "condition": condition})], [0])
            yield backtest.take_all(quotes)

        theirs, ours = seconds_for(rolled), {}
        for source in SOURCES:
            with running(source):
                ours[source] = seconds_for(tried)
            print(
                f"\nbacktest {name}, {source}: {QUOTES / ours[source]:,.0f} quotes/s, "
                f"{theirs / ours[source]:.3f} of pandas' rolling columns"
            )
        print(f"\nbacktest {name}: {ours['pure'] / ours[SOURCES[0]]:.1f} times as fast as pure")


def test_a_sweep_of_twenty_thresholds_beside_one():
    draw = random.Random(3)
    price, quotes = 100 * 10**18, []
    for step in range(QUOTES):
        price = walk(draw, price)
        quotes.append((0, BEGIN + step * 2 * SECOND, price))
    for source in SOURCES:

        def tried(count):
            specs = [
                RuleSpec.read({"assets": ["ANY"], "condition": RISES | {"percent": str(10 + n)}}) for n in range(count)
            ]
            backtest = Backtest(specs, [0])
            yield backtest.take_all(quotes)

        with running(source):
            one, twenty = seconds_for(lambda: tried(1)), seconds_for(lambda: tried(20))
        print(f"\nsweep, {source}: 20 thresholds take {twenty / one:.2f} times as long as one")


def test_a_rebuild_of_many_assets_and_their_memory():
    assets = ENGINE_REBUILT_ASSETS
    specs = ten_rules("30d")
    # Enough that every window is as full as it gets: 61 groups of quotes.
    entries = entries_of(assets=assets, steps=130, step_seconds=25_920)
    gc.collect()
    before = resident_bytes()
    engine = engine_with(specs, assets=assets)
    for entry in entries:
        engine.evaluate(entry, None)
    gc.collect()
    deferred = resident_bytes() - before
    data = zlib.compress(json.dumps(engine.dump(), separators=(",", ":")).encode(), level=1)
    versions = dict(enumerate(specs))

    def rebuilt():
        yield Engine.load(json.loads(zlib.decompress(data)), versions)

    seconds = seconds_for(rebuilt)
    assert next(rebuilt()).dump() == engine.dump()
    print(
        f"\nrebuild of {assets} assets with 3 windows and 10 rules: {seconds:.1f} s from {len(data) / 1e6:.1f} MB; "
        f"in memory {deferred / 1e6:.0f} MB, {deferred / assets / 1e3:.1f} kB an asset"
    )
