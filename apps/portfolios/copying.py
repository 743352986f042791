"""The stored copy of what a portfolio's transactions come to: made of a ledger, written, read, and compared."""

from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

from apps.portfolios.bulk import insert
from apps.portfolios.domain.lots import Lot
from apps.portfolios.domain.numbers import Exact, to_decimal, to_text, total
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
    own = {asset for _, asset, _ in ledger.quantities}
    positions = {}
    for asset in sorted({*own, *incomes}):
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
    """Write the copy of a portfolio over the one that is stored: the positions that differ, each with its lots."""
    stored = stored_copy(portfolio)
    if stored is None or stored.facts != copy.facts:
        LedgerCopy.objects.update_or_create(portfolio=portfolio, defaults=copy.facts)
    positions, lots = (stored.positions, stored.lots) if stored is not None else ({}, {})
    changed = {
        asset
        for asset in {*positions, *copy.positions}
        if positions.get(asset) != copy.positions.get(asset) or lots.get(asset) != copy.lots.get(asset)
    }
    if not changed:
        return
    LotCopy.objects.filter(position__portfolio=portfolio, position__asset__in=changed).delete()
    Position.objects.filter(portfolio=portfolio, asset__in=changed).delete()
    rows = [
        Position(portfolio=portfolio, asset_id=asset, **dict(zip(_POSITION, copy.positions[asset], strict=True)))
        for asset in sorted(changed & copy.positions.keys())
    ]
    Position.objects.bulk_create(rows, batch_size=_WRITTEN_AT_ONCE)
    insert(
        [
            LotCopy(position=position, number=number, **dict(zip(_LOT, columns, strict=True)))
            for position in rows
            for number, columns in enumerate(copy.lots.get(position.asset_id, ()), start=1)
        ]
    )


def stored_copy(portfolio: Portfolio) -> Copy | None:
    """Return the copy that is stored, or None where there is none."""
    row = LedgerCopy.objects.filter(portfolio=portfolio).first()
    if row is None:
        return None
    facts = {name: getattr(row, name) for name in ("split_id", "totals", "cash", "flows", "quantities")}
    facts |= {name: getattr(row, name) for name in ("balances", "missing", "warnings")}
    own = Position.objects.filter(portfolio=portfolio).order_by().values_list("asset_id", *_POSITION)
    positions = {asset: tuple(columns) for asset, *columns in own}
    lots: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
    rows = LotCopy.objects.filter(position__portfolio=portfolio).order_by("number")
    for asset, *columns in rows.values_list("position__asset_id", *_LOT):
        lots[asset].append(tuple(columns))
    return Copy(facts, positions, dict(lots))


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
    cost_in = {currency: Exact.of(Decimal(cost)) for currency, cost in position.cost_in.items()}
    return Holding(Exact.of(position.quantity), cost_in, _exact(position.cost), _exact(position.fees))


def _exact(number: Decimal | None) -> Fraction | None:
    return None if number is None else Exact.of(number)


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
    return None if number is None else to_text(number)
