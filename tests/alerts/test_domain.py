"""Evidence laid out for people."""

from datetime import UTC, datetime
from decimal import Decimal

from apps.alerts import domain

NESTED = {
    "all": [
        {
            "kind": "falls",
            "percent": "1",
            "window_from": "2026-03-02T11:55:00Z",
            "reference": {"at": "2026-03-02T11:56:00Z", "price": "61230.5"},
            "change_percent": "-0.5",
            "result": True,
        },
        {"any": [{"kind": "above", "level": "10", "result": False}, {"kind": "below", "level": "10"}], "result": None},
    ],
    "result": None,
    "price": "11",
    "at": "2026-03-02T12:00:00Z",
}


def test_each_figure_of_nested_evidence_says_where_it_stands():
    assert domain.figures(NESTED) == [
        ("all 1", "kind", "falls"),
        ("all 1", "percent", "1 %"),
        ("all 1", "window from", "2026-03-02 11:55:00 UTC"),
        ("all 1 › reference", "at", "2026-03-02 11:56:00 UTC"),
        ("all 1 › reference", "price", "61\u202f230.5"),
        ("all 1", "change percent", "-0.5 %"),
        ("all 1", "result", "yes"),
        ("all 2 › any 1", "kind", "above"),
        ("all 2 › any 1", "level", "10"),
        ("all 2 › any 1", "result", "no"),
        ("all 2 › any 2", "kind", "below"),
        ("all 2 › any 2", "level", "10"),
        ("all 2", "result", "unknown"),
        ("", "result", "unknown"),
        ("", "price", "11"),
        ("", "at", "2026-03-02 12:00:00 UTC"),
    ]


def test_the_prices_compared_with_are_named_once_each():
    assert domain.levels(NESTED) == [("reference", Decimal("61230.5")), ("level", Decimal(10))]
    assert domain.levels({"mean": "20", "price": "21"}) == [("average", Decimal(20))]


def test_the_earliest_moment_is_found_at_any_depth():
    assert domain.seen_since(NESTED) == datetime(2026, 3, 2, 11, 55, tzinfo=UTC)
    assert domain.seen_since({"level": "10"}) is None


def test_what_is_neither_a_number_nor_a_moment_stands_as_it_is():
    odd = {"a": "T" * 30, "b": "NaN", "c": "1e400", "d": "2026-03-02T12:00:00", "e": []}
    assert [value for _, _, value in domain.figures(odd)] == ["T" * 30, "NaN", "1e400", "2026-03-02T12:00:00"]


def test_no_more_figures_are_laid_out_than_a_page_holds():
    assert len(domain.figures({"all": [{"level": str(number)} for number in range(1_000)]})) == 500
