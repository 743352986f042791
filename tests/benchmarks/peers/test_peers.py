"""The same work on what people would use instead, in the same run: Prometheus, Bytewax, pandas, vectorbt, and a Celery
task for each quote. Each has an environment of its own; `make bench-peers` installs them and prints one table.

Part of no other run: the environments take a gigabyte.
"""

import json
import random
import subprocess
from array import array
from pathlib import Path

import pytest

from apps.backtests.simulation import Backtest
from apps.rules.engine.entries import QuotesEntry
from apps.rules.engine.rule import RuleSpec
from tests.benchmarks import per_quote, sizes
from tests.benchmarks.peers.prometheus import measure_prometheus
from tests.benchmarks.test_engine import BEGIN, BELOW_AVERAGE, RISES, SECOND, engine_with, seconds_for
from tests.benchmarks.test_pipeline import measure_pipeline
from tests.benchmarks.test_small_feeds import measure_small_feeds

ROOT = Path(__file__).resolve().parents[3]
PEERS = Path(__file__).resolve().parent

# CONDITIONS of test_pipeline.py, as recording rules.
TEN_RULES = [
    "price >= 1.10 * min_over_time(price[5m])",
    "price >= 1.05 * min_over_time(price[5m])",
    "price <= 0.90 * max_over_time(price[15m])",
    "price <= 0.95 * max_over_time(price[15m])",
    "price > 1.05 * avg_over_time(price[1h])",
    "price < 0.95 * avg_over_time(price[1h])",
    "price > 1.02 * avg_over_time(price[1h])",
    "price > 1000",
    "price < 10",
    "price > 500",
]
# Those of test_small_feeds.py, for one feed.
TWO_RULES = ["{0} >= 1.10 * min_over_time({0}[5m])", "{0} > 1e11"]
# As peers/bytewax/extremes.py has them.
EXTREMES = [
    {"kind": "rises", "percent": "10", "window": "5m"},
    {"kind": "falls", "percent": "10", "window": "15m"},
    {"kind": "rises", "percent": "5", "window": "1h"},
]

pytestmark = [pytest.mark.benchmark, pytest.mark.servers, pytest.mark.django_db(transaction=True)]


@pytest.fixture(scope="module")
def table():
    """Take rows of (what, peer, unit, ours, theirs), and print them at the end. More is better, but in a unit that is
    used."""
    rows: list[tuple[str, str, str, float, float]] = []
    yield rows
    print(f"\n\n{'the same work':<46}{'beside':<28}{'unit':<22}{'ours':>12}{'theirs':>12}{'ours / theirs':>16}")
    for what, peer, unit, ours, theirs in rows:
        print(f"{what:<46}{peer:<28}{unit:<22}{ours:>12,.1f}{theirs:>12,.1f}{ours / theirs:>16.3f}")


def write(folder: Path, name: str, code: str, values) -> None:
    (folder / name).write_bytes(array(code, values).tobytes())


def run_peer(environment: str, program: str, *arguments: object):
    """Run a program of peers/ in its environment, and return what it printed."""
    command = [ROOT / f".venv-{environment}/bin/python", PEERS / environment / program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_whole_way(tmp_path, table):
    ours = measure_pipeline(tmp_path)
    one_by_one = per_quote.rate(tmp_path)
    theirs = measure_prometheus(
        tmp_path,
        targets=sizes.PIPELINE_FEEDS,
        series=sizes.PIPELINE_ASSETS_PER_FEED,
        rules=TEN_RULES,
        seconds=sizes.PIPELINE_STEPS,
    )
    assert theirs.evaluations >= len(TEN_RULES)
    what = f"{sizes.PIPELINE_FEEDS * sizes.PIPELINE_ASSETS_PER_FEED:,} assets, 10 rules each"
    table.append((what, f"Prometheus {theirs.version}", "us a quote (used)", ours.microseconds, theirs.microseconds))
    table.append((what, "a Celery task and ORM each", "quotes/s", ours.rate, one_by_one))


def test_many_small_feeds(tmp_path, table):
    ours = measure_small_feeds(tmp_path)
    rules = [rule.format(f'price{{job="feed-{number}"}}') for number in range(sizes.SMALL_FEEDS) for rule in TWO_RULES]
    theirs = measure_prometheus(
        tmp_path,
        targets=sizes.SMALL_FEEDS,
        series=sizes.SMALL_FEEDS_ASSETS,
        rules=rules,
        seconds=sizes.SMALL_FEEDS_SLOTS,
    )
    what = f"{sizes.SMALL_FEEDS} feeds of {sizes.SMALL_FEEDS_ASSETS} assets, 2 rules each, 1 s"
    peer = f"Prometheus {theirs.version}"
    table.append((what, peer, "slots/s", ours.rate, theirs.samples / sizes.SMALL_FEEDS_ASSETS / theirs.seconds))
    table.append((what, peer, "% of a core (used)", 100 * ours.cores, 100 * theirs.cores))


def jumping(draw: random.Random, price: int) -> int:
    """Return the next price: a step of 0.05 %, and now and then a jump from which the rules open."""
    return int(price * (1 + draw.gauss(0, 0.0005) + (draw.choice((0.12, -0.11)) if draw.random() < 0.001 else 0)))


def agree(ours: int, theirs: int) -> bool:
    """Tell whether so many episodes are the same work: theirs are by floating point, which may see one more or less."""
    return abs(ours - theirs) <= max(1, ours // 100)


def test_rolling_extremes(tmp_path, table):
    specs = [RuleSpec.read({"assets": ["ANY"], "condition": condition}) for condition in EXTREMES]
    assets, steps = sizes.ENGINE_ASSETS_AND_STEPS[0]
    draw, prices, entries = random.Random(1), [100 * 10**18] * assets, []
    for step in range(steps):
        at = BEGIN + step * 3 * SECOND
        prices = [jumping(draw, price) for price in prices]
        entries.append(QuotesEntry(2 + step, at, [(asset, at, price) for asset, price in enumerate(prices)]))
    quotes = [quote for entry in entries for quote in entry.quotes]

    def evaluated():
        engine = engine_with(specs, assets=assets)
        yield [engine.evaluate(entry, None) for entry in entries]

    ours = len(quotes) / seconds_for(evaluated)
    opened = sum(step.opens for evaluation in next(evaluated()) for step in evaluation.transitions)
    write(tmp_path, "assets", "q", (asset for asset, _, _ in quotes))
    write(tmp_path, "times", "q", (at for _, at, _ in quotes))
    write(tmp_path, "prices", "d", (price / 10**18 for _, _, price in quotes))
    theirs = run_peer("bytewax", "extremes.py", tmp_path)
    assert agree(opened, theirs["episodes"])
    what = f"extremes of 3 windows, {assets:,} assets"
    table.append((what, f"Bytewax {theirs['version']}", "quotes/s", ours, len(quotes) / theirs["seconds"]))


def test_backtests(tmp_path, table):
    count = sizes.ENGINE_BACKTEST_QUOTES
    draw, price, quotes = random.Random(2), 100 * 10**18, []
    for step in range(count):
        price = jumping(draw, price)
        quotes.append((0, BEGIN + step * 2 * SECOND, price))
    write(tmp_path, "times", "q", (at for _, at, _ in quotes))
    write(tmp_path, "prices", "d", (price / 10**18 for _, _, price in quotes))
    peers = run_peer("vectorbt", "backtests.py", tmp_path, sizes.ENGINE_RUNS)
    # They know no coverage: a mean is one from its first price on.
    for name, condition in (("rises", RISES), ("below_average", BELOW_AVERAGE | {"min_coverage": "0.000001"})):
        spec = RuleSpec.read({"assets": ["ANY"], "condition": condition})

        def tried(spec=spec):
            backtest = Backtest([spec], [0])
            backtest.take_all(quotes)
            yield backtest.openings

        opened = next(tried())
        ours = count / seconds_for(tried)
        for library, version in peers["versions"].items():
            theirs = peers["found"][f"{library} {name}"]
            assert agree(opened, theirs["episodes"]), (name, library, opened, theirs)
            table.append((f"backtest {name}", f"{library} {version}", "quotes/s", ours, count / theirs["seconds"]))
