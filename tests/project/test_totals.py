"""Totals: of what they are made, and that they say what the rows say that they count, on every way into a log."""

import pytest

from apps.totals import added, by_code, histogram, named, of_duration


def test_totals_are_added_by_their_names_and_what_is_0_has_none():
    assert added({"a": 1, "b:x": 2}, {"b:x": 3, "c": 0}) == {"a": 1, "b:x": 5}
    assert added() == {}


def test_the_totals_of_one_name_are_found_by_their_codes():
    totals = {**named("rejected", {"jump": 2, "a:b": 1}), "rejected_more": 5}

    assert by_code(totals, "rejected") == {"jump": 2, "a:b": 1}


@pytest.mark.parametrize(
    ("seconds", "bucket"), [(-5, "0.1"), (0, "0.1"), (0.1, "0.1"), (0.101, "0.25"), (1, "1.0"), (300.1, "+Inf")]
)
def test_a_duration_is_in_the_bucket_of_the_first_bound_that_it_does_not_pass(seconds, bucket):
    total = pytest.approx(max(seconds, 0) * 3)
    assert of_duration("took", seconds, count=3) == {f"took:{bucket}": 3, "took:sum": total}


def test_a_histogram_counts_each_bucket_with_those_before_it():
    buckets, total = histogram(added(of_duration("took:a", 0.2), of_duration("took:a", 400, count=2)), "took:a")

    assert dict(buckets)["0.1"] == 0
    assert [dict(buckets)[bound] for bound in ("0.25", "1.0", "300.0", "+Inf")] == [1, 1, 1, 3]
    assert total == pytest.approx(800.2)
