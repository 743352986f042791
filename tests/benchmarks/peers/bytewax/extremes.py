"""Rolling extremes in Bytewax, in memory, on one worker: three conditions for each asset, as tests/benchmarks/peers/
test_peers.py sets them. Runs in Bytewax's environment alone.

python extremes.py FOLDER: reads `assets` and `times` (int64) and `prices` (float64) there, and prints as JSON the
version, the seconds of the flow, and how many episodes began.
"""

import json
import sys
import time
from array import array
from collections import deque
from importlib.metadata import version
from operator import ge, le
from pathlib import Path

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, TestingSource, run_main

SECOND = 1_000_000
# (microseconds of the window, whether its lowest or highest price counts, factor of it, how it is compared)
CONDITIONS = ((300 * SECOND, le, 1.10, ge), (900 * SECOND, ge, 0.90, le), (3_600 * SECOND, le, 1.05, ge))


def read(folder: Path, name: str, code: str) -> array:
    found = array(code)
    found.frombytes((folder / name).read_bytes())
    return found


def step(state, quote):
    """Take a quote into each window, a deque whose first is its extreme; give how many conditions begin to hold."""
    at, price = quote
    windows, held = state or ([deque() for _ in CONDITIONS], [False] * len(CONDITIONS))
    began = 0
    for number, (width, displaces, factor, compare) in enumerate(CONDITIONS):
        window = windows[number]
        while window and displaces(price, window[-1][1]):
            window.pop()
        window.append((at, price))
        while window[0][0] < at - width:
            window.popleft()
        holds = compare(price, factor * window[0][1])
        began += holds and not held[number]
        held[number] = holds
    return (windows, held), began


def main(folder: Path) -> None:
    assets, times, prices = read(folder, "assets", "q"), read(folder, "times", "q"), read(folder, "prices", "d")
    quotes = [(str(asset), (at, price)) for asset, at, price in zip(assets, times, prices, strict=True)]
    began: list = []
    flow = Dataflow("extremes")
    evaluated = op.stateful_map("evaluate", op.input("quotes", flow, TestingSource(quotes, batch_size=1_000)), step)
    op.output("began", op.filter("some", evaluated, lambda one: one[1] > 0), TestingSink(began))
    started = time.perf_counter()
    run_main(flow)
    seconds = time.perf_counter() - started
    print(json.dumps({"version": version("bytewax"), "seconds": seconds, "episodes": sum(n for _, n in began)}))


main(Path(sys.argv[1]))
