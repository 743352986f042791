"""Worked cases of public test suites and documentation: inputs, right values and tolerances are in cases.json."""

import json
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest

from apps.portfolios.domain.ledger import compute
from apps.portfolios.domain.records import Settings
from apps.portfolios.domain.returns import Day, daily_returns, index_of, linked, max_drawdown, volatility_of
from apps.portfolios.domain.transactions import Event, Kind, Method
from apps.portfolios.domain.valuation import result_between, snapshot_of
from apps.portfolios.domain.xirr import NoRate, NoRateReason, NotUnique, Rate, net_present_value, xirr
from tests.portfolios.making import SHARE, buy, cost_of, ledger_of, made, sell, valued

CASES = json.loads((Path(__file__).parents[1] / "cases.json").read_text())["cases"]
METHODS = {"fifo": Method.FIFO, "average": Method.AVERAGE}
WHYS = {
    "no sign change": NoRateReason.NO_SIGN_CHANGE,
    "everything lost: say -100 %, not a rate": NoRateReason.EVERYTHING_LOST,
}


def cases(kind):
    found = [one for one in CASES if one["kind"] == kind]
    return pytest.mark.parametrize("case", found, ids=[one["id"] for one in found])


def within(found, expected, case):
    return abs(Fraction(found) - Fraction(expected)) <= Fraction(case["tolerance"])


def written(text):
    """Return (amount, currency) of "USD 5000"."""
    currency, amount = text.split()
    return amount, currency


def trades_of(case):
    days = case["input"].get("dates") or [f"2010-01-0{number}" for number in range(1, 9)]
    makers = {"buy": buy, "sell": sell}
    return [makers[kind](day, *rest) for day, (kind, *rest) in zip(days, case["input"]["trades"], strict=False)]


def test_there_are_27_cases():
    assert len({one["id"] for one in CASES}) == 27


@cases("xirr_act365f")
def test_xirr(case):
    flows = [(date.fromisoformat(day), Decimal(amount)) for day, amount in case["input"]["flows"]]
    expected = case["expected"]
    answer = xirr(flows)
    if "rate" in expected:
        assert isinstance(answer, Rate)
        assert within(answer.rate, expected["rate"], case)
        assert abs(net_present_value(answer.rate, flows)) <= Decimal("1e-9") * sum(abs(one) for _, one in flows)
    elif "roots" in expected:
        assert isinstance(answer, NotUnique)
        assert len(answer.roots) == len(expected["roots"])
        assert all(within(*pair, case) for pair in zip(answer.roots, expected["roots"], strict=True))
    else:
        assert answer == NoRate(WHYS[expected["why"]])


def days_of(ledger):
    """Return the days of a portfolio of cash alone."""
    first, last = (date.fromisoformat(ledger[index][0]) for index in (0, -1))
    days, balance = [], Fraction(0)
    for number in range((last - first).days + 1):
        day = first + timedelta(number)
        moved = {kind: Fraction(0) for kind in ("deposit", "withdrawal", "interest", "fee")}
        for _, kind, amount in (one for one in ledger if one[0] == str(day)):
            moved[kind] += Fraction(amount)
        balance += moved["deposit"] - moved["withdrawal"] + moved["interest"] - moved["fee"]
        days.append(Day(day, balance, moved["deposit"], moved["withdrawal"]))
    return days


@cases("twr_daily")
def test_daily_returns(case):
    returns = daily_returns(days_of(case["input"]["ledger"]))
    rates = [one.rate for one in returns]
    cumulative = dict(zip((str(one.day) for one in returns), (index - 1 for index in index_of(rates)), strict=True))
    expected = case["expected"]
    pairs = list(zip(rates, expected.get("daily", []), strict=False))
    pairs += zip(cumulative.values(), expected.get("cumulative", []), strict=False)
    pairs += [(cumulative[key[-10:]], value) for key, value in expected.items() if key.startswith("cumulative_on_")]
    assert len(pairs) in (2, 18)
    assert all(within(*pair, case) for pair in pairs)


@cases("twr_linked")
def test_sub_periods_are_linked(case):
    prices = [(date.fromisoformat(day), Fraction(price)) for day, price in case["input"]["prices"]]

    def price_on(day):
        return max((one for one in prices if one[0] <= day), default=(None, prices[0][1]))[1]

    days, units = [], Fraction(0)
    bought = {date.fromisoformat(day): Fraction(number) for day, number in case["input"]["units"]}
    for number in range((date(2019, 12, 31) - date(2018, 7, 1)).days + 1):
        day = date(2018, 7, 1) + timedelta(number)
        units += bought.get(day, 0)
        # Bought at the last price known at the start of that day.
        days.append(Day(day, units * price_on(day), bought.get(day, 0) * price_on(day - timedelta(1))))
    returns = daily_returns(days)
    parts = {
        "H1_2019": linked(one.rate for one in returns if date(2019, 1, 1) <= one.day <= date(2019, 6, 30)),
        "H2_2019": linked(one.rate for one in returns if date(2019, 7, 1) <= one.day),
        "year_2019": linked(one.rate for one in returns if date(2019, 1, 1) <= one.day),
    }
    assert all(within(parts[name], value, case) for name, value in case["expected"].items())


@cases("lots")
def test_lots(case):
    for method, expected in case["expected"].items():
        ledger = ledger_of(*trades_of(case), method=METHODS[method])
        found = {"cost": cost_of(ledger), "realised": ledger.realised, "quantity": ledger.held(SHARE)}
        if "price_now" in case["input"]:
            found["unrealised"] = valued(ledger, {SHARE: (case["input"]["price_now"], "EUR")}).positions[0].gain
        assert all(within(found[name], value, case) for name, value in expected.items())


@cases("lots_fx")
def test_lots_with_currencies(case):
    given = case["input"]

    def rate(amounts):
        return str(Decimal(written(amounts[1])[0]) / Decimal(written(amounts[0])[0]))

    trades = [buy(day, quantity, *written(usd), rate=rate((usd, eur))) for day, quantity, usd, eur in given["buys"]]
    day, quantity, usd, eur = given["sell"]
    trades.append(sell(day, quantity, *written(usd), rate=rate((usd, eur))))
    for method, expected in case["expected"].items():
        ledger = ledger_of(*trades, method=METHODS[method])
        [position] = valued(
            ledger, {SHARE: written(given["price_now"])}, {"USD": str(1 / Fraction(given["eurusd_now"]))}
        ).positions
        found = {
            "realised": ledger.realised,
            "realised_fx_part": sum(one.currency_part for one in ledger.disposals),
            "unrealised": position.gain,
            "unrealised_fx_part": position.currency_part,
        }
        assert all(within(found[name], value, case) for name, value in expected.items())


@cases("fees")
def test_fees(case):
    makers = {"BUY": buy, "SELL": sell}
    trades = []
    for day, kind, quantity, price, fee in case["input"]["trades"]:
        amount = str(Decimal(quantity) * Decimal(price))
        trades.append(makers[kind](day, quantity, amount, "CHF", fee=fee.split()[1]))
    ledger = ledger_of(*trades, base="CHF")
    valuation = valued(ledger, {SHARE: (case["input"].get("price_now", "1"), "CHF")})
    unrealised = sum((one.gain for one in valuation.positions), Fraction(0))
    fees = sum(one.base for one in ledger.fees)
    gross = ledger.realised + unrealised
    after = sum(one.gain - one.fees for one in ledger.disposals) + sum(
        one.gain_after_costs for one in valuation.positions
    )
    found = {"gross": gross, "fees": fees, "net": gross - fees, "cost_left": cost_of(ledger), "value": valuation.value}
    found["net_pct_on_285.8"] = (gross - fees) / Fraction("285.8")
    if ledger.held(SHARE):
        found["average_price_without_fees"] = cost_of(ledger) / ledger.held(SHARE)
    assert after == gross - fees
    assert all(within(found[name], value, case) for name, value in case["expected"].items())


@cases("fx_position")
def test_a_position_in_another_currency(case):
    day, quantity, price, fee, rate = case["input"]["buy"]
    amount, currency = written(price)
    fee = written(fee.removeprefix("fee "))[0]
    ledger = ledger_of(buy(day, quantity, amount, currency, fee=fee, rate=rate.split()[1]), base="CHF")
    _, now, rate_now = case["input"]["now"]
    [position] = valued(ledger, {SHARE: written(now)}, {"USD": rate_now.split()[1]}).positions
    found = {
        "value": position.value,
        "cost_at_day_rate": position.cost,
        "gain": position.gain,
        "fee": position.fees,
        "net": position.gain_after_costs,
        "price_part": position.price_part,
        "fx_part": position.currency_part,
    }
    assert {name: found[name] for name in case["expected"]} == {
        name: Fraction(value) for name, value in case["expected"].items()
    }


@cases("split")
def test_splits(case):
    def amount(quantity, price):
        return str(Decimal(quantity) * Decimal(price))

    day, quantity, price = case["input"]["buy"]
    split_day, ratio = case["input"]["split"]
    numerator, denominator = map(int, ratio.split(":"))
    trades = [buy(day, quantity, amount(quantity, price))]
    trades.append(
        made(split_day, Kind.EVENT, event=Event.SPLIT, asset=SHARE, numerator=numerator, denominator=denominator)
    )
    if "sell" in case["input"]:
        _, quantity, price = case["input"]["sell"]
        trades.append(sell(split_day, quantity, amount(quantity, price)))
    ledger = ledger_of(*trades)
    found = {"quantity": ledger.held(SHARE), "cost": cost_of(ledger), "realised": ledger.realised}
    found["average_price"] = found["cost"] / found["quantity"]
    assert {name: found[name] for name in case["expected"]} == {
        name: Fraction(value) for name, value in case["expected"].items()
    }


@cases("period_result")
def test_the_result_of_a_period(case):
    given = case["input"]

    def bought(day, quantity, price):
        return buy(day, quantity, str(Decimal(quantity) * Decimal(price)))

    before = ledger_of(bought(*given["buy"]))
    day, quantity, price = given["sell"]
    after = ledger_of(bought(*given["buy"]), sell(day, quantity, str(Decimal(quantity) * Decimal(price))))
    prices = dict(given["prices"])
    result = result_between(
        snapshot_of(before, valued(before, {SHARE: (prices["2010-12-31"], "EUR")})),
        snapshot_of(after, valued(after, {SHARE: (prices["2011-06-01"], "EUR")})),
    )
    found = {"initial": result.initial, "unrealised_gain": result.unrealised}
    found |= {"realised_gain": result.realised, "final": result.final}
    assert found == {name: Fraction(value) for name, value in case["expected"].items()}
    assert result.unexplained == 0


@cases("volatility")
def test_volatility(case):
    days = [date(2024, 1, 1) + timedelta(number) for number in range(9)]
    weekdays = [day for day in days if day.weekday() < 5]
    fractions = [Fraction(one) for one in case["input"]["returns"]]
    # Of an index of these returns, with two days at the weekend on which nothing moves.
    values, value = [], Fraction(1)
    rates = dict(zip(weekdays, fractions, strict=False))
    for day in days[: days.index(weekdays[len(fractions) - 1]) + 1]:
        value *= 1 + rates.get(day, 0)
        values.append(Day(day, value))
    found = volatility_of(daily_returns(values, start=Fraction(1)))
    expected = case["expected"]
    assert within(found.daily, expected["sd_of_log_returns_n_minus_1"], case)
    assert within(found.period, expected["times_sqrt_n"], case)
    assert within(found.yearly, expected["times_sqrt_252"], case)


@cases("max_drawdown")
def test_max_drawdown(case):
    index = [1 + Decimal(one) for one in case["input"]["cumulative_returns"]]
    assert max_drawdown(index).part == Decimal(case["expected"]["max_drawdown"])


@cases("refused")
def test_a_short_sale_is_refused(case):
    [[day, _, quantity, amount]] = case["input"]["trades"]
    computed = compute([sell(day, quantity, amount, key=7)], settings={1: Settings("EUR")})
    [refusal] = computed.refusals
    assert (refusal.key, refusal.field) == (7, "quantity")
    assert refusal.message == "Only 0 is held on 2021-12-12, so 1 cannot leave."
    assert computed.ledgers[1].disposals == []
