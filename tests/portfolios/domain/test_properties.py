"""What holds of every portfolio, on random ones."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from apps.portfolios.domain.ledger import compute
from apps.portfolios.domain.numbers import to_decimal
from apps.portfolios.domain.records import Settings
from apps.portfolios.domain.transactions import Event, Kind, Method, Transaction
from apps.portfolios.domain.valuation import result_between
from apps.portfolios.domain.xirr import NotUnique, Rate, net_present_value, xirr
from tests.portfolios.domain.drawn import (
    DAYS,
    FIRST,
    TIMES,
    World,
    currencies,
    daily_prices,
    euros,
    keyed,
    transactions,
)
from tests.portfolios.making import SHARE


def facts_of(computed):
    """Return what was computed, without the ids of rows."""
    return {
        key: (
            {asset: [replace(lot, key=0) for lot in lots] for asset, lots in ledger.lots.items()},
            [one._replace(key=0) for one in ledger.disposals],
            [one._replace(key=0) for one in ledger.flows],
            ledger.cash,
        )
        for key, ledger in computed.ledgers.items()
    }, sorted((one.field, one.message) for one in computed.refusals)


@settings(max_examples=60)
@given(
    drawn=st.lists(transactions((1, 2)), max_size=20),
    shuffled=st.randoms(use_true_random=False),
    method=st.sampled_from(Method),
)
def test_any_order_of_insertion_gives_the_same(drawn, shuffled, method):
    known = {1: Settings("EUR", method), 2: Settings("USD", Method.FIFO)}
    # Two moments and one asset, so that most of them come together.
    drawn = [
        replace(one, at=TIMES[TIMES.index(one.at) % 2], asset=one.asset and SHARE, acquired_at=None)
        for one in drawn
        if one.to_asset != SHARE
    ]
    other = list(drawn)
    shuffled.shuffle(other)

    first, second = (compute(keyed(rows), settings=known) for rows in (drawn, other))

    assert facts_of(first) == facts_of(second)


@settings(max_examples=80)
@given(
    data=st.data(),
    tracks_cash=st.booleans(),
    method=st.sampled_from(Method),
    bases=st.fixed_dictionaries({1: currencies, 2: currencies}),
    world=st.builds(World, euros, daily_prices),
    begin=st.integers(0, DAYS - 1),
)
def test_the_parts_of_a_result_add_up_in_every_currency(data, tracks_cash, method, bases, world, begin):
    rows = keyed(data.draw(st.lists(transactions((1, 2), tracks_cash=tracks_cash), max_size=20)))
    given = {"settings": {key: Settings(base, method, tracks_cash) for key, base in bases.items()}}
    given |= {"rates": world.rates(bases), "prices": world.prices()}
    before = compute([one for one in rows if one.at <= TIMES[begin]], **given)

    after = compute(rows, **given)

    assert (after.missing_rates, after.missing_prices) == (set(), set())
    for key in bases:
        first, last = world.snapshot(before.ledgers[key], begin), world.snapshot(after.ledgers[key], DAYS - 1)
        assert result_between(first, last).unexplained == 0
        for one in after.ledgers[key].disposals:
            assert one.price_part + one.currency_part == one.gain


@settings(max_examples=50)
@given(drawn=st.lists(transactions((1, 2), tracks_cash=False), max_size=25), method=st.sampled_from(Method))
def test_splits_and_transfers_conserve_quantity_and_cost(drawn, method):
    moving = (Kind.BUY, Kind.TRANSFER)
    rows = keyed(
        [
            replace(one, currency="EUR", fee=Decimal(0), fee_asset=None, fee_quantity=None)
            for one in drawn
            if one.kind is Kind.BUY
        ]
    )
    rows += keyed([one for one in drawn if one.kind is Kind.TRANSFER or one.event is Event.SPLIT])
    known = {key: Settings("EUR", method, False) for key in (1, 2)}
    without_splits = [one for one in rows if one.kind in moving]

    computed = compute(without_splits, settings=known)
    split = compute(rows, settings=known)

    bought = [one for one in rows if one.kind is Kind.BUY]
    for ledgers in (computed.ledgers, split.ledgers):
        lots = [lot for ledger in ledgers.values() for held in ledger.lots.values() for lot in held]
        assert sum(lot.cost for lot in lots) == sum(Fraction(one.amount) for one in bought)
    held = [lot for ledger in computed.ledgers.values() for lots in ledger.lots.values() for lot in lots]
    assert sum(lot.quantity for lot in held) == sum(Fraction(one.quantity) for one in bought)
    if method is Method.FIFO:
        pieces = [lot for ledger in split.ledgers.values() for lots in ledger.lots.values() for lot in lots]
        in_bought_shares = {one.key: Fraction(0) for one in bought}
        for lot in pieces:
            in_bought_shares[lot.key] += lot.quantity / lot.factor
        assert in_bought_shares == {one.key: Fraction(one.quantity) for one in bought}


@settings(max_examples=50)
@given(drawn=st.lists(transactions((1,), tracks_cash=False), max_size=20), method=st.sampled_from(Method))
def test_the_quantity_as_it_is_displayed_sells_everything(drawn, method):
    rows = keyed(drawn)
    known = {1: Settings("EUR", method, False)}
    held = {asset: ledger_held for asset, ledger_held in _held(compute(rows, settings=known)).items() if ledger_held}
    last = TIMES[-1] + timedelta(days=1)
    sales = [
        Transaction(1, Kind.SELL, last, asset=asset, quantity=quantity, amount=Decimal(1), currency="EUR", key=1000)
        for asset, quantity in held.items()
    ]

    [ledger] = compute([*rows, *sales], settings=known).ledgers.values()

    assert {asset: lots for asset, lots in ledger.lots.items() if asset in held} == {}


def _held(computed):
    return {asset: to_decimal(computed.ledgers[1].held(asset)) for asset in computed.ledgers[1].lots}


amounts = st.integers(-10_000, 10_000).map(lambda cents: Decimal(cents) / 100)


@settings(max_examples=100)
@given(flows=st.lists(st.tuples(st.integers(0, 4_000), amounts), min_size=1, max_size=12))
def test_nothing_is_left_of_the_flows_at_each_rate(flows):
    dated = [(FIRST + timedelta(day), amount) for day, amount in flows]
    answer = xirr(dated)
    roots = [answer.rate] if isinstance(answer, Rate) else list(answer.roots) if isinstance(answer, NotUnique) else []

    assert all(-1 < root < 1_000_000 for root in roots)
    assert all(first < second for first, second in pairwise(roots))
    heavy = Decimal("1e-9") * sum(abs(amount) for _, amount in dated)
    assert all(abs(net_present_value(root, dated)) <= heavy for root in roots)


@settings(max_examples=50)
@given(
    roots=st.lists(st.integers(-80, 400), min_size=1, max_size=4, unique=True),
    scale=st.integers(1, 50),
    years=st.integers(1, 3),
)
def test_rates_that_were_built_in_are_found(roots, scale, years):
    """Flows whose worth is a polynomial of 1 / (1 + rate) with these percents as its zeros."""
    coefficients = [Fraction(-scale)]
    for percent in roots:
        zero = 1 / (1 + Fraction(percent, 100)) ** years
        longer = [Fraction(0), *coefficients]
        coefficients = [a - zero * b for a, b in zip(longer, [*coefficients, Fraction(0)], strict=True)]
    dated = [(FIRST + timedelta(365 * years * number), one) for number, one in enumerate(coefficients)]
    answer = xirr(dated)
    found = [answer.rate] if isinstance(answer, Rate) else list(answer.roots)

    expected = sorted(Fraction(percent, 100) for percent in roots)
    assert len(found) == len(expected)
    assert all(abs(Fraction(a) - b) < Fraction("1e-9") for a, b in zip(found, expected, strict=True))
