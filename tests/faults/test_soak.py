"""The soak: a small one here, that of hours by `make soak`; and how it reads its samples."""

import os

import pytest

from tests.faults import soak, world
from tests.faults.matrix import run_fault
from tests.faults.soak import Sample

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
    assert {one.measure for one in samples} == {*soak.GROWTH_MOST, soak.RATE}
    last = {one.of: one.value for one in samples if one.measure in ("MB", soak.RATE)}
    assert all(value > 1 for value in last.values())


def _leaking(*, of: str, measure: str, an_hour: float, minutes: int = 60) -> list[Sample]:
    """Return a sample a minute of what takes 100 at first, 50 more while it warms up, and then grows steadily."""
    return [
        Sample(at, of, measure, 100 + 50 * min(at, soak.WARM_MINUTES) / soak.WARM_MINUTES + an_hour * at / 60)
        for at in range(minutes + 1)
    ]


def test_growth_is_what_an_hour_adds_after_the_first_minutes():
    samples = _leaking(of="beat, main", measure="MB", an_hour=6)
    # Up and down in turn, which is no growth.
    waves = [Sample(one.minutes, one.of, one.measure, one.value + (-1) ** number) for number, one in enumerate(samples)]

    assert soak.growth(samples) == pytest.approx(6)
    assert soak.growth(waves) == pytest.approx(6, abs=0.3)


def test_a_run_of_less_than_half_an_hour_says_nothing_of_growth():
    samples = _leaking(of="beat, main", measure="MB", an_hour=600, minutes=29)

    assert soak.growth(samples) is None
    assert soak.grown(samples) == []


@pytest.mark.parametrize(("measure", "most"), soak.GROWTH_MOST.items())
def test_what_grows_by_more_than_it_may_is_named(measure, most):
    steady = _leaking(of="a", measure=measure, an_hour=most * 0.9)
    leaking = _leaking(of="b", measure=measure, an_hour=most * 1.1)

    assert soak.grown([*steady, *leaking]) == [f"b: {most * 1.1:+.2f} {measure} an hour"]


def test_children_that_are_replaced_are_not_blamed_and_the_spared_one_is():
    samples = [
        one for of in ("watcher, children", "spared, children") for one in _leaking(of=of, measure="MB", an_hour=60)
    ]

    assert soak.grown(samples) == ["spared, children: +60.00 MB an hour"]


def test_the_table_shows_each_measure_by_time_and_its_growth():
    samples = [*_leaking(of="beat, main", measure="MB", an_hour=6), Sample(0, "ticks", "messages", 7)]

    assert soak.table(sorted(samples, key=lambda one: one.minutes)).splitlines() == [
        "| | 0 min | 15 min | 30 min | 60 min | most | an hour |",
        "|---|---|---|---|---|---|---|",
        "| beat, main, MB | 100 | 151.5 | 153 | 156 | 156 | +6.00 |",
        "| ticks, messages | 7 | 7 | 7 | 7 | 7 |  |",
    ]
