"""A tick and a sweep that find nothing to do, on an installation that is large and on one that is empty. One run,
ratios."""

import pytest

from apps.pipeline import flow
from tests.benchmarks.sizes import IDLE_ALERTS, IDLE_ASSETS, IDLE_CHANNELS, IDLE_FEEDS, IDLE_RULES, IDLE_RUNS
from tests.benchmarks.timing import milliseconds
from tests.builders import make_owner
from tests.idle_rows import make_idle

pytestmark = [pytest.mark.benchmark, pytest.mark.servers, pytest.mark.django_db]


def test_a_tick_and_a_sweep_with_nothing_to_do():
    empty = milliseconds(flow.start_due, runs=IDLE_RUNS), milliseconds(flow.sweep, runs=IDLE_RUNS)
    make_idle(
        owner=make_owner(),
        name="idle",
        feeds=IDLE_FEEDS,
        assets=IDLE_ASSETS,
        rules=IDLE_RULES,
        channels=IDLE_CHANNELS,
        alerts=IDLE_ALERTS,
    )
    large = milliseconds(flow.start_due, runs=IDLE_RUNS), milliseconds(flow.sweep, runs=IDLE_RUNS)
    print(f"\n  {IDLE_RULES:,} rules, {IDLE_FEEDS:,} feeds, {IDLE_ASSETS:,} assets, {IDLE_ALERTS:,} open alerts")
    for name, before, after in zip(("a tick", "a sweep"), empty, large, strict=True):
        print(f"  {name:<20}{after:>10.2f} ms   = {after / before:.1f} x on an empty installation")
