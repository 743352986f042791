"""Pages of the API beside Strawberry's, which serves types of the same names from the same queries of the apps, in an
environment and a process of its own, in turns in one run. The answers are the same."""

import json
import logging
import subprocess
import time
from contextlib import contextmanager
from statistics import median

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.benchmarks.sizes import PAGE_ROWS as ROWS
from tests.benchmarks.sizes import PAGE_RUNS as RUNS
from tests.benchmarks.sizes import PAGE_WARM_UP as WARM_UP
from tests.benchmarks.test_graphql import ALERTS, ASSETS, PORTFOLIO, asker, make_positions, make_prices, reads
from tests.builders import make_notified_alerts
from tests.rig import ROOT, process_environment

PYTHON = ROOT / ".venv-strawberry" / "bin" / "python"
TURNS = 5

pytestmark = [pytest.mark.benchmark, pytest.mark.servers, pytest.mark.django_db(transaction=True)]


@contextmanager
def strawberry(user):
    """Give the version, and a function that has Strawberry's process answer a query: its answer, how many statements
    read rows, and the seconds of so many runs."""
    environment = process_environment() | {"DJANGO_SETTINGS_MODULE": "fintech.settings"}
    process = subprocess.Popen(
        [PYTHON, "-m", "tests.benchmarks.strawberry.answer", str(user.pk)],
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


def seconds_of(call, *, runs):
    for _ in range(WARM_UP):
        call()
    taken = []
    for _ in range(runs):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return taken


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
def test_pages_beside_strawberry(client, admin_user, settings, name, query, make):
    # Strawberry's view counts no requests.
    settings.GRAPHQL_REQUESTS_PER_MINUTE = dict.fromkeys(settings.GRAPHQL_REQUESTS_PER_MINUTE, 0)
    settings.GRAPHQL_REQUESTS_AT_ONCE = dict.fromkeys(settings.GRAPHQL_REQUESTS_AT_ONCE, 0)
    make(admin_user)
    client.force_login(admin_user)
    ask = asker(client)
    ask(query)
    with CaptureQueriesContext(connection) as asked:
        answer = ask(query).json()
    count = reads(asked)
    runs = max(RUNS // TURNS, 1)
    with strawberry(admin_user) as (version, ask_strawberry):
        other, statements, _ = ask_strawberry(query, runs=0)
        assert other["data"] == answer["data"]
        turns = [(seconds_of(lambda: ask(query), runs=runs), ask_strawberry(query, runs=runs)[2]) for _ in range(TURNS)]
    ours, theirs = (median(one for turn in turns for one in turn[which]) * 1_000 for which in (0, 1))
    print(f"\n  {version}")
    print(f"  {ROWS} {name}, ours        {ours:>6.1f} ms   {count} reads")
    print(
        f"  {ROWS} {name}, Strawberry  {theirs:>6.1f} ms   {statements} reads   ours / Strawberry = {ours / theirs:.2f}"
    )
