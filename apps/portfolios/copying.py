"""The stored copy of what a portfolio's transactions come to: made of a ledger, written, read, and compared."""

from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

from apps.notation import write_number
from apps.portfolios.domain.lots import Lot
from apps.portfolios.domain.numbers import to_decimal, total
from apps.portfolios.domain.records import Computed, Item
from apps.portfolios.domain.valuation import Holding, holding_of
from apps.portfolios.models import LedgerCopy, LotCopy, Portfolio, Position

_POSITION = (
    *("quantity", "cost", "fees", "cost_in"),
    *("realised", "price_part", "currency_part", "costs", "income"),
)
_LOT = (*("row", "at", "bought", "numerator", "denominator", "quantity", "currency", "cost", "base_cost", "base_fees"),)
_WRITTEN_AT_ONCE = 1_000


class Copy(NamedTuple):
    """The stored copy of a portfolio. facts: the columns of LedgerCopy; positions: asset id -> columns of Position;
    lots: asset id -> the columns of each LotCopy, in order."""

    facts: dict[str, Any]
    positions: dict[int, tuple[Any, ...]]
    lots: dict[int, list[tuple[Any, ...]]]


def copy_of(computed: Computed, portfolio: int, *, split_id: int) -> Copy:
    """Return what is to be stored of one portfolio."""
    ledger = computed.ledgers[portfolio]
    disposals, incomes = defaultdict(list), defaultdict(list)
    for sale in ledger.disposals:
        disposals[sale.asset].append(sale)
    for item in ledger.incomes:
        if item.asset is not None:
            incomes[item.asset].append(item)
    positions = {}
    for asset in sorted({*(asset for _, asset, _ in ledger.quantities), *incomes}):
        sales, holding = disposals[asset], holding_of(ledger.lots.get(asset, []))
        sums = (
            total(one.gain for one in sales),
            total(one.price_part for one in sales),
            total(one.currency_part for one in sales),
            total(one.fees for one in sales),
            _sum(incomes[asset]),
        )
        cost_in = {currency: _written(cost) for currency, cost in holding.cost_in.items()}
        held = (to_decimal(holding.quantity), _rounded(holding.cost), _rounded(holding.fees), cost_in)
        positions[asset] = (*held, *(_rounded(one) for one in sums))
    missing = {("rate", currency, str(at.date())) for key, currency, at in computed.missing_rates if key == portfolio}
    own = {asset for _, asset, _ in ledger.quantities}
    missing |= {("price", str(asset), str(at.date())) for asset, at in computed.missing_prices if asset in own}
    facts = {
        "split_id": split_id,
        "totals": {name: _written(one) for name, one in ledger.sums().items()},
        "cash": {currency: _written(balance) for currency, balance in sorted(ledger.cash.items())},
        "flows": [[str(one.at.date()), _written(one.base)] for one in ledger.flows],
        "quantities": [[str(at.date()), asset, _written(held)] for at, asset, held in ledger.quantities],
        "balances": [[str(at.date()), currency, _written(held)] for at, currency, held in ledger.balances],
        "missing": [list(one) for one in sorted(missing)],
        "warnings": [list(one) for one in ledger.warnings],
    }
    return Copy(facts, positions, {asset: [_columns(lot) for lot in lots] for asset, lots in ledger.lots.items()})


def write_copy(portfolio: Portfolio, copy: Copy) -> None:
    """Replace the stored copy of a portfolio."""
    LedgerCopy.objects.update_or_create(portfolio=portfolio, defaults=copy.facts)
    LotCopy.objects.filter(position__portfolio=portfolio).delete()
    Position.objects.filter(portfolio=portfolio).delete()
    positions = [
        Position(portfolio=portfolio, asset_id=asset, **dict(zip(_POSITION, columns, strict=True)))
        for asset, columns in copy.positions.items()
    ]
    Position.objects.bulk_create(positions, batch_size=_WRITTEN_AT_ONCE)
    lots = [
        LotCopy(position=position, number=number, **dict(zip(_LOT, columns, strict=True)))
        for position in positions
        for number, columns in enumerate(copy.lots.get(position.asset_id, ()), start=1)
    ]
    LotCopy.objects.bulk_create(lots, batch_size=_WRITTEN_AT_ONCE)


def stored_copy(portfolio: Portfolio) -> Copy | None:
    """Return the copy that is stored, or None where there is none."""
    row = LedgerCopy.objects.filter(portfolio=portfolio).first()
    if row is None:
        return None
    facts = {name: getattr(row, name) for name in ("split_id", "totals", "cash", "flows", "quantities")}
    facts |= {name: getattr(row, name) for name in ("balances", "missing", "warnings")}
    positions = {
        one.asset_id: tuple(getattr(one, name) for name in _POSITION)
        for one in Position.objects.filter(portfolio=portfolio)
    }
    lots: dict[int, list[tuple[Any, ...]]] = {}
    rows = LotCopy.objects.filter(position__portfolio=portfolio).select_related("position").order_by("number")
    for lot in rows:
        lots.setdefault(lot.position.asset_id, []).append(tuple(getattr(lot, name) for name in _LOT))
    return Copy(facts, positions, lots)


def differences(stored: Copy | None, computed: Copy) -> list[str]:
    """Return what differs, in a few words each: names of facts, and assets by id."""
    if stored is None:
        return ["there is no copy"]
    found = [name for name in computed.facts if stored.facts[name] != computed.facts[name]]
    for what, ours, theirs in (
        ("position", stored.positions, computed.positions),
        ("lots", stored.lots, computed.lots),
    ):
        found += [f"{what} of asset {key}" for key in sorted({*ours, *theirs}) if ours.get(key) != theirs.get(key)]
    return found


def stored_holding(position: Position) -> Holding:
    """Return the sums of a stored position as the domain has them."""
    cost_in = {currency: Fraction(cost) for currency, cost in position.cost_in.items()}
    return Holding(Fraction(position.quantity), cost_in, _exact(position.cost), _exact(position.fees))


def _exact(number: Decimal | None) -> Fraction | None:
    return None if number is None else Fraction(number)


def _columns(lot: Lot) -> tuple[Any, ...]:
    return (
        *(lot.key, lot.at, to_decimal(lot.bought), str(lot.factor.numerator), str(lot.factor.denominator)),
        *(to_decimal(lot.quantity), lot.currency, to_decimal(lot.cost), _rounded(lot.base_cost)),
        _rounded(lot.base_fees),
    )


def _sum(items: Iterable[Item]) -> Fraction | None:
    return total(one.base for one in items)


def _rounded(number: Fraction | None) -> Decimal | None:
    return None if number is None else to_decimal(number)


def _written(number: Fraction | None) -> str | None:
    return None if number is None else write_number(to_decimal(number))
