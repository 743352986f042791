"""Random transactions that are right by themselves, and random rates and prices of the days on which they are."""

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction

from hypothesis import strategies as st

from apps.portfolios.domain.rates import FoundRate
from apps.portfolios.domain.records import Price
from apps.portfolios.domain.transactions import Event, Kind, Transaction, refusals_of
from apps.portfolios.domain.valuation import Priced, snapshot_of, value_of
from tests.portfolios.making import COIN, NOW, OTHER, SHARE, noon

CURRENCIES = ("EUR", "USD", "CHF")
FIRST, DAYS = date(2024, 1, 1), 12
TIMES = [noon(FIRST + timedelta(number)) for number in range(DAYS)]
ASSET_CURRENCY = {SHARE: "EUR", OTHER: "USD", COIN: "CHF"}

numbers = st.decimals(min_value="0.01", max_value="5000", places=2)
quantities = st.decimals(min_value="0.001", max_value="100", places=3)
assets = st.sampled_from([SHARE, OTHER, COIN])
currencies = st.sampled_from(CURRENCIES)
small = st.integers(1, 9)
costs = st.fixed_dictionaries(
    {}, optional={"fee": numbers, "fee_currency": currencies, "tax": numbers, "tax_currency": currencies}
)


def transactions(portfolios=(1,), tracks_cash=True):
    """Draw a transaction that is right by itself."""

    def of(kind, *, extra=None, **fields):
        known = {"portfolio": st.sampled_from(portfolios), "at": st.sampled_from(TIMES), "has_time": st.just(False)}
        drawn = st.fixed_dictionaries(known | fields)
        return st.builds(
            lambda one, more: Transaction(kind=kind, **one, **more), drawn, st.just({}) if extra is None else extra
        )

    money = {"amount": numbers, "currency": currencies}
    traded = {"asset": assets, "quantity": quantities, **money}
    ratio = {"asset": assets, "numerator": small, "denominator": small}
    kinds = [
        *(of(Kind.BUY, extra=costs, **traded) for _ in range(4)),
        *(of(Kind.SELL, extra=costs, **traded) for _ in range(2)),
        of(Kind.BUY, fee=numbers, fee_asset=assets, fee_quantity=quantities, **traded),
        of(Kind.DIVIDEND, extra=costs, asset=assets, **money),
        of(Kind.INTEREST, extra=costs, **money),
        of(Kind.FEE, **money),
        of(Kind.TAX, **money),
        of(Kind.DELIVERY_IN, extra=costs, acquired_at=st.just(TIMES[0]), **traded),
        of(Kind.DELIVERY_OUT, asset=assets, quantity=quantities),
        of(Kind.EVENT, event=st.just(Event.SPLIT), **ratio),
        of(Kind.EVENT, event=st.just(Event.BONUS), **ratio, **money),
        of(Kind.EVENT, event=st.just(Event.SPIN_OFF), to_asset=assets, cost_share=st.just(Decimal("0.3")), **ratio),
        of(
            Kind.EVENT,
            event=st.just(Event.MERGER),
            to_asset=assets,
            cost_share=st.just(Decimal("0.9")),
            **ratio,
            **money,
        ),
        of(Kind.EVENT, event=st.just(Event.RETURN_OF_CAPITAL), asset=assets, **money),
        of(Kind.EVENT, event=st.just(Event.FRACTION_CASH), asset=assets, **money),
    ]
    if tracks_cash:
        converted = {"counter_amount": numbers, "counter_currency": currencies}
        kinds += [of(Kind.DEPOSIT, extra=costs, **money), of(Kind.WITHDRAWAL, extra=costs, **money)]
        kinds.append(of(Kind.CONVERSION, **money, **converted))
    if len(portfolios) > 1:
        moved = {"asset": assets, "quantity": quantities}
        kinds += [of(Kind.TRANSFER, to_portfolio=st.sampled_from(portfolios), **moved) for _ in range(3)]

    def is_right(one):
        return not refusals_of(one, tracks_cash=tracks_cash, currencies=CURRENCIES, now=NOW)

    return st.one_of(kinds).filter(is_right)


def keyed(drawn):
    return [replace(one, key=number) for number, one in enumerate(drawn, start=1)]


# 1 unit costs so many euros, on each day another number.
euros = st.fixed_dictionaries(
    {one: st.lists(st.fractions("0.25", 4, max_denominator=20), min_size=DAYS, max_size=DAYS) for one in ("USD", "CHF")}
)
daily_prices = st.fixed_dictionaries(
    {one: st.lists(st.integers(1, 900), min_size=DAYS, max_size=DAYS) for one in ASSET_CURRENCY}
)


class World:
    """Rates and prices of every day."""

    def __init__(self, euros, prices):
        self._euros, self._prices = euros | {"EUR": [Fraction(1)] * DAYS}, prices

    def rate(self, currency, base, day):
        return self._euros[currency][day] / self._euros[base][day]

    def rates(self, bases):
        found = {}
        for portfolio, base in bases.items():
            for currency in CURRENCIES:
                found |= {(portfolio, currency, at): self.rate(currency, base, day) for day, at in enumerate(TIMES)}
        return found

    def prices(self):
        return {
            (asset, at): Price(Fraction(self._prices[asset][day]), currency)
            for asset, currency in ASSET_CURRENCY.items()
            for day, at in enumerate(TIMES)
        }

    def snapshot(self, ledger, day):
        base, at = ledger.settings.base, TIMES[day]
        prices = {
            asset: Priced(Decimal(self._prices[asset][day]), currency, at) for asset, currency in ASSET_CURRENCY.items()
        }
        return snapshot_of(
            ledger,
            value_of(ledger, prices=prices, find_rate=lambda currency: FoundRate(self.rate(currency, base, day))),
        )
