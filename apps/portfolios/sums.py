"""The sums of a portfolio, each with the transactions that it is made of."""

from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple

from apps.portfolios.domain.numbers import total
from apps.portfolios.domain.records import Disposal, Flow, Item
from apps.portfolios.models import Portfolio, Transaction
from apps.portfolios.queries import transactions_of_portfolio
from apps.portfolios.services import ledger_now

PARTS_MOST = 500
# Name of a sum -> the attribute of a ledger that has its parts.
SUMS: Mapping[str, str] = {
    "flows": "flows",
    "realised": "disposals",
    "income": "incomes",
    "fees": "fees",
    "taxes": "taxes",
}
Part = Flow | Disposal | Item


class Sum(NamedTuple):
    """A sum in the base currency, and a page of its parts, newest first, each with its transaction.

    total: None where a part is not known; after_costs: of sales, the sum less their fees and taxes; a part without a
    transaction is of a split of the market; older: how many older parts there are.
    """

    total: Fraction | None
    after_costs: Fraction | None
    parts: list[tuple[Part, Transaction | None]]
    older: int


def sum_of(portfolio: Portfolio, name: str, *, asset_id: int | None = None, newer: int = 0) -> Sum:
    """Return a sum of a portfolio, or of one asset in it, with at most PARTS_MOST parts. newer: how many of the newest
    parts to leave out. All transactions of the portfolio are computed for it."""
    parts: list[Part] = [
        one
        for one in getattr(ledger_now(portfolio), SUMS[name])
        if asset_id is None or getattr(one, "asset", None) == asset_id
    ]
    end = max(len(parts) - max(newer, 0), 0)
    begin = max(end - PARTS_MOST, 0)
    shown = parts[begin:end][::-1]
    rows = transactions_of_portfolio(portfolio, keys={one.key for one in shown})
    return Sum(
        total(base_of(one) for one in parts),
        total(one.gain_after_costs for one in parts if isinstance(one, Disposal)) if name == "realised" else None,
        [(one, rows.get(one.key)) for one in shown],
        begin,
    )


def base_of(part: Part) -> Fraction | None:
    """Return what a part adds to its sum, in the base currency; None where that is not known."""
    return part.gain if isinstance(part, Disposal) else part.base
