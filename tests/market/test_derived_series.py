"""Derived series, purely: their quotes against a second reading, their watermark, their written form."""

from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.market.derived.series import (
    Definition,
    Kind,
    Leg,
    LegClock,
    SeriesInvalid,
    derive,
    derive_closes,
    read_written,
    watermark,
)
from apps.market.domain import UNITS_PER_ONE, epoch_microseconds, price_units
from apps.notation import SECOND
from tests.builders import at
from tests.market.derived_oracle import quotes_of

A, B, C = 1, 2, 3
prices = st.one_of(st.integers(-5, 5), st.integers(-(10**12), 10**12)).map(
    lambda number: Decimal(number).scaleb(-6) or Decimal(0)
)
paths = st.dictionaries(st.integers(0, 60), prices, max_size=12).map(lambda points: sorted(points.items()))
drawn_paths = st.fixed_dictionaries(dict.fromkeys((A, B, C), paths))


def path(*points):
    return [(second, price_units(Decimal(price))) for second, price in points]


def ratio(skew=2):
    return Definition(Kind.RATIO, (Leg(A, skew), Leg(B, skew)))


def derived(definition, paths, *, after=-1, until=100):
    return [
        (second, f"{price.normalize():f}")
        for second, price in derive(definition, paths, after=after, until=until).quotes
    ]


@st.composite
def definitions(draw):
    kind = draw(st.sampled_from(list(Kind)))
    assets = [A, B] if kind != Kind.BASKET else draw(st.lists(st.sampled_from([A, B, C]), min_size=1, unique=True))
    weights = st.integers(-300, 300).filter(bool).map(lambda number: Decimal(number).scaleb(-2))
    legs = tuple(
        Leg(asset, draw(st.integers(0, 30)), draw(weights) if kind == Kind.BASKET else Decimal(1)) for asset in assets
    )
    return Definition(kind, legs, draw(st.booleans()))


@given(
    definitions(), st.fixed_dictionaries({asset: paths for asset in (A, B, C)}), st.integers(-1, 60), st.integers(0, 60)
)
def test_its_quotes_are_those_of_a_second_reading(definition, drawn, after, until):
    in_units = {asset: [(second, price_units(price)) for second, price in points] for asset, points in drawn.items()}
    exact = {asset: [(second, Fraction(price)) for second, price in points] for asset, points in drawn.items()}
    legs = [(leg.asset_id, leg.weight, leg.max_skew) for leg in definition.legs]
    found = derive(definition, in_units, after=after, until=until)
    expected = quotes_of(definition.kind, legs, exact, after=after, until=until, signed=definition.signed)
    assert found.quotes == expected


@given(definitions(), drawn_paths, st.lists(st.integers(0, 60)))
def test_it_is_the_same_in_pieces(definition, drawn, cuts):
    in_units = {asset: [(second, price_units(price)) for second, price in points] for asset, points in drawn.items()}
    edges = sorted({-1, 60, *cuts})
    pieces = [
        quote
        for after, until in pairwise(edges)
        for quote in derive(definition, in_units, after=after, until=until).quotes
    ]
    assert pieces == derive(definition, in_units, after=-1, until=60).quotes


@given(definitions())
def test_what_is_stored_of_it_is_read_again(definition):
    assert Definition.of_document(definition.document()) == definition


def test_a_ratio_has_a_quote_wherever_both_legs_count():
    paths = {A: path((0, 10), (3, 12), (9, 14)), B: path((1, 5), (4, 4))}
    assert derived(ratio(skew=3), paths) == [(1, "2"), (3, "2.4"), (4, "3")]


def test_legs_that_are_not_aligned_make_no_quote():
    # A moved at 60, and B, which moved with it, is quoted only a minute later: for a while the two seem to differ.
    paths = {A: path((0, 100), (60, 110)), B: path((0, 100), (120, 110))}
    assert derived(ratio(skew=59), paths, until=200) == [(0, "1")]
    assert (60, "1.1") in derived(ratio(skew=60), paths, until=200)


def test_only_open_hours_count():
    closed_at, opened_at = (epoch_microseconds(at(86_400 * 4 + seconds)) for seconds in (9 * 3_600, 66 * 3_600))
    leg = Leg(A, 3_600 * SECOND)
    assert not leg.counts(opened_at, quoted_at=closed_at)
    assert Leg(A, 3_600 * SECOND, calendar="XNYS").counts(opened_at, quoted_at=closed_at)


def test_a_value_that_is_no_price_is_counted_and_left_out():
    spread = Definition(Kind.SPREAD, (Leg(A, 5), Leg(B, 5)))
    found = derive(spread, {A: path((0, 1)), B: path((0, 1), (1, 3))}, after=-1, until=9)
    assert (found.quotes, dict(found.rejected)) == ([], {"out_of_range": 2})
    found = derive(ratio(), {A: path((0, 1)), B: [(0, 0)]}, after=-1, until=9)
    assert (found.quotes, dict(found.rejected)) == ([], {"missing": 1})


def test_a_basket_adds_its_legs_by_their_weights():
    basket = Definition(Kind.BASKET, (Leg(A, 5, Decimal("0.5")), Leg(B, 5, Decimal("-2")), Leg(C, 5)), signed=True)
    assert derived(basket, {A: path((0, 10)), B: path((0, 3)), C: path((0, "0.25"))}) == [(0, "-0.75")]


def test_closes_make_one_quote_for_each_candle_that_all_have():
    units = UNITS_PER_ONE
    closes = {A: {0: (5, 10 * units), 60: (61, 20 * units)}, B: {0: (9, 5 * units), 120: (121, units)}}
    assert derive_closes(ratio(), closes).quotes == [(9, Decimal(2))]


@pytest.mark.parametrize(
    ("clocks", "until", "behind"),
    [
        ([(A, 100, 60), (B, 90, 60)], 90, set()),
        ([(A, 150, 60), (B, 90, 60)], 90, set()),
        ([(A, 151, 60), (B, 90, 60)], 151, {B}),
        ([(A, 200, 60), (B, 90, 60), (C, 150, 60)], 150, {B}),
        ([(A, 200, 60), (B, None, 60)], None, set()),
    ],
)
def test_the_watermark_is_the_lowest_clock_that_is_not_left_behind(clocks, until, behind):
    assert watermark([LegClock(*clock) for clock in clocks]) == (until, behind)


def test_a_closed_exchange_is_not_left_behind():
    closed_at, now = (epoch_microseconds(at(86_400 * 4 + seconds)) for seconds in (9 * 3_600, 60 * 3_600))
    fast = LegClock(A, now, 60 * SECOND)
    assert watermark([fast, LegClock(B, closed_at, 60 * SECOND, ["XNYS"])]) == (closed_at, set())
    assert watermark([fast, LegClock(B, closed_at, 60 * SECOND, ["XNYS", ""])]) == (now, {B})


def test_what_is_written_is_read():
    written = read_written({"kind": "basket", "legs": ["X", {"asset": "Y", "weight": "0.25", "max_skew": "90s"}]})
    assert read_written(written.document()) == written
    assert [(leg.symbol, leg.weight, leg.max_skew) for leg in written.legs] == [
        ("X", 1, None),
        ("Y", Decimal("0.25"), 90 * SECOND),
    ]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "series: must be a mapping with kind and legs"),
        ({"kind": "sum", "legs": ["X"]}, "kind: must be one of ratio, spread, basket"),
        ({"kind": "ratio", "legs": ["X"]}, "legs: must be two assets for a ratio"),
        ({"kind": "basket", "legs": []}, "legs: must be a list of assets"),
        ({"kind": "ratio", "legs": ["X", "Y"], "of": 1}, "series.of: is no key of a series"),
        ({"kind": "ratio", "legs": ["X", {"asset": "Y", "weight": "2"}]}, r"legs\[1\].weight: is no key of a leg"),
        ({"kind": "ratio", "legs": ["X", "X"]}, r"legs\[0\].asset: X is there twice"),
        ({"kind": "ratio", "legs": ["X", 3]}, r"legs\[1\]: must be a symbol"),
        ({"kind": "basket", "legs": [{"asset": "X", "weight": "0"}]}, r"legs\[0\].weight: must be other than 0"),
        ({"kind": "basket", "legs": [{"asset": "X", "weight": "a"}]}, r"legs\[0\].weight: must be a number"),
        ({"kind": "basket", "legs": [{"asset": "X", "max_skew": "1w"}]}, r"legs\[0\].max_skew: must be a duration"),
        (
            {"kind": "basket", "legs": [{"asset": "X", "max_skew": "31d"}]},
            "must be from 1s to 30d",
        ),
        ({"kind": "basket", "legs": [f"X{number}" for number in range(51)]}, "legs: must be at most 50 assets"),
    ],
)
def test_what_is_wrong_is_named(document, message):
    with pytest.raises(SeriesInvalid, match=message):
        read_written(document)
