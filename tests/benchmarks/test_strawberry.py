"""Pages of the API beside Strawberry's, which serves types of the same names from the same queries of the apps, in an
environment of its own; each in a process of its own, in turns in one run. The answers are the same."""

import json
import logging
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles

import pytest

from tests.benchmarks.sizes import PAGE_ROWS as ROWS
from tests.benchmarks.sizes import PAGE_RUNS as RUNS
from tests.benchmarks.sizes import PAGE_WARM_UP as WARM_UP
from tests.benchmarks.test_graphql import ALERTS, ASSETS, PORTFOLIO, make_positions, make_prices
from tests.builders import make_notified_alerts
from tests.rig import ROOT, process_environment

PYTHONS = {
    "graphene": Path(sys.executable),
    "strawberry-graphql": ROOT / ".venv-strawberry" / "bin" / "python",
}
TURNS = 5

pytestmark = [pytest.mark.benchmark, pytest.mark.servers, pytest.mark.django_db(transaction=True)]


@contextmanager
def serving(library, user):
    """Start the process that serves by a library. Give its version, and a function that has it answer a query: the
    answer, how many statements read rows, and the seconds of so many runs."""
    environment = process_environment() | {"DJANGO_SETTINGS_MODULE": "fintech.settings"}
    process = subprocess.Popen(
        [PYTHONS[library], "-m", "tests.benchmarks.strawberry.answer", library, str(user.pk)],
        cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None

    def ask(query, *, runs):
        print(
            json.dumps({"query": query, "variables": {}, "warm": WARM_UP, "runs": runs}), file=process.stdin, flush=True
        )
        found = json.loads(process.stdout.readline())
        return found["answer"], found["statements"], found["seconds"]

    with process:
        yield process.stdout.readline().strip(), ask
        process.stdin.close()


def make_alerts(owner):
    logging.disable(logging.INFO)
    make_notified_alerts(owner, ROWS)
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize(
    ("name", "query", "make"),
    [
        ("assets", ASSETS, lambda owner: make_prices(ROWS)),
        ("alerts", ALERTS, make_alerts),
        ("positions", PORTFOLIO, make_positions),
    ],
    ids=["assets", "alerts", "positions"],
)
def test_pages_beside_strawberry(admin_user, name, query, make):
    make(admin_user)
    runs = max(RUNS // TURNS, 1)
    with serving("graphene", admin_user) as (version, ask), serving("strawberry-graphql", admin_user) as other:
        answer, count, _ = ask(query, runs=0)
        other_version, ask_other = other
        other_answer, other_count, _ = ask_other(query, runs=0)
        assert other_answer["data"] == answer["data"]
        turns = [(ask(query, runs=runs)[2], ask_other(query, runs=runs)[2]) for _ in range(TURNS)]
    ours, theirs = (quantiles([one * 1_000 for turn in turns for one in turn[which]], n=20) for which in (0, 1))
    print(f"\n  {version}; {other_version}")
    for by, found, reads in (("ours", ours, count), ("Strawberry", theirs, other_count)):
        print(f"  {ROWS} {name + ', ' + by:<22} p50 {found[9]:>6.1f} ms   p95 {found[18]:>6.1f} ms   {reads} reads")
    print(f"  ours / Strawberry = {ours[9] / theirs[9]:.2f}")
