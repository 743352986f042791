"""How large each benchmark is: BENCH_SIZE=full gives the figures of docs/benchmarks.md, small (the default) is one
quick run of each, so that none of them breaks unseen."""

import os
from typing import TypeVar

Value = TypeVar("Value")

SIZE = os.environ.get("BENCH_SIZE") or "small"
if SIZE not in ("full", "small"):
    raise ValueError(f"BENCH_SIZE is full or small, not {SIZE!r}")


def size(*, full: Value, small: Value) -> Value:
    """Return the one that this run has."""
    return full if SIZE == "full" else small


# The whole pipeline, and one task per quote beside it.
PIPELINE_FEEDS = size(full=10, small=2)
PIPELINE_ASSETS_PER_FEED = size(full=1_000, small=10)
PIPELINE_STEPS = size(full=40, small=2)
PIPELINE_WARM_UP = size(full=4, small=2)
ONE_BY_ONE_QUOTES = size(full=1_500, small=20)
ONE_BY_ONE_WARM_UP = size(full=50, small=5)

# Many small feeds, a slot a second each: feeds, assets of each, slots of each that are measured.
SMALL_FEEDS = size(full=100, small=2)
SMALL_FEEDS_ASSETS = size(full=10, small=2)
SMALL_FEEDS_SLOTS = size(full=30, small=2)

# An answer over HTTP.
ANSWER_QUOTES = size(full=5_000, small=20)
ANSWERS = size(full=100, small=2)
ANSWER_WARM_UP = size(full=3, small=1)

# From a quote to the webhook, and full queues.
DELIVERY_BATCHES = size(full=100, small=2)
DELIVERY_QUOTES_PER_BATCH = size(full=1_000, small=20)
DELIVERY_ALERTS_PER_BATCH = size(full=5, small=2)
DELIVERY_CHANNELS = size(full=100, small=3)
DELIVERY_MESSAGES_PER_CHANNEL = size(full=100, small=2)
# What the receiver of one channel does: it answers, or it hangs.
DELIVERY_ROUNDS = size(full=["in", "hang"], small=["hang"])
DELIVERY_BARE_POSTS = size(full=50, small=2)

# The engine alone.
ENGINE_RUNS = size(full=3, small=1)
ENGINE_ASSETS_AND_STEPS = size(full=[(1_000, 200), (10_000, 20)], small=[(2, 20)])
ENGINE_WARM_UP = size(full=55, small=2)
ENGINE_BACKTEST_QUOTES = size(full=1_000_000, small=1_000)
ENGINE_REBUILT_ASSETS = size(full=10_000, small=5)

# Wide prices beside narrow ones.
NUMBERS_ASSETS = size(full=500, small=5)
NUMBERS_STEPS = size(full=100, small=5)

# Pages by GraphQL.
PAGE_ROWS = size(full=100, small=3)
PAGE_RUNS = size(full=100, small=2)
PAGE_WARM_UP = size(full=5, small=1)

# Streams of quotes that are open; entries of quotes, ten in a second.
STREAMS = size(full=1_000, small=20)
STREAM_BATCHES = size(full=200, small=3)
STREAM_BATCHES_PER_SECOND = 10

# Candles of imported quotes: assets, quotes in all, seconds from one quote of an asset to its next.
ROLLED_UP = size(full=[(1, 1_000_000, 1), (500, 200_000, 60)], small=[(2, 40, 20)])

# Rules that choose their assets by feed.
FOLLOWING_RULES = size(full=2_000, small=5)
FOLLOWING_RUNS = size(full=200, small=2)

# A check of everything.
HEALTH_FEEDS = size(full=1_000, small=2)
HEALTH_ASSETS = size(full=10_000, small=4)
HEALTH_RULES = size(full=10_000, small=4)
HEALTH_RUNS = size(full=20, small=2)

# A tick and a sweep with nothing to do.
IDLE_FEEDS = size(full=1_000, small=2)
IDLE_ASSETS = size(full=10_000, small=4)
IDLE_RULES = size(full=2_000, small=4)
IDLE_CHANNELS = size(full=1_000, small=2)
IDLE_ALERTS = size(full=2_000, small=4)
IDLE_RUNS = size(full=200, small=2)

# Rules saved over much history: rules, assets, days of a quote a minute.
SAVED_RULES = size(full=[(10, 1_000, 0), (1, 500, 30)], small=[(2, 2, 0), (1, 2, 2)])

# Transactions of one portfolio, its positions, the days of its history, and the rows of a file.
PORTFOLIO_TRANSACTIONS = size(full=10_000, small=40)
PORTFOLIO_POSITIONS = size(full=200, small=4)
PORTFOLIO_DAYS = size(full=3_650, small=5)
PORTFOLIO_ROWS = size(full=50_000, small=20)
PORTFOLIO_RUNS = size(full=5, small=1)

# Slots with and without spans.
OBSERVED_ASSETS = size(full=1_000, small=5)
OBSERVED_SLOTS = size(full=5, small=1)
OBSERVED_ROUNDS = size(full=40, small=1)
OBSERVED_RUNS = size(full=50, small=2)

# Ratios on legs that tick each second.
DERIVED_RATIOS = size(full=1_000, small=5)
DERIVED_LEGS = size(full=50, small=4)
DERIVED_SECONDS = size(full=120, small=3)
DERIVED_WARM_UP = size(full=5, small=1)

# Pages over many rows.
PAGES_FEEDS = size(full=10, small=2)
PAGES_ASSETS = size(full=1_000, small=4)
PAGES_RULES = size(full=500, small=4)
PAGES_ALERTS = size(full=10_000, small=4)
PAGES_RUNS = size(full=3, small=1)
