"""What a portfolio is worth, and how its value came about. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from apps.portfolios.domain.lots import Lot, quantity_of
from apps.portfolios.domain.numbers import less, times, total
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


class LotValue(NamedTuple):
    """What one lot has gained, in the base currency; None where a price or a rate is missing."""

    lot: Lot
    value: Fraction | None
    gain: Fraction | None
    price_part: Fraction | None
    currency_part: Fraction | None


class Valued(NamedTuple):
    """What is held of one asset, and what it is worth. Everything but quantity, price and rate is in the base currency.

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
    lots: tuple[LotValue, ...]
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


def value_position(asset: int, lots: list[Lot], *, price: Priced | None, find_rate: FindRate) -> Valued:
    """Return what the lots of one asset are worth."""
    quantity = quantity_of(lots)
    rate = find_rate(price.currency) if price is not None and price.currency else None
    missing = ""
    if price is None:
        missing = "price"
    elif rate is None:
        missing = "rate" if price.currency else "currency"
    each = None if price is None or rate is None else Fraction(price.price) * rate.rate
    values = []
    for lot in lots:
        value = times(lot.quantity, each)
        found = find_rate(lot.currency)
        at_rate = times(lot.cost, found.rate if found is not None else None)
        gain = less(value, lot.base_cost)
        values.append(LotValue(lot, value, gain, less(value, at_rate), less(at_rate, lot.base_cost)))
    return Valued(
        *(asset, quantity, price, rate, times(quantity, each)),
        cost=total(lot.base_cost for lot in lots),
        gain=total(one.gain for one in values),
        price_part=total(one.price_part for one in values),
        currency_part=total(one.currency_part for one in values),
        fees=total(lot.base_fees for lot in lots),
        lots=tuple(values),
        missing=missing,
    )


def value_of(ledger: Ledger, *, prices: Mapping[int, Priced], find_rate: FindRate) -> Valuation:
    """Return the worth of what a ledger holds. prices: of the assets that have one."""
    positions = [
        value_position(asset, lots, price=prices.get(asset), find_rate=find_rate)
        for asset, lots in sorted(ledger.lots.items())
    ]
    cash = []
    for currency, balance in sorted(ledger.cash.items()):
        if balance:
            rate = find_rate(currency)
            cash.append(CashValue(currency, balance, rate, times(balance, rate.rate if rate is not None else None)))
    values = [*(one.value for one in positions), *(one.value for one in cash)]
    known = sum((value for value in values if value is not None), Fraction(0))
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
    return Snapshot(
        value=valuation.value,
        flows=total(one.base for one in ledger.flows),
        realised=ledger.realised,
        unrealised=total(one.gain for one in valuation.positions),
        carried=total(ledger.carried),
        income=total(one.base for one in ledger.incomes),
        fees=total(one.base for one in ledger.fees),
        taxes=total(one.base for one in ledger.taxes),
        cash=total(one.value for one in valuation.cash),
        booked=total(ledger.booked),
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
