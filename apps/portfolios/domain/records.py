"""The inputs and results of the computation of portfolios. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from typing import NamedTuple

from apps.portfolios.domain.lots import Lot
from apps.portfolios.domain.numbers import ZERO, less, total
from apps.portfolios.domain.transactions import Method, Refusal

# (portfolio, currency, at) -> what 1 unit cost in the portfolio's base currency
Rates = Mapping[tuple[int, str, datetime], Fraction]


class Price(NamedTuple):
    """The price of one unit of an asset."""

    amount: Fraction
    currency: str


# (asset, at) -> its price then
Prices = Mapping[tuple[int, datetime], Price]


@dataclass(frozen=True, slots=True)
class Settings:
    """How a portfolio is computed."""

    base: str
    method: Method = Method.FIFO
    tracks_cash: bool = True


class Flow(NamedTuple):
    """Money or assets that came from outside (above 0) or went there, in the base currency; None: not known."""

    at: datetime
    base: Fraction | None
    key: int


class AssetFlow(NamedTuple):
    """Money that was put into an asset (above 0) or came out of it, income too, after fees and taxes, in the base
    currency; None: not known.

    is_cost: a fee or a tax for the asset that is no part of a trade; priced, quantity: where an event moved it from or
    to another asset, no money says what it was worth: so much of that asset at the price of the day.
    """

    at: datetime
    asset: int
    base: Fraction | None
    is_cost: bool = False
    priced: int | None = None
    quantity: Fraction = ZERO


class Disposal(NamedTuple):
    """The result of one transaction for one lot or a part of it. Everything but `proceeds` and `cost` is in the base
    currency, and None where a rate is missing.

    quantity: 0 for a return of capital; price_part: gain in the lot's currency at the rate of the sale; currency_part:
    cost · (rate at the sale − rate at purchase); fees: fees and taxes of the purchase and of the sale.
    """

    key: int
    at: datetime
    asset: int
    quantity: Fraction
    bought_at: datetime
    proceeds: Fraction
    currency: str
    cost: Fraction
    cost_currency: str
    base_proceeds: Fraction | None
    base_cost: Fraction | None
    gain: Fraction | None
    price_part: Fraction | None
    currency_part: Fraction | None
    fees: Fraction | None

    @property
    def gain_after_costs(self) -> Fraction | None:
        """The gain less fees and taxes."""
        return less(self.gain, self.fees)


class Item(NamedTuple):
    """One income, fee or tax. kind: the transaction's, or "bonus" for bonus shares that were given at a cost."""

    key: int
    at: datetime
    kind: str
    asset: int | None
    amount: Fraction
    currency: str
    base: Fraction | None


@dataclass
class Ledger:
    """The positions, cash and totals of one portfolio.

    holdings: asset -> quantity of its lots; cash: currency -> balance; booked: what moved into cash, each at the rate
    of its own time, without conversions; carried: gain that came in or went with deliveries and transfers, so that it
    was not made here; quantities: (at, asset, quantity) after each change; balances: the same of cash; warnings: (key,
    code).
    """

    settings: Settings
    lots: dict[int, list[Lot]] = field(default_factory=dict)
    holdings: dict[int, Fraction] = field(default_factory=dict)
    cash: dict[str, Fraction] = field(default_factory=dict)
    flows: list[Flow] = field(default_factory=list)
    asset_flows: list[AssetFlow] = field(default_factory=list)
    disposals: list[Disposal] = field(default_factory=list)
    incomes: list[Item] = field(default_factory=list)
    fees: list[Item] = field(default_factory=list)
    taxes: list[Item] = field(default_factory=list)
    booked: list[Fraction | None] = field(default_factory=list)
    carried: list[Fraction | None] = field(default_factory=list)
    quantities: list[tuple[datetime, int, Fraction]] = field(default_factory=list)
    balances: list[tuple[datetime, str, Fraction]] = field(default_factory=list)
    warnings: list[tuple[int, str]] = field(default_factory=list)

    def held(self, asset: int) -> Fraction:
        """Return how much of an asset is held at the end."""
        return self.holdings.get(asset, ZERO)

    @property
    def realised(self) -> Fraction | None:
        """Gain of what was sold, before fees and taxes, in the base currency."""
        return total(one.gain for one in self.disposals)

    def sums(self) -> dict[str, Fraction | None]:
        """Return the sums of everything that came in, went and was gained, by name, in the base currency."""
        return {
            "flows": total(one.base for one in self.flows),
            "realised": self.realised,
            "carried": total(self.carried),
            "income": total(one.base for one in self.incomes),
            "fees": total(one.base for one in self.fees),
            "taxes": total(one.base for one in self.taxes),
            "booked": total(self.booked),
        }


@dataclass
class Computed:
    """Ledgers by portfolio, what was refused, and which rates and prices were looked for and not given."""

    ledgers: dict[int, Ledger]
    refusals: list[Refusal] = field(default_factory=list)
    missing_rates: set[tuple[int, str, datetime]] = field(default_factory=set)
    missing_prices: set[tuple[int, datetime]] = field(default_factory=set)
