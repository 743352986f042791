"""Processes that answer queries of the same rows beside each other, in turns. A page takes up to twice as long in the
process of pytest, so each library has a small process of its own."""

import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles

from tests.benchmarks.sizes import PAGE_RUNS as RUNS
from tests.benchmarks.sizes import PAGE_WARM_UP as WARM_UP
from tests.rig import ROOT, process_environment

# By what a process serves with; "django" is the views by hand.
PYTHONS = {
    "django": Path(sys.executable),
    "graphene": Path(sys.executable),
    "strawberry-graphql": ROOT / ".venv-strawberry" / "bin" / "python",
}
TURNS = 5


@contextmanager
def serving(library, user):
    """Start the process that serves by a library. Give its version, and a function that has it answer a query: the
    answer, how many statements read rows, and the seconds of so many runs."""
    environment = process_environment() | {"DJANGO_SETTINGS_MODULE": "fintech.settings"}
    process = subprocess.Popen(
        [PYTHONS[library], "-m", "tests.benchmarks.answer", library, str(user.pk)],
        cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None

    def ask(*, runs, **asked):
        print(json.dumps(asked | {"warm": WARM_UP, "runs": runs}), file=process.stdin, flush=True)
        found = json.loads(process.stdout.readline())
        return found["answer"], found["statements"], found["seconds"]

    with process:
        yield process.stdout.readline().strip(), ask
        process.stdin.close()


def compare(ours, theirs):
    """Print p50 and p95 of two processes in milliseconds, of so many runs of each in turns, and their ratio.

    ours, theirs: (what is served, a function that returns the seconds of so many runs).
    """
    runs = max(RUNS // TURNS, 1)
    turns = [(ours[1](runs), theirs[1](runs)) for _ in range(TURNS)]
    print()
    halves = []
    for which, (name, _) in enumerate((ours, theirs)):
        parts = quantiles([one * 1_000 for turn in turns for one in turn[which]], n=20)
        halves.append(parts[9])
        print(f"  {name:<40} p50 {parts[9]:>6.1f} ms   p95 {parts[18]:>6.1f} ms")
    print(f"  ratio of the two = {halves[0] / halves[1]:.2f}")
