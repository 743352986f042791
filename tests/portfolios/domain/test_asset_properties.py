"""The flows and the time-weighted return of one asset, on random portfolios, beside a computation by brute force.

The brute force knows neither lots nor costs of lots. Day by day it keeps how much is held of each asset, and what each
kind of transaction is documented to put into an asset, or to take out of it.
"""

from collections import defaultdict
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from apps.portfolios.domain.ledger import compute
from apps.portfolios.domain.records import Settings
from apps.portfolios.domain.returns import Day, daily_returns, linked, with_flows
from apps.portfolios.domain.transactions import Event, Kind, Method, Transaction, refusals_of
from tests.portfolios.domain.drawn import (
    ASSET_CURRENCY,
    CURRENCIES,
    DAYS,
    FIRST,
    TIMES,
    World,
    assets,
    currencies,
    daily_prices,
    euros,
    keyed,
    numbers,
    transactions,
)
from tests.portfolios.making import NOW

MOVING = (Kind.BUY, Kind.DELIVERY_IN, Kind.SELL, Kind.DELIVERY_OUT, Kind.TRANSFER)
FIRST_PURCHASES = [
    Transaction(
        *(portfolio, Kind.BUY, TIMES[0]),
        has_time=False,
        asset=asset,
        quantity=Decimal("150.5"),
        amount=Decimal(100),
        currency="EUR",
    )
    for portfolio in (1, 2)
    for asset in ASSET_CURRENCY
]


def of_assets(portfolios, *, tracks_cash):
    """Draw a transaction; of those that few others have, enough to be there."""
    known = {"portfolio": st.sampled_from(portfolios), "at": st.sampled_from(TIMES), "has_time": st.just(False)}
    known["asset"] = assets
    costs = {"kind": st.sampled_from([Kind.FEE, Kind.TAX]), "amount": numbers, "currency": currencies}
    renaming = {"kind": st.just(Kind.EVENT), "event": st.just(Event.SYMBOL_CHANGE), "to_asset": assets}
    ours = st.one_of(*(st.builds(Transaction, **known, **one) for one in (costs, renaming))).filter(
        lambda one: not refusals_of(one, tracks_cash=tracks_cash, currencies=CURRENCIES, now=NOW)
    )
    return st.one_of(*[transactions(portfolios, tracks_cash)] * 3, ours)


class Money:
    """What went into one asset at the start of a day, and out of it at its end."""

    def __init__(self):
        self.into, self.out_of = Fraction(0), Fraction(0)

    def trade(self, put):
        if put > 0:
            self.into += put
        else:
            self.out_of -= put


class Brute:
    """One portfolio, day by day. held: asset -> quantity; ends: day -> asset -> quantity at its end; money: (day,
    asset) -> what went in and out."""

    def __init__(self, key, base, world):
        self.key, self.base, self.world, self.prices = key, base, world, world.prices()
        self.held = defaultdict(Fraction)
        self.ends, self.money = [], defaultdict(Money)

    def worth(self, day, asset, quantity):
        price = self.prices[asset, TIMES[day]]
        return quantity * price.amount * self.world.rate(price.currency, self.base, day)

    def in_base(self, day, amount, currency):
        return Fraction(amount or 0) * self.world.rate(currency or self.base, self.base, day)

    def run(self, rows):
        for day, at in enumerate(TIMES):
            today = [one for one in rows if one.at == at]
            # At most one event a day.
            for one in sorted(today, key=lambda one: one.kind is not Kind.EVENT):
                if one.kind is Kind.EVENT:
                    if one.portfolio == self.key:
                        self.event(day, one)
                elif one.portfolio == self.key:
                    self.enter(day, one)
                elif one.to_portfolio == self.key:
                    self.held[one.asset] += Fraction(one.quantity)
                    self.money[day, one.asset].trade(self.worth(day, one.asset, Fraction(one.quantity)))
            self.ends.append(dict(self.held))

    def enter(self, day, one):
        fee = self.in_base(day, one.fee, one.fee_currency or one.currency)
        costs = fee + self.in_base(day, one.tax, one.tax_currency or one.currency)
        amount = self.in_base(day, one.amount, one.currency)
        if one.fee_asset is not None:
            self.held[one.fee_asset] -= Fraction(one.fee_quantity)
            self.money[day, one.fee_asset].trade(-fee)
        if one.kind in MOVING:
            sign = 1 if one.kind in (Kind.BUY, Kind.DELIVERY_IN) else -1
            self.held[one.asset] += sign * Fraction(one.quantity)
        if one.asset is None:
            return
        money = self.money[day, one.asset]
        if one.kind is Kind.BUY:
            money.trade(amount + costs)
        elif one.kind in (Kind.SELL, Kind.DIVIDEND, Kind.INTEREST):
            money.trade(costs - amount)
        elif one.kind in (Kind.FEE, Kind.TAX):
            money.out_of -= amount
        else:
            money.trade(sign * self.worth(day, one.asset, Fraction(one.quantity)))
            money.out_of -= costs

    def event(self, day, one):
        held, ratio = self.held[one.asset], Fraction(one.numerator or 1, one.denominator or 1)
        if one.event is Event.SPLIT:
            self.held[one.asset] = held * ratio
        elif one.event is Event.BONUS:
            self.held[one.asset] = held * (1 + ratio)
        elif one.event in (Event.SYMBOL_CHANGE, Event.MERGER):
            self.money[day, one.asset].out_of += self.worth(day, one.asset, held)
            self.money[day, one.to_asset].into += self.worth(day, one.to_asset, held * ratio)
            self.held[one.asset] = Fraction(0)
            self.held[one.to_asset] += held * ratio
        elif one.event is Event.SPIN_OFF:
            given = self.worth(day, one.to_asset, held * ratio)
            self.money[day, one.asset].out_of += given
            self.money[day, one.to_asset].into += given
            self.held[one.to_asset] += held * ratio
        else:
            self.money[day, one.asset].out_of += self.in_base(day, one.amount, one.currency)
            if one.event is Event.FRACTION_CASH:
                self.held[one.asset] = Fraction(held.numerator // held.denominator)

    def days_of(self, asset):
        """Return (value, inflow, outflow) of each day."""
        return [
            (
                self.worth(day, asset, ends.get(asset, Fraction(0))),
                self.money[day, asset].into,
                self.money[day, asset].out_of,
            )
            for day, ends in enumerate(self.ends)
        ]

    def growth_of(self, asset):
        """Return what 1 that was put in became."""
        growth, before = Fraction(1), Fraction(0)
        for value, into, out_of in self.days_of(asset):
            if before + into:
                growth *= (value + out_of) / (before + into)
            before = value
        return growth


def accepted(drawn, **known):
    """Return those of the drawn transactions that can be together, with at most one event of a portfolio and a day, and
    what they come to."""
    events, rows = set(), []
    for one in drawn:
        if one.kind is not Kind.EVENT or (one.portfolio, one.at) not in events:
            rows.append(one)
        if one.kind is Kind.EVENT:
            events.add((one.portfolio, one.at))
    rows = keyed(rows)
    computed = compute(rows, **known)
    while computed.refusals:
        refused = {one.key for one in computed.refusals}
        rows = [one for one in rows if one.key not in refused]
        computed = compute(rows, **known)
    return rows, computed


def days_of(ledger, brute, asset):
    """Return the days of one asset as pages compute them: by the quantities and flows of the ledger."""
    ends = {}
    for at, key, held in ledger.quantities:
        if key == asset:
            ends[TIMES.index(at)] = held
    held, days = Fraction(0), [Day(FIRST - timedelta(1), Fraction(0))]
    for number in range(DAYS):
        held = ends.get(number, held)
        days.append(Day(FIRST + timedelta(number), brute.worth(number, asset, held)))
    flows = [one for one in ledger.asset_flows if one.asset == asset]
    return with_flows(days, flows, worth_on=lambda day, *what: brute.worth((day - FIRST).days, *what))[1:]


@settings(max_examples=100)
@given(
    data=st.data(),
    tracks_cash=st.booleans(),
    method=st.sampled_from(Method),
    bases=st.fixed_dictionaries({1: currencies, 2: currencies}),
    world=st.builds(World, euros, daily_prices),
)
def test_flows_and_return_of_each_asset_are_those_of_brute_force(data, tracks_cash, method, bases, world):
    drawn = data.draw(st.lists(of_assets((1, 2), tracks_cash=tracks_cash), min_size=10, max_size=25))
    if data.draw(st.booleans()):
        # Of most kinds something has to be held.
        drawn = [*FIRST_PURCHASES, *drawn]
    known = {"settings": {key: Settings(base, method, tracks_cash) for key, base in bases.items()}}
    rows, computed = accepted(drawn, **known, rates=world.rates(bases), prices=world.prices())

    assert (computed.missing_rates, computed.missing_prices) == (set(), set())
    for key, base in bases.items():
        brute = Brute(key, base, world)
        brute.run(rows)
        for asset in ASSET_CURRENCY:
            days = days_of(computed.ledgers[key], brute, asset)
            assert [(one.value, one.inflow, one.outflow) for one in days] == brute.days_of(asset)
            growth, expected = 1 + Fraction(linked(one.rate for one in daily_returns(days))), brute.growth_of(asset)
            assert abs(growth - expected) <= Fraction("1e-60") * abs(expected)
