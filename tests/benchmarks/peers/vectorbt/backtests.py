"""The mission's two rules over one asset's prices in pandas and in vectorbt. Runs in vectorbt's environment alone.

python backtests.py FOLDER RUNS: reads `times` (int64, microseconds, evenly spaced) and `prices` (float64) there, and
prints as JSON for each rule and library the best of so many runs in seconds, and how many episodes began.
"""

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import vectorbt  # noqa: F401  it gives every Series its accessor

SECOND = 1_000_000
WINDOWS = {"rises": 300 * SECOND, "below_average": 30 * 86_400 * SECOND}


def with_pandas(rule: str, prices: pd.Series) -> int:
    rolling = prices.rolling(pd.Timedelta(WINDOWS[rule], unit="us"), closed="both")
    holds = prices >= 1.1 * rolling.min() if rule == "rises" else prices < rolling.mean()
    return int((holds & ~holds.shift(fill_value=False)).sum())


def with_vectorbt(rule: str, prices: pd.Series) -> int:
    # It counts rows and not time.
    step = (prices.index[1] - prices.index[0]).value // 1_000
    rows = WINDOWS[rule] // step + 1
    if rule == "rises":
        holds = prices >= 1.1 * prices.vbt.rolling_min(rows, minp=1)
    else:
        holds = prices < prices.vbt.rolling_mean(rows, minp=1)
    return len(holds.vbt.signals.partition_ranges().values)


def main(folder: Path, runs: int) -> None:
    times, prices = np.fromfile(folder / "times", np.int64), np.fromfile(folder / "prices")
    series = pd.Series(prices, index=pd.to_datetime(times, unit="us"))
    found = {}
    for library, tried in (("pandas", with_pandas), ("vectorbt", with_vectorbt)):
        for rule in WINDOWS:
            # Once before: numba compiles at the first call.
            tried(rule, series.iloc[:100])
            seconds = []
            for _ in range(runs):
                began = time.perf_counter()
                episodes = tried(rule, series)
                seconds.append(time.perf_counter() - began)
            found[f"{library} {rule}"] = {"seconds": min(seconds), "episodes": episodes}
    print(json.dumps({"versions": {one: version(one) for one in ("pandas", "vectorbt")}, "found": found}))


main(Path(sys.argv[1]), int(sys.argv[2]))
