"""Each kind of transaction, worked out by hand."""

from dataclasses import replace
from datetime import date
from decimal import Decimal
from fractions import Fraction

import pytest

from apps.portfolios.domain.ledger import compute, without_doubles
from apps.portfolios.domain.records import Price, Settings
from apps.portfolios.domain.transactions import Event, Kind, Method
from tests.portfolios.making import COIN, OTHER, SHARE, buy, cost_of, ledger_of, made, noon, sell, valued


def event(day, which, asset=SHARE, **values):
    return made(day, Kind.EVENT, event=which, asset=asset, **values)


def refused(*transactions, tracks_cash=False):
    """Return (field, message) of the one that is refused."""
    [refusal] = compute(transactions, settings={1: Settings("EUR", tracks_cash=tracks_cash)}).refusals
    return refusal.field, refusal.message


def test_a_closed_position_costs_exactly_nothing():
    ledger = ledger_of(buy("2024-01-01", "3", "100"), sell("2024-01-02", "1", "40"), sell("2024-01-03", "2", "80"))
    assert ledger.lots == {}
    assert sum(one.cost for one in ledger.disposals) == 100


def test_cost_is_carried_through_splits_to_the_last_digit():
    splits = [event("2024-02-01", Event.SPLIT, numerator=2, denominator=1)]
    splits.append(event("2024-03-01", Event.SPLIT, numerator=1, denominator=3))
    [lot] = ledger_of(buy("2024-01-01", "10", "1000"), *splits).lots[SHARE]
    assert (lot.quantity, lot.cost) == (Fraction(20, 3), 1000)
    assert (lot.bought, lot.factor) == (10, Fraction(2, 3))


def test_the_quantity_as_it_is_displayed_sells_a_third_of_a_share():
    split = event("2024-02-01", Event.SPLIT, numerator=1, denominator=3)
    ledger = ledger_of(buy("2024-01-01", "10", "100"), split, sell("2024-03-01", "3.333333333333", "90"))
    assert ledger.lots == {}
    assert ledger.realised == -10


def test_on_one_day_without_times_purchases_come_before_sales():
    ledger = ledger_of(sell("2024-01-01", "2", "30"), buy("2024-01-01", "2", "20"))
    assert ledger.realised == 10


def test_a_sale_at_an_earlier_time_of_the_day_of_the_purchase_is_refused():
    early = replace(sell("2024-01-01", "2", "30"), at=noon("2024-01-01").replace(hour=9), has_time=True)
    assert refused(early, buy("2024-01-01", "2", "20")) == (
        "quantity",
        "Only 0 is held on 2024-01-01, so 2 cannot leave.",
    )


def test_an_event_comes_before_the_trades_of_its_day():
    early = replace(buy("2024-02-01", "1", "50"), at=noon("2024-02-01").replace(hour=1), has_time=True)
    split = event("2024-02-01", Event.SPLIT, numerator=2, denominator=1)
    assert ledger_of(buy("2024-01-01", "1", "100"), early, split).held(SHARE) == 3


def test_fees_and_taxes_are_apart_from_the_cost_and_lots_carry_their_share():
    bought = buy("2024-01-01", "4", "400", fee="4", tax="2")
    ledger = ledger_of(bought, sell("2024-01-02", "1", "120", fee="1", tax="3"))
    [sale], [lot] = ledger.disposals, ledger.lots[SHARE]
    assert (sale.gain, sale.fees) == (20, Fraction("5.5"))
    assert (lot.cost, lot.base_fees) == (300, Fraction("4.5"))


def test_cash_is_a_balance_per_currency_and_may_be_negative():
    ledger = ledger_of(
        made("2024-01-01", Kind.DEPOSIT, amount="100", currency="EUR"),
        made("2024-01-02", Kind.CONVERSION, amount="60", currency="EUR", counter_amount="66", counter_currency="USD"),
        buy("2024-01-03", "1", "90", "USD", fee="1", fee_currency="EUR", rate="0.9"),
        made("2024-01-04", Kind.DIVIDEND, asset=SHARE, amount="10", currency="USD", tax="3", rate="0.9"),
        tracks_cash=True,
    )
    assert ledger.cash == {"EUR": 39, "USD": -17}
    assert [flow.base for flow in ledger.flows] == [100]


def test_without_cash_trades_and_income_are_flows():
    ledger = ledger_of(
        buy("2024-01-01", "2", "100", fee="1"),
        made("2024-01-02", Kind.DIVIDEND, asset=SHARE, amount="10", currency="EUR", tax="3"),
        sell("2024-01-03", "1", "60", fee="2"),
        made("2024-01-04", Kind.FEE, amount="5", currency="EUR"),
    )
    assert [flow.base for flow in ledger.flows] == [101, -7, -58, 5]
    assert (ledger.cash, ledger.balances) == ({}, [])


def test_a_portfolio_without_cash_has_no_deposits():
    deposit = made("2024-01-01", Kind.DEPOSIT, amount="1", currency="EUR")
    assert refused(deposit) == ("kind", "This portfolio does not track cash.")


def test_a_rate_that_is_missing_is_named_and_what_needs_it_is_not_known():
    bought = buy("2024-01-01", "1", "100", "USD")
    computed = compute([bought], settings={1: Settings("EUR", tracks_cash=False)})
    [lot] = computed.ledgers[1].lots[SHARE]
    assert computed.missing_rates == {(1, "USD", noon("2024-01-01"))}
    assert (lot.cost, lot.base_cost) == (100, None)
    assert computed.ledgers[1].flows[0].base is None


def test_a_sale_in_another_currency_than_the_purchase_is_split_too():
    rates = {(1, "USD", noon("2024-01-02")): Fraction("0.8")}
    ledger = ledger_of(
        buy("2024-01-01", "1", "100", "USD", rate="0.9"), sell("2024-01-02", "1", "100", "EUR"), rates=rates
    )
    [sale] = ledger.disposals
    assert (sale.gain, sale.price_part, sale.currency_part) == (10, 20, -10)


def test_a_fee_paid_in_a_coin_disposes_of_it_at_its_price():
    ledger = ledger_of(
        buy("2024-01-01", "1", "50", asset=COIN),
        buy("2024-01-02", "1", "100", fee="8", fee_asset=COIN, fee_quantity="0.1"),
        tracks_cash=True,
    )
    [paid] = ledger.disposals
    assert (paid.asset, paid.proceeds, paid.gain) == (COIN, 8, 3)
    assert ledger.held(COIN) == Fraction("0.9")
    assert ledger.cash == {"EUR": -150}
    assert [one.base for one in ledger.fees] == [8]


def test_a_fee_paid_in_what_is_not_held_is_refused_and_nothing_is_bought():
    bought = buy("2024-01-02", "1", "100", fee="8", fee_asset=COIN, fee_quantity="0.1")
    computed = compute([bought], settings={1: Settings("EUR")})
    assert [(one.field, one.message) for one in computed.refusals] == [
        ("fee_quantity", "Only 0 is held to pay the fee from.")
    ]
    assert (computed.ledgers[1].lots, computed.ledgers[1].cash) == ({}, {})


def test_a_delivery_brings_its_cost_and_date_and_is_a_flow_at_market_value():
    delivered = made(
        "2024-03-01", Kind.DELIVERY_IN, asset=SHARE, quantity="2", amount="50", currency="EUR", acquired_at="2020-01-01"
    )
    prices = {(SHARE, noon("2024-03-01")): Price(Fraction(100), "EUR")}
    ledger = ledger_of(buy("2024-01-01", "1", "90"), delivered, prices=prices)
    assert [lot.at.date() for lot in ledger.lots[SHARE]] == [date(2020, 1, 1), date(2024, 1, 1)]
    assert ledger.flows[-1].base == 200
    assert ledger.carried == [150]


@pytest.mark.parametrize(
    ("method", "cost", "dates"),
    [(Method.FIFO, 100, [date(2024, 1, 1)]), (Method.AVERAGE, 150, [date(2024, 1, 1)])],
)
def test_a_transfer_moves_lots_with_date_cost_and_currency(method, cost, dates):
    rows = [
        buy("2024-01-01", "1", "100", "USD", rate="0.9"),
        buy("2024-01-02", "1", "200", "USD", rate="0.8"),
        made("2024-02-01", Kind.TRANSFER, asset=SHARE, quantity="1", to_portfolio=2),
    ]
    settings = {key: Settings("EUR", method, False) for key in (1, 2)}
    ledgers = compute(rows, settings=settings).ledgers
    [moved] = ledgers[2].lots[SHARE]
    assert (moved.cost, moved.currency, [moved.at.date()]) == (cost, "USD", dates)
    assert cost_of(ledgers[1]) + moved.cost == 300


def test_a_transfer_to_another_base_currency_costs_what_it_did_at_its_purchase():
    bought, moved_at = noon("2024-01-01"), noon("2024-02-01")
    rows = [
        buy("2024-01-01", "1", "100", "CHF", fee="10", rate="2"),
        made("2024-02-01", Kind.TRANSFER, asset=SHARE, quantity="1", to_portfolio=2),
    ]
    settings = {1: Settings("EUR", tracks_cash=False), 2: Settings("USD", tracks_cash=False)}
    rates = {(2, "CHF", bought): Fraction(3), (2, "EUR", moved_at): Fraction("1.1")}
    [lot] = compute(rows, settings=settings, rates=rates).ledgers[2].lots[SHARE]
    assert (lot.base_cost, lot.base_fees) == (300, 22)


def test_bonus_shares_cost_what_is_written_and_count_as_income():
    bonus = event("2024-02-01", Event.BONUS, numerator=1, denominator=10, amount="5", currency="EUR")
    ledger = ledger_of(buy("2024-01-01", "20", "200"), bonus)
    assert (ledger.held(SHARE), cost_of(ledger)) == (22, 210)
    assert [(one.kind, one.base) for one in ledger.incomes] == [("bonus", 10)]
    assert ledger.warnings == []


def test_bonus_shares_without_a_cost_come_with_a_warning():
    bonus = replace(event("2024-02-01", Event.BONUS, numerator=1, denominator=10), key=5)
    ledger = ledger_of(buy("2024-01-01", "20", "200"), bonus)
    assert cost_of(ledger) == 200
    assert ledger.warnings == [(5, "bonus_without_cost")]


def test_a_change_of_symbol_moves_everything():
    ledger = ledger_of(buy("2024-01-01", "2", "20", fee="1"), event("2024-02-01", Event.SYMBOL_CHANGE, to_asset=OTHER))
    [lot] = ledger.lots[OTHER]
    assert ledger.lots.keys() == {OTHER}
    assert (lot.quantity, lot.cost, lot.base_fees) == (2, 20, 1)


def test_a_merger_with_cash_realises_the_cost_that_does_not_move():
    paid = {"cost_share": "0.9", "amount": "30", "currency": "EUR"}
    merger = event("2024-02-01", Event.MERGER, to_asset=OTHER, numerator=1, denominator=2, **paid)
    ledger = ledger_of(buy("2024-01-01", "10", "100"), merger)
    assert (ledger.held(OTHER), cost_of(ledger, OTHER)) == (5, 90)
    assert (ledger.realised, ledger.flows[-1].base) == (20, -30)


def test_a_spin_off_moves_a_share_of_the_cost():
    spin_off = event("2024-02-01", Event.SPIN_OFF, to_asset=OTHER, numerator=1, denominator=4, cost_share="0.2")
    ledger = ledger_of(buy("2024-01-01", "10", "100"), spin_off)
    assert (ledger.held(SHARE), cost_of(ledger)) == (10, 80)
    assert (ledger.held(OTHER), cost_of(ledger, OTHER)) == (Fraction(5, 2), 20)


def test_a_return_of_capital_lowers_the_cost_and_the_rest_is_a_gain():
    bought = [buy("2024-01-01", "1", "10"), buy("2024-01-02", "1", "100")]
    ledger = ledger_of(*bought, event("2024-02-01", Event.RETURN_OF_CAPITAL, amount="40", currency="EUR"))
    assert [lot.cost for lot in ledger.lots[SHARE]] == [0, 80]
    assert ledger.realised == 10


def test_cash_for_a_fraction_sells_the_fraction():
    split = event("2024-02-01", Event.SPLIT, numerator=1, denominator=4)
    paid = event("2024-02-01", Event.FRACTION_CASH, amount="30", currency="EUR")
    ledger = ledger_of(buy("2024-01-01", "10", "100"), split, paid)
    assert (ledger.held(SHARE), cost_of(ledger), ledger.realised) == (2, 80, 10)
    assert refused(buy("2024-01-01", "10", "100"), replace(paid, key=1))[0] == "asset"


def test_an_event_on_what_is_not_held_is_refused_but_for_one_of_the_feed():
    split = event("2024-02-01", Event.SPLIT, numerator=2, denominator=1)
    assert ledger_of(split).lots == {}
    assert refused(replace(split, key=3)) == ("asset", "None of it is held on 2024-02-01.")


def test_the_feeds_event_wins_over_a_typed_one_of_that_day_and_kind():
    typed = replace(event("2024-02-01", Event.SPLIT, numerator=3, denominator=1), key=3)
    fed = event("2024-02-01", Event.SPLIT, numerator=2, denominator=1)
    other = replace(event("2024-02-02", Event.SPLIT, numerator=3, denominator=1), key=4)
    assert without_doubles([typed, other], [fed]) == [other, fed]


def test_two_equal_purchases_in_one_second_are_two():
    assert ledger_of(buy("2024-01-01", "1", "10", key=1), buy("2024-01-01", "1", "10", key=2)).held(SHARE) == 2


def test_what_is_held_over_time_is_noted():
    ledger = ledger_of(buy("2024-01-01", "2", "10"), sell("2024-01-03", "2", "10"), buy("2024-01-03", "1", "10"))
    # Purchases of a day come first.
    assert [(at.day, held) for at, _, held in ledger.quantities] == [(1, 2), (3, 3), (3, 1)]


def test_a_missing_price_or_rate_is_named_and_never_zero():
    rows = [
        buy("2024-01-01", "1", "10"),
        buy("2024-01-01", "1", "10", asset=OTHER),
        buy("2024-01-01", "1", "9", asset=COIN),
    ]
    valuation = valued(ledger_of(*rows), {SHARE: ("20", "EUR"), COIN: ("5", "BRL")})
    assert valuation.missing == [("price", OTHER), ("rate", COIN)]
    assert (valuation.value, valuation.known_value) == (None, 20)
    assert [one.gain for one in valuation.positions] == [10, None, None]


def test_a_price_in_no_currency_is_not_a_value():
    [position] = valued(ledger_of(buy("2024-01-01", "1", "10")), {SHARE: ("20", "")}).positions
    assert (position.value, position.missing) == (None, "currency")


def test_the_oldest_price_counts():
    valuation = valued(ledger_of(buy("2024-01-01", "1", "10")), {SHARE: ("20", "EUR")})
    assert valuation.oldest_at == valuation.positions[0].price.at
    assert valued(ledger_of(), {}).oldest_at is None
    assert Decimal(valued(ledger_of(), {}).value.numerator) == 0
