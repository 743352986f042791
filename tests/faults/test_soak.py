"""The soak: a small one here, that of hours by `make soak`; and how it reads its samples."""

import os

import pytest

from tests.faults import soak, world
from tests.faults.matrix import run_fault

MINUTES = int(os.environ.get("SOAK_MINUTES") or 0)


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_steady_work_loses_nothing_and_takes_no_more_in_the_end(tmp_path):
    size = soak.size_of(minutes=MINUTES) if MINUTES else world.QUICK
    fault = soak.soak(every_seconds=30, lease_seconds=20) if MINUTES else soak.soak(every_seconds=0.5, lease_seconds=2)
    found = run_fault("S1", fault, seed=1, size=size, folder=tmp_path)
    samples = soak.read_samples(tmp_path / "soak.csv")

    print(found.line(), soak.table(samples), tmp_path / "soak.csv", sep="\n")
    assert not "\n".join(found.deviations + soak.grown(samples))
    assert {one.of for one in samples} >= {
        *(f"{name}, {part}" for name in ("watcher", "analyzer", "notifier", "spared") for part in ("main", "children")),
        *("beat, main", "PostgreSQL", "ticks", "assets-tasks", "analysis.0", "notifications", "dead-letters"),
    }
    assert {one.measure for one in samples} == set(soak.GROWTH_MOST)
    assert all(one.value > 1 for one in samples if one.measure == "MB")
