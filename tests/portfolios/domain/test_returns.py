"""Rates and returns beside the worked cases."""

from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest

from apps.portfolios.domain.rates import Pair, RateTable
from apps.portfolios.domain.returns import (
    Day,
    DayReturn,
    ReturnUnknown,
    daily_returns,
    linked,
    percent_of,
    real_return,
    volatility_of,
)
from apps.portfolios.domain.xirr import NoRate, NoRateReason, Rate, over_days, xirr
from tests.portfolios.making import noon

START = date(2024, 1, 1)


def pair(symbol, base, currency, price, day="2024-01-01"):
    return Pair(symbol, base, currency, Decimal(price), noon(day))


def test_a_rate_is_direct_before_inverse_before_two_legs():
    table = RateTable(
        [
            pair("A", "USD", "BRL", "5"),
            pair("B", "BRL", "USD", "0.21"),
            pair("C", "EUR", "USD", "1.25", "2024-01-02"),
            pair("D", "BTC", "USD", "50000"),
        ]
    )
    assert table.find("USD", "BRL").rate == 5
    assert table.find("USD", "EUR").rate == Fraction("0.8")
    found = table.find("EUR", "BRL")
    assert (found.rate, [(leg.pair.symbol, leg.inverse) for leg in found.legs]) == (
        Fraction("6.25"),
        [("C", False), ("A", False)],
    )
    assert found.at == noon("2024-01-01")
    assert table.find("BTC", "EUR").rate == 40_000
    assert table.find("CHF", "EUR") is None
    assert (table.find("CHF", "CHF").rate, table.find("CHF", "CHF").at) == (1, None)


def test_euros_come_before_dollars_in_between():
    table = RateTable(
        [
            pair("A", "CHF", "USD", "1"),
            pair("B", "USD", "BRL", "5"),
            pair("C", "CHF", "EUR", "1"),
            pair("D", "EUR", "BRL", "6"),
        ]
    )
    assert table.find("CHF", "BRL").rate == 6


def test_the_newest_price_of_a_pair_counts_and_none_that_is_not_above_0():
    pairs = [
        pair("A", "USD", "BRL", "5"),
        pair("B", "USD", "BRL", "6", "2024-01-02"),
        pair("C", "USD", "BRL", "0", "2024-01-03"),
    ]
    assert RateTable(pairs).find("USD", "BRL").rate == 6
    assert RateTable(reversed(pairs)).find("USD", "BRL").rate == 6


def test_a_rate_has_34_digits():
    assert RateTable([pair("A", "EUR", "USD", "3")]).find("USD", "EUR").rate == Fraction("0." + "3" * 34)


def test_a_day_that_begins_at_nothing_without_an_inflow_gave_nothing():
    returns = daily_returns([Day(START, Fraction(0)), Day(START + timedelta(1), Fraction(110), Fraction(100))])
    assert [one.rate for one in returns] == [0, Decimal("0.1")]


@pytest.mark.parametrize(
    ("days", "reason"),
    [
        ([Day(START, None)], "unknown_value"),
        ([Day(START, Fraction(1), None)], "unknown_value"),
        ([Day(START, Fraction(-1), Fraction(1)), Day(START + timedelta(1), Fraction(1))], "negative_start"),
    ],
)
def test_a_day_without_an_answer_is_named(days, reason):
    with pytest.raises(ReturnUnknown) as error:
        daily_returns(days)
    assert (error.value.reason, error.value.day) == (reason, days[-1].day)


def test_no_days_have_no_return():
    with pytest.raises(ReturnUnknown) as error:
        linked([])
    assert error.value.reason == "no_days"


def test_a_weekend_on_which_something_moved_counts():
    def days(*rates):
        return [DayReturn(START + timedelta(number), Decimal(rate)) for number, rate in enumerate(rates)]

    week = ["0.01", "-0.01", "0.01", "-0.01", "0.01"]
    assert volatility_of(days(*week, "0", "0")) == volatility_of(days(*week))
    assert volatility_of(days(*week, "0.02", "0")) == volatility_of(days(*week, "0.02"))
    assert volatility_of(days("0.01")) is None
    assert volatility_of(days("0.01", "-1")) is None


def test_flows_of_one_day_or_none_have_no_rate():
    assert xirr([]) == NoRate(NoRateReason.NO_FLOWS)
    assert xirr([(START, Decimal(-1)), (START, Decimal(2))]) == NoRate(NoRateReason.ONE_DAY)


def test_flows_that_change_sign_without_a_root_have_no_rate():
    year = timedelta(365)
    flows = [(START, Decimal(-10)), (START + year, Decimal(10)), (START + 2 * year, Decimal(-10))]
    assert xirr(flows) == NoRate(NoRateReason.NO_ROOT)


def test_a_rate_of_0_is_a_rate():
    assert xirr([(START, Decimal(-10)), (START + timedelta(9), Decimal(10))]) == Rate(Decimal(0))


def test_half_lost_in_a_day_is_a_rate_and_over_that_day_a_half():
    answer = xirr([(START, Decimal(-10)), (START + timedelta(1), Decimal(5))])
    assert -1 < answer.rate < Decimal("-0.999")
    assert abs(over_days(answer.rate, 1) + Decimal("0.5")) < Decimal("1e-12")


def test_a_return_beside_a_benchmark_and_after_inflation():
    assert percent_of(Decimal("0.06"), Decimal("0.12")) == Decimal("0.5")
    assert percent_of(Decimal("0.06"), Decimal(0)) is None
    assert percent_of(Decimal("0.06"), Decimal("-0.01")) is None
    assert real_return(Decimal("0.21"), Decimal("0.1")) == Decimal("0.1")
    assert real_return(Decimal("-0.1"), Decimal("-0.1")) == 0
