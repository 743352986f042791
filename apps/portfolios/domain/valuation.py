"""The value of a portfolio, and the parts that explain it. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from apps.portfolios.domain.lots import Lot, quantity_of
from apps.portfolios.domain.numbers import ZERO, Exact, less, times, total
from apps.portfolios.domain.rates import FoundRate
from apps.portfolios.domain.records import Ledger

# currency -> what 1 unit of it costs in the base currency, or None
FindRate = Callable[[str], FoundRate | None]


class Priced(NamedTuple):
    """The price of an asset that a valuation uses."""

    price: Decimal
    currency: str
    at: datetime
    provider: str = ""


class Valued(NamedTuple):
    """A position in one asset and its value. Everything but quantity, price and rate is in the base currency.

    missing: "price" where no price is known, "currency" where it is not known what the price is in, "rate" where no
    path leads from there to the base currency, or "".
    """

    asset: int
    quantity: Fraction
    price: Priced | None
    rate: FoundRate | None
    value: Fraction | None
    cost: Fraction | None
    gain: Fraction | None
    price_part: Fraction | None
    currency_part: Fraction | None
    fees: Fraction | None
    missing: str

    @property
    def gain_after_costs(self) -> Fraction | None:
        """The gain less what is left of the fees and taxes of its purchases."""
        return less(self.gain, self.fees)


class CashValue(NamedTuple):
    """A balance of one currency."""

    currency: str
    balance: Fraction
    rate: FoundRate | None
    value: Fraction | None


class Valuation(NamedTuple):
    """The worth of a portfolio. value: None where something is missing; then known_value is that of the rest."""

    positions: list[Valued]
    cash: list[CashValue]
    value: Fraction | None
    known_value: Fraction

    @property
    def oldest_at(self) -> datetime | None:
        """Time of the oldest price used, of assets and of rates."""
        used = [one.price.at for one in self.positions if one.price is not None]
        rates = [*(one.rate for one in self.positions), *(one.rate for one in self.cash)]
        used += [rate.at for rate in rates if rate is not None and rate.at is not None]
        return min(used, default=None)

    @property
    def missing(self) -> list[tuple[str, int | str]]:
        """What is missing: ("price", asset) or ("currency", asset) or ("rate", asset), or ("cash", currency)."""
        found: list[tuple[str, int | str]] = [(one.missing, one.asset) for one in self.positions if one.missing]
        return found + [("cash", one.currency) for one in self.cash if one.value is None]


class Holding(NamedTuple):
    """The sums of the lots of one asset. cost_in: currency -> cost in it; cost, fees: in the base currency, or None."""

    quantity: Fraction
    cost_in: Mapping[str, Fraction]
    cost: Fraction | None
    fees: Fraction | None


def holding_of(lots: Sequence[Lot]) -> Holding:
    """Return the sums of some lots of one asset."""
    cost_in: dict[str, Fraction] = {}
    for lot in lots:
        cost_in[lot.currency] = cost_in.get(lot.currency, ZERO) + lot.cost
    costs, fees = total(lot.base_cost for lot in lots), total(lot.base_fees for lot in lots)
    return Holding(quantity_of(lots), cost_in, costs, fees)


def value_holding(asset: int, holding: Holding, *, price: Priced | None, find_rate: FindRate) -> Valued:
    """Return what a holding is worth."""
    rate = find_rate(price.currency) if price is not None and price.currency else None
    missing = ""
    if price is None:
        missing = "price"
    elif rate is None:
        missing = "rate" if price.currency else "currency"
    each = None if price is None or rate is None else Exact.of(price.price) * rate.rate
    value = times(holding.quantity, each)
    rates = {currency: find_rate(currency) for currency in holding.cost_in}
    at_rate = total(times(cost, _rate_of(rates[currency])) for currency, cost in holding.cost_in.items())
    return Valued(
        *(asset, holding.quantity, price, rate, value, holding.cost),
        gain=less(value, holding.cost),
        price_part=less(value, at_rate),
        currency_part=less(at_rate, holding.cost),
        fees=holding.fees,
        missing=missing,
    )


def _rate_of(found: FoundRate | None) -> Fraction | None:
    return None if found is None else found.rate


def value_of(ledger: Ledger, *, prices: Mapping[int, Priced], find_rate: FindRate) -> Valuation:
    """Return the worth of what a ledger holds. prices: of the assets that have one."""
    holdings = {asset: holding_of(lots) for asset, lots in ledger.lots.items()}
    return value_holdings(holdings, ledger.cash, prices=prices, find_rate=find_rate)


def value_holdings(
    holdings: Mapping[int, Holding],
    balances: Mapping[str, Fraction],
    *,
    prices: Mapping[int, Priced],
    find_rate: FindRate,
) -> Valuation:
    """Return the worth of some holdings and balances of cash."""
    positions = [
        value_holding(asset, holding, price=prices.get(asset), find_rate=find_rate)
        for asset, holding in sorted(holdings.items())
    ]
    cash = []
    for currency, balance in sorted(balances.items()):
        if balance:
            rate = find_rate(currency)
            cash.append(CashValue(currency, balance, rate, times(balance, _rate_of(rate))))
    values = [*(one.value for one in positions), *(one.value for one in cash)]
    known = sum((value for value in values if value is not None), ZERO)
    return Valuation(positions, cash, total(values), known)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The sums of a ledger and its worth at one time, in the base currency; None where something is not known.

    unrealised: gain of what is held; carried: gain that came in or went with deliveries and transfers; cash: worth of
    the balances; booked: what moved into cash at the rates of those times.
    """

    value: Fraction | None
    flows: Fraction | None
    realised: Fraction | None
    unrealised: Fraction | None
    carried: Fraction | None
    income: Fraction | None
    fees: Fraction | None
    taxes: Fraction | None
    cash: Fraction | None
    booked: Fraction | None


def snapshot_of(ledger: Ledger, valuation: Valuation) -> Snapshot:
    """Return the sums of a ledger, valued at one time."""
    return snapshot_of_sums(ledger.sums(), valuation)


def snapshot_of_sums(sums: Mapping[str, Fraction | None], valuation: Valuation) -> Snapshot:
    """Return the sums of a ledger that was stored, valued at one time."""
    return Snapshot(
        value=valuation.value,
        unrealised=total(one.gain for one in valuation.positions),
        cash=total(one.value for one in valuation.cash),
        **sums,
    )


class Result(NamedTuple):
    """How a value became another: final − initial = flows + realised + unrealised + income − fees − taxes +
    currency_on_cash. None where something is not known."""

    initial: Fraction | None
    final: Fraction | None
    flows: Fraction | None
    realised: Fraction | None
    unrealised: Fraction | None
    income: Fraction | None
    fees: Fraction | None
    taxes: Fraction | None
    currency_on_cash: Fraction | None

    @property
    def unexplained(self) -> Fraction | None:
        """What the parts leave of the difference: 0, or None where something is not known."""
        gains = total((self.flows, self.realised, self.unrealised, self.income, self.currency_on_cash))
        return less(less(self.final, self.initial), less(less(gains, self.fees), self.taxes))


def result_between(before: Snapshot, after: Snapshot) -> Result:
    """Return what happened between two times of one portfolio."""
    change = {one.name: less(getattr(after, one.name), getattr(before, one.name)) for one in fields(Snapshot)}
    return Result(
        initial=before.value,
        final=after.value,
        flows=change["flows"],
        realised=change["realised"],
        unrealised=less(change["unrealised"], change["carried"]),
        income=change["income"],
        fees=change["fees"],
        taxes=change["taxes"],
        currency_on_cash=less(change["cash"], change["booked"]),
    )
