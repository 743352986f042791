"""Every fault of the matrix, by its seeds: one seed each in a small size here, all of them by `make faults`."""

import os

import pytest

from tests.faults import world
from tests.faults.matrix import FAULTS, run_fault

pytestmark = [pytest.mark.servers, pytest.mark.django_db(transaction=True)]

SEEDS = int(os.environ.get("FAULT_SEEDS") or 0)
SIZE = world.FULL if SEEDS and os.environ.get("FAULT_SIZE") != "quick" else world.QUICK


RUNS = [
    (name, seed)
    for name, fault in FAULTS.items()
    if SEEDS or fault.is_in_test
    for seed in range(1, (min(SEEDS, 5 if fault.is_long else SEEDS) or 1) + 1)
]


@pytest.mark.parametrize(("fault", "seed"), RUNS)
def test_a_fault_loses_nothing_and_doubles_nothing(fault, seed, tmp_path):
    found = run_fault(fault, FAULTS[fault], seed=seed, size=SIZE, folder=tmp_path)

    print(found.line())
    assert not "\n".join(found.deviations)
